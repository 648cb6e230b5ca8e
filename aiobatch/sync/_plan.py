"""The plan: what a run would do, worked out by DuckDB under its memory limit before anything is sent."""

from __future__ import annotations

import datetime as dt
import enum
from pathlib import Path
from typing import Any, Final, Self

import attrs
import cattrs
import orjson
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from ..errors import InvalidInputError
from ._errors import StalePlanError
from ._guard import GuardDecision, enforce
from ._options import DEFAULTS, Mode, SyncOptions
from ._private_files import replace_private, write_private
from ._strict_converter import check_kind, errors_of, strict_converter
from .sources._source import Source

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
        source_label: The name of what was read, without secrets.
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
        decision: The guard's.
        report: The `SyncReport` of the run that made it. None in a plan that was loaded from a file.
        source: Where the members come from; None if the plan is of no source, as a rollback is.
        options: The options that the plan was made with.
        state: The state that it was made with: a path or a URL. A saved plan makes a path absolute.
    """

    audience: str
    key: str
    mode: Mode
    source_label: str
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
    decision: GuardDecision
    basis: Basis | None = None
    refused_before: int = 0
    report: Any = attrs.field(default=None, repr=False, eq=False)
    source: Source | None = None
    options: SyncOptions = DEFAULTS
    state: str | None = None

    @property
    def changes(self) -> int:
        """Ids that are sent."""
        return self.adds + self.removes + self.attribute_changes + self.resends + self.untracked_removals

    def enforce(self) -> None:
        """Raise the guard's refusal.

        Raises:
            GuardError: The guard refuses this plan.
        """
        enforce(self.decision, audience=self.audience)

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
        """Return the plan as JSON. It holds the IDs of the samples, and no secret.

        Raises:
            InvalidInputError: The source holds a password, or can be read only once.
        """
        rejects, state = self.options.rejects, self.state
        saved = attrs.evolve(
            self,
            source=None if self.source is None else self.source.rereadable(),
            options=attrs.evolve(self.options, rejects=None if rejects is None else rejects.absolute()),
            state=state if state is None or "://" in state else str(Path(state).absolute()),
        )
        return orjson.dumps({"format": _FORMAT, **_converter.unstructure(saved)}, option=orjson.OPT_INDENT_2)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Return the plan that `to_json` wrote.

        Args:
            text: JSON.

        Raises:
            InvalidInputError: It is no plan, or a plan of another format, or a variable in the address of its
                source is not set.
        """
        msg = "It is not a saved plan. Plan again and save the new plan."
        try:
            document = orjson.loads(text)
            check_kind(document, dict)
            if (found := document.pop("format", _FORMAT)) != _FORMAT:
                msg = f"It is a plan of format {found!r:.20}, and this version reads {_FORMAT}. Plan again."
                raise InvalidInputError(msg)
            return _converter.structure(document, cls)
        except InvalidInputError:
            raise
        except cattrs.BaseValidationError as error:
            # Of the source, such as a variable of its address that is not set.
            known = (one for _, one in errors_of(error) if isinstance(one, InvalidInputError))
            raise InvalidInputError(str(next(known, msg))) from None
        except (ValueError, TypeError):
            raise InvalidInputError(msg) from None

    def save(self, path: Path) -> None:
        """Write the plan to a file of mode 0600, atomically. A pipe or a device keeps its mode.

        Args:
            path: The file. An existing one is overwritten.

        Raises:
            InvalidInputError: The source holds a password, or can be read only once.
            OSError: The file cannot be written. An existing one is as it was.
        """
        is_special = path.exists() and not path.is_file()
        (write_private if is_special else replace_private)(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the plan that `save` wrote.

        Args:
            path: The file.

        Raises:
            InvalidInputError: As for `from_json`.
            OSError: The file cannot be read.
        """
        try:
            return cls.from_json(path.read_bytes())
        except InvalidInputError as error:
            msg = f"{path}: {error}"
            raise InvalidInputError(msg) from None


_converter = strict_converter()
# The location follows from the other fields. It is also what holds a password.
_converter.register_structure_hook(
    Source,
    make_dict_structure_fn(Source, _converter, _cattrs_forbid_extra_keys=True, location=override(omit=True)),
)
_converter.register_unstructure_hook(
    Source, make_dict_unstructure_fn(Source, _converter, location=override(omit=True))
)
_converter.register_unstructure_hook(
    Plan, make_dict_unstructure_fn(Plan, _converter, report=override(omit=True))
)
