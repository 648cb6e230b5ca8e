"""The plan: what a run would do, worked out by DuckDB under its memory limit before anything is sent."""

from __future__ import annotations

import datetime as dt
import enum
from pathlib import Path
from typing import Any, Final, Self

import attrs
import cattrs
import orjson

from ..errors import InvalidInputError
from ._errors import StalePlanError
from ._guard import Verdict, enforce
from ._options import Mode
from ._private_files import write_private
from ._strict_converter import strict_converter

_FORMAT: Final = 1


class Action(enum.IntEnum):
    """What happens to one id, as the tables keep it."""

    REMOVE = 0
    ADD = 1
    UPDATE = 2
    RESEND = 3
    REMOVE_UNTRACKED = 4


class Basis(enum.StrEnum):
    """What the expected time of a plan rests on."""

    RATE = "rate"
    HISTORY = "history"


@attrs.frozen(kw_only=True)
class Plan:
    """What a run would do; written to a file it can be applied later, if nothing has moved.

    Attributes:
        audience: The audience's name.
        key: Its key in the state.
        mode: What is made of the source.
        source: What was read, without secrets.
        id_rules: The ID rules that its ids keep; None where that was not said.
        staged: Ids that the source gave, each once.
        source_digest: Changes when an id or a fingerprint of the source does.
        state_id: The state file that it was made with.
        generation: The audience's generation in that state.
        made: When; UTC.
        adds: Ids that become members.
        removes: Members that go.
        attribute_changes: Members that are sent again because their attributes changed.
        resends: Members that are sent again although nothing changed (replace, resync).
        untracked_removals: Ids that are no members to us and are removed to make sure (resync).
        unchanged: Members that nothing is sent for.
        members_before: Members before.
        members_after: Members when all of it is applied.
        chunk_size: Ids of a write call at most.
        calls: Write calls.
        seconds: Seconds that sending and waiting are expected to take; None where nothing tells.
        basis: What that rests on: the rate that the client keeps to, or the target's last runs; None where
            there is nothing to send or nothing tells.
        refused_before: Ids of the source that Batch refused within a week; they are not sent again.
        sample_adds: A few of the ids that become members.
        sample_removes: A few of the members that go.
        verdict: The guard's.
        report: The `SyncReport` of the run that made it. None in a plan that was loaded from a file.
    """

    audience: str
    key: str
    mode: Mode
    source: str
    id_rules: str | None
    staged: int
    source_digest: str
    state_id: str
    generation: int
    made: dt.datetime
    adds: int
    removes: int
    attribute_changes: int
    resends: int
    untracked_removals: int
    unchanged: int
    members_before: int
    members_after: int
    chunk_size: int
    calls: int
    seconds: float | None
    sample_adds: tuple[str, ...] = attrs.field(repr=False)
    sample_removes: tuple[str, ...] = attrs.field(repr=False)
    verdict: Verdict
    basis: Basis | None = None
    refused_before: int = 0
    report: Any = attrs.field(default=None, repr=False, eq=False)

    @property
    def changes(self) -> int:
        """Ids that are sent."""
        return self.adds + self.removes + self.attribute_changes + self.resends + self.untracked_removals

    @property
    def removals(self) -> int:
        """Members that go, as the guard counts them: by a replace too, which does not send them."""
        return self.members_before + self.adds - self.members_after

    def enforce(self) -> None:
        """Raise the guard's refusal.

        Raises:
            GuardError: The guard refuses this plan.
        """
        enforce(self.verdict, audience=self.audience)

    def refuse_stale(self, fresh: Plan) -> None:
        """Check that a plan made just now is still this one.

        Args:
            fresh: The plan of the same source and audience, made anew.

        Raises:
            StalePlanError: The source or the state has moved, or it is another audience or mode.
        """
        moved = [
            f"{label} was {mine!r} and is {now!r}"
            for label, mine, now in (
                ("the audience", (self.audience, self.key), (fresh.audience, fresh.key)),
                ("the mode", self.mode.value, fresh.mode.value),
                ("the state file", self.state_id, fresh.state_id),
                ("the state's generation", self.generation, fresh.generation),
                ("the source's number of ids", self.staged, fresh.staged),
                ("the source's digest", self.source_digest, fresh.source_digest),
                ("the number of changes", self.changes, fresh.changes),
            )
            if mine != now
        ]
        if moved:
            raise StalePlanError(audience=self.audience, moved=moved)

    def refuse_moved(self, state_id: str, generation: int) -> None:
        """Check that the state is as it was when this plan was made.

        Args:
            state_id: The open state's.
            generation: The audience's, in it.

        Raises:
            StalePlanError: It has moved.
        """
        if (state_id, generation) != (self.state_id, self.generation):
            raise StalePlanError(audience=self.audience, moved=["the state has moved since it was made"])

    def to_json(self) -> bytes:
        """Write the plan as JSON; it holds the sample's ids."""
        values = _converter.unstructure(attrs.evolve(self, report=None))
        del values["report"]
        return orjson.dumps({"format": _FORMAT, **values}, option=orjson.OPT_INDENT_2)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read what `to_json` wrote.

        Args:
            text: JSON.

        Raises:
            InvalidInputError: It is something else, or another version's.
        """
        try:
            document = orjson.loads(text)
            if not isinstance(document, dict) or document.pop("format", None) != _FORMAT:
                msg = f"not a plan of format {_FORMAT}: make it anew with `aiobatch plan`"
                raise InvalidInputError(msg)
            return _converter.structure(document, cls)
        except (orjson.JSONDecodeError, cattrs.BaseValidationError, ValueError, TypeError) as exc:
            if isinstance(exc, InvalidInputError):
                raise
            msg = "not a plan: make it with `aiobatch plan … --out FILE`"
            raise InvalidInputError(msg) from None

    def save(self, path: Path) -> None:
        """Write the plan to a file, mode 0600; a pipe or a device stays as it is.

        Args:
            path: The file; one that exists is overwritten.

        Raises:
            OSError: It cannot be written; no half of it is left.
        """
        write_private(path, self.to_json())


_converter = strict_converter()
