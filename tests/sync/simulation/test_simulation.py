from __future__ import annotations

import logging
from collections.abc import Iterator

import attrs
import pytest

from ...helpers.sweep import examples
from .__main__ import main
from .engine import Protocol
from .simulate import simulate

_SEEDS = examples(200, 800, full=2_000)
# The seeds of flaws that few seeds show.
_RARE = {"resumes_unfenced": range(3519, 3520)}
_FLAWS = [field.name for field in attrs.fields(Protocol)]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep thousands of lost leases out of the log, as the program does, and log again for other tests."""
    logger = logging.getLogger("aiobatch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.mark.sample(2)
@pytest.mark.parametrize("part", range(4))
def test_the_invariants_hold(part: int) -> None:
    """Under faults, freezes and kills the protocol sends and counts right, and ends exact."""
    outcomes = set()
    for seed in range(part, _SEEDS, 4):
        result = simulate(seed)
        assert result.error is None, f"seed {seed}: python -m tests.sync.simulation --seed {seed}"
        outcomes |= set(result.outcomes)
    assert outcomes >= {"done", "killed", "locked", "lost", "unreachable"}


@pytest.mark.parametrize("flaw", _FLAWS)
def test_a_broken_protocol_is_caught(flaw: str) -> None:
    """Each way to break the protocol breaks an invariant within some seeds."""
    seeds = _RARE.get(flaw, range(400))
    assert any(simulate(seed, Protocol(**{flaw: True})).error for seed in seeds)


def test_a_seed_replays() -> None:
    """The same seed does the same, step by step, also when it fails."""
    assert simulate(5) == simulate(5)
    broken = Protocol(takes_early=True)
    assert simulate(3, broken) == simulate(3, broken)
    assert simulate(5).trace != simulate(6).trace


def test_the_program_replays_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    """The program prints what happens, and whether all invariants hold."""
    assert main(["--seed", "5"]) == 0
    assert capsys.readouterr().out.endswith("all invariants hold\n")
