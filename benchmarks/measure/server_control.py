"""How a client's process drives the server: outside of what is measured, and by nothing that is measured."""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import urlsplit

import attrs
import orjson


@attrs.frozen(kw_only=True)
class Order:
    """How the server shall behave from now on.

    Attributes:
        tokens: How many tokens `t0`, `t1`, … it knows, each of an audience `a0`, `a1`, … of its own.
        indexing: Seconds from now, drawn evenly between the two, after which a token is applied.
        latency: Seconds that each answer takes.
        outage: Seconds from now between which everything is answered by 503.
        seed: Of what is drawn.
    """

    tokens: int = 0
    indexing: tuple[float, float] = (0.0, 0.0)
    latency: float = 0.0
    outage: tuple[float, float] = (0.0, 0.0)
    seed: int = 0


def begin(url: str, order: Order) -> list[float]:
    """Let the server begin anew.

    Returns:
        When each token will be applied, seconds since the epoch.
    """
    answer: list[float] = _call(url, "POST", orjson.dumps(attrs.asdict(order)))["applied_at"]
    return answer


def read_counts(url: str) -> dict[str, Any]:
    """Return what the server counted since it began.

    Returns:
        `requests` by operation, `refused`, `ids`, `cpu` seconds, `peak` requests/s in the busiest 100 ms.
    """
    return _call(url, "GET", b"")


def _call(url: str, method: str, body: bytes) -> dict[str, Any]:
    """Call `/control`."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, "/control", body or None)
        answer: dict[str, Any] = orjson.loads(connection.getresponse().read())
    finally:
        connection.close()
    return answer
