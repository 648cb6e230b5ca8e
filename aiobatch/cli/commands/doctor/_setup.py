"""The checks of the config and of the keys."""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from ....errors import InvalidInputError
from ....options import App, Project
from ....sync import (
    Config,
    ConfigError,
    Problem,
    StateLocation,
    default_state_path,
    load_config,
)
from ....sync.config import configured_state
from ..._alerts import EXTRA, invalid_urls
from ...inputs._config import find_config
from ...inputs._credentials import choose_target, read_env_file, variables
from ...options._common import ConfigOptions
from ...output._command_hints import command
from ...output._errors import text_of
from ._finding import Finding, passed, problem, problem_of, skipped

__all__ = ["Options", "Setup", "read_setup"]

_PLACEHOLDER: Final = re.compile(r"(?i)x{3,}|\*+|change_?me|todo|your[-_ ].*|<.*>|\$.*|.*\.\.\.|…")
_TARGETS: Final = frozenset({"apps", "projects"})
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_SET: Final = "Set the variable, or pass --env-file FILE with a line KEY=VALUE."


@attrs.frozen(kw_only=True)
class Options:
    """What is checked.

    Attributes:
        where: The config, and the app or project in it.
        state: The state of the option. None if it is not given.
        env_file: The file of variables. None for the environment.
        api: The version of the API. None: the one whose key is set.
    """

    where: ConfigOptions
    state: StateLocation | None = None
    env_file: str | None = None
    api: str | None = None


@attrs.define(eq=False, kw_only=True)
class Setup:
    """What a run would use.

    Attributes:
        env: The variables.
        path: The config's path. None if there is none.
        config: The config. None if there is none, or if it is invalid.
        targets: Name in the config -> app or project, and the variables of its keys. None names the one of
            the environment.
        state: The state. None if it is unknown.
        findings: What was found so far.
    """

    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    path: Path | None = None
    config: Config | None = None
    targets: dict[str | None, tuple[App | Project, tuple[str, ...]]] = attrs.field(factory=dict)
    state: StateLocation | None = None
    findings: list[Finding] = attrs.field(factory=list)


def read_setup(options: Options) -> Setup:
    """Return what a run would use, with the findings about its config and its keys."""
    setup = Setup()
    setup.findings += _check_env_file(options.env_file, setup)
    found = find_config(options.where)
    if found is None:
        setup.findings.append(
            skipped("config", "No config is used: no --config, AIOBATCH_CONFIG or ./aiobatch.toml.")
        )
    else:
        setup.path = found.path
        setup.findings += _check_config(options, setup, found.path)
    setup.findings += _check_keys(options, setup)
    setup.state = options.state
    if setup.state is None and setup.config is not None:
        setup.state = setup.config.state
    elif setup.state is None and setup.path is not None:
        setup.state = configured_state(setup.path, env=setup.env)
    if setup.state is None:
        try:
            setup.state = default_state_path()
        except InvalidInputError as error:
            setup.findings.append(problem_of("state", str(error), "Pass --state FILE."))
    return setup


def _check_env_file(path: str | None, setup: Setup) -> Iterator[Finding]:
    """Read the variables, and yield what is wrong with their file."""
    if path is None:
        setup.env = variables(None)
        return
    try:
        setup.env = read_env_file(path, warn=False)
        mode = Path(path).stat().st_mode
    except (InvalidInputError, OSError) as error:
        yield problem("keys", text_of(error), "Pass --env-file a file of KEY=VALUE lines that you can read.")
        return
    if stat.S_ISREG(mode) and mode & _OTHERS:
        fix = f"Run `chmod 600 {shlex.quote(path)}`."
        yield problem("keys", "Other users can open the env file.", fix)


def _check_config(options: Options, setup: Setup, path: Path) -> Iterator[Finding]:
    """Load the config, and yield what is wrong with it and with the variables that it names."""
    wanted = [] if options.where.target is None else [options.where.target]
    check = f"Correct it, then run {command('run', '--check', '--config', str(path))}."
    reported: set[Problem] = set()
    for require_keys in (False, True):
        try:
            config = load_config(path, env=setup.env, targets=wanted, require_keys=require_keys)
        except ConfigError as error:
            new = [one for one in error.problems if one not in reported]
            reported.update(new)
            for one in new:
                yield _of_problem(one, check, is_variable=require_keys)
        except (InvalidInputError, OSError) as error:
            if not require_keys:
                yield problem("config", text_of(error), f"Name a config that exists. {check}")
        else:
            setup.config = config
    if setup.config is not None:
        places = sum(len(one.targets) or 1 for one in setup.config.audiences)
        text = f"The config is valid: {len(setup.config.audiences)} audiences, {places} places."
        yield passed("config", text)
        yield from _check_alerts(setup.config)


def _check_alerts(config: Config) -> Iterator[Finding]:
    """Yield the findings about the alerts of a config. No alert is sent."""
    if config.notify is None:
        return
    for name in config.notify.missing:
        yield problem("alerts", f"{name} is not set, so no alert is sent to it.", _SET)
    invalid = invalid_urls(config.notify)
    if invalid is None:
        yield problem("alerts", "No alert can be sent without the extra.", f"Run `{EXTRA}`.")
        return
    for name in invalid:
        yield problem(
            "alerts", f"{name} holds no Apprise URL.", "Copy the URL of the service from Apprise's docs."
        )
    if not invalid and not config.notify.missing:
        yield passed("alerts", f"Alerts go to the URLs in {', '.join(config.notify.urls)}.")


def _of_problem(one: Problem, check: str, *, is_variable: bool) -> Finding:
    """Return the finding of a problem of a config."""
    of_target = len(one.path) > 1 and one.path[0] in _TARGETS
    text = f"{one.key}: {one.text}" if one.key else f"The config {one.text}"
    label = str(one.path[1]) if of_target else None
    return problem("keys" if of_target else "config", text, _SET if is_variable else check, target=label)


def _check_keys(options: Options, setup: Setup) -> Iterator[Finding]:
    """Find the apps and projects, and yield which variables hold their keys and what is wrong with them."""
    if setup.config is not None:
        setup.targets |= {label: (one.target, one.variables) for label, one in setup.config.targets.items()}
        names_targets = any(one.targets for one in setup.config.audiences)
    else:
        names_targets = setup.path is not None and any(one.check == "config" for one in setup.findings)
    if not names_targets:
        try:
            target = choose_target(setup.env, options.api)
        except InvalidInputError as error:
            yield problem_of("keys", str(error), _SET)
            return
        kind = "BATCH_API_KEY" if isinstance(target, App) else "BATCH_PROJECT_KEY"
        setup.targets[None] = (target, ("BATCH_REST_API_KEY", kind))
    for label, (target, names) in setup.targets.items():
        yield _form(label, target, names, setup.env)


def _form(
    label: str | None, target: App | Project, names: tuple[str, ...], env: Mapping[str, str]
) -> Finding:
    """Return the finding about the form of the keys of an app or project."""
    values = [env[name] for name in names]
    for name, value in zip(names, values, strict=True):
        if value[0] in "\"'" or value[-1] in "\"'":
            return problem("keys", f"{name} begins or ends with a quote.", "Remove the quotes.", target=label)
        if _PLACEHOLDER.fullmatch(value):
            fix = "Copy the key from Batch's dashboard, Settings."
            return problem("keys", f"{name} holds a placeholder and no key.", fix, target=label)
    if len(set(values)) < len(values):
        text = f"{' and '.join(names)} hold the same key."
        fix = "Copy each key from Batch's dashboard, Settings."
        return problem("keys", text, fix, target=label)
    kind = "app" if isinstance(target, App) else "project"
    return passed("keys", f"{' and '.join(names)} are set: {kind}, API {target.version}.", target=label)
