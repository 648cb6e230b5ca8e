"""The sandbox: a server on loopback, and a way to look behind it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal, Self

import attrs
from aiohttp import web

from ..errors import InvalidInputError
from ._cep import AudienceApi
from ._faults import FaultPlan, TokenBucket
from ._mep import CustomAudienceApi
from ._options import API_KEY, API_KEY_ANDROID, PROJECT_KEY, SandboxOptions, check_ids
from ._request_checks import ApiResponse
from ._request_handler import RequestHandler, SandboxRequest
from ._routes import ApiCall
from ._store import PLAIN_MEMBER, AudienceStore, Namespace, Replace, SandboxMember, StoredAudience, Update

_logger = logging.getLogger("aiobatch.sandbox")

#: Whose audiences: the first app's (`API_KEY`), the second's (`API_KEY_ANDROID`), or the project's.
Scope = Literal["1.x", "1.x-android", "2.x"]

#: 10,000 ids with 15 long attributes each.
_MAX_BODY: Final = 64 * 1024 * 1024
#: Seconds that requests in progress get when the sandbox closes.
_GRACE: Final = 0.1


@attrs.frozen(kw_only=True)
class SandboxAudience:
    """An audience that exists.

    Attributes:
        name: Its name.
        scope: Whose it is.
        id_type: The type of its ids, as in a request to create it.
        description: The description of 1.x or the display name of 2.x.
        nb_ids: Applied members.
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

    Use it as an async context manager, or with `start` and `aclose`. What it holds outlives neither.

    Args:
        options: How it behaves.
        monotonic: The clock that indexing, rate and lasting faults go by, in seconds.
    """

    def __init__(
        self, options: SandboxOptions | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        if options is not None and not isinstance(options, SandboxOptions):
            msg = f"options must be SandboxOptions(…), not {type(options).__name__}"
            raise InvalidInputError(msg)
        self._options = options = options or SandboxOptions()
        self._namespaces = {
            "1.x": Namespace(label="1.x", reports_replaced=False),
            "1.x-android": Namespace(label="1.x-android", reports_replaced=False),
            "2.x": Namespace(label="2.x", reports_replaced=True),
        }
        self._store = AudienceStore(
            draw_delay=_delay_source(options), draw_token=_token_source(options.seed), monotonic=monotonic
        )
        self._faults = FaultPlan(options.faults, seed=options.seed, monotonic=monotonic)
        self._app = RequestHandler(
            self._make_answer(),
            faults=self._faults,
            bucket=TokenBucket(options.rate, monotonic=monotonic) if options.rate else None,
            slow_answer=options.slow_answer,
        )
        self._runner: web.AppRunner | None = None

    def _make_answer(self) -> Callable[[ApiCall], ApiResponse]:
        """Return what answers the calls of all three APIs."""
        spaces, store = self._namespaces, self._store
        apps = {API_KEY: spaces["1.x"], API_KEY_ANDROID: spaces["1.x-android"]}
        mep = CustomAudienceApi(store, apps, self._options.refused_ids)
        cep = AudienceApi(store, {PROJECT_KEY: spaces["2.x"]}, self._options.refused_ids)

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
        """Listen.

        Raises:
            OSError: If the address or the port cannot be listened on.
            RuntimeError: If the sandbox is running already.
        """
        if self._runner is not None:
            msg = "the sandbox is running already"
            raise RuntimeError(msg)
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:(?s:.*)}", self._app.handle)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_GRACE)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._options.host, self._options.port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        _logger.info("listening on %s", self.url)

    async def aclose(self) -> None:
        """Stop listening and close every connection; a second time does nothing."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._runner is None:
            msg = "the sandbox is not running: use `async with Sandbox() as sandbox`, or await its start()"
            raise RuntimeError(msg)
        port: int = self._runner.addresses[0][1]
        return port

    @property
    def url(self) -> str:
        """The origin, to be given to a client as its `base_url`."""
        host = self._options.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def requests(self) -> tuple[SandboxRequest, ...]:
        """The last 10,000 requests, oldest first."""
        return tuple(self._app.requests)

    @property
    def request_count(self) -> int:
        """All requests so far."""
        return self._app.counts.total()

    @property
    def operation_counts(self) -> Mapping[str, int]:
        """All requests so far by operation; one that never came counts 0."""
        return self._app.counts.copy()

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer a request in the process, without a socket; it counts and is remembered like any other.

        Faults befall it as well, but for *slow*: nothing takes time here.

        Args:
            method: The HTTP method.
            target: The path as it would be sent, percent-encoded, with its query.
            headers: Header fields, by names in any case.
            body: The body.

        Returns:
            The status, the header fields by lower-case name, and the body.

        Raises:
            ConnectionResetError: If a fault leaves the request without an answer.
        """
        answer = self._app.answer(method, target, headers, body)
        fields = {"content-type": answer.content_type}
        if answer.retry_after is not None:
            fields["retry-after"] = str(answer.retry_after)
        return answer.status, fields, answer.body

    def audiences(self) -> tuple[SandboxAudience, ...]:
        """Return the audiences that exist by now, in every scope."""
        self._store.advance()
        return tuple(
            _describe(namespace, audience)
            for namespace in self._namespaces.values()
            for audience in namespace.visible.values()
        )

    def members(self, name: str, *, scope: Scope | None = None) -> Mapping[str, SandboxMember]:
        """Return what an audience holds by now: a snapshot of the members that are applied.

        Args:
            name: The audience.
            scope: Whose it is; needed only where several have one of that name.

        Raises:
            KeyError: If there is no such audience, or more than one.
        """
        _, audience = self._find(name, scope)
        return MappingProxyType(audience.members.copy())

    def write_behind_back(
        self,
        name: str,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        scope: Scope | None = None,
    ) -> None:
        """Change an audience at once, as another writer would.

        Args:
            name: The audience.
            add: Ids that become members.
            remove: Ids that cease to be members.
            scope: Whose it is; needed only where several have one of that name.

        Raises:
            KeyError: If there is no such audience, or more than one.
        """
        added, removed = check_ids(add, "add"), check_ids(remove, "remove")
        namespace, _ = self._find(name, scope)
        self._store.apply_now(
            namespace, name, Update(add=dict.fromkeys(added, PLAIN_MEMBER), remove=tuple(removed))
        )

    def replace_behind_back(self, name: str, ids: Iterable[str], *, scope: Scope | None = None) -> None:
        """Replace all members at once, as another writer would: in 2.x every token so far is REPLACED.

        Args:
            name: The audience.
            ids: All its members from now on.
            scope: Whose it is; needed only where several have one of that name.

        Raises:
            KeyError: If there is no such audience, or more than one.
        """
        replace = Replace(members=dict.fromkeys(check_ids(ids, "ids"), PLAIN_MEMBER))
        namespace, _ = self._find(name, scope)
        self._store.apply_now(namespace, name, replace)

    def fail_next(self, kind: str, times: int = 1, operation: str | None = None) -> None:
        """Let the next requests run into a fault.

        Args:
            kind: One of `FAULT_KINDS`.
            times: How many requests.
            operation: Which ones; `None` for any.

        Raises:
            InvalidInputError: If there is no such fault or operation, or `times` is below 1.
        """
        self._faults.fail_next(kind, times, operation)

    def fail_for(self, kind: str, seconds: float) -> None:
        """Let every request run into a fault for some time.

        Args:
            kind: One of `FAULT_KINDS`.
            seconds: How long, from now.

        Raises:
            InvalidInputError: If there is no such fault.
        """
        self._faults.fail_for(kind, seconds)

    def clear_faults(self) -> None:
        """Take back what `fail_next` and `fail_for` ordered; the options' probabilities stay."""
        self._faults.clear()

    def _find(self, name: str, scope: Scope | None) -> tuple[Namespace, StoredAudience]:
        """Find an audience that exists by now."""
        self._store.advance()
        spaces = [self._namespaces[scope]] if scope else list(self._namespaces.values())
        found = [(space, space.visible[name]) for space in spaces if name in space.visible]
        if len(found) == 1:
            return found[0]
        if found:
            msg = f"audience {name!r} is in several scopes: say scope= one of {[s.label for s, _ in found]}"
            raise KeyError(msg)
        known = sorted({name for space in spaces for name in space.visible})[:10]
        msg = f"no audience {name!r} in {[space.label for space in spaces]} so far; there are {known}"
        raise KeyError(msg)


def _describe(namespace: Namespace, audience: StoredAudience) -> SandboxAudience:
    return SandboxAudience(
        name=audience.name,
        scope=namespace.label,
        id_type=audience.id_type,
        description=audience.label,
        nb_ids=len(audience.members),
        indexing_state=audience.last.state,
    )


def _delay_source(options: SandboxOptions) -> Callable[[], float]:
    """Return what draws indexing delays, in seconds."""
    delay = options.indexing_delay
    shortest, longest = delay if isinstance(delay, tuple) else (delay, delay)
    source = random.Random(f"{options.seed}-delays")
    return lambda: source.uniform(shortest, longest)


def _token_source(seed: int) -> Callable[[], str]:
    """Return what draws indexing tokens."""
    source = random.Random(f"{seed}-tokens")
    return lambda: f"{source.getrandbits(128):032x}"
