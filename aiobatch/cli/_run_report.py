"""The report on all places of a config: a table, or one JSON object."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from .._client import AudienceClient
from ..errors import AiobatchError, SyncError
from ..sync import (
    Attempt,
    AudienceConfig,
    Config,
    InterruptedRunError,
    Mode,
    RunOutcome,
    StateLocation,
    SyncReport,
    report_of,
)
from ._attempt_log import AttemptLog
from ._context import Context
from ._exit_codes import ExitCode
from ._sync_session import exit_code_of
from .output._command_hints import command_context
from .output._errors import explain, report_error, text_of
from .output._messages import log_context
from .output._sync_report import CommandOutcome, Summary, outcome_of_error, record
from .output._tables import Column

__all__ = ["Result", "RunReport", "label_of"]

# The most severe code first. The exit code of a run is that of its worst audience.
_WORST = (
    ExitCode.TERMINATED,
    ExitCode.INTERRUPTED,
    ExitCode.FAILED,
    ExitCode.USAGE,
    ExitCode.NOT_FOUND,
    ExitCode.BAD_SOURCE,
    ExitCode.UNKNOWN_MEMBERS,
    ExitCode.REPLACED,
    ExitCode.STALE,
    ExitCode.GUARDED,
    ExitCode.BUSY,
    ExitCode.LOCKED,
    ExitCode.NOT_APPLIED,
    ExitCode.DRIFTED,
    ExitCode.CHANGED,
    ExitCode.DONE,
)
_CHANGES = (
    Column("label", "audience"),
    Column("target", "target"),
    Column("outcome", "outcome"),
    Column("adds", "added"),
    Column("removes", "removed"),
    Column("attribute_changes", "changed"),
    Column("members_after", "members"),
    Column("calls", "calls"),
    Column("rejected", "rejected rows"),
)
_CODE = Column("exit_code", "code")
_TABLE = (*_CHANGES, Column("seconds", "seconds"), _CODE)
_PLANS = (*_CHANGES, Column("expected", "expected time", plain="expected_seconds"), _CODE)


@attrs.frozen(kw_only=True)
class Result:
    """The result of one audience in one target.

    Attributes:
        audience: The audience in the config.
        target: The name of the app or project in the config. None for the one of the environment.
        outcome: The report, or what ended the run.
        variables: The environment variables of the target's keys.
    """

    audience: AudienceConfig
    target: str | None
    outcome: SyncReport | BaseException
    variables: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name of the audience and its target in messages."""
        return label_of(self.audience, self.target)

    @property
    def report(self) -> SyncReport:
        """The report of the audience."""
        if isinstance(self.outcome, SyncReport):
            return self.outcome
        audience, source = self.audience, self.audience.source.label
        report = report_of(self.outcome, audience=audience.name, mode=audience.options.mode, source=source)
        if isinstance(self.outcome, Exception) and not isinstance(self.outcome, SyncError):
            with command_context(key_variables=self.variables):
                return attrs.evolve(report, error=text_of(self.outcome))
        return report

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """Set the context of log lines and commands while the context lasts."""
        name = self.audience.name
        with (
            log_context(audience=name, target=self.target, run=self.report.run),
            command_context(
                config_target=self.target,
                key_variables=self.variables,
                create_with="Set create = true in the config",
                mode=self.audience.options.mode,
                has_source=True,
            ),
        ):
            yield


def _row(label: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a result."""
    expected = values["expected_seconds"]
    return {
        **values,
        "label": label,
        "seconds": f"{values['seconds']:.1f}",
        "expected": None if expected is None else str(dt.timedelta(seconds=round(expected))),
    }


def label_of(audience: AudienceConfig, target: str | None) -> str:
    """Return the name of an audience and its target in messages."""
    return audience.label if target is None else f"{audience.label} → {target}"


@attrs.define(eq=False, kw_only=True)
class RunReport:
    """Collects results and prints them at the end.

    Attributes:
        context: Prints the report.
        command: The command's name.
        detailed: Whether changes have an exit code of their own.
        dry_run: Whether the results are plans.
        signal: The exit code of a signal that stopped runs.
        order: Audiences and targets in the order of the config.
        results: The results.
        log: The record of the attempts. None if nothing is sent.
        state: The state file. None before the config is read.
    """

    context: Context
    command: str = "run"
    detailed: bool
    dry_run: bool = False
    signal: ExitCode = ExitCode.INTERRUPTED
    order: list[tuple[str, str | None]] = attrs.field(factory=list)
    results: list[Result] = attrs.field(factory=list)
    log: AttemptLog | None = None
    state: StateLocation | None = None
    _names: dict[str, str] = attrs.field(factory=dict)
    _started: dt.datetime = attrs.field(factory=lambda: dt.datetime.now(dt.UTC))
    _start: float = attrs.field(factory=time.monotonic)

    def begin(self, config: Config, state: StateLocation, *, sends: bool) -> None:
        """Expect the audiences of a config.

        Args:
            config: The config.
            state: The state file.
            sends: Whether the run is an attempt to bring them in line.
        """
        audiences = config.audiences
        self.state = state
        self._names = {one.label: one.name for one in audiences}
        self.order = [(one.label, target) for one in audiences for target in one.targets or (None,)]
        if sends:
            self.log, path = AttemptLog(state, config.notify), str(config.path.absolute())
            for label, target in self.order:
                name = self._names[label]
                self.log.add(Attempt(command=self.command, audience=name, target=target, config=path))

    async def start(self, clients: Mapping[str | None, AudienceClient]) -> None:
        """Record that the attempts start.

        Args:
            clients: Target name -> client.
        """
        if self.log is not None:
            for label, target in self.order:
                self.log.identify(self._names[label], target, clients[target])
            await self.log.start()

    def code(self, outcome: SyncReport | BaseException) -> ExitCode:
        """Return the exit code of one outcome."""
        if isinstance(outcome, SyncReport):
            return exit_code_of(outcome, None, detailed=self.detailed)
        is_stopped = isinstance(outcome, InterruptedRunError | asyncio.CancelledError)
        return self.signal if is_stopped else explain(outcome).code

    def write(self) -> ExitCode:
        """Print all results in the order of the config and return the exit code."""
        self.results.sort(key=lambda result: self.order.index((result.audience.label, result.target)))
        worst = min(self.results, key=lambda one: _WORST.index(self.code(one.outcome)), default=None)
        code = ExitCode.DONE if worst is None else self.code(worst.outcome)
        outcome = RunOutcome.DONE if worst is None else worst.report.outcome
        records = [self._record(result) for result in self.results]
        if self.context.options.json:
            summary = Summary(outcome=outcome, exit_code=int(code), **self._spent())
            self.context.output.json(summary.record(records))
            return code
        with self.context.output.rows(_PLANS if self.dry_run else _TABLE) as add:
            for result, values in zip(self.results, records, strict=True):
                add(_row(result.audience.label, values))
        return code

    def fail(self, error: AiobatchError | OSError) -> ExitCode:
        """Report an error of the whole run and return the exit code."""
        code = report_error(error)
        if self.context.options.json:
            self.context.output.json(Summary.failed(error, code, **self._spent()).record([]))
        return code

    async def record_attempts(self, error: AiobatchError | OSError | None = None) -> None:
        """Record how the attempts ended, each with its own exit code.

        Args:
            error: An error of the whole run.
        """
        if self.log is None:
            return
        if error is not None:
            report = report_of(error, audience="", mode=Mode.MIRROR, source="")
            report = attrs.evolve(report, error=text_of(error), remedy=None)  # the text has the remedy
            await self.log.end_all(report, explain(error).code)
            return
        await self.log.end(
            [(one.audience.name, one.target, one.report, self.code(one.outcome)) for one in self.results]
        )

    def _record(self, result: Result) -> dict[str, Any]:
        """Return the JSON record of a result."""
        outcome, code = result.outcome, self.code(result.outcome)
        ending = CommandOutcome(exit_code=int(code), target=result.target)
        if not isinstance(outcome, SyncReport):
            ending = outcome_of_error(outcome, code, target=result.target)
        with result.context():
            return record(result.report, ending)

    def _spent(self) -> dict[str, Any]:
        """Return the start and the duration until now."""
        return {"started": self._started, "seconds": time.monotonic() - self._start}
