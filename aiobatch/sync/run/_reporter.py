"""What a run tells: its progress while it goes on, and its report at the end, whichever way it ends."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from collections.abc import Iterator
from typing import Any

import attrs

from ..._clock import Clock
from ..._remedy import Remedy
from ...transport import on_retry
from .._options import Mode
from .._plan import Plan
from .._report import OnProgress, Phase, SyncProgress, SyncReport, SyncWarning, text_of
from ..sources._stage import StageCounts
from ..state._history import Run, RunOutcome
from ._chunk_sender import Tally

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
)
_FROM_STAGE = ("read", "kept", "duplicate", "rejected")


@attrs.define(eq=False, kw_only=True)
class Teller:
    """Knows how far a run is.

    Attributes:
        audience: The audience's name.
        mode: What is made of the source.
        clock: Tells the time.
        on_progress: Called whenever something moved; None for nobody.
        source: What is read, without secrets; empty while nothing is.
        counts: What became of the source's rows; None before it was read.
        plan: What is to be done; None before it is worked out.
        run: The run in the history; None while it is not there.
        counted: What Batch counts; None where it was not asked.
        settled_run: The earlier run that was settled first; None if none was open.
        progress: How far the run is.
        retries: Requests that were repeated for it.
    """

    audience: str
    mode: Mode
    clock: Clock
    on_progress: OnProgress | None
    source: str = attrs.field(init=False, default="")
    counts: StageCounts | None = attrs.field(init=False, default=None)
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

    def __attrs_post_init__(self) -> None:
        """Begin to count."""
        self.progress = SyncProgress(audience=self.audience, phase=Phase.SETTLING)
        self._start = self.clock.monotonic()

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count the requests that are repeated for what is done inside, whoever shares the client."""
        before = on_retry.set(self._count_retry)
        try:
            yield
        finally:
            on_retry.reset(before)

    def _count_retry(self) -> None:
        self.retries += 1

    def take_retries(self) -> int:
        """Return those that no run in the history has yet: with an earlier one to settle there are two."""
        new = self.retries - self._taken
        self._taken += new
        return new

    def tell(self, **changes: Any) -> None:
        """Tell how far the run is; what the hook raises harms nobody.

        Args:
            **changes: Fields of `SyncProgress`.
        """
        self.progress = attrs.evolve(self.progress, **changes)
        if self.on_progress is not None:
            try:
                self.on_progress(self.progress)
            except Exception:
                _logger.exception("on_progress raised; the run goes on")

    def tell_read(self, rows: int) -> None:
        """Tell how many rows of the source were read."""
        self.tell(phase=Phase.READING, read=rows)

    def tell_sent(self, tally: Tally) -> None:
        """Tell what was sent."""
        phase = self.progress.phase
        if phase is Phase.SENDING and tally.sent + tally.refused >= self.progress.total:
            phase = Phase.WAITING
        self.tell(phase=phase, **attrs.asdict(tally))

    def warn(self, text: str, remedy: Remedy | None = None) -> None:
        """Log and report something to look at."""
        # A log handler may render the remedy in its own way: the command line shows a command to paste.
        _logger.warning("audience %r: %s", self.audience, text, extra={"remedy": remedy})
        self._warnings.append(SyncWarning(text, remedy))

    def report(self, outcome: RunOutcome, error: BaseException | None = None) -> SyncReport:
        """Return the report of a run that ended now.

        Args:
            outcome: How.
            error: What ended it; None where nothing went wrong.
        """
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
        """Return write calls: planned, in the history, or made since the run began."""
        if outcome is RunOutcome.PLANNED and self.plan is not None:
            return self.plan.calls
        return self.progress.calls if self.run is None else self.run.calls or 0

    def _sizes(self) -> dict[str, Any]:
        """Return the numbers of ids, as far as they are known."""
        counts, plan, run, sizes = self.counts, self.plan, self.run, dict[str, Any]()
        if counts is not None:
            sizes = {name: getattr(counts, name) for name in _FROM_STAGE}
            sizes["reasons"] = {str(reason): rows for reason, rows in counts.reasons.items()}
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
