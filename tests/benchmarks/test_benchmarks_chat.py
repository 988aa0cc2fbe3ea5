"""What the suite about answers measures is what it says: changed sentences say something else, the
provider is heard, and the area under a curve is how often a right one is above a wrong one."""

from __future__ import annotations

import json
from random import Random
from urllib.request import Request, urlopen

import numpy as np
import pytest

from benchmarks.calibrate_answers import fitted
from benchmarks.data import Question
from benchmarks.metrics import area_under_curve
from benchmarks.suites.chat.provider import Line, Provider
from benchmarks.suites.chat.quality import plain
from benchmarks.suites.chat.swaps import KINDS, changed, reworded

PARAGRAPH = (
    "In May 1847 the company of Alfred Escher was building 12 bridges. "
    "In July 1993 Ada Lovelace had 40 of them."
)
SENTENCE = "In May 1847 the company of Alfred Escher was building 12 bridges."


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_sentence_has_one_thing_of_its_kind_changed(kind: str) -> None:
    made = changed(SENTENCE, PARAGRAPH, kind, Random(1))
    assert made is not None
    assert made.kind == kind
    words, others = SENTENCE.split(), made.text.split()
    assert 1 <= len(set(words) ^ set(others)) <= 4
    assert made == changed(SENTENCE, PARAGRAPH, kind, Random(1))


def test_a_sentence_that_has_nothing_of_a_kind_is_not_changed() -> None:
    assert changed("Lakes freeze.", "Lakes freeze.", "number", Random(1)) is None
    assert changed("Lakes freeze.", "Lakes freeze.", "negation", Random(1)) is None


def test_rewording_keeps_every_number_and_name() -> None:
    said = "The company of Alfred Escher built 12 bridges (of iron) in 1847."
    for seed in range(10):
        made = reworded(said, Random(seed))
        assert all(word in made for word in ("Alfred Escher", "12", "1847"))


def test_the_provider_says_what_the_script_has_and_cites_its_passage() -> None:
    with Provider() as provider:
        provider.script = {"When?": Line("It was in 1847.", "in 1847")}
        prompt = "passage 1 n\nNothing.\nend n\n\npassage 2 n\nOpened in 1847.\nend n"
        content = prompt + "\n\nQuestion: When?"
        body = {"messages": [{"role": "user", "content": content}], "stream": True}
        asked = Request(f"{provider.url}/chat/completions", json.dumps(body).encode())
        with urlopen(asked, timeout=60) as answer:
            lines = answer.read().decode().split("\n\n")
    first = json.loads(lines[0].removeprefix("data: "))
    assert first["choices"][0]["delta"]["content"] == "It was in 1847. [2]"
    assert lines[-2] == "data: [DONE]"


def test_an_answer_is_compared_without_case_articles_and_marks() -> None:
    assert plain("The Denver  Broncos!") == "denver broncos"
    assert Question("Who?", ("a",), "d", 0).answers == ("a",)


def test_the_area_counts_pairs_and_halves_ties() -> None:
    area = area_under_curve(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
    assert area == pytest.approx(3.5 / 4)
    assert np.isnan(area_under_curve(np.array([]), np.array([1.0])))


def test_weights_follow_what_tells_right_from_wrong() -> None:
    random = np.random.default_rng(1)
    features = random.random((400, 2))
    right = (features[:, 0] + 0.1 * random.standard_normal(400) > 0.5).astype(float)
    constant, first, second = fitted([(features, right)])
    assert first > 3 * abs(second)
    assert constant < 0
