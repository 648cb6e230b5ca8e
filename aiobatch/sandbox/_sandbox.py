"""The sandbox: a server on loopback, and methods to inspect and change its audiences."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, Self

import attrs
from aiohttp import web

from .._logs import log
from .._tasks import running_loop
from ..errors import InvalidInputError
from ._cep import CepSandbox
from ._check_members import check_members
from ._faults import FaultPlan, TokenBucket
from ._mep import MepSandbox
from ._options import API_KEY, API_KEY_ANDROID, PROJECT_KEY, SandboxOptions, check_ids
from ._request_checks import ApiResponse
from ._request_handler import RequestHandler, SandboxRequest
from ._routes import ApiCall
from ._store import PLAIN_MEMBER, AudienceStore, Namespace, Replace, SandboxMember, StoredAudience, Update

_logger = logging.getLogger("aiobatch.sandbox")

#: An owner of audiences: the first app (`API_KEY`), the second (`API_KEY_ANDROID`), or the project.
Scope = Literal["1.x", "1.x-android", "2.x"]

#: 10,000 IDs with 15 long attributes each.
_MAX_BODY: Final = 64 * 1024 * 1024
#: Addresses that stand for all of a machine's, and the one to reach them by on the same machine.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it is not bound here
#: Seconds to finish requests in progress when the sandbox closes.
_GRACE: Final = 0.1


@attrs.frozen(kw_only=True)
class SandboxAudience:
    """An audience in the sandbox.

    Attributes:
        name: Its name.
        scope: Its owner, a `Scope`.
        id_type: The type of its IDs, as in the create request.
        description: The description of 1.x or the display name of 2.x.
        nb_ids: The number of applied members.
        indexing_state: The state of its last update.
    """

    name: str
    scope: str
    id_type: str
    description: str | None
    nb_ids: int
    indexing_state: str


class Sandbox:
    """Batch's three audience APIs as a local server.

    Use it as an async context manager, or with `start` and `aclose`. Its audiences are in memory only. Any
    thread may call its other methods.

    Args:
        options: Its options. Default: `SandboxOptions()`.
        monotonic: The clock for indexing, rate and lasting faults, in seconds.
    """

    def __init__(
        self, options: SandboxOptions | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        if options is not None and not isinstance(options, SandboxOptions):
            msg = f"options must be SandboxOptions(…), not {type(options).__name__}."
            raise InvalidInputError(msg)
        self._options = options = options or SandboxOptions()
        self._namespaces = {
            "1.x": Namespace(label="1.x", reports_replaced=False),
            "1.x-android": Namespace(label="1.x-android", reports_replaced=False),
            "2.x": Namespace(label="2.x", reports_replaced=True),
        }
        self._store = AudienceStore(
            draw_delay=_random_delays(options), draw_token=_random_tokens(options.seed), monotonic=monotonic
        )
        self._faults = FaultPlan(options.faults, seed=options.seed, monotonic=monotonic)
        self._handler = RequestHandler(
            self._make_answer(),
            faults=self._faults,
            bucket=TokenBucket(options.rate, monotonic=monotonic) if options.rate else None,
            slow_answer=options.slow_answer,
        )
        self._runner: web.AppRunner | None = None

    def _make_answer(self) -> Callable[[ApiCall], ApiResponse]:
        """Return a function that answers the calls of all APIs."""
        spaces, store = self._namespaces, self._store
        apps = {API_KEY: spaces["1.x"], API_KEY_ANDROID: spaces["1.x-android"]}
        mep = MepSandbox(store, apps, self._options)
        cep = CepSandbox(store, {PROJECT_KEY: spaces["2.x"]}, self._options)

        def answer(call: ApiCall) -> ApiResponse:
            store.advance()
            return (cep if call.route.is_cep else mep).answer(call)

        return answer

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Start to listen.

        Raises:
            OSError: The address or the port is not available.
            RuntimeError: The sandbox is already running.
            InvalidInputError: asyncio runs no event loop.
        """
        if self._runner is not None:
            msg = "The sandbox is already running."
            raise RuntimeError(msg)
        running_loop()
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:(?s:.*)}", self._handler.handle)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_GRACE)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._options.host, self._options.port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        log(_logger, logging.INFO, "listening", url=self.url)

    async def aclose(self) -> None:
        """Stop listening and close all connections. A second call does nothing."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @property
    def port(self) -> int:
        """The port that the sandbox listens on."""
        if self._runner is None:
            msg = "The sandbox is not running. Use `async with Sandbox() as sandbox`, or await start()."
            raise RuntimeError(msg)
        port: int = self._runner.addresses[0][1]
        return port

    @property
    def url(self) -> str:
        """The URL to pass to a client as its `base_url`. If it listens on all addresses, that of loopback."""
        host = _LOOPBACK.get(self._options.host, self._options.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def requests(self) -> tuple[SandboxRequest, ...]:
        """The last 10,000 requests, oldest first."""
        with self._handler.lock:
            return tuple(self._handler.requests)

    @property
    def request_count(self) -> int:
        """The number of requests so far."""
        return self._handler.counts.total()

    @property
    def operation_counts(self) -> Mapping[str, int]:
        """The number of requests so far by operation, 0 for an operation without requests."""
        with self._handler.lock:
            return self._handler.counts.copy()

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer a request in this process, without a socket. It is counted and recorded like any other.

        Faults apply too, except *slow*.

        Args:
            method: The HTTP method.
            target: The percent-encoded path with its query.
            headers: Header fields by name, in any case.
            body: The body.

        Returns:
            The status, the header fields by lower-case name, and the body.

        Raises:
            ConnectionResetError: A fault prevents the response.
        """
        answer = self._handler.answer(method, target, headers, body)
        fields = {"content-type": answer.content_type}
        if answer.retry_after is not None:
            fields["retry-after"] = str(answer.retry_after)
        return answer.status, fields, answer.body

    def audiences(self) -> tuple[SandboxAudience, ...]:
        """Return the existing audiences of every scope."""
        with self._handler.lock:
            self._store.advance()
            return tuple(
                _describe(namespace, audience)
                for namespace in self._namespaces.values()
                for audience in namespace.visible.values()
            )

    def members(self, name: str, *, scope: Scope | None = None) -> Mapping[str, SandboxMember]:
        """Return a snapshot of an audience's applied members.

        Args:
            name: The audience.
            scope: Its owner. Needed only if several have an audience of that name.

        Raises:
            KeyError: There is no such audience, or more than one.
        """
        with self._handler.lock:
            _, audience = self._find(name, scope)
            return MappingProxyType(audience.members.copy())

    def assert_members(
        self,
        name: str,
        expected: Iterable[str] | Mapping[str, Mapping[str, Any]],
        *,
        scope: Scope | None = None,
    ) -> None:
        """Assert that an audience has exactly the *expected* applied members.

        Args:
            name: The audience.
            expected: The IDs, or a mapping from each ID to its attributes.
            scope: Its owner. Needed only if several have an audience of that name.

        Raises:
            AssertionError: IDs are missing or unexpected, or have other attributes.
            KeyError: There is no such audience, or more than one.
        """
        check_members(name, self.members(name, scope=scope), expected)

    def write_behind_back(
        self,
        name: str,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        scope: Scope | None = None,
    ) -> None:
        """Change an audience at once, as another program would.

        Args:
            name: The audience.
            add: IDs to add.
            remove: IDs to remove.
            scope: Its owner. Needed only if several have an audience of that name.

        Raises:
            KeyError: There is no such audience, or more than one.
        """
        added, removed = check_ids(add, "add"), check_ids(remove, "remove")
        update = Update(add=dict.fromkeys(added, PLAIN_MEMBER), remove=tuple(removed))
        with self._handler.lock:
            namespace, _ = self._find(name, scope)
            self._store.apply_now(namespace, name, update)

    def replace_behind_back(self, name: str, ids: Iterable[str], *, scope: Scope | None = None) -> None:
        """Replace all members at once, as another program would. In 2.x all earlier tokens become REPLACED.

        Args:
            name: The audience.
            ids: The new members.
            scope: Its owner. Needed only if several have an audience of that name.

        Raises:
            KeyError: There is no such audience, or more than one.
        """
        replace = Replace(members=dict.fromkeys(check_ids(ids, "ids"), PLAIN_MEMBER))
        with self._handler.lock:
            namespace, _ = self._find(name, scope)
            self._store.apply_now(namespace, name, replace)

    def fail_next(self, kind: str, times: int = 1, operation: str | None = None) -> None:
        """Give the next requests a fault.

        Args:
            kind: One of `FAULT_KINDS`.
            times: The number of requests.
            operation: Their operation. `None` for any.

        Raises:
            InvalidInputError: The fault or operation is unknown, or `times` is below 1.
        """
        with self._handler.lock:
            self._faults.fail_next(kind, times, operation)

    def fail_for(self, kind: str, seconds: float) -> None:
        """Give every request a fault for some time.

        Args:
            kind: One of `FAULT_KINDS`.
            seconds: The time from now, in seconds.

        Raises:
            InvalidInputError: The fault is unknown.
        """
        with self._handler.lock:
            self._faults.fail_for(kind, seconds)

    def clear_faults(self) -> None:
        """Drop the faults of `fail_next` and `fail_for`. Those of the options stay."""
        with self._handler.lock:
            self._faults.clear()

    def _find(self, name: str, scope: Scope | None) -> tuple[Namespace, StoredAudience]:
        self._store.advance()
        spaces = [self._namespaces[scope]] if scope else list(self._namespaces.values())
        found = [(space, space.visible[name]) for space in spaces if name in space.visible]
        if len(found) == 1:
            return found[0]
        if found:
            msg = (
                f"Audience {name!r} is in several scopes. Pass scope=, one of {[s.label for s, _ in found]}."
            )
            raise KeyError(msg)
        known = sorted({name for space in spaces for name in space.visible})[:10]
        msg = f"Audience {name!r} does not exist in {[space.label for space in spaces]}. Existing: {known}."
        raise KeyError(msg)


def _describe(namespace: Namespace, audience: StoredAudience) -> SandboxAudience:
    return SandboxAudience(
        name=audience.name,
        scope=namespace.label,
        id_type=audience.id_type,
        description=audience.description,
        nb_ids=len(audience.members),
        indexing_state=audience.last_write.state,
    )


def _random_delays(options: SandboxOptions) -> Callable[[], float]:
    """Return a function that draws indexing delays, in seconds."""
    delay = options.indexing_delay
    shortest, longest = delay if isinstance(delay, tuple) else (delay, delay)
    source = random.Random(f"{options.seed}-delays")
    return lambda: source.uniform(shortest, longest)


def _random_tokens(seed: int) -> Callable[[], str]:
    """Return a function that draws indexing tokens."""
    source = random.Random(f"{seed}-tokens")
    return lambda: f"{source.getrandbits(128):032x}"
