"""The `run` command: sync all audiences of a config."""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Group, Parameter

from ...errors import AiobatchError
from ...sync import (
    Attempt,
    Config,
    StateLocation,
    default_state_path,
    load_config,
    record_attempts,
)
from ...sync.config import configured_notify, configured_state
from ...sync.sources import Files
from .._alerts import news_of, send_alerts
from .._config_run import ConfigRun, Planned, print_report, sync_place
from .._context import InjectedContext
from .._exit_codes import ExitCode
from .._run_report import RunReport
from .._signals import in_thread
from ..inputs._config import DEFAULT_CONFIG, find_config
from ..inputs._credentials import variables
from ..inputs._selection import check_one_audience, with_options
from ..options._common import ConfigOptions, Flag, ManyOptions, convert_duration
from ..options._sync import OverrideOptions, StateOption
from ..output._command_hints import command_context
from ..output._errors import explain, text_of
from ..output._sync_report import pluralize

__all__ = ["run_many"]

_RUN = Group("Run", sort_key=6)


@Parameter(name="*", group=_RUN)
@attrs.frozen(kw_only=True)
class Selection:
    """Options of `run`.

    Attributes:
        target: Take this app or project, or all that match. Repeatable.
        check: Check the config only, without any network.
        dry_run: Send nothing, and show the plans. Exit with 11 if one is refused.
        config: Use this config. Default: $AIOBATCH_CONFIG, else ./aiobatch.toml.
        env_file: Read variables from the KEY=VALUE lines of this file.
        state: Use this state file. Default: as in the config, or your own.
        grace: Give chunks in flight this long. Default: as in the config.
        detailed_exitcode: Exit with 10 if anything was changed.
    """

    target: Annotated[tuple[str, ...], Parameter(metavar="NAME", negative=(), show_default=False)] = ()
    check: Flag = False
    dry_run: Flag = False
    config: Annotated[Path | None, Parameter(metavar="FILE")] = None
    env_file: Annotated[str | None, Parameter(metavar="FILE")] = None
    state: StateOption = None
    grace: Annotated[float | None, Parameter(metavar="DURATION", converter=convert_duration)] = None
    detailed_exitcode: Flag = False


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class RunCommand:
    """All options of `run`."""

    selection: Selection = attrs.field(factory=Selection)
    many: ManyOptions = attrs.field(factory=ManyOptions)
    guard: OverrideOptions = attrs.field(factory=OverrideOptions)


_COMMAND = RunCommand()


async def run_many(
    config: Annotated[Path | None, Parameter(metavar="CONFIG")] = None,
    /,
    *,
    command: RunCommand = _COMMAND,
    context: InjectedContext,
) -> ExitCode:
    """Sync all audiences of a config.

    Reads each source once for all of its apps and projects. If an audience fails, the others continue. The
    exit code is the most severe one.

    Example: `aiobatch run aiobatch.toml --check && aiobatch run aiobatch.toml --dry-run`

    Example: `aiobatch run aiobatch.toml --jobs 4 --json`

    Example: `aiobatch run aiobatch.toml --only vip --allow-removals 120000`

    Args:
        config: The config, as with --config. `aiobatch schema config` prints its JSON Schema.
    """
    selection = command.selection
    report = RunReport(context=context, detailed=selection.detailed_exitcode, dry_run=selection.dry_run)

    async def work() -> ExitCode:
        path = await in_thread(lambda: _path(config, selection))
        with command_context(config=path):
            loaded, env = await _load(path, command)
            if selection.check:
                for line in await in_thread(lambda: _checked(loaded)):
                    context.info(line)
                return report.write()
            state = selection.state or loaded.state or default_state_path()
            sends = not selection.dry_run
            await in_thread(lambda: report.begin(loaded, state, sends=sends))
            jobs = command.many.jobs or loaded.jobs
            run = ConfigRun(config=loaded, state=state, env=env, jobs=jobs, report=report)
            await run.do(sync_place if sends else Planned())
            return report.write()

    return await print_report(report, work)


def _path(config: Path | None, selection: Selection) -> Path:
    """Return the path of the config."""
    if config is not None:
        return config
    found = find_config(ConfigOptions(config=selection.config))
    return DEFAULT_CONFIG if found is None else found.path


def _record_failure(
    path: Path, state: StateLocation | None, env: Mapping[str, str], error: Exception
) -> None:
    """Record that the config cannot be used, if its state is known."""
    place = state or configured_state(path, env=env)
    if place is not None:
        attempt = Attempt(command="run", config=str(path.absolute()))
        text, code = " ".join(text_of(error).split("\n")), explain(error).code
        failed = attempt.failed(text, exit_code=int(code))
        record_attempts(place, [failed])
        notify = configured_notify(path, env=env)
        if notify is not None:
            send_alerts(notify, place, news_of([failed]))


async def _load(path: Path, command: RunCommand) -> tuple[Config, Mapping[str, str]]:
    """Read the config and apply the options of this run. Record an attempt if it is invalid."""
    selection = command.selection
    env: Mapping[str, str] = os.environ
    try:
        env = await in_thread(lambda: variables(selection.env_file))
        config = await in_thread(
            lambda: load_config(path, env=env, only=command.many.only, targets=selection.target)
        )
        return _with_options(config, command), env
    except (AiobatchError, OSError) as error:
        if not (selection.check or selection.dry_run):
            note = functools.partial(_record_failure, path, selection.state, env, error)
            await in_thread(note)
        raise


def _with_options(config: Config, command: RunCommand) -> Config:
    """Return the config with the options of this run."""
    grace, overrides = command.selection.grace, command.guard.overrides()
    changes: dict[str, Any] = {} if grace is None else {"grace": grace}
    if command.guard.is_given:
        check_one_audience(command.many, config.audiences)
        changes["overrides"] = overrides
    return with_options(config, lambda options: attrs.evolve(options, **changes))


def _checked(config: Config) -> list[str]:
    """Return lines about a valid config: its missing files and its size."""
    lines: list[str] = []
    for audience in config.audiences:
        place = audience.source.location
        if isinstance(place, Files) and not glob.has_magic(place.path) and not Path(place.path).exists():
            lines.append(f"audiences.{audience.label}: {place.path} does not exist yet.")
    audiences = pluralize(len(config.audiences), "audience")
    targets = pluralize(sum(len(audience.targets) or 1 for audience in config.audiences), "place")
    if config.notify is not None:
        lines += [
            f"notify.urls: the environment variable {one} is not set, so no alert is sent to it."
            for one in config.notify.missing
        ]
    return [*lines, f"{config.path}: {audiences} in {targets}, no problem found."]
