"""Groups of options of the sync engine's commands, derived from the options that the engine declares."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import attrs
from cyclopts import Group, Parameter, Token

from ...errors import InvalidInputError
from ...sync import (
    GuardPolicy,
    Mode,
    Overrides,
    Source,
    StateLocation,
    SyncOptions,
    default_state_path,
    to_location,
)
from ...sync._option_fields import Check, options_of
from ...sync._option_fields import Group as OptionGroup
from .._arguments import decode_stdin_dash
from ._common import ConfigOptions, Flag, TargetOptions, convert_duration

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
    "StateOption",
    "StateOptions",
    "SyncCommand",
    "source_words",
]

_Fields = list["attrs.Attribute[Any]"]
_PARTS: Mapping[str, type[attrs.AttrsInstance]] = {"guard": GuardPolicy, "overrides": Overrides}
DEFAULTS = SyncOptions()
_OWNERS: tuple[type[attrs.AttrsInstance], ...] = (Source, SyncOptions, *_PARTS.values())


def engine_options(group: OptionGroup) -> Callable[[type, _Fields], _Fields]:
    """Return an attrs field transformer that adds all options that the engine declares for a group.

    Args:
        group: The group.
    """
    added = [
        _as_parameter(field)
        for owner in _OWNERS
        for name, field in options_of(owner).items()
        if field.metadata["group"] == group and name not in _PARTS
    ]
    return lambda _, fields: [*added, *fields]


def _as_parameter(field: attrs.Attribute[Any]) -> attrs.Attribute[Any]:
    """Return an option as a parameter of a command. None means that it is not given."""
    check, unit = field.metadata["check"], field.metadata["unit"]
    kind, shown = _plain_type(field.type), field.default
    if kind is bool:
        parameter = Parameter(
            negative=None if shown else (), show_default=f"--{field.name}" if shown else False
        )
    else:
        is_duration = unit == "seconds"
        parameter = Parameter(
            converter=convert_duration if is_duration else None,
            metavar="DURATION" if is_duration else None if unit is None else unit.upper(),
            show_default=f"{shown:g}" if isinstance(shown, int | float) else shown or False,
            validator=None if check is None or check.choices else _validator(check),
        )
    if check is not None and check.choices:
        kind = Literal[tuple(check.choices)]
    if check is not None and check.examples:
        kind = str
    return field.evolve(default=None, validator=None, converter=None, type=Annotated[kind | None, parameter])


def _plain_type(kind: Any) -> Any:
    """Return the type of an option without None. A mapping is a comma-separated text."""
    if typing.get_origin(kind) is types.UnionType:
        (kind,) = (one for one in typing.get_args(kind) if one is not types.NoneType)
    return str if typing.get_origin(kind) is Mapping else kind


def _validator(check: Check) -> Callable[[object, Any], None]:
    """Return what the parser calls to apply the rule of an option."""

    def validate(_: object, value: Any) -> None:
        if value is not None and not check.keeps(value):
            msg = f"It must be {check.text}."
            raise ValueError(msg)

    return validate


def _given(*groups: attrs.AttrsInstance) -> dict[str, Any]:
    """Return the options of groups that are given."""
    values = {name: one for group in groups for name, one in attrs.asdict(group, recurse=False).items()}
    return {name: one for name, one in values.items() if one is not None}


def _evolve(options: SyncOptions, *groups: attrs.AttrsInstance) -> SyncOptions:
    """Return *options* with those that are given in their place."""
    given = _given(*groups)
    changes = {name: given[name] for name in options_of(SyncOptions) if name in given}
    for part, cls in _PARTS.items():
        values = {name: given[name] for name in options_of(cls) if name in given}
        changes[part] = attrs.evolve(getattr(options, part), **values)
    return attrs.evolve(options, **changes)


@Parameter(name="*", group=Group("Source", sort_key=3))
@attrs.frozen(kw_only=True, field_transformer=engine_options("source"))
class SourceOptions:
    """Options of the source."""

    def source(self, text: str) -> Source:
        """Return the source that *text* names.

        Raises:
            InvalidInputError: It names no source, or its options do not fit.
        """
        words = self._words()
        return Source.parse(decode_stdin_dash(text), attributes=words.pop("attributes", {}), **words)

    def replace(self, source: Source) -> Source:
        """Return a source of a config, with the options that are given in place of its own.

        Raises:
            InvalidInputError: An option is for another location.
        """
        words = self._words()
        for name in _IN_LOCATION:
            if name in words:
                msg = f"--{name} is for a SOURCE argument. The config has its own."
                raise InvalidInputError(msg)
        return attrs.evolve(source, **words)

    def _words(self) -> dict[str, Any]:
        """Return the options of the source that are given."""
        words = {name: one for name, one in _given(self).items() if name in options_of(Source)}
        if "attributes" in words:
            pairs = [part.partition("=") for part in words["attributes"].split(",") if part.strip()]
            words["attributes"] = {column.strip(): (name or column).strip() for column, _, name in pairs}
        return words


_IN_LOCATION = ("query", "format")  # options that the location of a source has


def source_words(source: Source) -> dict[str, Any]:
    """Return a source as the arguments and options of a command that reads it."""
    words = {name: getattr(source, name) for name in options_of(Source)}
    attributes = ",".join(f"{column}={name}" for column, name in source.attributes.items())
    return {"source": words.pop("path"), **words, "attributes": attributes}


@Parameter(name="*", group=Group("Changes", sort_key=4))
@attrs.frozen(kw_only=True, field_transformer=engine_options("changes"))
class ChangeOptions:
    """Options of the changes."""


def convert_state(_: object, tokens: Sequence[Token]) -> StateLocation:
    """Return the state that a text names."""
    try:
        return to_location(tokens[0].value)
    except InvalidInputError as error:
        raise ValueError(str(error)) from None


StateOption = Annotated[
    StateLocation | None,
    Parameter(name="--state", metavar="FILE", converter=convert_state, accepts_keys=False, n_tokens=1),
]

_GUARD = Group("Guard", sort_key=5)
_RUN = Group("Run", sort_key=6)


@Parameter(name="*", group=_GUARD)
@attrs.frozen(kw_only=True, field_transformer=engine_options("overrides"))
class OverrideOptions:
    """Exceptions from the guard for this run."""

    def overrides(self) -> Overrides:
        """Return them for the engine."""
        return _evolve(DEFAULTS, self).overrides

    @property
    def is_given(self) -> bool:
        """Whether any is given."""
        return self.overrides() != DEFAULTS.overrides


@Parameter(name="*", group=_GUARD)
@attrs.frozen(kw_only=True, field_transformer=engine_options("guard"))
class GuardOptions:
    """Limits on what a run may remove."""


@Parameter(name="*", group=_RUN)
@attrs.frozen(kw_only=True, field_transformer=engine_options("check"))
class CheckOptions:
    """Options for the comparison of the members with the count at Batch."""


@Parameter(name="*", group=_RUN)
@attrs.frozen(kw_only=True, field_transformer=engine_options("run"))
class RunOptions:
    """Options of the run."""

    detailed_exitcode: Flag = attrs.field(
        default=False, metadata={"help": "Exit with 10 if anything was, or would be, changed."}
    )

    @property
    def waits(self) -> bool:
        """Whether the run waits for what it sends."""
        return _evolve(DEFAULTS, self).wait


@Parameter(name="*", group=Group("State", sort_key=7))
@attrs.frozen(kw_only=True, field_transformer=engine_options("state"))
class StateOptions:
    """The state of the sync engine."""

    state: StateOption = attrs.field(
        default=None,
        metadata={"help": "Use this state file, or URL. Default: a file in your data directory."},
    )

    @property
    def path(self) -> StateLocation:
        """The state."""
        return self.state or default_state_path()


_GROUP = Parameter(name="*")


@_GROUP
@attrs.frozen(kw_only=True)
class KnownCommand:
    """Options of every command of the engine: the target and the state."""

    state: StateOptions = attrs.field(factory=StateOptions)
    target: TargetOptions = attrs.field(factory=TargetOptions)
    place: ConfigOptions = attrs.field(factory=ConfigOptions)

    def options(self, *, mode: Mode | None = None, base: SyncOptions | None = None) -> SyncOptions:
        """Return the options of a run.

        Args:
            mode: The mode, of a command that has only one.
            base: The options where none are given. Default: those of the engine.
        """
        options = _evolve(base or DEFAULTS, *attrs.asdict(self, recurse=False).values())
        return options if mode is None else attrs.evolve(options, mode=mode)


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

    def refuse_options_of_one(self) -> None:
        """Raise InvalidInputError for an option that each audience of a config has for itself."""
        given = _given(self.members, self.changes)
        given |= {name: one for name, one in _given(self.target).items() if name != "env_file"}
        if given:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            msg = f"{flags}: The config has this for each audience. Set it there, or pass NAME."
            raise InvalidInputError(msg)


@_GROUP
@attrs.frozen(kw_only=True)
class ApplyCommand(KnownCommand):
    """All of `apply`. Options that are not given are those of the plan."""

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
