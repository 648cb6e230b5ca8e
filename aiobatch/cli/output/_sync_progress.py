"""Progress of sync runs: a bar for each step of one run, or a bar for each of several runs."""

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

# Seconds between two lines about the same step, where there are no bars.
_PRINT_INTERVAL = 60.0
_STEPS: Final[Mapping[Phase, tuple[str, str]]] = {
    Phase.SETTLING: ("finish the previous run", "ID"),
    Phase.READING: ("read the source", "row"),
    Phase.PLANNING: ("plan", "change"),
    Phase.CREATING: ("create audience", "audience"),
    Phase.SENDING: ("send", "ID"),
    Phase.WAITING: ("wait until APPLIED", "ID"),
}

# The figure of a bar that counts what has taken effect. Its detail counts what was sent.
_APPLIED: Final = " APPLIED"
# The planning step of a run that sends nothing.
_COMPARING: Final = ("compare with the state", "difference")


@attrs.frozen
class _StepState:
    """The progress of one step.

    Attributes:
        done: The amount that is done.
        total: The amount of work. None: unknown.
        detail: The text beside the count.
    """

    done: int
    total: int | None = None
    detail: str = ""

    @classmethod
    def of(cls, phase: Phase, progress: SyncProgress) -> _StepState:
        """Return the progress of *phase*. The run may already be in the next phase."""
        if phase is Phase.READING:
            return cls(progress.read)
        if phase is Phase.PLANNING:
            return cls(progress.total)
        if phase is Phase.CREATING:  # the one audience exists as soon as the run is in another phase
            return cls(int(progress.phase is not phase))
        if phase is Phase.SETTLING:  # how much of it was applied long ago is unknown
            return cls(progress.applied + progress.refused)
        planned = f" of {progress.planned_calls:,}" if progress.planned_calls else ""
        calls = f"{progress.calls:,}{planned} call{'' if progress.calls == 1 and not planned else 's'} sent"
        done = progress.sent if phase is Phase.SENDING else progress.applied
        return cls(done + progress.refused, progress.total, calls)


@attrs.define(eq=False)
class StepProgress:
    """Displays the steps of one run, one after the other.

    Attributes:
        progress: The display.
        print_line: Prints a line where the display has no bars.
        waits: Whether the run waits until its changes are APPLIED.
        adopts: Whether the run records the source and sends nothing.
    """

    progress: Progress
    print_line: Callable[[str], None]
    waits: bool = True
    adopts: bool = False
    _phase: Phase | None = attrs.field(init=False, default=None)
    _stage: Stage | None = attrs.field(init=False, default=None)
    _stack: contextlib.ExitStack = attrs.field(init=False, factory=contextlib.ExitStack)
    _printed: float = attrs.field(init=False, default=0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the last step. After an error it does not look finished."""
        if error is None:
            self.end()
        elif self._stage is not None:
            self._stage.fail()

    def end(self) -> None:
        """End the last step."""
        self._stack.close()

    def on_progress(self, progress: SyncProgress) -> None:
        """Display the progress of the run. This is a hook of the engine."""
        self._show(progress)
        if progress.phase is not self._phase:
            self._begin(progress)
            self._show(progress)
        update_log_context(run=progress.run)

    def _begin(self, progress: SyncProgress) -> None:
        """End a step and begin the next one, unless it has nothing to do."""
        self._stack.close()
        self._phase = phase = progress.phase
        update_log_context(phase=phase)
        self._stage = None
        is_idle = phase is Phase.SENDING and not progress.total
        if phase in _STEPS and not is_idle and (self.waits or phase is not Phase.WAITING):
            text, unit = _COMPARING if self.adopts and phase is Phase.PLANNING else _STEPS[phase]
            self._printed = time.monotonic()
            done = _StepState.of(phase, progress).done if phase is Phase.WAITING else 0
            suffix = _APPLIED if phase in {Phase.WAITING, Phase.SETTLING} else ""
            self._stage = self._stack.enter_context(
                self.progress.stage(text, unit=unit, done=done, suffix=suffix)
            )

    def _show(self, progress: SyncProgress) -> None:
        """Display the progress of the step."""
        if self._stage is None or self._phase is None:
            return
        stage, state = self._stage, _StepState.of(self._phase, progress)
        if state.total is not None:
            stage.set_total(state.total)
        stage.update(state.done)
        stage.set_detail(state.detail)
        if not self.progress.has_bars and time.monotonic() - self._printed >= _PRINT_INTERVAL:
            self._printed = time.monotonic()
            of = "" if state.total is None else f" of {state.total:,}"
            text = ", ".join(filter(None, (f"{state.done:,}{of}", state.detail)))
            self.print_line(f"{_STEPS[self._phase][0]}: {text} so far")


@attrs.define(eq=False)
class _RunBar:
    """The bar of one run."""

    stage: Stage
    stack: contextlib.ExitStack


@attrs.define(eq=False)
class RunBars:
    """Displays several runs, a bar for each.

    Attributes:
        progress: The display. Where it has no bars, nothing is displayed.
    """

    progress: Progress
    _bars: dict[str, _RunBar] = attrs.field(init=False, factory=dict)

    def on_progress(self, label: str, progress: SyncProgress) -> None:
        """Display the progress of the run *label*."""
        if not self.progress.has_bars:
            return
        bar = self._bars.get(label) or self._add(label)
        state = _StepState.of(Phase.WAITING, progress)
        if progress.total:
            bar.stage.set_total(progress.total)
            bar.stage.update(state.done)
        detail = f", {state.detail}" if progress.planned_calls else ""
        bar.stage.set_detail(f"{progress.phase}{detail}")

    def end(self, label: str, outcome: str, *, success: bool) -> None:
        """Display the outcome of the run *label*. Only a success looks finished."""
        if bar := self._bars.get(label):
            bar.stage.set_detail(outcome)
            if success:
                bar.stack.close()
            else:
                bar.stage.fail()

    def _add(self, label: str) -> _RunBar:
        """Add a bar."""
        stack = contextlib.ExitStack()
        stage = stack.enter_context(self.progress.stage(label, unit="ID", suffix=_APPLIED))
        self._bars[label] = bar = _RunBar(stage, stack)
        return bar
