"""The life of an engine: its arguments, and its state from the first use to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from .._client import AudienceClient
from .._clock import SystemClock
from .._tasks import running_loop
from ..errors import InvalidInputError
from ..models import check_name
from ..options import check_callback, check_instance
from ._options import DEFAULTS, Mode, SyncOptions
from ._report import OnProgress
from .run._audience_run import AudienceRun
from .run._context import RunContext
from .run._reporter import RunReporter
from .state._state import default_state_path
from .state._thread import StateThread


def check_client_and_name(client: AudienceClient, name: str) -> None:
    """Raise InvalidInputError if an argument is invalid, before the state is opened."""
    check_instance(client, AudienceClient, "client")
    check_name(name)


def _to_path(state: Path | str | None) -> Path:
    if not isinstance(state, Path | str | None):
        msg = f"state must be the path of a file, not {type(state).__name__}. None is the user's own state."
        raise InvalidInputError(msg)
    return default_state_path() if state is None else Path(state)


def _check_options(_self: object, _field: object, value: Any) -> None:
    check_instance(value, SyncOptions, "options")


def _check_hook(_self: object, _field: object, value: Any) -> None:
    if value is not None:
        check_callback(value, "on_progress")


def _check_stop(_self: object, _field: object, value: Any) -> None:
    check_instance(value, asyncio.Event, "stop")


@attrs.define(eq=False, kw_only=True)
class EngineBase:
    """Opens the state at its first use, and closes it at the end of the `async with`."""

    state: Path = attrs.field(default=None, converter=_to_path)
    options: SyncOptions = attrs.field(default=DEFAULTS, validator=_check_options)
    on_progress: OnProgress | None = attrs.field(default=None, validator=_check_hook)
    stop: asyncio.Event = attrs.field(
        default=None,
        converter=attrs.converters.default_if_none(factory=asyncio.Event),  # type: ignore[misc]  # attrs types it for None alone
        validator=_check_stop,
    )
    purpose: str | None = None
    _thread: StateThread | None = attrs.field(init=False, default=None)
    _opening: asyncio.Lock | None = attrs.field(init=False, default=None)

    async def __aenter__(self) -> Self:
        running_loop()
        self._opening = asyncio.Lock()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close the state."""
        self._opening = None
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await thread.aclose()

    async def _open(self, what: str) -> StateThread:
        if self._opening is None:
            msg = "The engine is not open. Use it as `async with SyncEngine(...) as engine`."
            raise InvalidInputError(msg)
        async with self._opening:
            if self._thread is None:
                limit = self.options.memory_limit
                what = self.purpose or what
                self._thread = await StateThread.open(self.state, what=what, memory_limit=limit)
            return self._thread

    async def _context(
        self,
        verb: str,
        client: AudienceClient,
        name: str,
        options: SyncOptions | None,
        on_progress: OnProgress | None,
    ) -> RunContext:
        """Check the arguments before the state is opened, and return the context of a run."""
        check_client_and_name(client, name)
        chosen, clock = self.options if options is None else options, SystemClock()
        check_instance(chosen, SyncOptions, "options")
        return RunContext(
            client=client,
            audience=name,
            state=await self._open(f"{verb} {name}"),
            options=chosen,
            stop=self.stop,
            clock=clock,
            reporter=RunReporter(
                audience=name,
                mode=chosen.mode,
                clock=clock,
                on_progress=on_progress,
                rejects=chosen.rejects,
            ),
        )

    @asynccontextmanager
    async def _run(
        self, verb: str, client: AudienceClient, name: str, options: SyncOptions | None
    ) -> AsyncIterator[AudienceRun]:
        context = await self._context(verb, client, name, options, self.on_progress)
        async with AudienceRun(context) as run:
            with context.reporter.counting_retries():
                yield run

    def _in_mode(self, mode: Mode, options: SyncOptions | None) -> SyncOptions:
        """Return *options*, or the engine's, for a run of *mode*, which creates no audience."""
        chosen = self.options if options is None else options
        check_instance(chosen, SyncOptions, "options")
        return attrs.evolve(chosen, mode=mode, create=False)
