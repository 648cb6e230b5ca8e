"""What the commands of the sync engine are told, in groups, and what the engine makes of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
from cyclopts import Group, Parameter

from ...models import IdType
from ...sync import Format, GuardPolicy, Mode, Overrides, Source, SyncOptions, default_state_path
from ...sync._options import SIZE
from .._arguments import decode_stdin_dash
from ._common import Flag, IdTypeName, OnOff, Seconds, TargetOptions

__all__ = [
    "AdoptCommand",
    "ApplyCommand",
    "GuardOptions",
    "KnownCommand",
    "OverrideOptions",
    "PlanCommand",
    "ResyncCommand",
    "RollbackCommand",
    "RunOptions",
    "SourceOptions",
    "SourceWords",
    "StateOptions",
    "SyncCommand",
    "engine_values",
]

_DEFAULTS = SyncOptions()
# Options that the engine knows under the same name.
_ALIKE = {
    "create",
    "description",
    "drift",
    "grace",
    "memory_limit",
    "rejects",
    "strict",
    "timeout",
    "trim",
    "wait",
}
_POLICY = GuardPolicy()


def _check_size(_: object, value: str) -> None:
    """Refuse what DuckDB does not take for an amount of memory."""
    if re.fullmatch(SIZE, value) is None:
        msg = "It must be an amount of memory such as 512MB or 2GB."
        raise ValueError(msg)


_Name = Annotated[str | None, Parameter(metavar="COLUMN")]
_Count = Annotated[int | None, Parameter(metavar="N")]
_File = Annotated[Path | None, Parameter(metavar="FILE")]
_Time = Annotated[float, Parameter(metavar="SECONDS")]


@Parameter(name="*", group=Group("Source", sort_key=3))
@attrs.frozen(kw_only=True)
class SourceOptions:
    """What of the source becomes members.

    Attributes:
        query: The SELECT, where the source is a database.
        id_column: The column of ids; `id`, `user_id`, `custom_id` or the only one by default.
        attributes: Columns that become attributes, with commas; `column=name` gives one another name.
        tags_column: The column of tags: a list, or text with commas.
        format: How files are written; told by their names by default, standard input is CSV.
        id_type: What the ids are; the API version's own type by default.
        trim: Take whitespace around ids away (the default), or keep it.
        rejects: Write rows that are no members to this file, with row number and reason.
    """

    query: Annotated[str | None, Parameter(metavar="SQL")] = None
    id_column: _Name = None
    attributes: Annotated[str | None, Parameter(metavar="COLUMNS")] = None
    tags_column: _Name = None
    format: Literal["csv", "jsonl", "parquet"] | None = None
    id_type: IdTypeName | None = None
    trim: OnOff = True
    rejects: _File = None

    def words(self, text: str) -> SourceWords:
        """Return what was said of the source *text*."""
        return SourceWords(
            text=decode_stdin_dash(text),
            query=self.query,
            id_column=self.id_column,
            attributes=_read_attributes(self.attributes),
            tags_column=self.tags_column,
            format=None if self.format is None else Format(self.format),
        )


def _read_attributes(text: str | None) -> dict[str, str]:
    """Read `city,signed_up=date(signed_up)`."""
    pairs = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    return {column.strip(): (name or column).strip() for column, _, name in pairs}


@attrs.frozen(kw_only=True)
class SourceWords:
    """A source as a person writes it: a plan keeps this, and reads the source again.

    Attributes:
        text: A path or a database's address, its variables not filled in.
        query: The SELECT.
        id_column: The column of ids.
        attributes: Column -> attribute's name.
        tags_column: The column of tags.
        format: How files are written.
    """

    text: str
    query: str | None = None
    id_column: str | None = None
    attributes: dict[str, str] = attrs.field(factory=dict)
    tags_column: str | None = None
    format: Format | None = None

    def options(self) -> dict[str, Any]:
        """Return it as the arguments and options that say the same."""
        attributes = ",".join(f"{column}={name}" for column, name in self.attributes.items())
        words = attrs.asdict(self) | {"attributes": attributes}
        return {"source": words.pop("text"), **words}

    def source(self) -> Source:
        """Return what the engine reads.

        Raises:
            InvalidInputError: It is no source.
        """
        words = attrs.asdict(self)
        return Source.parse(words.pop("text"), **words)


@Parameter(name="*", group=Group("Changes", sort_key=4))
@attrs.frozen(kw_only=True)
class ChangeOptions:
    """What is made of it.

    Attributes:
        mode: Make the audience equal the source, only add, only remove, or replace it in one call of at most
            10,000 ids.
        create: Make the audience if it does not exist.
        description: The description of an audience that is made.
    """

    mode: Literal["mirror", "add", "remove", "replace"] = "mirror"
    create: Flag = False
    description: Annotated[str | None, Parameter(metavar="TEXT")] = None


_GUARD = Group("Guard", sort_key=5)


@Parameter(name="*", group=_GUARD)
@attrs.frozen(kw_only=True)
class OverrideOptions:
    """What this one run may do in spite of the guard.

    Attributes:
        allow_removals: Let this run remove so many members, and not one more.
        allow_empty: Let this run take an empty source for the truth.
    """

    allow_removals: _Count = None
    allow_empty: Flag = False

    def overrides(self) -> Overrides:
        """Return them for the engine."""
        return Overrides(allow_removals=self.allow_removals, allow_empty=self.allow_empty)


@Parameter(name="*", group=_GUARD)
@attrs.frozen(kw_only=True)
class GuardOptions:
    """When a plan is refused.

    Attributes:
        max_removals: Refuse more removals than this.
        max_removals_percent: Refuse more removals than this share of the members; an audience of fewer than
            100 members is exempt.
    """

    max_removals: _Count = None
    max_removals_percent: Annotated[float, Parameter(metavar="PERCENT")] = _POLICY.max_removals_percent or 0.0

    def policy(self) -> GuardPolicy:
        """Return the limits for the engine."""
        return GuardPolicy(max_removals=self.max_removals, max_removals_percent=self.max_removals_percent)


_RUN = Group("Run", sort_key=6)


@Parameter(name="*", group=_RUN)
@attrs.frozen(kw_only=True)
class CheckOptions:
    """How Batch's own count is compared with ours.

    Attributes:
        drift: Ids by which Batch's own count may differ from ours.
        strict: Fail where it differs by more; otherwise warn.
    """

    drift: Annotated[int, Parameter(metavar="N")] = _DEFAULTS.drift
    strict: Flag = False


@Parameter(name="*", group=_RUN)
@attrs.frozen(kw_only=True)
class RunOptions:
    """How a run is carried out.

    Attributes:
        timeout: Seconds from the first chunk sent to the last one applied, at most.
        wait: Wait until all is APPLIED (the default), or journal the tokens and end, for `wait --state`.
        grace: Seconds that chunks under way get after Ctrl-C or SIGTERM.
        detailed_exitcode: Exit with 10 where something was, or would be, changed.
    """

    timeout: Seconds = _DEFAULTS.timeout
    wait: OnOff = True
    grace: _Time = _DEFAULTS.grace
    detailed_exitcode: Flag = False


@Parameter(name="*", group=Group("State", sort_key=7))
@attrs.frozen(kw_only=True)
class StateOptions:
    """What is known of the audience.

    Attributes:
        state: The state file; one in the user's data directory by default.
        memory_limit: Memory that comparing may take; what needs more spills to disk.
    """

    state: _File = None
    memory_limit: Annotated[str, Parameter(metavar="SIZE", validator=_check_size)] = _DEFAULTS.memory_limit

    @property
    def path(self) -> Path:
        """The state file."""
        return self.state or default_state_path()


_GROUP = Parameter(name="*")


@_GROUP
@attrs.frozen(kw_only=True)
class KnownCommand:
    """What every command of the engine is told: whose audience, and what is known of it."""

    state: StateOptions = attrs.field(factory=StateOptions)
    target: TargetOptions = attrs.field(factory=TargetOptions)

    def options(self, mode: Mode) -> SyncOptions:
        """Return the engine's options, from the groups that the command has."""
        values: dict[str, Any] = {"mode": mode}
        for group in attrs.asdict(self, recurse=False).values():
            values |= engine_values(group)
        return SyncOptions(**values)


@_GROUP
@attrs.frozen(kw_only=True)
class AdoptCommand(KnownCommand):
    """All of `adopt`."""

    members: SourceOptions = attrs.field(factory=SourceOptions)
    checks: CheckOptions = attrs.field(factory=CheckOptions)


@_GROUP
@attrs.frozen(kw_only=True)
class PlanCommand(KnownCommand):
    """All of `plan`."""

    members: SourceOptions = attrs.field(factory=SourceOptions)
    changes: ChangeOptions = attrs.field(factory=ChangeOptions)
    guard: GuardOptions = attrs.field(factory=GuardOptions)
    allowed: OverrideOptions = attrs.field(factory=OverrideOptions)


@_GROUP
@attrs.frozen(kw_only=True)
class ApplyCommand(KnownCommand):
    """All of `apply`; the plan says the rest."""

    allowed: OverrideOptions = attrs.field(factory=OverrideOptions)
    running: RunOptions = attrs.field(factory=RunOptions)
    checks: CheckOptions = attrs.field(factory=CheckOptions)


@_GROUP
@attrs.frozen(kw_only=True)
class RollbackCommand(ApplyCommand):
    """All of `rollback`."""

    guard: GuardOptions = attrs.field(factory=GuardOptions)


@_GROUP
@attrs.frozen(kw_only=True)
class ResyncCommand(RollbackCommand):
    """All of `resync`."""

    members: SourceOptions = attrs.field(factory=SourceOptions)


@_GROUP
@attrs.frozen(kw_only=True)
class SyncCommand(ResyncCommand):
    """All of `sync`."""

    changes: ChangeOptions = attrs.field(factory=ChangeOptions)


def engine_values(group: attrs.AttrsInstance) -> dict[str, Any]:
    """Return what a group of options means to the engine, which names most of them alike."""
    values = {name: one for name, one in attrs.asdict(group, recurse=False).items() if name in _ALIKE}
    if isinstance(group, OverrideOptions):
        values["overrides"] = group.overrides()
    if isinstance(group, GuardOptions):
        values["guard"] = group.policy()
    if isinstance(group, SourceOptions) and group.id_type is not None:
        values["id_type"] = IdType(group.id_type)
    return values
