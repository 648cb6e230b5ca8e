"""How far things are, on stderr: bars on a terminal, a line for each finished stage elsewhere."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import attrs
from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from ...events import Event, PauseEnded, PauseStarted, RequestFinished, RetryScheduled

__all__ = ["Progress", "Stage"]


# Answers that pause the whole client, which says more than the retry of one request.
_PAUSING = {"429", "503"}
# Attempts from which on somebody who sees no bars is told, and how often, in seconds.
_MANY = 5
_SAY_EVERY = 60.0
# Seconds from which on tenths do not matter.
_LONG = 1.0
# Characters of a line in which there is room for bars beside the numbers.
_WIDE = 100


class _CountColumn(ProgressColumn):
    """How many of how many."""

    def render(self, task: Task) -> Text:
        """Return `10,000 of 30,000 ids`."""
        total = None if task.total is None else int(task.total)
        return Text(_describe(int(task.completed), total, task.fields["unit"]), style="progress.download")


class _SpeedColumn(ProgressColumn):
    """How fast it goes and what else there is to say; or, while it does not go, why."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return `5,000/s, 3 of 9 calls, 2:10 left`."""
        if task.fields["note"]:
            return Text(task.fields["note"], style="yellow")
        speed = task.finished_speed if task.finished else task.speed
        left = None if task.finished else task.time_remaining
        said = (
            f"{speed:,.0f}/s" if speed and speed > 1 else "",
            task.fields["detail"],
            f"{_clock(left)} left" if left else "",
        )
        return Text(", ".join(filter(None, said)), style="progress.remaining")


def _clock(seconds: float) -> str:
    """Write `0:04` or `1:02:10`."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _describe(done: int, total: int | None, unit: str) -> str:
    """Write `1 id`, `3 ids`, `1 of 3 ids`."""
    of = "" if total in {None, done} else f" of {total:,}"
    return f"{done:,}{of} {unit}{'' if done == 1 and not of else 's'}"


@attrs.define(eq=False)
class Stage:
    """A part of the work.

    Attributes:
        total: How much there is; None where nobody knows.
        done: How much of it is done.
    """

    _show: Callable[..., None]
    total: int | None = None
    done: int = 0

    def reach(self, done: int) -> None:
        """Say that *done* of all is done."""
        self.done = done
        self._show(completed=done)

    def expect(self, total: int) -> None:
        """Say how much there is."""
        self.total = total
        self._show(total=total)

    def tell(self, text: str) -> None:
        """Say something beside it."""
        self._show(detail=text)

    def advance(self, count: int = 1) -> None:
        """Say that *count* more is done."""
        self.reach(self.done + count)


class Progress:
    """Shows stages.

    Args:
        console: Where; it decides whether there are bars.
        print_line: Prints a line; where there are no bars, each stage ends with one.
        bars: Whether there may be bars.
        transient: Whether nothing of it stays when all is done.
    """

    def __init__(
        self, console: Console, print_line: Callable[[str], None], *, bars: bool, transient: bool = False
    ) -> None:
        self._bars = _make_bars(console, transient=transient) if bars else None
        self._print_line = print_line
        self._transient = transient
        self._is_retrying = False
        self._next = 0.0

    @property
    def has_bars(self) -> bool:
        """Whether there are bars; elsewhere lines have to do."""
        return self._bars is not None

    def __enter__(self) -> Self:
        """Start showing."""
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Stop showing."""
        self.stop()

    def stop(self) -> None:
        """Stop showing, so that the terminal is free for data; a second time does nothing."""
        if self._bars is not None:
            self._bars.stop()

    @contextlib.contextmanager
    def stage(self, text: str, *, unit: str, total: int | None = None, done: int = 0) -> Iterator[Stage]:
        """Show one stage for as long as it lasts.

        Args:
            text: What is done.
            unit: What is counted: one of them.
            total: How many there are; None where nobody knows.
            done: How many were done before it began.
        """
        if self._bars is None:
            started = time.monotonic()
            stage = Stage(lambda **_: None, total, done)
            yield stage
            if not self._transient:
                count = _describe(stage.done, stage.total, unit)
                self._print_line(f"{text}: {count} in {time.monotonic() - started:.1f} s")
            return
        bars = self._bars
        task = bars.add_task(text, total=total, completed=done, unit=unit, note="", detail="")
        stage = Stage(functools.partial(bars.update, task), total, done)
        yield stage
        if stage.total is None:
            bars.update(task, total=stage.done, completed=stage.done)
        bars.update(task, note="")

    def on_event(self, event: Event) -> None:
        """Show that the client is paused, and why; a hook of the client."""
        if isinstance(event, PauseStarted):
            self._note(f"paused for {_seconds(event.seconds)}: Batch answers {event.status}")
        elif isinstance(event, RetryScheduled) and event.reason not in _PAUSING:
            self._is_retrying = True
            self._note(f"trying again in {_seconds(event.delay)}: {event.reason}")
            if not self.has_bars and event.attempt >= _MANY and time.monotonic() >= self._next:
                self._next = time.monotonic() + _SAY_EVERY
                self._print_line(
                    f"{event.operation} failed {event.attempt} times, and is tried again: {event.reason}"
                )
        elif isinstance(event, PauseEnded) or (
            self._is_retrying and isinstance(event, RequestFinished) and event.error is None
        ):
            self._is_retrying = False
            self._note("")

    def _note(self, note: str) -> None:
        """Write *note* beside each bar that still moves; the log has it where there are none."""
        if self._bars is not None:
            for task in self._bars.tasks:
                if not task.finished:
                    self._bars.update(TaskID(task.id), note=note)


def _seconds(seconds: float) -> str:
    """Write `0.4 s` or `30 s`."""
    return f"{seconds:.1f} s" if seconds < _LONG else f"{seconds:.0f} s"


def _make_bars(console: Console, *, transient: bool) -> Bars:
    """Lay out the bars, in characters that the terminal has, and each in one line of it."""
    unicode = console.encoding.startswith("utf")
    spinner = SpinnerColumn(
        "dots" if unicode else "line",
        finished_text=Text("✓" if unicode else "*", style="green"),
        table_column=Column(no_wrap=True, min_width=1),
    )
    is_wide = console.width >= _WIDE
    return Bars(
        spinner,
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        *([BarColumn(bar_width=12)] if is_wide else []),
        _CountColumn(table_column=Column(no_wrap=True)),
        *([TimeElapsedColumn(table_column=Column(no_wrap=True))] if is_wide else []),
        _SpeedColumn(table_column=Column(no_wrap=True)),
        console=console,
        transient=transient,
        redirect_stdout=False,  # data goes to stdout, and this is stderr
    )
