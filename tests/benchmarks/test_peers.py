"""Every peer that is installed waits through its own waiter, and the server speaks what each needs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import attrs
import pytest

from benchmarks.contenders import ENTRANTS, Entrant
from benchmarks.measure.processes import Measures, running_server
from benchmarks.measure.server_control import Order

# Applied after everybody's first look, and before the second one of those that look every second.
_ORDER = Order(tokens=3, indexing=(0.3, 0.6), latency=0.001)
_WAITERS = 2


@pytest.fixture(scope="module")
def measured() -> Iterator[dict[str, Future[Measures]]]:
    """Let all that are installed wait, a few at once: most of their time they sleep or are imported."""
    with ThreadPoolExecutor(4) as threads:
        yield {
            entrant.name: threads.submit(_measure, entrant) for entrant in ENTRANTS if entrant.is_installed()
        }


@pytest.mark.parametrize("entrant", ENTRANTS, ids=lambda entrant: entrant.name)
def test_everybody_waits_to_the_end(entrant: Entrant, measured: dict[str, Future[Measures]]) -> None:
    """Each asks more than once about each token, never ends early, and loses no wait."""
    if not entrant.is_installed():
        pytest.skip(f"{entrant.requirement} is not installed: make .venv/.bench")
    measures = measured[entrant.name].result()
    assert measures["lost"] == 0
    assert measures["requests_a_token"] >= 2
    assert measures["lag_p99"] >= measures["lag_mean"] >= 0


def _measure(entrant: Entrant) -> Measures:
    """Let one wait, before a server of its own."""
    with running_server() as url:
        return entrant.run(url=url, order=attrs.asdict(_ORDER), waiters=_WAITERS)
