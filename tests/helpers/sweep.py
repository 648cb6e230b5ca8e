"""The two forms of the suite: `make test` runs the short one, `make test-all` the long one.

    from ..helpers.sweep import examples

    @settings(max_examples=examples(50, 1_000))
    @pytest.mark.parametrize("size", SIZES[: examples(3, len(SIZES))])

`@pytest.mark.sweep` marks a test that only the long form runs.
"""

from __future__ import annotations

import os

# `pytest --sweep` sets it before it imports a test module, and worker processes inherit it.
SWEEP_VARIABLE = "AIOBATCH_SWEEP"


def is_sweep() -> bool:
    """Return whether this process runs the long form."""
    return os.environ.get(SWEEP_VARIABLE, "") == "1"


def examples(short: int, long: int) -> int:
    """Return how many examples to try: *short* in the short form of the suite, *long* in the long form.

    It works at import time, so that decorators and parameter lists can use it.
    """
    return long if is_sweep() else short
