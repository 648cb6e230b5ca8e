"""The frame of a sync command: its client, its progress, its signals and its report."""

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
from ..errors import InvalidInputError, SyncError
from ..models import check_name
from ..sync import (
    BULK_RETRY,
    Attempt,
    AudienceStatus,
    GuardDecision,
    InterruptedRunError,
    Mode,
    SyncEngine,
    SyncOptions,
    SyncProgress,
    SyncReport,
    report_of,
)
from ..sync.sources import has_literal_password, redact
from ._attempt_log import AttemptLog
from ._context import Context
from ._exit_codes import ExitCode
from ._signals import graceful_stop, in_thread
from .inputs._credentials import open_client
from .inputs._place import Place, known_notify, known_state
from .options._sync import ApplyCommand, KnownCommand
from .output._command_hints import command, command_context, context_option
from .output._errors import report_error, text_of
from .output._messages import log_context
from .output._sync_progress import StepProgress
from .output._sync_report import CommandOutcome, outcome_of_error, record, summary_lines
from .output._tables import OutputError

__all__ = [
    "CommandInfo",
    "EngineSession",
    "check_recorded",
    "exit_code_of",
    "fail",
    "run_command",
    "stop_on_signal",
]

# Modes that the source of an audience may have in a config.
_SYNC_MODES = frozenset({Mode.MIRROR, Mode.ADD, Mode.REMOVE, Mode.REPLACE})
_READABLE = "Other users of this machine can read the password in the arguments. Use '${NAME}' in its place."


@attrs.frozen(kw_only=True)
class EngineSession:
    """What a sync command works with.

    Attributes:
        place: The audience in its target.
        client: An open client with patient retries.
        stop: Set by the first signal.
        on_progress: Displays the progress of the run.
        end: Ends the display, so that the terminal is free for data.
    """

    place: Place
    client: AudienceClient
    stop: asyncio.Event
    on_progress: Callable[[SyncProgress], None]
    end: Callable[[], None]

    def engine(self, options: SyncOptions) -> SyncEngine:
        """Return an engine that displays its progress and that the first signal stops."""
        return SyncEngine(
            state=self.place.state,
            options=options,
            on_progress=self.on_progress,
            stop=self.stop,
            records_attempts=False,  # the command does, with its exit code
        )


@attrs.frozen(kw_only=True)
class CommandInfo:
    """What a sync command does, for its report and its display.

    Attributes:
        audience: The audience's name.
        mode: The mode of the run.
        source: The source as the user wrote it.
        command: The command's name.
        options: The options of the command.
        attempts: Whether the command is an attempt to bring the audience in line.
        detailed: Whether changes have an exit code of their own.
        waits: Whether the run waits until its changes are APPLIED.
    """

    audience: str
    mode: Mode
    source: str
    command: str
    options: KnownCommand
    attempts: bool = True
    detailed: bool = False
    waits: bool = True

    @classmethod
    def of(cls, name: str, command: ApplyCommand, *, audience: str, mode: Mode, source: str) -> Self:
        """Return the information on a command with run options.

        Args:
            name: The command's name.
            command: The options of the command.
            audience: The audience's name.
            mode: The mode of the run.
            source: The source as the user wrote it.
        """
        return cls(
            command=name,
            audience=audience,
            mode=mode,
            source=source,
            options=command,
            detailed=command.running.detailed_exitcode,
            waits=command.running.waits,
        )

    def at(self, place: Place) -> Self:
        """Return the information with what the config has."""
        configured = place.configured
        if configured is None:
            return self
        # The mode of a command that has only one is not an option.
        mode = self.options.options(base=place.options).mode if self.mode in _SYNC_MODES else self.mode
        waits = self.options.options(base=place.options).wait
        source = self.source or configured.source.label
        return attrs.evolve(self, audience=place.audience, mode=mode, source=source, waits=waits)

    def failed(self, error: BaseException) -> SyncReport:
        """Return the report of a run that *error* ended."""
        source = redact(self.source)
        report = report_of(error, audience=self.audience, mode=self.mode, source=source)
        if isinstance(error, Exception) and not isinstance(error, SyncError):
            report = attrs.evolve(report, error=text_of(error))
        return report if report.source else attrs.evolve(report, source=source)


@attrs.define(eq=False)
class _LastProgress:
    """The duration and the last progress of a run, for the report of one that is cancelled.

    Attributes:
        progress: The last progress.
    """

    progress: SyncProgress | None = None
    _started: dt.datetime = attrs.field(factory=lambda: dt.datetime.now(dt.UTC))
    _start: float = attrs.field(factory=time.monotonic)

    def cancelled(self, report: SyncReport) -> SyncReport:
        """Return *report* with the duration and the last progress."""
        seconds = time.monotonic() - self._start
        error = "Cancelled. Progress is saved, and the next run continues from there."
        report = attrs.evolve(report, started=self._started, seconds=seconds, error=error)
        if self.progress is None:
            return report
        progress = self.progress
        return attrs.evolve(report, read=progress.read, calls=progress.calls, applied=progress.applied)


@contextlib.contextmanager
def stop_on_signal(
    stop: asyncio.Event, context: Context, is_ready: Callable[[], bool] = lambda: True
) -> Iterator[Callable[[], ExitCode]]:
    """Ask the engine to stop at the first signal.

    Args:
        stop: Set by the signal.
        context: Prints a message.
        is_ready: Returns whether there is an engine to stop. If not, the signal cancels the command.

    Yields:
        A function that returns the exit code of the signal.
    """

    def request_stop() -> bool:
        if not is_ready():
            return False
        stop.set()
        context.info("Stopping: chunks in flight are finished and saved. Press Ctrl-C again to stop at once.")
        return True

    with graceful_stop(request_stop) as code:
        yield code


@contextlib.asynccontextmanager
async def _open_session(
    context: Context, info: CommandInfo, place: Place, stop: asyncio.Event, watch: _LastProgress
) -> AsyncIterator[EngineSession]:
    """Open a client and display its progress."""
    # A thread that reads the source reports progress too, and does not see the log context.
    here = contextvars.copy_context()
    adopts = info.mode is Mode.ADOPT
    with (
        context.progress() as progress,
        StepProgress(progress, context.info, waits=info.waits, adopts=adopts) as steps,
    ):

        def on_progress(progress: SyncProgress) -> None:
            watch.progress = progress
            here.run(steps.on_progress, progress)

        def end() -> None:
            steps.end()
            progress.stop()

        async with open_client(
            place.target, progress.on_event, retry=BULK_RETRY, place=place.place
        ) as client:
            yield EngineSession(place=place, client=client, stop=stop, on_progress=on_progress, end=end)


@attrs.define(eq=False)
class _CommandRun:
    """One run of a sync command.

    Attributes:
        context: Prints the report.
        info: What the command does, with what the config has as soon as it is read.
        log: The record of the attempt. None before the state is known.
        stack: Ends the contexts of log lines and commands.
    """

    context: Context
    info: CommandInfo
    stack: contextlib.ExitStack
    log: AttemptLog | None = None

    async def find(self, resolve: Callable[[], Place]) -> Place:
        """Return the place of the command, and use it for log lines, printed commands and the attempt."""
        try:
            place = await in_thread(resolve)
        except Exception:
            state = await in_thread(lambda: known_state(self.info.options))
            if state is not None:
                notify = await in_thread(lambda: known_notify(self.info.options))
                self._begin(AttemptLog(state, notify), self.info.options.place.target, None)
            raise
        self.info = self.info.at(place)
        self.stack.enter_context(log_context(audience=self.info.audience or None, target=place.label))
        words = place.words
        if context_option("mode") is not None:
            words.pop("mode", None)
        self.stack.enter_context(command_context(**words))
        self._begin(AttemptLog(place.state, place.notify), place.label, place.config)
        return place

    def _begin(self, log: AttemptLog, target: str | None, config: Path | None) -> None:
        if self.info.attempts and self.info.audience:
            self.log = log
            self.log.add(
                Attempt(
                    command=self.info.command,
                    audience=self.info.audience,
                    target=target,
                    config=None if config is None else str(config),
                    source=redact(self.info.source),
                )
            )

    async def start(self, session: EngineSession) -> None:
        """Record that the attempt starts."""
        if self.log is not None:
            self.log.identify(self.info.audience, session.place.label, session.client)
            await self.log.start()

    async def end(self, report: SyncReport, code: ExitCode) -> None:
        """Record how the attempt ended."""
        if self.log is not None:
            await self.log.end_all(report, code)

    async def fail(self, error: Exception, code_of_signal: Callable[[], ExitCode]) -> ExitCode:
        """Report an error and return the exit code."""
        code = fail(self.context, self.info, error, code_of_signal)
        await self.end(self.info.failed(error), code)
        return code


async def run_command(
    context: Context,
    info: CommandInfo,
    resolve: Callable[[], Place],
    work: Callable[[EngineSession], Awaitable[SyncReport | tuple[SyncReport, GuardDecision]]],
) -> ExitCode:
    """Run a sync command, print its report and record the attempt, however it ends.

    Args:
        context: Prints the report.
        info: What the command does.
        resolve: Returns the place of the command. It may block.
        work: Runs the operation. If it prints its own result, it returns the guard's decision too.

    Returns:
        The exit code.
    """
    if has_literal_password(info.source):
        context.info(_READABLE, "warning")
    stop, ready, watch = asyncio.Event(), asyncio.Event(), _LastProgress()
    with (
        contextlib.ExitStack() as stack,
        log_context(audience=info.audience or None),
        stop_on_signal(stop, context, ready.is_set) as code_of_signal,
    ):
        command_run = _CommandRun(context, info, stack)
        try:
            place = await command_run.find(resolve)
            async with _open_session(context, command_run.info, place, stop, watch) as session:
                ready.set()
                await command_run.start(session)
                done = await work(session)
        except asyncio.CancelledError as error:
            report = watch.cancelled(command_run.info.failed(error))
            await command_run.end(report, code_of_signal())
            _print(context, report, outcome_of_error(error, code_of_signal()))
            raise
        except (BrokenPipeError, OutputError):
            raise
        except Exception as error:  # noqa: BLE001 - it is reported, with its exit code
            return await command_run.fail(error, code_of_signal)
        report, decision = done if isinstance(done, tuple) else (done, None)
        code = exit_code_of(report, decision, detailed=info.detailed)
        await command_run.end(report, code)
        _print(context, report, CommandOutcome(exit_code=code, guard=decision))
    return code


def check_recorded(name: str, recorded: Mapping[str, AudienceStatus]) -> None:
    """Check that the state has recorded an audience.

    Raises:
        InvalidInputError: It is not in *recorded*.
    """
    if check_name(name) not in recorded:
        msg = f"The state has no audience {name!r} of this app or project. See {command('status')}."
        raise InvalidInputError(msg)


def exit_code_of(report: SyncReport, decision: GuardDecision | None, *, detailed: bool) -> ExitCode:
    """Return the exit code of a run that succeeded."""
    if decision is not None and not decision.allowed:
        return ExitCode.GUARDED
    return ExitCode.CHANGED if detailed and report.changes else ExitCode.DONE


def fail(
    context: Context,
    info: CommandInfo,
    error: Exception,
    code_of_signal: Callable[[], ExitCode] | None = None,
) -> ExitCode:
    """Report an error and return the exit code.

    Args:
        context: Prints the report.
        info: What the command does.
        error: The error.
        code_of_signal: Returns the exit code of the signal. None: there cannot be one.
    """
    code = report_error(error)
    if isinstance(error, InterruptedRunError) and code_of_signal is not None:
        code = code_of_signal()
    if context.options.json:
        context.output.json(record(info.failed(error), outcome_of_error(error, code)))
    return code


def _print(context: Context, report: SyncReport, ending: CommandOutcome) -> None:
    """Print a report. A plan has been printed already, unless it is for a program."""
    if context.options.json:
        context.output.json(record(report, ending))
    elif ending.error_type is None and ending.guard is None and not context.options.quiet:
        for line in summary_lines(report):
            context.output.line(line)
