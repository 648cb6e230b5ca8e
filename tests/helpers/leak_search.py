"""Everything that a session leaves behind, and a search for secrets in it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import pickle
import traceback
from collections.abc import Awaitable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import attrs

from aiobatch import AiobatchError, Event

HERE = str(Path(__file__).parents[1])


class LeakSearch(logging.Handler):
    """Collects everything that a session leaves behind.

    Attributes:
        records: every log record, formatted with its traceback.
        values: events, statistics, tokens, audiences and all other results.
        errors: the errors that were raised.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        self.records: list[tuple[int, str]] = []
        self.values: list[Any] = []
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record and its unformatted arguments."""
        self.records.append((record.levelno, f"{self.format(record)} {record.args!r}"))

    def hear(self, event: Event) -> None:
        """Keep an event."""
        self.values.append(event)

    async def attempt(self, call: Awaitable[object]) -> None:
        """Await a call and keep its result or its error."""
        try:
            self.values.append(await call)
        except (AiobatchError, TimeoutError, asyncio.CancelledError) as error:
            self.errors.append(error)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its causes, its contexts and the errors of its groups."""
    seen: set[int] = set()
    rest: list[BaseException | None] = [error]
    while rest:
        link = rest.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        rest += [link.__cause__, link.__context__]
        rest += link.exceptions if isinstance(link, BaseExceptionGroup) else []


def stack(error: BaseException) -> str:
    """Return a traceback with the locals of each frame outside the tests, since the tests know the keys."""
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if not _is_ours(frame)]
    return "".join(traceback.StackSummary.extract(frames, capture_locals=True).format())


def _is_ours(frame: Any) -> bool:
    return str(frame.f_code.co_filename).startswith(HERE)


def copies(value: object) -> Iterator[str]:
    """Yield every text form of a value: its `repr`, its fields, its copy and its pickle."""
    yield from (repr(value), str(value))
    if hasattr(value, "__dict__"):
        yield repr(vars(value))
    if attrs.has(type(value)):
        yield repr(attrs.asdict(cast("attrs.AttrsInstance", value)))
        yield repr(copy.deepcopy(value))
    with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
        yield pickle.dumps(value).decode("latin-1")


def shown(evidence: LeakSearch) -> Iterator[str]:
    """Yield every text of a session apart from its log."""
    for value in evidence.values:
        yield from copies(value)
    for error in evidence.errors:
        for link in chain(error):
            yield from copies(link)
            yield repr((link.args, getattr(link, "__notes__", ())))


def find(words: Iterable[str], texts: Iterable[str]) -> list[str]:
    """Return each word that was found, with the text around it."""
    return [
        f"{word}: …{text[max(0, text.index(word) - 300) : text.index(word) + 100]}…"
        for text in texts
        for word in words
        if word in text
    ]
