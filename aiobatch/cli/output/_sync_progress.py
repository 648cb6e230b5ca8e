"""How far runs of the sync engine are: a bar for each step of one run, or one for each of many runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

import attrs

from ...sync import Phase, SyncProgress
from ._messages import update_log_context
from ._progress import Progress, Stage

__all__ = ["RunBars", "StepProgress"]

# Seconds after which a step that goes on says so, where there are no bars.
_SAY_EVERY = 60.0
_STEPS: Final[Mapping[Phase, tuple[str, str]]] = {
    Phase.SETTLING: ("settle the run before", "id"),
    Phase.READING: ("read the source", "row"),
    Phase.PLANNING: ("plan", "change"),
    Phase.CREATING: ("make the audience", "audience"),
    Phase.SENDING: ("send", "id"),
    Phase.WAITING: ("wait until APPLIED", "id"),
}

# What planning is where nothing will be sent.
_COMPARING: Final = ("compare with what was known", "difference")


@attrs.frozen
class _StepState:
    """How far a step is.

    Attributes:
        done: How much is done.
        total: How much there is; None where nobody knows.
        detail: What else to say.
    """

    done: int
    total: int | None = None
    detail: str = ""

    @classmethod
    def of(cls, phase: Phase, progress: SyncProgress) -> _StepState:
        """Return how far the step *phase* is, in the numbers of a run that may be at the next one."""
        if phase is Phase.READING:
            return cls(progress.read)
        if phase is Phase.PLANNING:
            return cls(progress.total)
        if phase is Phase.CREATING:  # it is one, and made as soon as there is something else to do
            return cls(int(progress.phase is not phase))
        if phase is Phase.SETTLING:  # nobody knows how much of it was applied long ago
            return cls(progress.applied + progress.refused)
        planned = f" of {progress.planned_calls:,}" if progress.planned_calls else ""
        calls = f"{progress.calls:,}{planned} call{'' if progress.calls == 1 and not planned else 's'}"
        done = progress.sent if phase is Phase.SENDING else progress.applied
        return cls(done + progress.refused, progress.total, calls)


@attrs.define(eq=False)
class StepProgress:
    """Shows the steps of one run, one after the other.

    Attributes:
        progress: Where bars are.
        print_line: Prints a line, where there are none.
        waits: Whether the run waits for what it sends.
        adopts: Whether it believes the source, and sends nothing.
    """

    progress: Progress
    print_line: Callable[[str], None]
    waits: bool = True
    adopts: bool = False
    _phase: Phase | None = attrs.field(init=False, default=None)
    _stage: Stage | None = attrs.field(init=False, default=None)
    _stack: contextlib.ExitStack = attrs.field(init=False, factory=contextlib.ExitStack)
    _said: float = attrs.field(init=False, default=0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the last step, as done only where nothing went wrong."""
        if error is None:
            self.end()

    def end(self) -> None:
        """End the last step."""
        self._stack.close()

    def on_progress(self, progress: SyncProgress) -> None:
        """Show how far the run is; a hook of the engine."""
        self._show(progress)
        if progress.phase is not self._phase:
            self._begin(progress)
            self._show(progress)
        update_log_context(run=progress.run)

    def _begin(self, progress: SyncProgress) -> None:
        """End a step and begin the next, unless it has nothing to do."""
        self._stack.close()
        self._phase = phase = progress.phase
        update_log_context(phase=phase)
        self._stage = None
        is_idle = phase is Phase.SENDING and not progress.total
        if phase in _STEPS and not is_idle and (self.waits or phase is not Phase.WAITING):
            text, unit = _COMPARING if self.adopts and phase is Phase.PLANNING else _STEPS[phase]
            self._said = time.monotonic()
            done = _StepState.of(phase, progress).done if phase is Phase.WAITING else 0
            self._stage = self._stack.enter_context(self.progress.stage(text, unit=unit, done=done))

    def _show(self, progress: SyncProgress) -> None:
        """Show how far the step is."""
        if self._stage is None or self._phase is None:
            return
        stage, reach = self._stage, _StepState.of(self._phase, progress)
        if reach.total is not None:
            stage.expect(reach.total)
        stage.reach(reach.done)
        stage.tell(reach.detail)
        if not self.progress.has_bars and time.monotonic() - self._said >= _SAY_EVERY:
            self._said = time.monotonic()
            of = "" if reach.total is None else f" of {reach.total:,}"
            said = ", ".join(filter(None, (f"{reach.done:,}{of}", reach.detail)))
            self.print_line(f"{_STEPS[self._phase][0]}: {said} so far")


@attrs.define(eq=False)
class _RunBar:
    """The bar of one run among many."""

    stage: Stage
    ends: contextlib.ExitStack


@attrs.define(eq=False)
class RunBars:
    """Shows many runs, a bar for each.

    Attributes:
        progress: Where bars are; where there are none, whoever runs them says what became of each.
    """

    progress: Progress
    _rows: dict[str, _RunBar] = attrs.field(init=False, factory=dict)

    def on_progress(self, label: str, progress: SyncProgress) -> None:
        """Show how far the run *label* is."""
        if not self.progress.has_bars:
            return
        row = self._rows.get(label) or self._add(label)
        reach = _StepState.of(Phase.WAITING, progress)
        if progress.total:
            row.stage.expect(progress.total)
            row.stage.reach(reach.done)
        row.stage.tell(f"{progress.phase}, {reach.detail}" if progress.planned_calls else str(progress.phase))

    def end(self, label: str, said: str, *, good: bool) -> None:
        """Show how the run *label* ended."""
        if label in self._rows:
            self._rows[label].stage.tell(said)
            if good:
                self._rows[label].ends.close()

    def _add(self, label: str) -> _RunBar:
        """Begin a bar."""
        ends = contextlib.ExitStack()
        self._rows[label] = row = _RunBar(ends.enter_context(self.progress.stage(label, unit="id")), ends)
        return row
