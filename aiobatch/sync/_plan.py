"""The plan of a run: its numbers, its guard decision, and what is needed to apply it later."""

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
from ._private_files import save_private
from ._strict_converter import check_kind, errors_of, strict_converter
from .sources._source import Source

_FORMAT: Final = 1
NO_PLAN: Final = "It is not a saved plan. Plan again and save the new plan."


class Action(enum.IntEnum):
    """The action for one ID, as the tables store it."""

    REMOVE = 0
    ADD = 1
    UPDATE = 2
    RESEND = 3
    REMOVE_UNTRACKED = 4


class Basis(enum.StrEnum):
    """The basis of the expected time of a plan."""

    RATE = "rate"
    HISTORY = "history"


@attrs.frozen(kw_only=True)
class Plan:
    """What a run would do. A saved plan can be applied later, if source and state have not changed.

    Attributes:
        audience: The audience's name.
        key: Its key in the state.
        mode: The mode of the run.
        source_label: The name of what was read, without secrets.
        id_rules: The ID rules of the source. None if they are unknown.
        staged: Unique IDs of the source.
        source_digest: A digest of the IDs and fingerprints of the source.
        state_id: The ID of the state.
        generation: The audience's generation in that state.
        made: The time of planning, in UTC.
        adds: IDs that become members.
        removes: Members that are removed.
        attribute_changes: Members that are sent again because their attributes changed.
        resends: Unchanged members that are sent again (replace, resync).
        untracked_removals: IDs that the state does not record as members, removed to be safe.
        unchanged: Members for which nothing is sent.
        members_before: Members before.
        members_after: Members after the plan is applied.
        chunk_size: IDs of a write call at most.
        calls: Write calls.
        seconds: Expected seconds of sending and waiting. None if they are unknown.
        basis: The basis of `seconds`: the rate limit of the client, or the last runs of the target. None if
            there is nothing to send, or no basis.
        refused_before: IDs of the source that Batch refused within a week. They are not sent again.
        carried: Changes of an earlier run that Batch may not have, and that the source does not decide.
        lint: How many IDs of the source match no user, by kind, in words. Empty if none.
        sample_lint: A few of these IDs.
        attribute_lint: How many IDs have attributes or tags that Batch may drop, in words, with a few names.
        sample_adds: A few of the IDs that become members.
        sample_removes: A few of the members that are removed.
        decision: The guard's decision.
        report: The `SyncReport` of the run that made it. None in a plan that was loaded from a file.
        digests: The digests of the members after all of the plan is applied. None if they are unknown, as in
            a plan that was loaded from a file.
        source: The source of the members. None if there is none, as for a rollback.
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
    carried: int = 0
    lint: str = ""
    sample_lint: tuple[str, ...] = attrs.field(default=(), repr=False)
    attribute_lint: str = ""
    report: Any = attrs.field(default=None, repr=False, eq=False)
    digests: Any = attrs.field(default=None, repr=False, eq=False)
    source: Source | None = None
    options: SyncOptions = DEFAULTS
    state: str | None = None

    @property
    def changes(self) -> int:
        """IDs that are sent."""
        return self.adds + self.removes + self.attribute_changes + self.resends + self.untracked_removals

    def enforce(self) -> None:
        """Raise GuardError if the guard refuses this plan.

        Raises:
            GuardError: The guard refuses this plan.
        """
        enforce(self.decision, audience=self.audience, lint=self.lint)

    def refuse_stale(self, fresh: Plan) -> None:
        """Check that a fresh plan equals this one.

        Args:
            fresh: A new plan of the same source and audience.

        Raises:
            StalePlanError: The source or the state has changed, or it is another audience or mode.
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
        """Check that the state has not changed since this plan was made.

        Args:
            state_id: The ID of the open state.
            generation: The generation of the audience in it.

        Raises:
            StalePlanError: It has changed.
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
            raise InvalidInputError(str(next(known, NO_PLAN))) from None
        except (ValueError, TypeError):
            raise InvalidInputError(NO_PLAN) from None

    def save(self, path: Path) -> None:
        """Write the plan to a file of mode 0600, atomically. A pipe or a device keeps its mode.

        Args:
            path: The file. An existing one is overwritten.

        Raises:
            InvalidInputError: The source holds a password, or can be read only once.
            OSError: The file cannot be written. An existing one is as it was.
        """
        save_private(path, self.to_json())

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
    Plan,
    make_dict_unstructure_fn(Plan, _converter, report=override(omit=True), digests=override(omit=True)),
)
