"""The `run` command: sync all audiences of a config."""

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
from ...errors import AiobatchError, InvalidInputError
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
from ..inputs._credentials import allows_http, choose_target, make_client, read_env_file
from ..options._common import Flag
from ..options._sync import OverrideOptions
from ..output._command_hints import command_context
from ..output._errors import report_error
from ..output._sync_progress import RunBars
from ..output._sync_report import pluralize, summary_lines
from ..output._tables import OutputError
from ._run_report import Result, RunReport, label_of

__all__ = ["run_many"]

_RUN = Group("Run", sort_key=6)


@Parameter(name="*", group=_RUN)
@attrs.frozen(kw_only=True)
class Selection:
    """Options of `run`.

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
    """All options of `run`."""

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
    """Sync all audiences of a config.

    Reads each source once for all of its apps and projects. If an audience fails, the others continue. The
    exit code is the most severe one.

    Example: `aiobatch run aiobatch.toml --check && aiobatch run aiobatch.toml --dry-run`

    Example: `aiobatch run aiobatch.toml --jobs 4 --json`

    Example: `aiobatch run aiobatch.toml --only vip --allow-removals 120000`

    Args:
        config: The config. Default: aiobatch.toml. `aiobatch schema config` prints its JSON Schema.
    """
    selection = command.selection
    report = RunReport(context=context, detailed=selection.detailed_exitcode, dry_run=selection.dry_run)
    try:
        path = selection.env_file
        env = os.environ if path is None else await in_thread(lambda: read_env_file(path))
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


def _load(path: Path, command: RunCommand, env: Mapping[str, str]) -> Config:
    """Read the config and apply the overrides of this run."""
    selection, overrides = command.selection, command.guard.overrides()
    config = load_config(path, env=env, only=selection.only)
    changes: dict[str, Any] = {} if selection.grace is None else {"grace": selection.grace}
    if overrides != SyncOptions().overrides:
        if len(selection.only) != 1:
            msg = "--allow-removals and --allow-empty are for one audience. Name it with --only."
            raise InvalidInputError(msg)
        changes["overrides"] = overrides
    audiences = (attrs.evolve(one, options=attrs.evolve(one.options, **changes)) for one in config.audiences)
    return attrs.evolve(config, audiences=tuple(audiences))


def _checked(config: Config) -> list[str]:
    """Return lines about a valid config: its missing files and its size."""
    lines: list[str] = []
    for audience in config.audiences:
        place = audience.source.location
        if isinstance(place, Files) and not glob.has_magic(place.path) and not Path(place.path).exists():
            lines.append(f"audiences.{audience.label}: {place.path} does not exist yet.")
    audiences = pluralize(len(config.audiences), "audience")
    targets = pluralize(sum(len(audience.targets) or 1 for audience in config.audiences), "place")
    return [*lines, f"{config.path}: {audiences} in {targets}, no problem found."]


# -- the run ------------------------------------------------------------------------------------------


async def _run(config: Config, selection: Selection, env: Mapping[str, str], report: RunReport) -> ExitCode:
    """Sync all audiences and report them."""
    stop = asyncio.Event()
    report.order = [(one.label, target) for one in config.audiences for target in one.targets or (None,)]
    state, options = selection.state or config.state, SyncOptions(memory_limit=config.memory_limit)
    with report.context.progress() as progress, stop_on_signal(stop, report.context) as code_of_signal:
        async with contextlib.AsyncExitStack() as stack:
            runner = _BatchRunner(report=report, bars=RunBars(progress))
            engine = SyncEngine(state=state, options=options, stop=stop, purpose=f"run {config.path}")
            await stack.enter_async_context(engine)
            for label, client in _clients(config, env, runner).items():
                runner.clients[label] = await stack.enter_async_context(client)
            await engine.name_targets({label: one.target for label, one in config.targets.items()})
            try:
                await runner.sync_all(config, engine, selection.jobs or config.jobs)
            finally:
                report.signal = code_of_signal()
    return report.write()


def _clients(
    config: Config, env: Mapping[str, str], runner: _BatchRunner
) -> dict[str | None, AudienceClient]:
    """Return a client for each target. Audiences of one target share its rate limit."""
    base_url, hook = env.get("BATCH_BASE_URL") or None, runner.bars.progress.on_event
    allow_http = allows_http(env)
    clients: dict[str | None, AudienceClient] = {
        label: make_client(
            target.target,
            base_url=base_url,
            allow_http=allow_http,
            rate=target.rate,
            on_event=hook,
            retry=BULK_RETRY,
        )
        for label, target in config.targets.items()
    }
    if not clients:
        target = choose_target(env, None)
        clients[None] = make_client(
            target, base_url=base_url, allow_http=allow_http, on_event=hook, retry=BULK_RETRY
        )
    return clients


@attrs.define(eq=False, kw_only=True)
class _BatchRunner:
    """Syncs audiences, some at the same time.

    Attributes:
        report: Collects the results.
        bars: Displays the progress.
        clients: Target name -> client. None is the target of the environment.
    """

    report: RunReport
    bars: RunBars
    clients: dict[str | None, AudienceClient] = attrs.field(factory=dict)

    async def sync_all(self, config: Config, engine: SyncEngine, jobs: int) -> None:
        """Sync all audiences, *jobs* at the same time."""
        turns = asyncio.Semaphore(jobs)
        async with asyncio.TaskGroup() as group:
            for audience in config.audiences:
                group.create_task(self._sync(audience, engine, turns))

    async def _sync(self, audience: AudienceConfig, engine: SyncEngine, turns: asyncio.Semaphore) -> None:
        """Sync one audience with all of its targets when it is its turn."""
        targets: tuple[str | None, ...] = audience.targets or (None,)

        def on_progress(progress: SyncProgress) -> None:
            self.bars.on_progress(label_of(audience, targets[progress.target]), progress)

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
            # An error of the engine would carry the report of only one target.
            self._take(audience, targets, [asyncio.CancelledError()] * len(targets))
            raise
        except Exception as error:  # noqa: BLE001 - it becomes the outcome of all targets
            outcomes = [error] * len(targets)
        self._take(audience, targets, outcomes)

    def _take(
        self,
        audience: AudienceConfig,
        targets: Sequence[str | None],
        outcomes: Sequence[SyncReport | BaseException],
    ) -> None:
        """Add results to the report, and print them."""
        for target, outcome in zip(targets, outcomes, strict=True):
            result = Result(audience=audience, target=target, outcome=outcome)
            self.report.results.append(result)
            done = isinstance(outcome, SyncReport)
            self.bars.end(result.label, str(result.report.outcome), success=done)
            with result.context():
                if isinstance(outcome, Exception):  # a cancellation is reported once for all
                    report_error(outcome, f"{result.label}: ")
                elif isinstance(outcome, SyncReport) and not self.bars.progress.has_bars:
                    summary = summary_lines(outcome)[0].partition(": ")[2]
                    self.report.context.info(f"{result.label}: {summary}")
