"""Run Batch's audience APIs as a local server."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, NoReturn

import attrs
from cyclopts import Group, Parameter

from ...errors import InvalidInputError
from ...sandbox import (
    API_KEY,
    API_KEY_ANDROID,
    FAULT_KINDS,
    PROJECT_KEY,
    REST_API_KEY,
    Sandbox,
    SandboxOptions,
    parse_fault,
    parse_indexing_delay,
    parse_rate,
)
from .._context import InjectedContext
from .._exit_codes import ExitCode

__all__ = ["sandbox"]

_DEFAULTS = SandboxOptions()


def _describe(delay: float | tuple[float, float]) -> str:
    """Write an indexing delay as it is read."""
    bounds = delay if isinstance(delay, tuple) else (delay,)
    return "-".join(f"{bound:g}" for bound in bounds)


_KINDS = "\n".join(f"- `{kind}`: {meaning}" for kind, meaning in FAULT_KINDS.items())


@Parameter(name="*", group=Group("Behaviour", help=f"Kinds of faults:\n\n{_KINDS}", sort_key=3))
@attrs.frozen(kw_only=True)
class Behaviour:
    """How the sandbox behaves.

    Attributes:
        port: Listen on this port. 0 takes a free one.
        indexing_delay: Apply writes after this time: 2, or 2-10 for anything between.
        fault: Inject a fault at this rate, such as 503=0.1. Repeatable.
        rate: Answer 429 above this many requests per second, such as 5/s.
        seed: Repeat a run with the same random choices.
    """

    port: int = _DEFAULTS.port
    indexing_delay: Annotated[str, Parameter(metavar="SECONDS")] = _describe(_DEFAULTS.indexing_delay)
    fault: Annotated[
        tuple[str, ...], Parameter(metavar="KIND=PROBABILITY", negative=(), show_default=False)
    ] = ()
    rate: Annotated[str | None, Parameter(metavar="N/s")] = None
    seed: int = _DEFAULTS.seed

    def options(self) -> SandboxOptions:
        """Return what was asked for.

        Raises:
            InvalidInputError: Something was that there is not.
        """
        return SandboxOptions(
            port=self.port,
            indexing_delay=parse_indexing_delay(self.indexing_delay),
            faults=dict(map(parse_fault, self.fault)),
            rate=None if self.rate is None else parse_rate(self.rate),
            seed=self.seed,
        )


_BEHAVIOUR = Behaviour()


async def sandbox(*, behaviour: Behaviour = _BEHAVIOUR, context: InjectedContext) -> ExitCode:
    """Run all three of Batch's audience APIs as a local server, until Ctrl-C.

    The address and the keys that it knows are printed as lines for a shell, or for --env-file. What it holds
    is gone when it ends.

    Example: `aiobatch sandbox --port 8765 --indexing-delay 2-10 --fault 503=0.1 --fault lost=0.05`
    """
    server = Sandbox(behaviour.options())
    try:
        await server.start()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        msg = f"cannot listen on port {behaviour.port} ({reason}); leave --port out for a free one"
        raise InvalidInputError(msg) from None
    try:
        context.output.lines(_exports(server.url), _record(server.url))
        context.info(f"sandbox on {server.url}, Ctrl-C ends it")
        await _for_ever()
    finally:
        await server.aclose()
        context.info(f"{server.request_count:,} requests were answered")


async def _for_ever() -> NoReturn:
    """Wait until a signal ends it."""
    while True:
        await asyncio.Event().wait()


def _exports(url: str) -> list[str]:
    """Return lines for a shell: 2.x to begin with, 1.x beside it."""
    return [
        f"export BATCH_BASE_URL={url}",
        f"export BATCH_REST_API_KEY={REST_API_KEY}",
        f"export BATCH_PROJECT_KEY={PROJECT_KEY}",
        "# For the APIs 1.0 and 1.1, in place of the project's key; there is a second app as well:",
        f"# export BATCH_API_KEY={API_KEY}",
        f"# export BATCH_API_KEY={API_KEY_ANDROID}",
    ]


def _record(url: str) -> dict[str, object]:
    """Return the same as a record."""
    return {
        "base_url": url,
        "rest_api_key": REST_API_KEY,
        "project_key": PROJECT_KEY,
        "api_keys": [API_KEY, API_KEY_ANDROID],
    }
