"""The audiences, IDs and keys that all sides use."""

from __future__ import annotations

from collections.abc import Iterator

REST_API_KEY = "benchmark-rest-api-key"
PROJECT_KEY = "benchmark-project-key"
API_KEY = "benchmark-api-key"
# The headers of a hand-written loop.
HEADERS_2X = {"Authorization": f"Bearer {REST_API_KEY}", "X-Batch-Project": PROJECT_KEY}
HEADERS_1X = {"X-Authorization": REST_API_KEY}


def names(count: int) -> list[str]:
    """Return audience names."""
    return [f"audience_{number}" for number in range(count)]


def ids(count: int, *, in_order: bool = False) -> Iterator[str]:
    """Yield IDs of 37 characters. 10,000 of them make a body of 620 kB.

    Args:
        count: The number of IDs.
        in_order: Whether they are increasing, as from an index, else random, as UUIDs.
    """
    heads = 1 if in_order else 256
    return (f"user-{number % heads:02x}{number:030x}" for number in range(count))
