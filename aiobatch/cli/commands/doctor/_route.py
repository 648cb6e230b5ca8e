"""The checks of the route to Batch: proxy, DNS, connection, clock, and access with the keys."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import email.utils
import ipaddress
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Final
from urllib.parse import urlsplit

import attrs

from ....errors import AiobatchError, InvalidInputError, ResponseError
from ....interfaces import Request, Response
from ....options import App, Limits, Project, RetryPolicy
from ....transport import AiohttpTransport, check_base_url
from ....transport._proxy import find_proxy
from ..._signals import in_thread
from ...inputs._credentials import allows_http, make_client
from ...output._command_hints import command_context
from ...output._errors import text_of
from ._finding import Finding, passed, problem, problem_of, skipped
from ._setup import Setup

__all__ = ["TIMEOUT", "Route"]

#: Seconds that one check may take.
TIMEOUT: Final = 10.0
# Seconds by which the clock may differ. A Date header has whole seconds.
_SKEW: Final = 30
_REDIRECTS: Final = range(300, 400)
_NETWORK: Final = "Check the network, the firewall, and BATCH_BASE_URL if it is set."
_PROXY: Final = (
    "Check the address of the proxy, and its user and password, in HTTPS_PROXY, or in ALL_PROXY if "
    "HTTPS_PROXY is not set. To reach Batch without a proxy, add its host to NO_PROXY."
)
_CLOCK: Final = "Set the clock, for example with a time service. Certificates and the alarm need it."


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@attrs.define(eq=False)
class Route:
    """Checks the route to Batch. Nothing is written.

    Attributes:
        setup: What a run would use.
        base_url: The origin. None if it is invalid.
        hosts: The names of hosts that findings may contain.
    """

    setup: Setup
    base_url: str | None = None
    hosts: list[str] = attrs.field(factory=list)

    async def check(self) -> AsyncGenerator[Finding, None]:
        """Yield the findings, from the proxy to the access with each app's or project's keys."""
        try:
            url = self.setup.env.get("BATCH_BASE_URL") or None
            self.base_url = check_base_url(url, allow_http=allows_http(self.setup.env))
            proxy = find_proxy(self.base_url)
        except InvalidInputError as error:
            yield problem_of("route", str(error), "Correct BATCH_BASE_URL, or remove it.")
            return
        host, proxy_host = (urlsplit(one).hostname or "" for one in (self.base_url, proxy or ""))
        self.hosts += [host, proxy_host]
        yield passed("proxy", _describe_proxy(proxy))
        yield await self._resolve(proxy_host or host)
        response, finding = await self._connect()
        yield finding
        if response is None:
            yield skipped("clock", "The server sent no time.")
            for label in self.setup.targets:
                yield skipped("access", "There is no connection.", target=label)
            return
        yield _check_clock(response)
        targets = self.setup.targets.items()
        for one in await asyncio.gather(*(self._access(label, *target) for label, target in targets)):
            yield one

    async def _resolve(self, host: str) -> Finding:
        """Look up the name of Batch, or of the proxy, which looks up Batch."""
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(host)
            return skipped("dns", "An address needs no lookup.")
        fix = "Check the spelling of the name, and the DNS servers in /etc/resolv.conf."
        try:
            async with asyncio.timeout(TIMEOUT):
                found = await in_thread(lambda: socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM))
        except TimeoutError:
            return problem("dns", f"{host} was not resolved within {TIMEOUT:g} s.", fix)
        except OSError as error:
            return problem("dns", f"{host} cannot be resolved: {error.strerror}.", fix)
        return passed("dns", f"{host} has {len(found)} addresses.")

    async def _connect(self) -> tuple[Response | None, Finding]:
        """Send a request without keys, which Batch refuses."""
        assert self.base_url is not None  # noqa: S101 - checked before
        transport = AiohttpTransport(self.base_url, limits=Limits(), request_timeout=TIMEOUT)
        path = "/2.11/audiences/list"
        request = Request(
            label="test of the connection", operation="list", method="GET", path=path, target=path, headers={}
        )
        start = time.monotonic()
        try:
            response = await transport.send(request)
        except AiobatchError as error:
            finding = problem_of("connection", str(error), _NETWORK)
            # The error of the library only names the places where a proxy can be set.
            blames_proxy = "proxy is set by" in (finding.fix or "")
            return None, attrs.evolve(finding, fix=_PROXY) if blames_proxy else finding
        finally:
            await transport.aclose()
        if response.status in _REDIRECTS:
            text = f"The server redirects elsewhere (HTTP {response.status}), so it is not Batch."
            fix = "Log in to the network, or correct BATCH_BASE_URL or the proxy."
            return None, problem("connection", text, fix)
        took = time.monotonic() - start
        return response, passed("connection", f"The server answered in {took:.1f} s.")

    async def _access(self, label: str | None, target: App | Project, names: tuple[str, ...]) -> Finding:
        """List audiences with the keys of an app or project, and stop at the first."""
        retry = RetryPolicy(attempts=1, timeout=TIMEOUT, request_timeout=TIMEOUT, connect_timeout=TIMEOUT)
        http = allows_http(self.setup.env)
        try:
            async with (
                make_client(target, base_url=self.base_url, allow_http=http, retry=retry) as client,
                contextlib.aclosing(client.list_audiences()) as audiences,
            ):
                async for _ in audiences:
                    break
        except ResponseError as error:
            with command_context(key_variables=names):
                text, advice = text_of(error), error.advice
                shown = text.replace(advice, "").replace("  ", " ") if advice else text
            fix = f"Check {' and '.join(names)} in Batch's dashboard, Settings."
            return problem(
                "access", shown, fix if error.status in {401, 403} else advice or fix, target=label
            )
        except AiobatchError as error:
            return problem_of("access", text_of(error), _NETWORK, target=label)
        return passed("access", "Batch accepts the keys.", target=label)


def _describe_proxy(proxy: str | None) -> str:
    if proxy is None:
        return "No proxy is used."
    has_credentials = urlsplit(proxy).username is not None
    return f"A proxy of the environment is used, {'with' if has_credentials else 'without'} credentials."


def _check_clock(response: Response) -> Finding:
    """Compare the clock with the Date header of a response."""
    date = next(_dates(response), None)
    if date is None:
        return skipped("clock", "The server sent no time.")
    ahead = (_now() - date).total_seconds()
    if abs(ahead) <= _SKEW:
        return passed("clock", f"The clock is within {_SKEW} s of the server's.")
    way = "ahead of" if ahead > 0 else "behind"
    return problem("clock", f"The clock is {abs(ahead):,.0f} s {way} the server's.", _CLOCK)


def _dates(response: Response) -> Iterator[dt.datetime]:
    with contextlib.suppress(ValueError):
        date = email.utils.parsedate_to_datetime(response.headers.get("date", ""))
        yield date if date.tzinfo is not None else date.replace(tzinfo=dt.UTC)
