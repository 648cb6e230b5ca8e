"""The two forms of the suite: `make test` runs the short one, `make test-all` the long one.

    from ..helpers.sweep import examples

    @settings(max_examples=examples(50, 1_000))
    @pytest.mark.parametrize("size", SIZES[: examples(3, len(SIZES))])

`@pytest.mark.sweep` marks a test that only the long form runs. With `@pytest.mark.sample(3)` the short form
runs three of its parameters, evenly spread, and the long form all. A few tests, such as that of a hundred
kills, take minutes even there: `AIOBATCH_FULL=1 make test-all` runs them in full.

`--sweep-only` selects what differs in the long form: tests and parameters that the short form leaves out,
properties, and modules that import `examples`. CI runs both forms, so it need not run the other tests twice.
"""

from __future__ import annotations

import os

# `pytest --sweep` sets it before it imports a test module, and worker processes inherit it.
SWEEP_VARIABLE = "AIOBATCH_SWEEP"
_FULL_VARIABLE = "AIOBATCH_FULL"


def is_sweep() -> bool:
    """Return whether this process runs the long form."""
    return os.environ.get(SWEEP_VARIABLE, "") == "1"


def examples(short: int, long: int, *, full: int | None = None) -> int:
    """Return how many examples to try: *short* in the short form of the suite, *long* in the long form.

    *full* is their number in a long form that runs in full.

    It works at import time, so that decorators and parameter lists can use it.
    """
    if full is not None and os.environ.get(_FULL_VARIABLE, "") == "1":
        return full
    return long if is_sweep() else short
