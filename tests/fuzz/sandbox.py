"""Target for the sandbox: any request has a documented response, never a 500."""

from __future__ import annotations

import functools

import orjson

from aiobatch.sandbox import API_KEY, PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions

_HEADERS = {
    "X-Authorization": REST_API_KEY,
    "Authorization": f"Bearer {REST_API_KEY}",
    "X-Batch-Project": PROJECT_KEY,
    "Content-Type": "application/json",
}
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "get", "")
_TARGETS = (
    f"/1.0/{API_KEY}/custom-audience/vip",
    f"/1.0/{API_KEY}/custom-audience",
    f"/1.1/{API_KEY}/custom-audience/vip",
    *(f"/2.11/audiences/{step}" for step in ("create", "replace", "update", "view", "list", "remove")),
    "",
)


@functools.cache
def _sandbox() -> Sandbox:
    return Sandbox(SandboxOptions(indexing_delay=0))


def answer_request(data: bytes) -> None:
    """Answer a request. *data* has a byte for the method, one for the route, a line for the path, a body."""
    if len(data) < 2:
        return
    more, _, body = data[2:].partition(b"\n")
    target = _TARGETS[data[1] % len(_TARGETS)] + more.decode("utf-8", "surrogateescape")
    method = _METHODS[data[0] % len(_METHODS)]
    status, headers, answer = _sandbox().answer(method, target, _HEADERS, body)
    assert status in {200, 202, 400, 401, 403, 404}
    assert headers == {"content-type": "application/json"}
    assert isinstance(orjson.loads(answer), dict)
