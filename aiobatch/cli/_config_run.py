"""Runs of all places of a config, with one report: sync them, plan them, or apply their plans."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs

from .._client import AudienceClient
from ..errors import AiobatchError
from ..sync import (
    BULK_RETRY,
    AudienceConfig,
    Config,
    GuardError,
    Plan,
    PlannedPlace,
    RunOutcome,
    StateLocation,
    SyncEngine,
    SyncOptions,
    SyncProgress,
    SyncReport,
    TargetConfig,
)
from ._exit_codes import ExitCode
from ._run_report import Result, RunReport, label_of
from ._sync_session import stop_on_signal
from .inputs._credentials import allows_http, choose_target, make_client
from .output._errors import report_error
from .output._sync_progress import RunBars
from .output._sync_report import describe_rows, summary_lines
from .output._tables import OutputError

__all__ = ["Applied", "ConfigRun", "Planned", "Work", "print_report", "sync_place"]

_Outcomes = Sequence[SyncReport | Exception]
#: What is done with an audience, for all of its targets at once.
Work = Callable[
    [SyncEngine, Sequence[AudienceClient], AudienceConfig, Callable[[SyncProgress], None]],
    Awaitable[_Outcomes],
]


async def print_report(report: RunReport, work: Callable[[], Awaitable[ExitCode]]) -> ExitCode:
    """Do *work*, which prints the report, and print it in its place if *work* does not succeed."""
    try:
        return await work()
    except asyncio.CancelledError:
        await report.record_attempts()
        report.write()
        raise
    except (BrokenPipeError, OutputError):
        raise
    except (AiobatchError, OSError) as error:
        await report.record_attempts(error)
        return report.fail(error)


async def sync_place(
    engine: SyncEngine,
    clients: Sequence[AudienceClient],
    audience: AudienceConfig,
    on_progress: Callable[[SyncProgress], None],
) -> _Outcomes:
    """Bring an audience in line in all of its targets."""
    return await engine.sync_many(
        clients, audience.name, audience.source, options=audience.options, on_progress=on_progress
    )


@attrs.define(eq=False)
class Planned:
    """Plans audiences, and keeps the plans.

    Attributes:
        places: The places that could be planned.
    """

    places: list[PlannedPlace] = attrs.field(factory=list)

    async def __call__(
        self,
        engine: SyncEngine,
        clients: Sequence[AudienceClient],
        audience: AudienceConfig,
        on_progress: Callable[[SyncProgress], None],
    ) -> _Outcomes:
        """Plan an audience in all of its targets. A plan that the guard refuses is kept, and an error."""
        found = await engine.plan_many(
            clients, audience.name, audience.source, options=audience.options, on_progress=on_progress
        )
        self.places += [
            PlannedPlace(label=audience.label, target=target, plan=one)
            for target, one in zip(audience.targets or (None,), found, strict=True)
            if isinstance(one, Plan)
        ]
        return [_decided(one) if isinstance(one, Plan) else one for one in found]


def _decided(plan: Plan) -> SyncReport | GuardError:
    """Return the report of a plan, or the error of the guard."""
    report: SyncReport = plan.report
    try:
        plan.enforce()
    except GuardError as error:
        error.report = attrs.evolve(report, outcome=RunOutcome.REFUSED, error=error.text, remedy=error.remedy)
        return error
    return report


@attrs.frozen
class Applied:
    """Applies plans.

    Attributes:
        plans: Name of the audience in the config -> plans of its targets, in the same order.
    """

    plans: Mapping[str, Sequence[Plan]]

    async def __call__(
        self,
        engine: SyncEngine,
        clients: Sequence[AudienceClient],
        audience: AudienceConfig,
        on_progress: Callable[[SyncProgress], None],
    ) -> _Outcomes:
        """Carry out the plans of an audience."""
        return await engine.apply_many(
            clients, self.plans[audience.label], options=audience.options, on_progress=on_progress
        )


@attrs.frozen(kw_only=True)
class ConfigRun:
    """A run of several places.

    Attributes:
        config: The config.
        state: The state file.
        env: Where keys come from.
        jobs: Audiences at the same time.
        report: Collects and prints the results.
    """

    config: Config
    state: StateLocation
    env: Mapping[str, str]
    jobs: int
    report: RunReport

    async def do(self, work: Work) -> None:
        """Do *work* with all audiences. Their results are in the report."""
        stop, options = asyncio.Event(), SyncOptions(memory_limit=self.config.memory_limit)
        context, report = self.report.context, self.report
        with context.progress() as progress, stop_on_signal(stop, context) as code_of_signal:
            async with contextlib.AsyncExitStack() as stack:
                runner = _Runner(
                    report=report, bars=RunBars(progress), targets=self.config.targets, work=work
                )
                engine = SyncEngine(
                    state=self.state,
                    options=options,
                    stop=stop,
                    purpose=f"{report.command} {self.config.path}",
                    records_attempts=False,  # the report does, with the exit codes
                )
                await stack.enter_async_context(engine)
                for label, client in _clients(self.config, self.env, runner).items():
                    runner.clients[label] = await stack.enter_async_context(client)
                await report.start(runner.clients)
                await engine.name_targets({name: one.target for name, one in self.config.targets.items()})
                try:
                    await runner.do_all(self.config.audiences, engine, self.jobs)
                finally:
                    report.signal = code_of_signal()
        await report.record_attempts()


def _clients(config: Config, env: Mapping[str, str], runner: _Runner) -> dict[str | None, AudienceClient]:
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
class _Runner:
    """Does the work with audiences, some at the same time.

    Attributes:
        report: Collects the results.
        bars: Displays the progress.
        clients: Target name -> client. None is the target of the environment.
        targets: Target name -> app or project of the config.
        work: What is done with each audience.
    """

    report: RunReport
    bars: RunBars
    work: Work
    clients: dict[str | None, AudienceClient] = attrs.field(factory=dict)
    targets: Mapping[str, TargetConfig] = attrs.field(factory=dict)

    async def do_all(self, audiences: Sequence[AudienceConfig], engine: SyncEngine, jobs: int) -> None:
        """Do the work with all audiences, *jobs* at the same time."""
        turns = asyncio.Semaphore(jobs)
        async with asyncio.TaskGroup() as group:
            for audience in audiences:
                group.create_task(self._do(audience, engine, turns))

    async def _do(self, audience: AudienceConfig, engine: SyncEngine, turns: asyncio.Semaphore) -> None:
        """Do the work with one audience and all of its targets when it is its turn."""
        targets: tuple[str | None, ...] = audience.targets or (None,)

        def on_progress(progress: SyncProgress) -> None:
            self.bars.on_progress(label_of(audience, targets[progress.target]), progress)

        outcomes: Sequence[SyncReport | BaseException]
        try:
            async with turns:
                clients = [self.clients[target] for target in targets]
                outcomes = await self.work(engine, clients, audience, on_progress)
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
