from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .long_inputs import LONG, Long
from .targets import TARGETS, seeds

_INPUTS = [pytest.param(name, path, id=f"{name}-{path.name}") for name in TARGETS for path in seeds(name)]
# How many inputs each target gets; those that open a file with DuckDB take a hundred times as long as others.
_EXAMPLES = int(os.environ.get("AIOBATCH_FUZZ_EXAMPLES", "200"))
_SLOW = {"csv": 5, "jsonl": 5, "parquet": 5, "state": 15}
_EDITS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 20), st.binary(max_size=8)), max_size=4)
_LINEAR = [
    pytest.param(name, long, id=f"{name}-{number}")
    for name, several in LONG.items()
    for number, long in enumerate(several)
]


def _edit(data: bytes, edits: Sequence[tuple[int, int, bytes]]) -> bytes:
    """Replace pieces of *data*: each edit is a place, how much goes, and what comes."""
    for place, gone, come in edits:
        at = place % (len(data) + 1)
        data = data[:at] + come + data[at + gone :]
    return data


@pytest.mark.parametrize(("name", "path"), _INPUTS)
def test_what_was_found_stays_mended(name: str, path: Path) -> None:
    """Every input that is kept, because it showed a defect or led to code of its own, does no harm."""
    TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_any_input_does_no_harm(name: str) -> None:
    """Any bytes, and any edit of what is sound, are read or refused as documented."""
    kept = st.sampled_from([path.read_bytes() for path in seeds(name)])
    inputs = st.binary(max_size=300) | st.builds(_edit, kept, _EDITS)
    settings(max_examples=_EXAMPLES // _SLOW.get(name, 1))(given(inputs)(TARGETS[name]))()


def _work(name: str, data: bytes) -> float:
    """Return what a target takes of this thread's CPU, in seconds."""
    before = time.thread_time()
    TARGETS[name](data)
    return time.thread_time() - before


@pytest.mark.parametrize(("name", "long"), _LINEAR)
def test_nothing_grows_by_its_square(name: str, long: Long) -> None:
    """Four times as much of what repeats takes four times as long, where its square would take sixteen."""
    quarter, whole = long(100_000), long(400_000)
    # Where there is next to nothing to do, what is measured is noise; a busy machine may disturb one attempt.
    assert any(_work(name, whole) < max(8 * _work(name, quarter), 0.2) for _ in range(3))
