"""The stub with audiences whose members it counts, and with a rate limit."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import attrs

from ..measure.processes import running_server
from ..measure.server_control import Order
from .stub import Answer, StubServer, serve

NAME = "vip"
_NAME_IN_BODY = re.compile(rb'"name": ?"([^"]*)"')
_TOO_MANY = (429, b'{"error_code":"TOO_MANY_REQUESTS","error_message":"Slow down"}')
_VIEW = (
    b'{"name":"%b","display_name":"An audience","type":"CUSTOM_ID","nb_ids":%d,"indexing_state":"APPLIED",'
    b'"created":"2018-06-29T13:12:09Z","updated":"2018-06-29T13:42:59Z"}'
)


@attrs.frozen(kw_only=True)
class SyncOrder(Order):
    """The behaviour of the server.

    Attributes:
        members: The number of members of the audience `NAME`. Other audiences are empty.
        rate: The limit in requests per second, with bursts of a second. 0 for no limit.
    """

    members: int = 0
    rate: float = 0.0


class AudienceStubServer(StubServer):
    """A stub that counts every added ID as new and every removed ID as a member."""

    def answer(self, method: str, target: str, body: bytes) -> Answer:
        """Answer and count one request."""
        path = target.partition("?")[0]
        if path == "/control":
            return super().answer(method, target, body)
        if not self._admit():
            return _TOO_MANY
        status, answered = super().answer(method, target, body)
        if method == "POST":
            self._write(body, replace=path.endswith("/replace"))
        return status, answered

    def _begin(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Reset everything, see `SyncOrder`."""
        answer = super()._begin(order)
        self._names = [NAME]
        self._members = Counter({NAME: order.get("members", 0)})
        self._lowest = self._members[NAME]
        self._rate = order.get("rate", 0.0)
        self._allowance = self._rate
        self._first = self._last = 0.0
        self._admitted = self._too_many = 0
        return answer

    def _counts(self) -> dict[str, Any]:
        """Return the counts since the reset."""
        return {
            **super()._counts(),
            "members": self._members.total(),
            "lowest": self._lowest,
            "admitted": self._admitted,
            "too_many": self._too_many,
            "span": self._last - self._first,
        }

    def _admit(self) -> bool:
        """Return whether the rate limit admits a request."""
        now = time.monotonic()
        self._first = self._first or now
        self._allowance = min(self._allowance + (now - (self._last or now)) * self._rate, self._rate)
        self._last = now
        if self._rate and self._allowance < 1:
            self._too_many += 1
            return False
        self._allowance -= 1
        self._admitted += 1
        return True

    def _write(self, body: bytes, *, replace: bool) -> None:
        """Count members."""
        found = _NAME_IN_BODY.search(body)
        name = found[1].decode() if found else NAME
        if replace:
            self._members[name] = body.count(b'"id"')
        else:
            self._members[name] += body.count(b'"add"') - body.count(b'"remove"')
        self._lowest = min(self._lowest, self._members.total())

    def _show(self, name: str, _now: float, _template: str) -> bytes:
        """Return the body of the audience, with all updates applied."""
        return _VIEW % (name.encode(), self._members[name])


def running_sync_stub() -> AbstractContextManager[str]:
    """Run the server and yield its URL."""
    return running_server("benchmarks.servers.sync_stub")


if __name__ == "__main__":
    asyncio.run(serve(AudienceStubServer()))
