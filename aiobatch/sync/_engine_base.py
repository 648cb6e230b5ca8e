"""The life of an engine: its arguments, and its state from the first use to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import attrs

from .._client import AudienceClient, hook_of
from .._clock import SystemClock
from .._tasks import running_loop
from ..errors import InvalidInputError
from ..models import check_name
from ..options import check_callback, check_instance
from ._attempts import Attempt, record_attempts
from ._options import DEFAULTS, Mode, SyncOptions
from ._plan import Plan
from ._report import OnProgress, SyncReport
from .run._audience_hold import AudienceHold
from .run._audience_run import AudienceRun
from .run._context import RunContext
from .run._fan_out import check_source
from .run._reporter import RunReporter
from .sources._source import Source, SourceLike
from .state._state import default_state_path
from .state._thread import StateThread
from .state.ledger._ledger import StateLocation, StateUrl
from .state.objects._open_state import to_location

R = TypeVar("R")


def check_client_and_name(client: AudienceClient, name: str) -> None:
    """Raise InvalidInputError if an argument is invalid, before the state is opened."""
    check_instance(client, AudienceClient, "client")
    check_name(name)


def _to_location(state: Path | str | StateUrl | None) -> StateLocation:
    return default_state_path() if state is None else to_location(state)


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

    state: StateLocation = attrs.field(default=None, converter=_to_location)
    options: SyncOptions = attrs.field(default=DEFAULTS, validator=_check_options)
    on_progress: OnProgress | None = attrs.field(default=None, validator=_check_hook)
    stop: asyncio.Event = attrs.field(
        default=None,
        converter=attrs.converters.default_if_none(factory=asyncio.Event),  # type: ignore[misc]  # attrs types it for None alone
        validator=_check_stop,
    )
    purpose: str | None = None
    records_attempts: bool = True
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
        chosen, clock = self._chosen(options), SystemClock()
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
                emit=hook_of(client),
            ),
        )

    async def _contexts(
        self,
        verb: str,
        clients: Sequence[AudienceClient],
        name: str,
        options: SyncOptions | None,
        on_progress: OnProgress | None,
    ) -> list[RunContext]:
        """Return the contexts of the runs of several targets."""
        hook = on_progress or self.on_progress
        return [
            await self._context(verb, client, name, options, _of_target(number, hook))
            for number, client in enumerate(clients)
        ]

    @asynccontextmanager
    async def _attempt(
        self,
        verb: str,
        clients: Sequence[AudienceClient],
        name: str,
        mode: Mode,
        source: Source | None = None,
    ) -> AsyncIterator[list[SyncReport | Exception]]:
        """Record the attempts of an operation, one for each client. The block adds their outcomes."""
        outcomes: list[SyncReport | Exception] = []
        if not self.records_attempts:
            yield outcomes
            return
        for client in clients:
            check_client_and_name(client, name)
        label = "" if source is None else source.label
        attempts = [
            Attempt(command=verb, audience=name, source=label).to(client.target) for client in clients
        ]
        recorded = await asyncio.to_thread(record_attempts, self.state, attempts)
        ends: Sequence[SyncReport | BaseException] = outcomes
        try:
            yield outcomes
        except BaseException as error:
            ends = [error] * len(attempts)
            raise
        finally:
            ended = [one.ended_by(end, mode=mode) for one, end in zip(attempts, ends, strict=True)]
            await asyncio.to_thread(record_attempts, self.state, ended, warns=recorded)

    @asynccontextmanager
    async def _record(self, verb: str, client: AudienceClient, name: str) -> AsyncIterator[StateThread]:
        """Hold an audience without its members."""
        thread = await self._open(f"{verb} {name}")
        hold = AudienceHold(thread, client, name)
        await hold.take(f"{verb} {name}", locks=False, members=False)
        try:
            yield thread
        finally:
            await hold.release()

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
        return attrs.evolve(self._chosen(options), mode=mode, create=False)

    def _chosen(self, options: SyncOptions | None) -> SyncOptions:
        """Return *options*, or else the engine's."""
        chosen = self.options if options is None else options
        check_instance(chosen, SyncOptions, "options")
        return chosen


def _of_target(number: int, on_progress: OnProgress | None) -> OnProgress | None:
    """Return a hook that adds the number of a target to the progress."""
    if on_progress is None or number == 0:
        return on_progress
    return lambda progress: on_progress(attrs.evolve(progress, target=number))


def only(outcomes: Sequence[R | Exception]) -> R:
    """Return the outcome of the only target, or raise its error."""
    (outcome,) = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def check_run_number(to: object) -> None:
    if isinstance(to, bool) or not isinstance(to, int):
        msg = f"to must be the number of a run, not {type(to).__name__}. `runs` returns the numbers."
        raise InvalidInputError(msg)


def check_arguments(client: AudienceClient, name: str, source: SourceLike) -> Source:
    """Return the source. Raise InvalidInputError before the state is opened."""
    parsed = Source.of(source)
    check_client_and_name(client, name)
    check_source(parsed, client)
    return parsed


def source_of(plan: Plan) -> Source:
    if plan.source is None:
        msg = f"The plan of audience {plan.audience!r} keeps no source. Pass the source."
        raise InvalidInputError(msg)
    return plan.source


def check_plans(clients: Sequence[AudienceClient], plans: Sequence[Plan]) -> Plan:
    """Return the first of *plans*, one for each client. They must differ in their targets alone."""
    for plan in plans:
        check_instance(plan, Plan, "plan")
    if not plans or len(plans) != len(clients):
        msg = "plans must have one plan for each client."
        raise InvalidInputError(msg)
    first = plans[0]
    if any(
        (one.audience, one.source, one.options) != (first.audience, first.source, first.options)
        for one in plans
    ):
        msg = "plans must be of one audience, one source and the same options."
        raise InvalidInputError(msg)
    return first
