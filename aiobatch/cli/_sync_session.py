"""One command of the sync engine: its client, its display, its end by a signal, and its report."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime as dt
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

import attrs

from .._client import AudienceClient
from ..errors import AiobatchError, AudienceNotFoundError, InvalidInputError
from ..models import check_name
from ..options import App, Project
from ..sync import (
    BULK_RETRY,
    AudienceStatus,
    GuardDecision,
    InterruptedRunError,
    Mode,
    Status,
    SyncEngine,
    SyncOptions,
    SyncProgress,
    SyncReport,
    report_of,
)
from ..sync.sources import has_literal_password, redact
from ._context import Context
from ._exit_codes import ExitCode
from ._signals import graceful_stop
from .inputs._credentials import open_client
from .options._common import TargetOptions
from .options._sync import ApplyCommand
from .output._command_hints import command
from .output._errors import report_error, text_of
from .output._messages import log_context, print_error
from .output._sync_progress import StepProgress
from .output._sync_report import CommandOutcome, outcome_of_error, record, summary_lines
from .output._tables import OutputError

__all__ = [
    "CommandInfo",
    "EngineSession",
    "check_recorded",
    "exit_code_of",
    "fail",
    "recorded_audiences",
    "run_command",
    "stop_on_signal",
]

_READABLE = "other users of this machine can read the password among the arguments: give '${NAME}'"


@attrs.frozen(kw_only=True)
class EngineSession:
    """What a command works with.

    Attributes:
        client: Open, and patient.
        stop: Set by the first signal.
        on_progress: Shows how far the run is.
        end: Ends the display, so that the terminal is free for data.
    """

    client: AudienceClient
    stop: asyncio.Event
    on_progress: Callable[[SyncProgress], None]
    end: Callable[[], None]

    def engine(self, state: Path, options: SyncOptions) -> SyncEngine:
        """Return an engine whose progress is shown, and which the first signal stops."""
        return SyncEngine(state=state, options=options, on_progress=self.on_progress, stop=self.stop)


@attrs.frozen(kw_only=True)
class CommandInfo:
    """What a command is about, for the report of one that fails.

    Attributes:
        audience: The audience's name.
        mode: What is to be made of the source.
        source: What is to be read, as a person wrote it.
        target: Where the audience is.
        detailed: Whether a change has an exit code of its own.
        waits: Whether it waits for what it sends.
        creates: Whether it can make an audience.
    """

    audience: str
    mode: Mode
    source: str
    target: TargetOptions
    detailed: bool = False
    waits: bool = True
    creates: bool = False

    @classmethod
    def of(
        cls, command: ApplyCommand, *, audience: str, mode: Mode, source: str, creates: bool = False
    ) -> Self:
        """Return what *command* is about, which says where and how.

        Args:
            command: What the command was told.
            audience: The audience's name.
            mode: What is to be made of the source.
            source: What is to be read.
            creates: Whether it can make an audience.
        """
        running = command.running
        return cls(
            audience=audience,
            mode=mode,
            source=source,
            target=command.target,
            detailed=running.detailed_exitcode,
            waits=running.waits,
            creates=creates,
        )

    def failed(self, error: BaseException) -> SyncReport:
        """Return the report of a run that ended with *error*."""
        source = redact(self.source)
        report = report_of(error, audience=self.audience, mode=self.mode, source=source)
        if isinstance(error, Exception) and not isinstance(error, AiobatchError):
            report = attrs.evolve(report, error=text_of(error))
        return report if report.source else attrs.evolve(report, source=source)


@attrs.define(eq=False)
class _LastProgress:
    """Knows how long a command takes, and how far its run was when it was cancelled.

    Attributes:
        progress: How far it was last.
    """

    progress: SyncProgress | None = None
    _started: dt.datetime = attrs.field(factory=lambda: dt.datetime.now(dt.UTC))
    _start: float = attrs.field(factory=time.monotonic)

    def cancelled(self, report: SyncReport) -> SyncReport:
        """Return the report of a run that could not make its own."""
        seconds = time.monotonic() - self._start
        error = "cancelled; what was sent is journaled, and the next run goes on from there"
        report = attrs.evolve(report, started=self._started, seconds=seconds, error=error)
        if self.progress is None:
            return report
        progress = self.progress
        return attrs.evolve(report, read=progress.read, calls=progress.calls, applied=progress.applied)


@contextlib.contextmanager
def stop_on_signal(stop: asyncio.Event, context: Context) -> Iterator[Callable[[], ExitCode]]:
    """Let the first signal ask the engine to stop; yield what returns the signal's exit code.

    Args:
        stop: Set by the signal.
        context: Where to say so.
    """

    def ask() -> bool:
        stop.set()
        context.info("stopping: what is under way is finished and journaled; a second signal does not wait")
        return True

    with graceful_stop(ask) as code:
        yield code


@contextlib.asynccontextmanager
async def _open_session(
    context: Context, job: CommandInfo, stop: asyncio.Event, watch: _LastProgress
) -> AsyncIterator[EngineSession]:
    """Open a client and show what it does."""
    # Reading tells how far it is from a thread, which knows nothing of what lines are about.
    here = contextvars.copy_context()
    adopts = job.mode is Mode.ADOPT
    with (
        context.progress() as progress,
        StepProgress(progress, context.info, waits=job.waits, adopts=adopts) as steps,
    ):

        def on_progress(progress: SyncProgress) -> None:
            watch.progress = progress
            here.run(steps.on_progress, progress)

        def end() -> None:
            steps.end()
            progress.stop()

        async with open_client(job.target, progress.on_event, retry=BULK_RETRY) as client:
            yield EngineSession(client=client, stop=stop, on_progress=on_progress, end=end)


async def run_command(
    context: Context,
    job: CommandInfo,
    work: Callable[[EngineSession], Awaitable[SyncReport | tuple[SyncReport, GuardDecision]]],
) -> ExitCode:
    """Do the work of a command and report it, whichever way it ends.

    Args:
        context: Where the report goes.
        job: What it is about.
        work: Does it; what it prints itself is its own, with the decision that it returns beside the report.

    Returns:
        The exit code.
    """
    if has_literal_password(job.source):
        context.info(_READABLE, "warning")
    stop, watch = asyncio.Event(), _LastProgress()
    with log_context(audience=job.audience or None), stop_on_signal(stop, context) as code_of_signal:
        try:
            async with _open_session(context, job, stop, watch) as session:
                done = await work(session)
        except asyncio.CancelledError as error:
            _print(context, watch.cancelled(job.failed(error)), outcome_of_error(error, code_of_signal()))
            raise
        except (BrokenPipeError, OutputError):
            raise
        except Exception as error:  # noqa: BLE001 - it is reported, and its exit code says what it was
            return fail(context, job, error, code_of_signal)
    report, decision = done if isinstance(done, tuple) else (done, None)
    code = exit_code_of(report, decision, detailed=job.detailed)
    _print(context, report, CommandOutcome(exit_code=code, guard=decision))
    return code


def recorded_audiences(status: Status, target: App | Project) -> dict[str, AudienceStatus]:
    """Return what a state knows of the audiences of an app or project, by name."""
    return status.audiences_of(target)


def check_recorded(name: str, known: Mapping[str, AudienceStatus]) -> None:
    """Refuse an audience that the state knows nothing of.

    Raises:
        InvalidInputError: It is none of *known*.
    """
    if check_name(name) not in known:
        msg = f"the state knows no audience {name!r} of this app or project; {command('status')} lists all"
        raise InvalidInputError(msg)


def exit_code_of(report: SyncReport, decision: GuardDecision | None, *, detailed: bool) -> ExitCode:
    """Return the exit code of a run that came to its good end."""
    if decision is not None and not decision.allowed:
        return ExitCode.GUARDED
    return ExitCode.CHANGED if detailed and report.changes else ExitCode.DONE


def fail(
    context: Context, job: CommandInfo, error: Exception, code_of_signal: Callable[[], ExitCode] | None = None
) -> ExitCode:
    """Say what went wrong; return the exit code.

    Args:
        context: Where the report goes.
        job: What it was about.
        error: What went wrong.
        code_of_signal: Returns the exit code of the signal that came; None where none can have.
    """
    code = report_error(error)
    if isinstance(error, InterruptedRunError) and code_of_signal is not None:
        code = code_of_signal()
    if job.creates and isinstance(error, AudienceNotFoundError):
        print_error("an audience that does not exist is made with --create", error)
    if context.options.json:
        context.output.json(record(job.failed(error), outcome_of_error(error, code)))
    return code


def _print(context: Context, report: SyncReport, ending: CommandOutcome) -> None:
    """Print a report; of a plan, the command itself has printed what a person wants to see."""
    if context.options.json:
        context.output.json(record(report, ending))
    elif ending.error_type is None and ending.guard is None and not context.options.quiet:
        for line in summary_lines(report):
            context.output.line(line)
