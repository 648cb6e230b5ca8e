from __future__ import annotations

import orjson
import pytest

from aiobatch.sandbox import API_KEY, Sandbox, SandboxOptions, SandboxRequest

from .conftest import CEP_KEYS, MEP_KEYS, Time, added

JSON = {"content-type": "application/json; charset=utf-8"}


def test_answer_needs_no_socket(time: Time) -> None:
    """Header names in any case, the query and the body work as over a socket."""
    sandbox = Sandbox(SandboxOptions(indexing_delay=2), monotonic=time)
    root = f"/1.0/{API_KEY}/custom-audience"
    keys = {"x-authorization": MEP_KEYS["X-Authorization"], **JSON}
    assert sandbox.answer("POST", f"{root}/vip", keys, b'{"type": "custom_ids"}') == (
        200,
        {"content-type": "application/json"},
        b"{}",
    )
    body = orjson.dumps({"type": "custom_ids", "ids": added("u1", "u2")})
    status, _, answer = sandbox.answer("PATCH", f"{root}/vip", keys, body)
    token = orjson.loads(answer)["indexing_token"]
    time.now += 2
    status, _, answer = sandbox.answer("GET", f"{root}/vip?indexing_token={token}", keys)
    assert (status, orjson.loads(answer)["indexing_state"]) == (200, "APPLIED")
    assert sandbox.members("vip").keys() == {"u1", "u2"}


def test_answered_requests_are_counted_and_recorded(time: Time) -> None:
    """A request without a socket is counted and recorded without the key, even if it is refused."""
    sandbox = Sandbox(monotonic=time)
    status, _, _ = sandbox.answer("GET", f"/1.1/{API_KEY}/custom-audience/vip", MEP_KEYS)
    assert status == 404
    assert sandbox.answer("GET", "/2.11/audiences/view?name=", CEP_KEYS)[0] == 400
    assert sandbox.operation_counts == {"view": 2}
    assert sandbox.requests[0] == SandboxRequest(
        method="GET", operation="view", path="/1.1/***/custom-audience/vip", status=404, ids=0, fault=None
    )


@pytest.mark.parametrize(
    ("kind", "processed"), [("reset", False), ("lost", True)], ids=["before it", "after it"]
)
def test_faults_that_prevent_a_response_raise(time: Time, kind: str, processed: bool) -> None:
    """`reset` and `lost` raise. Only `lost` processes the request."""
    sandbox = Sandbox(SandboxOptions(indexing_delay=0), monotonic=time)
    sandbox.fail_next(kind)
    with pytest.raises(ConnectionResetError):
        sandbox.answer(
            "POST", f"/1.0/{API_KEY}/custom-audience/vip", MEP_KEYS | JSON, b'{"type":"custom_ids"}'
        )
    assert bool(sandbox.audiences()) is processed
    assert sandbox.requests[0].status is None


def test_faults_and_rate_limit_change_the_response(time: Time) -> None:
    """Faults and the rate limit work without a socket, with Retry-After, a short body or HTML."""
    sandbox = Sandbox(SandboxOptions(rate=3), monotonic=time)
    sandbox.fail_next("429")
    sandbox.fail_next("truncated")
    sandbox.fail_next("html200")
    answers = [sandbox.answer("GET", "/2.11/audiences/list", CEP_KEYS) for _ in range(4)]
    assert [(status, headers.get("retry-after")) for status, headers, _ in answers] == [
        (429, "1"),
        (200, None),
        (200, None),
        (429, "1"),
    ]
    assert answers[1][2] == b'{"audiences":[],"has_'
    assert b"<html>" in answers[2][2]
    assert [request.fault for request in sandbox.requests] == ["429", "truncated", "html200", None]
