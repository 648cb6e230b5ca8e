"""The place that a command works on: an audience with its source, state and target, perhaps of a config."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import attrs

from ...errors import InvalidInputError
from ...sync import (
    AudienceConfig,
    Config,
    Mode,
    NotifyConfig,
    Plan,
    Source,
    StateLocation,
    SyncOptions,
    TargetConfig,
    default_state_path,
    load_config,
    to_location,
)
from ...sync.config import configured_notify, configured_state, matches, suggest
from ..options._common import ConfigOptions, TargetOptions
from ..options._sync import DEFAULTS, KnownCommand, SourceOptions
from ._config import Announce, FoundConfig, find_config
from ._credentials import variables

__all__ = ["Place", "find_state", "known_notify", "known_state", "resolve", "resolve_plan"]

_DELTA_MODES = {Mode.ADD, Mode.REMOVE}


@attrs.frozen(kw_only=True)
class Place:
    """An audience in a target, and what the config has for it.

    Attributes:
        audience: The audience's name at Batch. Empty for a command that names none.
        state: The state.
        target: The options of the target.
        options: The options that the command line does not set. None for those of the engine.
        config: The config. None if there is none.
        configured: The audience in the config. None if it is not in one.
        place: The app or project of the config. None for the one of the environment.
        env: Where keys and paths of the config come from.
        notify: Where alerts go. None if the config declares none.
    """

    audience: str
    state: StateLocation
    target: TargetOptions
    options: SyncOptions | None = None
    config: Path | None = None
    configured: AudienceConfig | None = None
    place: TargetConfig | None = None
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    notify: NotifyConfig | None = None

    @property
    def words(self) -> dict[str, object]:
        """The options of printed commands that use the same place."""
        if self.config is None:
            return {"config": None}
        configured = (
            {} if self.configured is None else {"mode": (self.options or DEFAULTS).mode, "has_source": True}
        )
        names = () if self.place is None else self.place.variables
        return {
            "config": self.config,
            "config_target": self.label,
            "key_variables": names,
            **configured,
        }

    @property
    def label(self) -> str | None:
        """The name of the app or project in the config."""
        return None if self.place is None else self.place.label

    def source(self, text: str | None, members: SourceOptions, *, mode: Mode) -> Source:
        """Return the source that *text* names, or else the one of the config.

        Args:
            text: The argument. None if it is not given.
            members: The options of the source.
            mode: The mode of the command. A list of IDs to add or to remove is for no other mode.

        Raises:
            InvalidInputError: There is none, or its options do not fit.
        """
        if text is not None:
            return members.source(text)
        if self.configured is None:
            msg = "No source is given. Pass SOURCE, or --config FILE with a config that has this audience."
            raise InvalidInputError(msg)
        configured = self.configured.options.mode
        if configured in _DELTA_MODES and mode is not configured:
            what = f"for mode {mode}" if mode in _DELTA_MODES else "the list of all members"
            msg = (
                f"The source in {self.config} is for --mode {configured}, so it is not {what}. Pass SOURCE. "
                "Nothing was sent."
            )
            raise InvalidInputError(msg)
        return members.replace(self.configured.source)


def find_state(options: ConfigOptions, state: StateLocation | None, announce: Announce) -> StateLocation:
    """Return the state of a command that needs nothing else of the config.

    Args:
        options: The config.
        state: The state that an option names. None if there is none.
        announce: As for `resolve`.

    Raises:
        InvalidInputError: The config is invalid.
        OSError: The config cannot be read.
    """
    found = None if state is not None else find_config(options, announce)
    if found is None:
        return state or default_state_path()
    return load_config(found.path, require_keys=False).state or default_state_path()


def known_state(command: KnownCommand) -> StateLocation | None:
    """Return the state of a command whose config may be invalid. None if it cannot be read."""
    found = find_config(command.place)
    if command.state.state is not None or found is None:
        return command.state.path
    try:
        return configured_state(found.path, env=variables(command.target.env_file))
    except (InvalidInputError, OSError):
        return configured_state(found.path)


def known_notify(command: KnownCommand) -> NotifyConfig | None:
    """Return where the alerts of a command go whose config may be invalid. None if it is unknown."""
    found = find_config(command.place)
    if found is None:
        return None
    with contextlib.suppress(InvalidInputError, OSError):
        return configured_notify(found.path, env=variables(command.target.env_file))
    return None


def resolve(
    command: KnownCommand,
    name: str,
    announce: Announce,
    *,
    source: str | None = None,
    reads: bool = False,
) -> Place:
    """Return the place of a command.

    Args:
        command: The options of the command.
        name: The audience's name, in the config or at Batch. Empty for all.
        announce: Prints which config is used if no option names it.
        source: The source argument. None if it is not given.
        reads: Whether the command reads a source. Then the config must have the audience.

    Raises:
        InvalidInputError: The config is invalid, or has no such audience or target.
        OSError: The config or the env file cannot be read.
    """
    found = find_config(command.place, announce)
    if found is None and command.place.target is not None:
        msg = "--target names an app or project of a config. Pass --config."
        raise InvalidInputError(msg)
    alone = Place(audience=name, state=command.state.path, target=command.target)
    if found is None:
        return alone
    env = variables(command.target.env_file)
    outline = load_config(found.path, env=env, require_keys=False)
    chosen = _audiences(outline, name)
    if not chosen and name and not (found.is_explicit and not reads):
        if found.is_explicit or (reads and source is None):
            raise _unknown(found, name, outline)
        # The same for each command: a remedy must find the state that the failed command used.
        announce(f"{found.path} has no audience {name!r}, so it is not used.")
        return alone
    label = _target(found, chosen or list(outline.audiences), command.place.target)
    if label is not None and command.target.api is not None:
        msg = f"--api cannot be combined with {label!r} of {found.path}, which has its own version."
        raise InvalidInputError(msg)
    audience = _audience(found, [one for one in chosen if label is None or label in one.targets], name)
    return _place(command, found, audience, label, outline, env, name)


def resolve_plan(command: KnownCommand, plan: Plan, announce: Announce) -> Place:
    """Return the place of a saved plan. The config has the keys of its target.

    Args:
        command: The options of the command.
        plan: The plan.
        announce: As for `resolve`.

    Raises:
        InvalidInputError: The config is invalid, or none of its targets is the plan's.
        OSError: The config or the env file cannot be read.
    """
    state = command.state.path if plan.state is None else command.state.state or to_location(plan.state)
    alone = Place(audience=plan.audience, state=state, target=command.target)
    found = find_config(command.place, announce)
    if found is None:
        return alone
    env = variables(command.target.env_file)
    wanted = [] if command.place.target is None else [command.place.target]
    config = load_config(found.path, env=env, targets=wanted, require_keys=False)
    keys = {one.audience_key(plan.audience): one for one in config.targets.values()}
    if plan.key in keys or not found.is_explicit or not config.targets:
        return attrs.evolve(alone, config=found.path, place=keys.get(plan.key), env=env, notify=config.notify)
    msg = f"No app or project of {found.path} whose keys are set is the one of the plan. Nothing was sent."
    raise InvalidInputError(msg)


def _place(  # noqa: PLR0913, PLR0917 - the parts of one place
    command: KnownCommand,
    found: FoundConfig,
    audience: AudienceConfig | None,
    label: str | None,
    outline: Config,
    env: Mapping[str, str],
    name: str,
) -> Place:
    """Return a place of a config, with the keys of its target."""
    only = [
        one.label
        for one in outline.audiences
        if (audience is None or one.label == audience.label) and (label is None or label in one.targets)
    ]
    config = load_config(found.path, env=env, only=only[:1], targets=[] if label is None else [label])
    configured = None if audience is None else config.audiences[0]
    return Place(
        audience=name if configured is None else configured.name,
        state=command.state.state or config.state or default_state_path(),
        target=command.target,
        options=None if configured is None else configured.options,
        config=found.path,
        configured=configured,
        place=None if label is None else config.targets[label],
        env=env,
        notify=config.notify,
    )


def _audiences(config: Config, name: str) -> list[AudienceConfig]:
    """Return the audiences of a name, in the config or else at Batch."""
    return [one for one in config.audiences if one.label == name] or [
        one for one in config.audiences if one.name == name
    ]


def _unknown(found: FoundConfig, name: str, outline: Config) -> InvalidInputError:
    known = [one.label for one in outline.audiences]
    return InvalidInputError(f"{found.path} has no audience {name!r}{suggest(name, known) or '.'}")


def _target(found: FoundConfig, audiences: list[AudienceConfig], pattern: str | None) -> str | None:
    """Return the one target that the audiences have and that matches. None for the environment's."""
    known = list(dict.fromkeys(target for one in audiences for target in one.targets))
    patterns = [] if pattern is None else [pattern]
    wanted = [label for label in known if matches(label, patterns)]
    if len(wanted) == 1:
        return wanted[0]
    if not known and pattern is None:
        return None
    if not wanted:
        of = f" Choose from: {', '.join(known)}." if known else ""
        msg = f"{found.path} has no app or project {pattern!r} for this audience.{of}"
    else:
        msg = f"{found.path} has several apps or projects. Choose one with --target: {', '.join(wanted)}."
    raise InvalidInputError(msg)


def _audience(found: FoundConfig, audiences: list[AudienceConfig], name: str) -> AudienceConfig | None:
    """Return the one audience of a name."""
    if len(audiences) > 1:
        labels = ", ".join(one.label for one in audiences)
        msg = f"{found.path} has several audiences {name!r}. Use one of these names: {labels}."
        raise InvalidInputError(msg)
    return audiences[0] if audiences else None
