"""Control of the stub server by a client's process, outside the measured code."""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import urlsplit

import attrs
import orjson


@attrs.frozen(kw_only=True)
class Order:
    """The behaviour of the server.

    Attributes:
        tokens: The number of tokens `t0`, `t1`, …, each with its own audience `a0`, `a1`, …
        indexing: The range of seconds after which a token is applied, drawn uniformly.
        latency: Seconds before each response.
        outage: The period in seconds in which every response is a 503.
        seed: The seed of random choices.
    """

    tokens: int = 0
    indexing: tuple[float, float] = (0.0, 0.0)
    latency: float = 0.0
    outage: tuple[float, float] = (0.0, 0.0)
    seed: int = 0


def begin(url: str, order: Order) -> list[float]:
    """Reset the server.

    Returns:
        When each token will be applied, seconds since the epoch.
    """
    answer: list[float] = _call(url, "POST", orjson.dumps(attrs.asdict(order)))["applied_at"]
    return answer


def read_counts(url: str) -> dict[str, Any]:
    """Return the server's counts since the reset.

    Returns:
        `requests` by operation, `refused`, `ids`, `cpu` seconds, `peak` requests/s in the busiest 100 ms,
        and after an outage `burst`, its busiest 100 ms as a multiple of the busiest before.
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
