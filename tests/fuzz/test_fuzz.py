from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ..helpers.sweep import examples
from .long_inputs import LONG, Long
from .targets import TARGETS, seeds

_INPUTS = [pytest.param(name, path, id=f"{name}-{path.name}") for name in TARGETS for path in seeds(name)]
# The number of inputs per target. Targets that open a file with DuckDB take a hundred times as long.
_EXAMPLES = int(os.environ.get("AIOBATCH_FUZZ_EXAMPLES", str(examples(50, 200))))
_SLOW = {"csv": 5, "jsonl": 5, "parquet": 5, "state": 15}
_EDITS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 20), st.binary(max_size=8)), max_size=4)
_LINEAR = [
    pytest.param(name, long, id=f"{name}-{number}")
    for name, several in LONG.items()
    for number, long in enumerate(several)
]


def _edit(data: bytes, edits: Sequence[tuple[int, int, bytes]]) -> bytes:
    """Replace pieces of *data*. Each edit is a position, a length to remove, and bytes to insert."""
    for place, gone, come in edits:
        at = place % (len(data) + 1)
        data = data[:at] + come + data[at + gone :]
    return data


@pytest.mark.sample(80)
@pytest.mark.parametrize(("name", "path"), _INPUTS)
def test_saved_inputs_raise_nothing(name: str, path: Path) -> None:
    """Saved inputs, which revealed a bug or reached new code, raise nothing."""
    TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_any_input_is_read_or_refused(name: str) -> None:
    """Any bytes, and any edit of valid ones, are read or refused as documented."""
    kept = st.sampled_from([path.read_bytes() for path in seeds(name)])
    inputs = st.binary(max_size=300) | st.builds(_edit, kept, _EDITS)
    settings(max_examples=_EXAMPLES // _SLOW.get(name, 1))(given(inputs)(TARGETS[name]))()


def _work(name: str, data: bytes) -> float:
    """Return the CPU time of a target, in seconds."""
    before = time.thread_time()
    TARGETS[name](data)
    return time.thread_time() - before


@pytest.mark.sample(15)
@pytest.mark.parametrize(("name", "long"), _LINEAR)
def test_running_time_is_linear(name: str, long: Long) -> None:
    """An input of four times the length takes about four times as long. A quadratic one takes sixteen."""
    quarter, whole = long(100_000), long(400_000)
    # Short times are mostly noise. A quadratic search of 400,000 bytes takes ten seconds and more.
    assert any(_work(name, whole) < max(8 * _work(name, quarter), 1.0) for _ in range(3))
