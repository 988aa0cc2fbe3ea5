"""Every HTTP rule of the contract leads to its RPC: called through Envoy, each succeeds. (Two rules
on one template make Envoy answer 404 for both, without a word.)"""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from services.rpc.methods import Method
from tests.behaviour.bad_requests import World
from tests.behaviour.given import Given, point, vectors
from tests.behaviour.rest_rung import RestRung
from tests.behaviour.rungs import RPCS, Rung
from tests.behaviour.transcoding import Rule, rules, transcode
from tests.behaviour.valid_requests import VALID

ALL = [(rpc, i) for rpc, method in RPCS.items() for i in range(len(rules(method)))]


@pytest.fixture
async def world(split_rungs: dict[str, Rung]) -> World:
    """A world for each rule: some of them delete it."""
    given = Given(split_rungs["rest"])
    texts, holder = await given.text_collection(), await given.vector_collection()
    document, _ = await given.ingested(texts, "Rain fell on the town.", "rain.txt")
    await given.points(holder, [point("here", vectors(1)[0])])
    kept = await given.snapshot(holder)
    await given.budget(holder)
    migrating = await given.migrating()
    cancelled = await given.cancelled(texts)
    session = await given.session("What?", "That.")
    job = document.ingest_job
    return World(
        *(holder, texts, document.name, job, kept, migrating, cancelled, session),
        memory=await given.memory(),
    )


@pytest.mark.parametrize(("rpc", "index"), ALL)
async def test_a_rule_leads_to_its_rpc(
    split_rungs: dict[str, Rung], world: World, rpc: str, index: int
) -> None:
    rest = split_rungs["rest"]
    assert isinstance(rest, RestRung)
    method: Method = RPCS[rpc]
    sent = transcode(rules(method)[index], VALID[rpc](world))
    answer = await rest.http.request(sent.verb, sent.path, params=sent.params, json=sent.json)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-request-id"]
    lines = answer.text.splitlines() if method.server_streaming else [answer.text]
    for line in filter(None, lines):
        json_format.Parse(line.removeprefix("data: "), method.response())


def test_no_two_rules_share_a_verb_and_a_template() -> None:
    seen: dict[tuple[str, str], str] = {}
    for rpc, method in RPCS.items():
        for rule in rules(method):
            shape = (rule.verb, _shape(rule))
            assert shape not in seen, f"{rpc} and {seen[shape]} share {shape}"
            seen[shape] = rpc
    assert len(seen) >= sum(method.has_http for method in RPCS.values())


def _shape(rule: Rule) -> str:
    """The template without names of variables, which Envoy does not see."""
    template = rule.template
    for variable in rule.variables:
        template = template.replace("{" + variable + "=", "{")
    return template


async def test_the_parts_of_a_patch_go_where_the_rule_says(split_rungs: dict[str, Rung]) -> None:
    rest = split_rungs["rest"]
    name = await Given(rest).vector_collection(display_name="Before")
    request = retrieval.UpdateCollectionRequest(
        collection=collection_pb2.Collection(name=name, display_name="After")
    )
    request.update_mask.paths.append("display_name")
    (rule,) = rules(RPCS["UpdateCollection"])
    sent = transcode(rule, request)
    assert (sent.verb, sent.path) == ("PATCH", f"/v1/{name}")
    assert (sent.params, json.dumps(sent.json)) == (
        {"updateMask": "displayName"},
        '{"displayName": "After"}',
    )
    changed = await rest.call("UpdateCollection", request)
    assert changed.collection.display_name == "After"
