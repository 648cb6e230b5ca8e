"""The `sandbox` command: Batch's audience APIs as a local server."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
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
from ...sandbox._options import DeleteAnswer, MissingAudience, TakenName, UnknownProject
from ...transport import is_unencrypted
from .._context import InjectedContext
from .._exit_codes import ExitCode

__all__ = ["sandbox"]

_DEFAULTS = SandboxOptions()


def _format_delay(delay: float | tuple[float, float]) -> str:
    """Format an indexing delay as the option reads it."""
    bounds = delay if isinstance(delay, tuple) else (delay,)
    return "-".join(f"{bound:g}" for bound in bounds)


_KINDS = "\n".join(f"- `{kind}`: {meaning}" for kind, meaning in FAULT_KINDS.items())


@Parameter(name="*", group=Group("Behaviour", help=f"Kinds of faults:\n\n{_KINDS}", sort_key=3))
@attrs.frozen(kw_only=True)
class Behaviour:
    """Options of the sandbox.

    Attributes:
        host: Listen on this address. 0.0.0.0 admits other machines and containers.
        port: Listen on this port. 0 takes a free one.
        indexing_delay: Apply writes after this time: 2, or 2-10 for anything between.
        fault: Inject a fault at this rate, such as 503=0.1. Repeatable.
        rate: Answer 429 above this many requests per second, such as 5/s.
        seed: Repeat a run with the same random choices.
        missing_audience: Answer this status if an audience does not exist.
        taken_name: Answer this status if a name is taken.
        unknown_project: Answer this status for an unknown project.
        delete_answer: Answer a delete in 1.x with an empty object, an object or nothing.
    """

    host: str = _DEFAULTS.host
    port: int = _DEFAULTS.port
    indexing_delay: Annotated[str, Parameter(metavar="SECONDS")] = _format_delay(_DEFAULTS.indexing_delay)
    fault: Annotated[
        tuple[str, ...], Parameter(metavar="KIND=PROBABILITY", negative=(), show_default=False)
    ] = ()
    rate: Annotated[str | None, Parameter(metavar="N/s")] = None
    seed: int = _DEFAULTS.seed
    missing_audience: MissingAudience = _DEFAULTS.missing_audience
    taken_name: TakenName = _DEFAULTS.taken_name
    unknown_project: UnknownProject = _DEFAULTS.unknown_project
    delete_answer: DeleteAnswer = _DEFAULTS.delete_answer

    def options(self) -> SandboxOptions:
        """Return the options of the sandbox.

        Raises:
            InvalidInputError: An option is invalid.
        """
        return SandboxOptions(
            host=self.host,
            port=self.port,
            indexing_delay=parse_indexing_delay(self.indexing_delay),
            faults=dict(map(parse_fault, self.fault)),
            rate=None if self.rate is None else parse_rate(self.rate),
            seed=self.seed,
            missing_audience=self.missing_audience,
            taken_name=self.taken_name,
            unknown_project=self.unknown_project,
            delete_answer=self.delete_answer,
        )


_BEHAVIOUR = Behaviour()


async def sandbox(*, behaviour: Behaviour = _BEHAVIOUR, context: InjectedContext) -> ExitCode:
    """Run a local server of Batch's three audience APIs until Ctrl-C.

    Prints its address and its keys as lines for a shell or for --env-file. It keeps its data in memory.

    Example: `aiobatch sandbox --port 8765 --indexing-delay 2-10 --fault 503=0.1 --fault lost=0.05`
    """
    server = Sandbox(behaviour.options())
    try:
        await server.start()
    except OSError as error:
        raise _cannot_listen(behaviour, error) from None
    try:
        context.output.lines(_exports(server.url, behaviour.host), _record(server.url))
        context.info(f"The sandbox is listening on {server.url}. Press Ctrl-C to stop it.")
        await _serve_until_signal()
    finally:
        await server.aclose()
        context.info(f"{server.request_count:,} requests answered.")


def _cannot_listen(behaviour: Behaviour, error: OSError) -> InvalidInputError:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        msg = f"Cannot listen on {behaviour.host!r}: it is no address of this machine. Check --host."
    else:
        reason = os.strerror(error.errno or 0)
        msg = f"Cannot listen on port {behaviour.port} ({reason}). Omit --port to use a free port."
    return InvalidInputError(msg)


async def _serve_until_signal() -> NoReturn:
    """Wait until a signal cancels the command."""
    while True:
        await asyncio.Event().wait()


def _exports(url: str, host: str) -> list[str]:
    """Return lines for a shell, with the keys of 1.x as comments."""
    elsewhere: list[str] = []
    if f"//{host}:" not in url and f"//[{host}]:" not in url:
        elsewhere = [
            "# From another machine or container, with its name there in the URL:",
            "# export BATCH_ALLOW_HTTP=1",
        ]
    elif is_unencrypted(url):
        elsewhere = ["export BATCH_ALLOW_HTTP=1"]
    return [
        f"export BATCH_BASE_URL={url}",
        f"export BATCH_REST_API_KEY={REST_API_KEY}",
        f"export BATCH_PROJECT_KEY={PROJECT_KEY}",
        "# For the APIs 1.0 and 1.1, one of these apps instead of the project:",
        f"# export BATCH_API_KEY={API_KEY}",
        f"# export BATCH_API_KEY={API_KEY_ANDROID}",
        *elsewhere,
    ]


def _record(url: str) -> dict[str, object]:
    """Return the same for JSON."""
    return {
        "base_url": url,
        "rest_api_key": REST_API_KEY,
        "project_key": PROJECT_KEY,
        "api_keys": [API_KEY, API_KEY_ANDROID],
    }
