from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch import App, Project
from aiobatch._http import Request
from aiobatch.dialects import dialect_for
from aiobatch.sandbox import API_KEY, PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions

from ..contract.stage import TARGETS
from .schema_values import anything
from .dialect_requests import any_request
from .document import Document

_WRONG = "wrong-key"
_STRANGERS: dict[str, list[App | Project]] = {
    "1.0": [App(rest_api_key=_WRONG, api_key=API_KEY), App(rest_api_key=REST_API_KEY, api_key=_WRONG)],
    "1.1": [App(rest_api_key=_WRONG, api_key=API_KEY, version="1.1")],
    "2.x": [
        Project(rest_api_key=_WRONG, project_key=PROJECT_KEY),
        Project(rest_api_key=REST_API_KEY, project_key=_WRONG),
    ],
}
# Faults that answer, and with the whole of an answer: html200 is no answer that anybody documents.
_FAULTS = ("500", "502", "503", "504", "429", "429-bare", "html")


def _check(document: Document, sandbox: Sandbox, request: Request, body: object = None) -> int:
    """Ask, perhaps with another body, hold the answer against the document, and return its status."""
    sent = request.body if body is None else orjson.dumps(body)
    status, fields, answer = sandbox.answer(request.method, request.target, request.headers, sent)
    content_type = fields["content-type"]
    read = orjson.loads(answer) if content_type == "application/json" else None
    document.find(request.method, request.target).check_answer(status, content_type, read)
    return status


def test_any_answer_to_a_dialect_is_as_documented(label: str, document: Document) -> None:
    """Whatever a dialect asks, in any order, the sandbox answers with a status and a body of the document."""
    dialect = dialect_for(TARGETS[label])
    asked = st.lists(any_request(label, dialect), max_size=6)

    @settings(max_examples=60)
    @given(asked, st.sampled_from([0.0, 1e9]))
    def check(requests: list[Request], delay: float) -> None:
        sandbox = Sandbox(SandboxOptions(indexing_delay=delay))
        first = dialect.build_create("vip")
        for request in (first, *requests, dialect.build_list(), dialect.build_view("vip")):
            _check(document, sandbox, request)

    check()


def test_any_body_is_answered_as_documented(label: str, document: Document) -> None:
    """What the document takes for a body is never malformed JSON to the sandbox; other JSON is refused."""
    dialect = dialect_for(TARGETS[label])
    update = dialect.build_update("vip", ["a"], [])
    operation = document.find(update.method, update.target)
    schema = operation.described["requestBody"]["content"]["application/json"]["schema"]
    sound = anything(document, schema).map(lambda body: body | ({"name": "vip"} if "name" in body else {}))
    strange = st.dictionaries(
        st.sampled_from(["ids", "name", "type", "x"]), st.integers(-9, 9) | st.lists(st.none())
    )

    @settings(max_examples=100)
    @given(sound, strange)
    def check(body: object, wrong: object) -> None:
        sandbox = Sandbox(SandboxOptions(indexing_delay=0))
        _check(document, sandbox, dialect.build_create("vip"))
        statuses = [_check(document, sandbox, update, one) for one in (body, wrong)]
        assert statuses[0] in ({operation.good} if label != "1.0" else {operation.good, 400})
        assert statuses[1] == 400

    check()


def test_answers_have_all_their_fields(label: str, document: Document) -> None:
    """No answer of the sandbox could lack a field that the document wants, or have fewer than its sample."""
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
        assert _needed(document, operation.answer_schema(status), orjson.loads(body)) == wanted


def _needed(document: Document, schema: Any, answer: Any) -> set[str]:
    """Return the fields without which an answer, or the only row of its list, is none by the document."""
    assert document.allows(schema, answer)
    (part,) = next((one for one in answer.values() if isinstance(one, list)), [answer])
    needed = set()
    for name in list(part):
        value = part.pop(name)
        needed |= set() if document.allows(schema, answer) else {name}
        part[name] = value
    return needed


@pytest.mark.parametrize("fault", _FAULTS)
def test_every_fault_is_a_documented_one(fault: str, label: str, document: Document) -> None:
    """A fault that answers does so as the document says of that status, whatever was asked."""
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


def test_a_stranger_is_refused_as_documented(label: str, document: Document) -> None:
    """A wrong key in any place is answered by 401 or 403, as the document says."""
    for target in _STRANGERS[label]:
        request = dialect_for(target).build_list()
        sandbox = Sandbox()
        status = _check(document, sandbox, request)
        assert status in {401, 403}
