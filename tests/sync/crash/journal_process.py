"""A process to be killed: it syncs one source after the other and prints what is on disk."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

from aiobatch.sync.state._chunks import ChunkState
from aiobatch.sync.state._history import RunEnding, RunOutcome
from aiobatch.sync.state._journal import Journal

from ..state.states import in_partitions_of, open_state, plan, vip
from ..steps import mark_applied, mark_sending, mark_sent

IDS = 6000
CHUNK = 500


def source(seed: int) -> list[str]:
    """Return the IDs of the source of a round."""
    return [f"user-{i}" for i in Random(seed).sample(range(IDS), IDS * 2 // 3)]


def say(*words: object) -> None:
    """Print what is on disk now."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def settle(journal: Journal) -> None:
    """Resend the chunks of unknown outcome, and complete all open chunks."""
    mark_sending(journal, [chunk.n for chunk in journal.in_state(ChunkState.SENDING)])
    for chunk in journal.in_state(ChunkState.SENDING):
        mark_sent(journal, chunk.n, f"vip:update:t{chunk.n}")
    mark_applied(journal, [chunk.n for chunk in journal.in_state(ChunkState.SENT)])


def one_round(journal: Journal) -> None:
    """Record all transitions of a run, two chunks at a time. The last may be alone."""
    planned = [chunk.n for chunk in journal.in_state(ChunkState.PLANNED)]
    for first in range(0, len(planned), 2):
        ns = planned[first : first + 2]
        mark_sending(journal, ns)
        say("sending", journal.run, *ns)
        for n in ns:
            mark_sent(journal, n, f"vip:update:t{n}")
            say("sent", journal.run, n)
        mark_applied(journal, ns)
        say("applied", journal.run, *ns)


def main(path: Path, seeds: Sequence[int]) -> None:
    """Sync one source after the other."""
    with open_state(path) as state, in_partitions_of(IDS // 10):
        for seed in seeds:
            made = plan(state, source(seed), size=CHUNK)
            journal = Journal.begin(state, made)
            say("begun", journal.run, vip(state).members)
            one_round(journal)
            settle(journal)
            journal.close(RunEnding(outcome=RunOutcome.DONE, calls=1, retries=0))
            say("closed", journal.run)


if __name__ == "__main__":
    first, rounds = int(sys.argv[2]), int(sys.argv[3])
    main(Path(sys.argv[1]), range(first, first + rounds))
