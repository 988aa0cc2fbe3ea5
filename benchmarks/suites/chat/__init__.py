"""Questions answered: what is found and quoted on SQuAD, when no answer is given, which mistakes of
a language model are found out, how long it takes, and whether an attack in a document is quoted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.bench import Bench
from benchmarks.mesh import running_mesh
from benchmarks.report import SuiteReport, joined
from benchmarks.suites.chat import attacks, latency, quality, verification
from benchmarks.suites.chat.material import Material
from benchmarks.suites.chat.provider import Provider
from services.config import GenerationSettings, OpenAIModel

PARTS: Mapping[str, Callable[[Material], SuiteReport]] = {
    "squad": quality.answers,
    "abstention": quality.abstention,
    "verification": verification.run,
    "latency": latency.run,
    "bipia": attacks.run,
}


def chat(bench: Bench) -> SuiteReport:
    """The parts that were asked for, or all, on one mesh, whose other model is a scripted provider.
    Raises DataMissing, and AssertionError for an unknown part."""
    wanted = bench.options.parts or tuple(PARTS)
    unknown = sorted(set(wanted) - set(PARTS))
    if unknown:
        raise AssertionError(f"chat has no part {unknown[0]!r}, only {', '.join(PARTS)}")
    with Provider() as provider:
        model = OpenAIModel(id="scripted", url=provider.url, model="scripted")
        bench.say("starting a mesh with a scripted provider")
        with (
            running_mesh(generation=GenerationSettings(openai=(model,))) as mesh,
            Material(mesh, provider, bench) as material,
        ):
            return joined("chat", [PARTS[name](material) for name in wanted])
