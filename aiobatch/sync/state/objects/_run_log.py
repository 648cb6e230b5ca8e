"""The objects of one run: its plan, and the transitions of its chunks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs
import orjson

from ....models import IndexingToken
from ..._errors import StateError
from .._chunks import ChunkState, ChunkTransition
from ._head import FORMAT, foreign_errors, parse
from ._layout import Place
from ._store import ConflictError, ObjectStore

# Number, first action and the one after the last.
Range = tuple[int, int, int]
_AFTER_TOKEN: Final = frozenset({ChunkState.APPLIED, ChunkState.REPLACED})


@attrs.frozen(kw_only=True)
class Entry:
    """What one group commit recorded.

    Attributes:
        epoch: The epoch of the lease of its writer.
        transitions: The transitions of chunks, in order.
        halves: The chunks that a split added.
    """

    epoch: int
    transitions: Sequence[ChunkTransition]
    halves: Sequence[Range] = ()


@attrs.define(eq=False)
class RunLog:
    """The plan and the transitions of one run in a store.

    Attributes:
        store: The store.
        place: The audience.
        run: The run's number.
    """

    store: ObjectStore
    place: Place
    run: int
    _next: dict[int, int] = attrs.field(init=False, factory=dict)

    def create_plan(self, document: dict[str, Any]) -> None:
        """Write the plan, before anything of it is sent.

        Args:
            document: The plan, without IDs.

        Raises:
            StateError: There is one already, or the store failed.
        """
        text = orjson.dumps({"format": FORMAT, "run": self.run, **document}, option=orjson.OPT_INDENT_2)
        try:
            self.store.create(self.place.run(self.run).plan, text)
        except ConflictError:
            raise self._moved from None

    def read_plan(self) -> dict[str, Any]:
        """Return the plan.

        Raises:
            StateError: It is gone, or cannot be read.
        """
        found = self.store.get(self.place.run(self.run).plan)
        if found is None:
            msg = (
                f"the plan of run {self.run} is gone. Restore it, or forget the audience and adopt it again."
            )
            raise StateError(msg, path=self.store.url, reason="damaged")
        with foreign_errors(self.store.url):
            plan = parse(found.data, self.store.url)
            chunks = [(int(n), int(first), int(past)) for n, first, past in plan["chunks"]]
            changes = [str(path) for path in plan["changes"]]
            return plan | {"run": int(plan["run"]), "chunks": chunks, "changes": changes}

    def append(self, entry: Entry) -> None:
        """Write transitions durably, in one object.

        Args:
            entry: The transitions.

        Raises:
            StateError: Another process writes this run too, or the store failed.
        """
        epoch, k = entry.epoch, self._next.get(entry.epoch, 0)
        document = {"format": FORMAT, "epoch": epoch, "transitions": [*map(_to_json, entry.transitions)]}
        if entry.halves:
            document["halves"] = list(entry.halves)
        try:
            self.store.create(self.place.run(self.run).transition(epoch, k), orjson.dumps(document))
        except ConflictError:
            raise self._moved from None
        self._next[epoch] = k + 1

    def read(self) -> list[Entry]:
        """Return all transitions, in order.

        Raises:
            StateError: They cannot be read.
        """
        entries: list[Entry] = []
        for listed in self.store.list(self.place.run(self.run).transitions):
            found = self.store.get(listed.path)
            if found is None:
                msg = f"{listed.path!r} is gone while it is read. Run again."
                raise StateError(msg, path=self.store.url, reason="failed")
            with foreign_errors(self.store.url):
                document = parse(found.data, self.store.url)
                epoch = int(document["epoch"])
                halves = [(int(n), int(first), int(past)) for n, first, past in document.get("halves", ())]
                transitions = [_from_json(one) for one in document["transitions"]]
            self._next[epoch] = self._next.get(epoch, 0) + 1
            entries.append(Entry(epoch=epoch, transitions=transitions, halves=halves))
        return entries

    @property
    def _moved(self) -> StateError:
        msg = f"another process writes run {self.run} too. This one stops. Run again."
        return StateError(msg, path=self.store.url, reason="moved")


def _to_json(transition: ChunkTransition) -> dict[str, Any]:
    token, reason = transition.token, transition.reason
    return {
        "n": transition.n,
        "state": transition.state.value,
        **({} if token is None else {"token": str(token)}),
        **({} if reason is None else {"reason": reason}),
    }


def _from_json(document: dict[str, Any]) -> ChunkTransition:
    token = document.get("token")
    return ChunkTransition(
        n=int(document["n"]),
        state=ChunkState(document["state"]),
        token=None if token is None else IndexingToken.parse(token),
        reason=document.get("reason"),
    )


@attrs.define
class _Chunk:
    """What is known of one chunk."""

    sends: int = 0
    token: IndexingToken | None = None
    last: ChunkTransition | None = None


def fold(planned: Iterable[Range], entries: Iterable[Entry]) -> tuple[list[Range], list[ChunkTransition]]:
    """Return the chunks of a run, and for each the shortest legal transitions to its last state.

    What an earlier holder of the lease recorded stays a fact, even if it arrives late. So transitions of
    several epochs need not follow each other legally.

    Args:
        planned: The chunks of the plan.
        entries: What was recorded, in order.
    """
    ranges = {one[0]: one for one in planned}
    chunks: dict[int, _Chunk] = {}
    for entry in entries:
        clashes = any(ranges.get(half[0], half) != half for half in entry.halves)
        ranges |= {half[0]: half for half in entry.halves if not clashes}
        for transition in entry.transitions:
            if transition.state is ChunkState.SPLIT and clashes:
                continue  # another holder has split another chunk: this one has an unknown outcome
            chunk = chunks.setdefault(transition.n, _Chunk())
            chunk.last, chunk.token = transition, transition.token or chunk.token
            chunk.sends += transition.state is ChunkState.SENDING
    known = {n: one for n, one in chunks.items() if n in ranges}
    return list(ranges.values()), [step for n, one in sorted(known.items()) for step in _path(n, one)]


def _path(n: int, chunk: _Chunk) -> list[ChunkTransition]:
    """Return legal transitions of a chunk from PLANNED to its last state, with all of its sends."""
    assert chunk.last is not None  # noqa: S101 - it has a transition
    state = chunk.last.state
    path = [ChunkTransition(n=n, state=ChunkState.SENDING)] * max(chunk.sends, 1)
    if state in _AFTER_TOKEN and chunk.token is not None:
        path.append(ChunkTransition(n=n, state=ChunkState.SENT, token=chunk.token))
    if state is ChunkState.SENDING:
        return path
    return [*path, chunk.last]
