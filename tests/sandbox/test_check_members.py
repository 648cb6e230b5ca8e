from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterable

import pytest

from aiobatch.errors import InvalidInputError
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions

_HEADERS = {
    "Authorization": f"Bearer {REST_API_KEY}",
    "Content-Type": "application/json",
    "X-Batch-Project": PROJECT_KEY,
}


def _write(sandbox: Sandbox, operation: str, body: bytes) -> None:
    status, _, _ = sandbox.answer("POST", f"/2.11/audiences/{operation}", _HEADERS, body)
    assert status == 202


@pytest.fixture
def sandbox() -> Sandbox:
    """Return a sandbox with the audience `vip` of u1 and u2, and the attribute `plan` of u2."""
    sandbox = Sandbox(SandboxOptions(indexing_delay=0))
    _write(sandbox, "create", b'{"name": "vip", "type": "custom_ids"}')
    ids = b'{"action": "add", "id": "u1"}, {"action": "add", "id": "u2", "attributes": {"plan": "pro"}}'
    _write(sandbox, "update", b'{"name": "vip", "ids": [' + ids + b"]}")
    return sandbox


@pytest.mark.parametrize(
    "expected", [["u1", "u2", "u2"], {"u2", "u1"}, iter(["u2", "u1"]), {"u1": {}, "u2": {"plan": "pro"}}]
)
def test_members_as_expected(sandbox: Sandbox, expected: Iterable[str]) -> None:
    """Order and duplicates of the expected IDs do not count, and a mapping compares attributes."""
    sandbox.assert_members("vip", expected, scope="2.x")


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (["u1", "u3"], "members, not the expected ones. missing: 'u3'. unexpected: 'u2'."),
        ((), "unexpected: 'u1', 'u2'."),
        ([f"u{n}" for n in range(1, 10)], "missing: 'u3', 'u4', 'u5', 'u6', 'u7' and 2 more."),
        ({"u1": {}, "u2": {"plan": "free"}}, "with other attributes: 'u2'."),
    ],
)
def test_other_members(sandbox: Sandbox, expected: Iterable[str], message: str) -> None:
    """The error names the audience and the first IDs that differ."""
    with pytest.raises(AssertionError, match=rf"^Audience 'vip' has 2 .*{re.escape(message)}$"):
        sandbox.assert_members("vip", expected)


@pytest.mark.parametrize("expected", ["u1", b"ids", 1, None])
def test_expected_is_no_collection(sandbox: Sandbox, expected: Iterable[str]) -> None:
    """A single ID is a mistake, not a collection of its letters."""
    with pytest.raises(InvalidInputError, match="expected must be an iterable of IDs, not "):
        sandbox.assert_members("vip", expected)


def test_unknown_audience(sandbox: Sandbox) -> None:
    """An audience that does not exist has no members to compare."""
    with pytest.raises(KeyError, match="does not exist"):
        sandbox.assert_members("vpi", ["u1"])


async def test_other_threads_may_look(sandbox: Sandbox) -> None:
    """A thread reads and writes while the sandbox answers in another one."""
    errors: list[BaseException] = []
    stop = threading.Event()

    def look() -> None:
        try:
            while not stop.is_set():
                _ = sandbox.requests, sandbox.audiences(), sandbox.members("vip"), sandbox.operation_counts
                sandbox.write_behind_back("vip", add=["u3"])
        except BaseException as error:  # noqa: BLE001 - the test reports it
            errors.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(1000):
        _write(sandbox, "create", b'{"name": "a%d", "type": "custom_ids"}' % number)
    stop.set()
    await asyncio.to_thread(thread.join)
    assert errors == []
