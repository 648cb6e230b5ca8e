"""The work that every side does, so that all do the same."""

from __future__ import annotations

from collections.abc import Iterator

REST_API_KEY = "benchmark-rest-api-key"
PROJECT_KEY = "benchmark-project-key"
API_KEY = "benchmark-api-key"
# What somebody who writes the loop by hand sends along.
HEADERS_2X = {"Authorization": f"Bearer {REST_API_KEY}", "X-Batch-Project": PROJECT_KEY}
HEADERS_1X = {"X-Authorization": REST_API_KEY}


def names(count: int) -> list[str]:
    """Return names of audiences."""
    return [f"audience_{number}" for number in range(count)]


def ids(count: int, *, in_order: bool = False) -> Iterator[str]:
    """Make ids of 37 characters, one by one; 10,000 of them make a body of 620 kB.

    Args:
        count: How many.
        in_order: Whether each is above the one before, as out of an index; else they jump about, as UUIDs do.
    """
    heads = 1 if in_order else 256
    return (f"user-{number % heads:02x}{number:030x}" for number in range(count))
