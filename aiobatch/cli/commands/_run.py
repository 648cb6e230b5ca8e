"""The `run` command: sync all audiences of a config."""

from __future__ import annotations

import asyncio
import contextlib
import functools
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
    Attempt,
    AudienceConfig,
    Config,
    SyncEngine,
    SyncOptions,
    SyncProgress,
    SyncReport,
    TargetConfig,
    default_state_path,
    load_config,
    record_attempts,
)
from ...sync.config import configured_state
from ...sync.sources import Files
from .._context import InjectedContext
from .._exit_codes import ExitCode
from .._signals import in_thread
from .._sync_session import stop_on_signal
from ..inputs._config import DEFAULT_CONFIG, find_config
from ..inputs._credentials import allows_http, choose_target, make_client, variables
from ..options._common import ConfigOptions, Flag, convert_duration
from ..options._sync import OverrideOptions
from ..output._command_hints import command_context
from ..output._errors import explain, report_error, text_of
from ..output._sync_progress import RunBars
from ..output._sync_report import describe_rows, pluralize, summary_lines
from ..output._tables import OutputError
from ._run_report import Result, RunReport, label_of

__all__ = ["run_many"]

_RUN = Group("Run", sort_key=6)


@Parameter(name="*", group=_RUN)
@attrs.frozen(kw_only=True)
class Selection:
    """Options of `run`.

    Attributes:
        only: Take this audience, or all that match, such as 'vip*'. Repeatable.
        target: Take this app or project, or all that match. Repeatable.
        jobs: Sync this many audiences at once. Default: as in the config, or 1.
        check: Check the config only, without any network.
        dry_run: Send nothing, and show the plans. Exit with 11 if one is refused.
        config: Use this config. Default: $AIOBATCH_CONFIG, else ./aiobatch.toml.
        env_file: Read variables from the KEY=VALUE lines of this file.
        state: Use this state file. Default: as in the config, or your own.
        grace: Give chunks in flight this long. Default: as in the config.
        detailed_exitcode: Exit with 10 if anything was changed.
    """

    only: Annotated[tuple[str, ...], Parameter(metavar="NAME", negative=(), show_default=False)] = ()
    target: Annotated[tuple[str, ...], Parameter(metavar="NAME", negative=(), show_default=False)] = ()
    jobs: Annotated[int | None, Parameter(metavar="N", validator=Number(gte=1))] = None
    check: Flag = False
    dry_run: Flag = False
    config: Annotated[Path | None, Parameter(metavar="FILE")] = None
    env_file: Annotated[str | None, Parameter(metavar="FILE")] = None
    state: Annotated[Path | None, Parameter(metavar="FILE")] = None
    grace: Annotated[float | None, Parameter(metavar="DURATION", converter=convert_duration)] = None
    detailed_exitcode: Flag = False


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class RunCommand:
    """All options of `run`."""

    selection: Selection = attrs.field(factory=Selection)
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
    sends = not (selection.check or selection.dry_run)
    path = DEFAULT_CONFIG if config is None else config
    try:
        path = await in_thread(lambda: _path(config, selection))
        with command_context(config=path):
            env: Mapping[str, str] = os.environ
            try:
                env = await in_thread(lambda: variables(selection.env_file))
                loaded = await in_thread(lambda: _load(path, command, env))
            except (AiobatchError, OSError) as error:
                if sends:
                    note = functools.partial(_record_failure, path, selection.state, env, error)
                    await in_thread(note)
                raise
            if selection.check:
                for line in await in_thread(lambda: _checked(loaded)):
                    context.info(line)
                return report.write()
            state = selection.state or loaded.state or default_state_path()
            await in_thread(lambda: report.begin(loaded, state, sends=sends))
            return await _run(loaded, selection, env, report)
    except asyncio.CancelledError:
        await report.record_attempts()
        report.write()
        raise
    except (BrokenPipeError, OutputError):
        raise
    except (AiobatchError, OSError) as error:
        await report.record_attempts(error)
        return report.fail(error)


def _path(config: Path | None, selection: Selection) -> Path:
    """Return the path of the config."""
    if config is not None:
        return config
    found = find_config(ConfigOptions(config=selection.config))
    return DEFAULT_CONFIG if found is None else found.path


def _record_failure(path: Path, state: Path | None, env: Mapping[str, str], error: Exception) -> None:
    """Record that the config cannot be used, if its state is known."""
    place = state or configured_state(path, env=env)
    if place is not None:
        attempt = Attempt(command="run", config=str(path.absolute()))
        text, code = " ".join(text_of(error).split("\n")), explain(error).code
        record_attempts(place, [attempt.failed(text, exit_code=int(code))])


def _load(path: Path, command: RunCommand, env: Mapping[str, str]) -> Config:
    """Read the config and apply the overrides of this run."""
    selection, overrides = command.selection, command.guard.overrides()
    config = load_config(path, env=env, only=selection.only, targets=selection.target)
    changes: dict[str, Any] = {} if selection.grace is None else {"grace": selection.grace}
    if overrides != SyncOptions().overrides:
        if not selection.only or len(config.audiences) != 1:
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
    stop, options = asyncio.Event(), SyncOptions(memory_limit=config.memory_limit)
    with report.context.progress() as progress, stop_on_signal(stop, report.context) as code_of_signal:
        async with contextlib.AsyncExitStack() as stack:
            runner = _BatchRunner(report=report, bars=RunBars(progress), targets=config.targets)
            engine = SyncEngine(state=report.state, options=options, stop=stop, purpose=f"run {config.path}")
            await stack.enter_async_context(engine)
            for label, client in _clients(config, env, runner).items():
                runner.clients[label] = await stack.enter_async_context(client)
            await report.start(runner.clients)
            await engine.name_targets({label: one.target for label, one in config.targets.items()})
            try:
                await runner.sync_all(config, engine, selection.jobs or config.jobs)
            finally:
                report.signal = code_of_signal()
    await report.record_attempts()
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
            limits=target.limits,
            on_event=hook,
            retry=BULK_RETRY,
        )
        for label, target in config.targets.items()
    }
    if not clients:
        target = choose_target(env, None)
        clients[None] = make_client(
            target,
            base_url=base_url,
            allow_http=allow_http,
            limits=config.limits,
            on_event=hook,
            retry=BULK_RETRY,
        )
    return clients


@attrs.define(eq=False, kw_only=True)
class _BatchRunner:
    """Syncs audiences, some at the same time.

    Attributes:
        report: Collects the results.
        bars: Displays the progress.
        clients: Target name -> client. None is the target of the environment.
        targets: Target name -> app or project of the config.
    """

    report: RunReport
    bars: RunBars
    clients: dict[str | None, AudienceClient] = attrs.field(factory=dict)
    targets: Mapping[str, TargetConfig] = attrs.field(factory=dict)

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
            result = Result(
                audience=audience,
                target=target,
                outcome=outcome,
                variables=() if target is None else self.targets[target].variables,
            )
            self.report.results.append(result)
            done = isinstance(outcome, SyncReport)
            self.bars.end(result.label, str(result.report.outcome), success=done)
            with result.context():
                if isinstance(outcome, Exception):  # a cancellation is reported once for all
                    report_error(outcome, f"{result.label}: ")
                elif isinstance(outcome, SyncReport) and not self.bars.progress.has_bars:
                    summary = summary_lines(outcome)[0].partition(": ")[2]
                    self.report.context.info(f"{result.label}: {summary}")
                self._report_rows(result)

    def _report_rows(self, result: Result) -> None:
        """Print how many rows were kept, and where the others are."""
        report, context = result.report, self.report.context
        if report.rejected:
            context.info(f"{result.label}: {describe_rows(report)}", "warning")
        elif report.read and not self.bars.progress.has_bars:
            context.info(f"{result.label}: {describe_rows(report)}")
