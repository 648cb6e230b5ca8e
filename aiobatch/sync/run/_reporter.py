"""A run's progress, and its report however it ends."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from ..._clock import SystemClock
from ...errors import Remedy
from ...events import EventHook, SyncFinished
from ...interfaces import Clock
from ...transport import on_retry
from .._lint import AttributeLint, SourceLint
from .._options import Mode
from .._plan import Plan
from .._report import OnProgress, Phase, SyncProgress, SyncReport, SyncWarning, text_of
from ..sources._stage import StageCounts
from ..state._history import Run, RunOutcome, RunRows

_logger = logging.getLogger("aiobatch.sync")

_FROM_PLAN = (
    "adds",
    "removes",
    "attribute_changes",
    "resends",
    "untracked_removals",
    "unchanged",
    "members_before",
    "refused_before",
    "carried",
)
_FROM_STAGE = ("read", "kept", "duplicate", "rejected")


@attrs.define(eq=False, kw_only=True)
class RunReporter:
    """Tracks a run's progress and builds its report.

    Attributes:
        audience: The audience's name.
        mode: The run's mode.
        clock: The clock.
        on_progress: Called after each change. None: not called.
        rejects: The file of rejected rows. None if there is none.
        source: The name of the source, without secrets. Empty before it is read.
        counts: The counts of the source's rows. None before it is read.
        lint: The source's IDs that match no user.
        attribute_lint: The source's attributes and tags that Batch may drop.
        plan: The run's plan. None before it is made.
        run: The run in the history. None before it is there.
        counted: Batch's count of the members. None if it was not read.
        settled_run: The earlier run that was settled first. None if none was open.
        progress: The progress so far.
        retries: Requests that were repeated for the run.
        emit: Takes the event of the run's end. None: not called.
    """

    audience: str
    mode: Mode
    clock: Clock = attrs.field(factory=SystemClock)
    on_progress: OnProgress | None = None
    rejects: Path | None = None
    emit: EventHook | None = None
    source: str = attrs.field(init=False, default="")
    counts: StageCounts | None = attrs.field(init=False, default=None)
    lint: SourceLint = attrs.field(init=False, factory=SourceLint)
    attribute_lint: AttributeLint = attrs.field(init=False, factory=AttributeLint)
    plan: Plan | None = attrs.field(init=False, default=None)
    run: Run | None = attrs.field(init=False, default=None)
    counted: int | None = attrs.field(init=False, default=None)
    settled_run: int | None = attrs.field(init=False, default=None)
    progress: SyncProgress = attrs.field(init=False)
    _warnings: list[SyncWarning] = attrs.field(init=False, factory=list)
    _started: dt.datetime = attrs.field(init=False, factory=lambda: dt.datetime.now(dt.UTC))
    _start: float = attrs.field(init=False)
    retries: int = attrs.field(init=False, default=0)
    _taken: int = attrs.field(init=False, default=0)
    _phases: list[tuple[Phase, float]] = attrs.field(init=False, factory=list)  # each with its start
    _has_ended: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """Start to count."""
        self.progress = SyncProgress(audience=self.audience, phase=Phase.SETTLING)
        self._start = self.clock.monotonic()
        self._phases.append((Phase.SETTLING, self._start))

    @property
    def rows(self) -> RunRows | None:
        """The rows of the source, for the history. None before it is read."""
        sizes = self._row_sizes()
        return RunRows(**{"rejects": None} | sizes) if sizes else None

    @contextlib.contextmanager
    def counting_retries(self) -> Iterator[None]:
        """Count the requests that are repeated within, whatever else the client does at the same time."""
        before = on_retry.set(self._count_retry)
        try:
            yield
        finally:
            on_retry.reset(before)

    def _count_retry(self) -> None:
        self.retries += 1

    def take_retries(self) -> int:
        """Return the retries that no run in the history has yet. There may be an earlier run to settle."""
        new = self.retries - self._taken
        self._taken += new
        return new

    def update(self, **changes: Any) -> None:
        """Publish progress. Exceptions of the hook are logged and ignored.

        Args:
            **changes: Fields of `SyncProgress`.
        """
        phase = changes.get("phase", self.progress.phase)
        if phase is not self.progress.phase:
            self._phases.append((phase, self.clock.monotonic()))
        self.progress = attrs.evolve(self.progress, **changes)
        if self.on_progress is not None:
            try:
                self.on_progress(self.progress)
            except Exception:
                _logger.exception("on_progress raised an exception, which is ignored")

    def rows_read(self, rows: int) -> None:
        """Publish how many rows of the source were read."""
        self.update(phase=Phase.READING, read=rows)

    def start(self, phase: Phase, *, total: int, run: int | None) -> None:
        """Publish that *total* IDs are to be sent, or settled, for run *run*."""
        self.progress = attrs.evolve(self.progress, calls=0, sent=0, applied=0, refused=0)
        self.update(phase=phase, total=total, run=run)

    def count(self, **more: int) -> None:
        """Add to the counters `calls`, `sent`, `applied` and `refused`, and publish them."""
        now = self.progress
        changes: dict[str, Any] = {name: getattr(now, name) + count for name, count in more.items()}
        sent, refused = changes.get("sent", now.sent), changes.get("refused", now.refused)
        if now.phase is Phase.SENDING and sent + refused >= now.total:
            changes["phase"] = Phase.WAITING
        self.update(**changes)

    def warn(self, text: str, remedy: Remedy | None = None) -> None:
        """Log and report something to look at."""
        # A log handler may render the remedy in its own way: the command line shows a command to paste.
        _logger.warning(
            "audience %r: %s", self.audience, text, extra={"audience": self.audience, "remedy": remedy}
        )
        self._warnings.append(SyncWarning(text, remedy))

    @property
    def has_warnings(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self._warnings)

    def report(self, outcome: RunOutcome, error: BaseException | None = None) -> SyncReport:
        """Return the report of the run, which ends now, and emit its event the first time.

        Args:
            outcome: How it ended.
            error: What ended it. None if nothing went wrong.
        """
        report = self._report(outcome, error)
        if self.emit is not None and not self._has_ended:
            self._has_ended = True
            self.emit(self._event(report, error))
        return report

    def _event(self, report: SyncReport, error: BaseException | None) -> SyncFinished:
        ends = [start for _, start in self._phases[1:]] + [self._start + report.seconds]
        return SyncFinished(
            audience=self.audience,
            mode=str(report.mode),
            outcome=str(report.outcome),
            error=None if error is None else type(error).__name__,
            run=report.run,
            seconds=report.seconds,
            phases=tuple(
                (str(phase), end - start) for (phase, start), end in zip(self._phases, ends, strict=True)
            ),
            ids={
                "add": report.adds,
                "remove": report.removes + report.untracked_removals,
                "attributes": report.attribute_changes,
                "resend": report.resends,
                "refuse": report.refused,
                "reject": report.rejected,
            },
            members=report.members_after,
        )

    def _report(self, outcome: RunOutcome, error: BaseException | None) -> SyncReport:
        plan, run = self.plan, self.run
        return SyncReport(
            audience=self.audience,
            mode=self.mode,
            outcome=outcome,
            source=self.source,
            run=None if run is None else run.run,
            started=self._started,
            seconds=self.clock.monotonic() - self._start,
            counted=self.counted,
            calls=self._calls(outcome),
            retries=self.retries,
            expected_seconds=None if plan is None else plan.seconds,
            settled_run=self.settled_run,
            warnings=tuple(self._warnings),
            error=None if error is None else text_of(error),
            remedy=getattr(error, "remedy", None),
            **self._sizes(),
        )

    def _calls(self, outcome: RunOutcome) -> int:
        if outcome is RunOutcome.PLANNED and self.plan is not None:
            return self.plan.calls
        return self.progress.calls if self.run is None else self.run.calls or 0

    def _row_sizes(self) -> dict[str, Any]:
        counts = self.counts
        if counts is None:
            return {}
        sizes = {name: getattr(counts, name) for name in _FROM_STAGE}
        sizes["reasons"] = {str(reason): rows for reason, rows in counts.reasons.items()}
        has_file = counts.rejected and self.rejects is not None
        return sizes | ({"rejects": str(self.rejects)} if has_file else {})

    def _sizes(self) -> dict[str, Any]:
        plan, run, sizes = self.plan, self.run, self._row_sizes()
        if self.counts is not None:
            sizes["lint"] = {str(kind): ids for kind, ids in self.lint.counts.items()}
            counts = self.attribute_lint.counts
            sizes["attribute_lint"] = {str(kind): ids for kind, ids in counts.items()}
        if plan is not None:
            sizes |= {name: getattr(plan, name) for name in _FROM_PLAN}
            sizes["members_after"] = plan.members_after
        if run is None or not run.settled:
            return sizes | {"applied": self.progress.applied, "refused": self.progress.refused}
        return sizes | {
            "members_after": run.members_after or 0,
            "applied": run.applied or 0,
            "refused": run.refused or 0,
        }
