from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch import App, Project
from aiobatch.dialects import dialect_for
from aiobatch.interfaces import Request
from aiobatch.sandbox import API_KEY, PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions

from ..contract.stage import TARGETS
from ..helpers.sweep import examples
from .dialect_requests import any_request
from .document import Document
from .schema_values import schema_values

_WRONG = "wrong-key"
_WRONG_KEYS: dict[str, list[App | Project]] = {
    "1.0": [App(rest_api_key=_WRONG, api_key=API_KEY), App(rest_api_key=REST_API_KEY, api_key=_WRONG)],
    "1.1": [App(rest_api_key=_WRONG, api_key=API_KEY, version="1.1")],
    "2.x": [
        Project(rest_api_key=_WRONG, project_key=PROJECT_KEY),
        Project(rest_api_key=REST_API_KEY, project_key=_WRONG),
    ],
}
# Faults with a complete response. No page documents that of html200.
_FAULTS = ("500", "502", "503", "504", "429", "429-bare", "html")


def _check(document: Document, sandbox: Sandbox, request: Request, body: object = None) -> int:
    """Send a request, check the response against the document, and return its status."""
    sent = request.body if body is None else orjson.dumps(body)
    status, fields, answer = sandbox.answer(request.method, request.target, request.headers, sent)
    content_type = fields["content-type"]
    read = orjson.loads(answer) if content_type == "application/json" else None
    document.find(request.method, request.target).check_response(status, content_type, read)
    return status


def test_response_to_any_dialect_request_matches_the_document(label: str, document: Document) -> None:
    """The sandbox's response to any sequence of a dialect's requests matches the document."""
    dialect = dialect_for(TARGETS[label])
    requests = st.lists(any_request(label, dialect), max_size=6)

    @settings(max_examples=examples(20, 60))
    @given(requests, st.sampled_from([0.0, 1e9]))
    def check(requests: list[Request], delay: float) -> None:
        sandbox = Sandbox(SandboxOptions(indexing_delay=delay))
        first = dialect.build_create("vip")
        for request in (first, *requests, dialect.build_list(), dialect.build_view("vip")):
            _check(document, sandbox, request)

    check()


def test_any_documented_body_is_accepted(label: str, document: Document) -> None:
    """The sandbox accepts every body that the document allows, and refuses other JSON."""
    dialect = dialect_for(TARGETS[label])
    update = dialect.build_update("vip", ["a"], [])
    operation = document.find(update.method, update.target)
    schema = operation.described["requestBody"]["content"]["application/json"]["schema"]
    sound = schema_values(document, schema).map(
        lambda body: body | ({"name": "vip"} if "name" in body else {})
    )
    strange = st.dictionaries(
        st.sampled_from(["ids", "name", "type", "x"]), st.integers(-9, 9) | st.lists(st.none())
    )

    @settings(max_examples=examples(30, 100))
    @given(sound, strange)
    def check(body: object, wrong: object) -> None:
        sandbox = Sandbox(SandboxOptions(indexing_delay=0))
        _check(document, sandbox, dialect.build_create("vip"))
        statuses = [_check(document, sandbox, update, one) for one in (body, wrong)]
        assert statuses[0] in ({operation.good} if label != "1.0" else {operation.good, 400})
        assert statuses[1] == 400

    check()


def test_responses_have_all_documented_fields(label: str, document: Document) -> None:
    """No response of the sandbox lacks a field that the document requires or its sample has."""
    dialect = dialect_for(TARGETS[label])
    sandbox = Sandbox(SandboxOptions(indexing_delay=0))
    fields = {"name", "type", "nb_ids", "created", "updated"}
    for request, wanted in (
        (dialect.build_create("vip"), {"indexing_token"} if label == "2.x" else set()),
        (dialect.build_update("vip", ["a"], []), {"indexing_token"}),
        (dialect.build_view("vip"), fields | {"indexing_state"}),
        (dialect.build_list(), fields | ({"indexing_state"} if label == "2.x" else set())),
    ):
        operation = document.find(request.method, request.target)
        status, _, body = sandbox.answer(request.method, request.target, request.headers, request.body)
        assert _needed(document, operation.response_schema(status), orjson.loads(body)) == wanted


def _needed(document: Document, schema: Any, answer: Any) -> set[str]:
    """Return the fields that the document requires in a response, or in the only row of its list."""
    assert document.allows(schema, answer)
    (part,) = next((one for one in answer.values() if isinstance(one, list)), [answer])
    needed = set()
    for name in list(part):
        value = part.pop(name)
        needed |= set() if document.allows(schema, answer) else {name}
        part[name] = value
    return needed


@pytest.mark.parametrize("fault", _FAULTS)
def test_faults_match_the_document(fault: str, label: str, document: Document) -> None:
    """The response of a fault matches the document for its status, for every operation."""
    dialect = dialect_for(TARGETS[label])
    sandbox = Sandbox(SandboxOptions(faults={fault: 1}))
    for request in (
        dialect.build_create("vip"),
        dialect.build_view("vip"),
        dialect.build_list(),
        dialect.build_update("vip", ["a"], []),
        dialect.build_replace("vip", ["a"]),
        dialect.build_delete("vip"),
    ):
        status = _check(document, sandbox, request)
        assert status == (502 if fault == "html" else int(fault[:3]))


def test_wrong_keys_are_refused_as_documented(label: str, document: Document) -> None:
    """A wrong key is 401 or 403, and the response matches the document."""
    for target in _WRONG_KEYS[label]:
        request = dialect_for(target).build_list()
        sandbox = Sandbox()
        status = _check(document, sandbox, request)
        assert status in {401, 403}
