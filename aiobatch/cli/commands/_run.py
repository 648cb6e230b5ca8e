"""Bring many audiences in line, each in its apps and projects, as a config file says."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ..._client import AudienceClient
from ...errors import AiobatchError, AudienceNotFoundError, InvalidInputError
from ...sync import (
    BULK_RETRY,
    AudienceConfig,
    Config,
    SyncEngine,
    SyncOptions,
    SyncProgress,
    SyncReport,
    load_config,
)
from ...sync.sources import Files
from .._context import InjectedContext
from .._exit_codes import ExitCode
from .._signals import in_thread
from .._sync_session import stop_on_signal
from ..inputs._credentials import choose_target, make_client, read_env_file
from ..options._common import Flag
from ..options._sync import OverrideOptions
from ..output._command_hints import command_context
from ..output._errors import report_error
from ..output._messages import print_error
from ..output._sync_progress import RunBars
from ..output._sync_report import pluralize, summary_lines
from ..output._tables import OutputError
from ._run_report import Result, RunReport, label_of

__all__ = ["run_many"]

_RUN = Group("Run", sort_key=6)


@Parameter(name="*", group=_RUN)
@attrs.frozen(kw_only=True)
class Selection:
    """Which audiences, and how.

    Attributes:
        only: Take this audience of the config. Repeatable. Default: all.
        jobs: Sync this many audiences at once. Default: as in the config, or 1.
        check: Check the config only, without any network.
        dry_run: Send nothing, and show the plans. Exit with 11 if one is refused.
        env_file: Read variables from the KEY=VALUE lines of this file.
        state: Use this state file. Default: as in the config, or your own.
        grace: Give chunks in flight this long. Default: as in the config.
        detailed_exitcode: Exit with 10 if anything was changed.
    """

    only: Annotated[tuple[str, ...], Parameter(metavar="NAME", negative=(), show_default=False)] = ()
    jobs: Annotated[int | None, Parameter(metavar="N", validator=Number(gte=1))] = None
    check: Flag = False
    dry_run: Flag = False
    env_file: Annotated[str | None, Parameter(metavar="FILE")] = None
    state: Annotated[Path | None, Parameter(metavar="FILE")] = None
    grace: Annotated[float | None, Parameter(metavar="SECONDS")] = None
    detailed_exitcode: Flag = False


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class RunCommand:
    """All of `run`."""

    selection: Selection = attrs.field(factory=Selection)
    guard: OverrideOptions = attrs.field(factory=OverrideOptions)


_COMMAND = RunCommand()


async def run_many(
    config: Annotated[Path, Parameter(metavar="CONFIG")] = Path("aiobatch.toml"),
    /,
    *,
    command: RunCommand = _COMMAND,
    context: InjectedContext,
) -> ExitCode:
    """Bring all audiences of a config in line, each source read once for all apps and projects it goes to.

    One audience that fails does not stop the others. The exit code is that of the one that weighs most.

    Example: `aiobatch run aiobatch.toml --check && aiobatch run aiobatch.toml --dry-run`

    Example: `aiobatch run aiobatch.toml --jobs 4 --json`

    Example: `aiobatch run aiobatch.toml --only vip --allow-removals 120000`

    Args:
        config: The config; aiobatch.toml by default. docs/reference/config.schema.json describes it.
    """
    selection = command.selection
    report = RunReport(context=context, detailed=selection.detailed_exitcode, dry_run=selection.dry_run)
    try:
        env = await in_thread(lambda: _environment(selection.env_file))
        loaded = await in_thread(lambda: _load(config, command, env))
        if selection.check:
            for line in await in_thread(lambda: _checked(loaded)):
                context.info(line)
            return report.write()
        with command_context(state=selection.state or loaded.state):
            return await _run(loaded, selection, env, report)
    except asyncio.CancelledError:
        report.write()
        raise
    except (BrokenPipeError, OutputError):
        raise
    except (AiobatchError, OSError) as error:
        return report.fail(error)


def _environment(path: str | None) -> Mapping[str, str]:
    """Return where variables are."""
    return os.environ if path is None else read_env_file(path)


def _load(path: Path, command: RunCommand, env: Mapping[str, str]) -> Config:
    """Read the config, and let the overrides of this one run stand in it."""
    selection, overrides = command.selection, command.guard.overrides()
    config = load_config(path, env=env, only=selection.only)
    changes: dict[str, Any] = {} if selection.grace is None else {"grace": selection.grace}
    if overrides != SyncOptions().overrides:
        if len(selection.only) != 1:
            msg = "--allow-removals and --allow-empty are for one audience: name it with --only"
            raise InvalidInputError(msg)
        changes["overrides"] = overrides
    audiences = (attrs.evolve(one, options=attrs.evolve(one.options, **changes)) for one in config.audiences)
    return attrs.evolve(config, audiences=tuple(audiences))


def _checked(config: Config) -> list[str]:
    """Return what to say of a config that can be meant: what is not there yet, and how much it is."""
    lines: list[str] = []
    for audience in config.audiences:
        place = audience.source.location
        if isinstance(place, Files) and not glob.has_magic(place.path) and not Path(place.path).exists():
            lines.append(f"audiences.{audience.label}: {place.path} is not there yet")
    audiences = pluralize(len(config.audiences), "audience")
    targets = pluralize(sum(len(audience.targets) or 1 for audience in config.audiences), "place")
    return [*lines, f"{config.path}: {audiences} in {targets}, no problem found"]


# -- the run ------------------------------------------------------------------------------------------


async def _run(config: Config, selection: Selection, env: Mapping[str, str], report: RunReport) -> ExitCode:
    """Bring all audiences in line and report them."""
    stop = asyncio.Event()
    report.order = [(one.label, target) for one in config.audiences for target in one.targets or (None,)]
    state, options = selection.state or config.state, SyncOptions(memory_limit=config.memory_limit)
    with report.context.progress() as progress, stop_on_signal(stop, report.context) as code_of_signal:
        async with contextlib.AsyncExitStack() as stack:
            many = _BatchRunner(report=report, rows=RunBars(progress))
            purpose = f"run {config.path}"
            engine = SyncEngine(state=state, options=options, stop=stop, purpose=purpose)
            await stack.enter_async_context(engine)
            for label, client in _clients(config, env, many).items():
                many.clients[label] = await stack.enter_async_context(client)
            await engine.name_targets({label: one.target for label, one in config.targets.items()})
            try:
                await many.sync_all(config, engine, selection.jobs or config.jobs)
            finally:
                report.signal = code_of_signal()
    return report.write()


def _clients(config: Config, env: Mapping[str, str], many: _BatchRunner) -> dict[str | None, AudienceClient]:
    """Make a client for each target, so that all audiences of one share its pace."""
    base_url, hook = env.get("BATCH_BASE_URL") or None, many.rows.progress.on_event
    clients: dict[str | None, AudienceClient] = {
        label: make_client(
            target.target, base_url=base_url, rate=target.rate, on_event=hook, retry=BULK_RETRY
        )
        for label, target in config.targets.items()
    }
    if not clients:
        target = choose_target(env, None)
        clients[None] = make_client(target, base_url=base_url, on_event=hook, retry=BULK_RETRY)
    return clients


@attrs.define(eq=False, kw_only=True)
class _BatchRunner:
    """Brings audiences in line, some at the same time.

    Attributes:
        report: Takes the results.
        rows: Shows how far they are.
        clients: Target's label -> its client; None is what the environment names.
    """

    report: RunReport
    rows: RunBars
    clients: dict[str | None, AudienceClient] = attrs.field(factory=dict)

    async def sync_all(self, config: Config, engine: SyncEngine, jobs: int) -> None:
        """Bring all audiences in line, *jobs* at the same time."""
        turns = asyncio.Semaphore(jobs)
        async with asyncio.TaskGroup() as group:
            for audience in config.audiences:
                group.create_task(self._sync(audience, engine, turns))

    async def _sync(self, audience: AudienceConfig, engine: SyncEngine, turns: asyncio.Semaphore) -> None:
        """Bring one audience in line in all its targets, when it is its turn."""
        targets: tuple[str | None, ...] = audience.targets or (None,)

        def on_progress(progress: SyncProgress) -> None:
            self.rows.on_progress(label_of(audience, targets[progress.target]), progress)

        outcomes: Sequence[SyncReport | BaseException]
        try:
            async with turns:
                outcomes = await engine.sync_many(
                    [self.clients[target] for target in targets],
                    audience.name,
                    audience.source,
                    options=audience.options,
                    on_progress=on_progress,
                    dry_run=self.report.dry_run,
                )
        except asyncio.CancelledError:
            # One that was raised in the engine carries the report of one target alone.
            self._take(audience, targets, [asyncio.CancelledError()] * len(targets))
            raise
        except Exception as error:  # noqa: BLE001 - not swallowed: it is the outcome of all its targets
            outcomes = [error] * len(targets)
        self._take(audience, targets, outcomes)

    def _take(
        self,
        audience: AudienceConfig,
        targets: Sequence[str | None],
        outcomes: Sequence[SyncReport | BaseException],
    ) -> None:
        """Take results, and say so."""
        for target, outcome in zip(targets, outcomes, strict=True):
            result = Result(audience=audience, target=target, outcome=outcome)
            self.report.results.append(result)
            good = isinstance(outcome, SyncReport)
            self.rows.end(result.label, str(result.report.outcome), good=good)
            with result.context():
                self._tell(result.label, outcome)

    def _tell(self, label: str, outcome: SyncReport | BaseException) -> None:
        """Say how one ended; a cancellation is told once, for all of them."""
        if isinstance(outcome, SyncReport):
            if not self.rows.progress.has_bars:
                self.report.context.info(f"{label}: {summary_lines(outcome)[0].partition(': ')[2]}")
        elif isinstance(outcome, Exception):
            report_error(outcome, f"{label}: ")
            if isinstance(outcome, AudienceNotFoundError):
                print_error(f"{label}: an audience that does not exist is made with create = true", outcome)
