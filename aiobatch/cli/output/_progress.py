"""Progress on stderr: bars in a terminal, a line for each finished stage elsewhere."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import attrs
from rich.console import Console, RenderableType
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


# Statuses that pause the whole client. The pause has a note of its own.
_PAUSING = {"429", "503"}
# Without bars: failed attempts after which a retry is printed, and seconds between two such lines.
_MANY_FAILURES = 5
_PRINT_INTERVAL = 60.0
# Columns of a terminal that has room for bars beside the numbers.
_WIDE = 100


class _MarkColumn(SpinnerColumn):
    """The spinner of a stage, or the mark of its end."""

    def __init__(self, spinner: str, done: str, failed: str) -> None:
        column = Column(no_wrap=True, min_width=1)
        super().__init__(spinner, finished_text=Text(done, style="green"), table_column=column)
        self._failed = Text(failed, style="bold red")

    def render(self, task: Task) -> RenderableType:
        """Return a cross for a failed stage, even if all of its work was done."""
        return self._failed if task.fields["failed"] else super().render(task)


class _PercentColumn(ProgressColumn):
    """The done part of a stage in per cent."""

    def render(self, task: Task) -> Text:
        """Return text such as ` 42%`, or nothing if the amount of work is unknown."""
        return Text(f"{task.percentage:3.0f}%" if task.total else "", style="progress.percentage")


class _CountColumn(ProgressColumn):
    """The count of a stage."""

    def render(self, task: Task) -> Text:
        """Return text such as `10,000 of 30,000 IDs` or `10,000 IDs APPLIED`."""
        total = None if task.total is None else int(task.total)
        count = _format_count(int(task.completed), total, task.fields["unit"])
        return Text(f"{count}{task.fields['suffix']}", style="progress.download")


class _SpeedColumn(ProgressColumn):
    """The speed, the details and the time left of a stage, or the reason why it is paused."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return text such as `5,000/s, 3 of 9 calls, 2:10 left`."""
        if task.fields["note"]:
            return Text(task.fields["note"], style="yellow", no_wrap=True, overflow="ellipsis")
        # The rate of a step that took no time means nothing.
        speed = None if (task.elapsed or 0) < 1 else task.finished_speed if task.finished else task.speed
        left = None if task.finished else task.time_remaining
        parts = (
            f"{speed:,.0f}/s" if speed and speed > 1 else "",
            task.fields["detail"],
            f"{_clock(left)} left" if left else "",
        )
        text = ", ".join(filter(None, parts))
        return Text(text, style="progress.remaining", no_wrap=True, overflow="ellipsis")


def _clock(seconds: float) -> str:
    """Format seconds as `0:04` or `1:02:10`."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _format_count(done: int, total: int | None, unit: str) -> str:
    """Format a count as `1 ID`, `3 IDs` or `1 of 3 IDs`."""
    of = "" if total in {None, done} else f" of {total:,}"
    return f"{done:,}{of} {unit}{'' if done == 1 and not of else 's'}"


@attrs.define(eq=False)
class Stage:
    """One stage of the work.

    Attributes:
        total: The amount of work. None: unknown.
        done: The amount that is done.
    """

    _show: Callable[..., None]
    total: int | None = None
    done: int = 0

    def update(self, done: int) -> None:
        """Set the amount that is done."""
        self.done = done
        self._show(completed=done)

    def set_total(self, total: int) -> None:
        """Set the amount of work."""
        self.total = total
        self._show(total=total)

    def set_detail(self, text: str) -> None:
        """Set the text beside the count."""
        self._show(detail=text)

    def fail(self) -> None:
        """Show that the stage failed."""
        self._show(failed=True, note="")

    def advance(self, count: int = 1) -> None:
        """Add *count* to the amount that is done."""
        self.update(self.done + count)


class Progress:
    """Displays stages.

    Args:
        console: The console for bars.
        print_line: Prints a line. Without bars, each stage ends with one.
        bars: Whether to show bars.
        transient: Whether to remove the display at the end.
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
        """Whether there are bars."""
        return self._bars is not None

    def __enter__(self) -> Self:
        """Start the display."""
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Stop the display."""
        self.stop()

    def stop(self) -> None:
        """Stop the display so that the terminal is free for data. A second call does nothing."""
        if self._bars is not None:
            self._bars.stop()

    @contextlib.contextmanager
    def stage(
        self, text: str, *, unit: str, total: int | None = None, done: int = 0, suffix: str = ""
    ) -> Iterator[Stage]:
        """Display one stage while the context lasts. After an exception it looks failed.

        Args:
            text: The name of the stage.
            unit: The unit of its count, in the singular.
            total: The amount of work. None: unknown.
            done: The amount that was done before the stage began.
            suffix: What is true of the counted units, such as ` APPLIED`.
        """
        if self._bars is None:
            started = time.monotonic()
            stage = Stage(lambda **_: None, total, done)
            yield stage
            if not self._transient:
                count = _format_count(stage.done, stage.total, unit)
                self._print_line(f"{text}: {count} in {time.monotonic() - started:.1f} s")
            return
        bars = self._bars
        fields: dict[str, Any] = {"unit": unit, "note": "", "detail": "", "suffix": suffix, "failed": False}
        task = bars.add_task(text, total=total, completed=done, **fields)
        stage = Stage(functools.partial(bars.update, task), total, done)
        try:
            yield stage
        except BaseException:
            stage.fail()
            raise
        if stage.total is None:
            bars.update(task, total=stage.done, completed=stage.done)
        bars.update(task, note="")

    def on_event(self, event: Event) -> None:
        """Display pauses and retries. This is an event hook of the client."""
        if isinstance(event, PauseStarted):
            self._note(f"paused for {_seconds(event.seconds)}: Batch answered {event.status}")
        elif isinstance(event, RetryScheduled) and event.reason not in _PAUSING:
            self._is_retrying = True
            self._note(f"retrying in {_seconds(event.delay)}: {event.reason}")
            if not self.has_bars and event.attempt >= _MANY_FAILURES and time.monotonic() >= self._next:
                self._next = time.monotonic() + _PRINT_INTERVAL
                self._print_line(
                    f"{event.operation}: retrying after {event.attempt} failures: {event.reason}"
                )
        elif isinstance(event, PauseEnded) or (
            self._is_retrying and isinstance(event, RequestFinished) and event.error is None
        ):
            self._is_retrying = False
            self._note("")

    def _note(self, note: str) -> None:
        """Set the note of each unfinished bar, or end that of all. Without bars, the log has it."""
        if self._bars is not None:
            for task in self._bars.tasks:
                if not note or not (task.finished or task.fields["failed"]):
                    self._bars.update(TaskID(task.id), note=note)


def _seconds(seconds: float) -> str:
    """Format seconds as `0.4 s` or `30 s`."""
    return f"{seconds:.1f} s" if seconds < 1 else f"{seconds:.0f} s"


def _make_bars(console: Console, *, transient: bool) -> Bars:
    """Return bars of one line each, in characters that the terminal can display."""
    unicode = console.encoding.startswith("utf")
    mark = _MarkColumn("dots", "✓", "✗") if unicode else _MarkColumn("line", "*", "x")
    is_wide = console.width >= _WIDE
    return Bars(
        mark,
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=12 if is_wide else 6),
        _PercentColumn(table_column=Column(no_wrap=True)),
        _CountColumn(table_column=Column(no_wrap=True)),
        *([TimeElapsedColumn(table_column=Column(no_wrap=True))] if is_wide else []),
        _SpeedColumn(),  # the only column that a narrow terminal cuts
        console=console,
        transient=transient,
        redirect_stdout=False,  # data goes to stdout, and this is stderr
    )
