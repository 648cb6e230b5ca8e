"""Every installed contender waits with its own waiter, and the server speaks its protocol."""

from __future__ import annotations

import attrs
import pytest

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.measure.processes import Measures, running_server
from benchmarks.measure.server_control import Order

# Applied after the first poll of each contender, and before the second one after a second.
_ORDER = Order(tokens=3, indexing=(1.0, 1.3), latency=0.001)
_WAITERS = 2


@pytest.mark.sample(3)
@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
def test_contender_loses_no_wait(contender: Contender) -> None:
    """Each contender polls each token more than once, never ends early, and loses no wait."""
    if not contender.is_installed():
        pytest.skip(f"{contender.requirement} is not installed: make .venv/.bench")
    measures = _measure(contender)
    assert measures["lost"] == 0
    assert measures["requests_a_token"] >= 2
    assert measures["lag_p99"] >= measures["lag_mean"] >= 0


def _measure(contender: Contender) -> Measures:
    """Run one contender with its own server."""
    with running_server() as url:
        return contender.run(url=url, order=attrs.asdict(_ORDER), waiters=_WAITERS)
