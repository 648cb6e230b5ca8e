"""`make simulate`: many seeds, or one with its trace.

python -m tests.sync.simulation [--seeds 10000] [--first 0]
python -m tests.sync.simulation --seed 17
"""

from __future__ import annotations

import argparse
import collections
import logging
import multiprocessing
import os
import sys
import time

from .simulate import Result, simulate


def main(arguments: list[str] | None = None) -> int:
    """Run simulations. Return 1 if an invariant does not hold, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.sync.simulation")
    parser.add_argument("--seeds", type=int, default=10_000, help="number of seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay this seed, and print what happens")
    options = parser.parse_args(arguments)
    logging.getLogger("aiobatch").setLevel(logging.CRITICAL)
    if options.seed is not None:
        return _replay(simulate(options.seed))
    return _run(range(options.first, options.first + options.seeds))


def _replay(result: Result) -> int:
    for seconds, text in result.trace:
        print(f"{seconds:10.3f} s  {text}")  # noqa: T201 - a program
    print(*result.outcomes, result.error or "all invariants hold")  # noqa: T201
    return result.error is not None


def _run(seeds: range) -> int:
    start, outcomes, sent, stale = time.monotonic(), collections.Counter[str](), 0, 0
    with multiprocessing.Pool(os.cpu_count(), _silence) as pool:
        results = pool.imap(simulate, seeds, chunksize=50)
        for seed, result in zip(seeds, results, strict=True):
            outcomes.update(result.outcomes)
            sent, stale = sent + result.sent, stale + result.stale
            if result.error is not None:
                print(f"seed {seed}: {result.error}")  # noqa: T201
                print(f"Replay it: python -m tests.sync.simulation --seed {seed}")  # noqa: T201
                return 1
    seconds = time.monotonic() - start
    ends = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
    print(  # noqa: T201
        f"{len(seeds):,} seeds in {seconds:.0f} s: all invariants hold. {sent:,} requests, {stale} "
        f"of them in the residual window. Runs: {ends}."
    )
    return 0


def _silence() -> None:
    logging.getLogger("aiobatch").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())
