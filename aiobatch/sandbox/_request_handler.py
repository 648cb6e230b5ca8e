"""The web handler of the sandbox: faults and rate limit, the API's response, and the log of requests."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl

import attrs
from aiohttp import web
from multidict import CIMultiDict

from .._logs import log
from ._faults import FaultPlan, TokenBucket
from ._request_checks import (
    ApiError,
    ApiResponse,
    maintenance,
    malformed_json,
    not_found,
    server_error,
    too_many_requests,
)
from ._routes import UNKNOWN, ApiCall, Route, find_route, mask_key

_logger = logging.getLogger("aiobatch.sandbox")

_LOG_LENGTH = 10_000
_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>\r\n"
#: To close with a linger time of 0 sends a reset.
_RESET = struct.pack("ii", 1, 0)

#: Responses of faults that replace the API's. 502 and 504 come from proxies, which send no JSON.
_REFUSALS: Final[Mapping[str, Callable[[bool], ApiResponse]]] = {
    "500": lambda is_cep: server_error().answer(is_cep=is_cep),
    "502": lambda _: ApiResponse(status=502, body=b"", content_type="text/html"),
    "503": lambda is_cep: maintenance().answer(is_cep=is_cep),
    "504": lambda _: ApiResponse(status=504, body=b"", content_type="text/html"),
    "429": lambda is_cep: attrs.evolve(too_many_requests().answer(is_cep=is_cep), retry_after=1),
    "429-bare": lambda is_cep: too_many_requests().answer(is_cep=is_cep),
    "html": lambda _: ApiResponse(status=502, body=_PAGE, content_type="text/html"),
}


@attrs.frozen(kw_only=True)
class SandboxRequest:
    """A request to the sandbox.

    Attributes:
        method: The HTTP method.
        operation: `create`, `replace`, `update`, `view`, `list`, `delete`, or `unknown`.
        path: The path without query, the API key of 1.x masked.
        status: The status of the response, or `None` if there was none.
        ids: The number of IDs that it wrote. 0 if it was refused.
        fault: The kind of its fault, or `None`.
    """

    method: str
    operation: str
    path: str
    status: int | None
    ids: int
    fault: str | None


@attrs.frozen(kw_only=True)
class _ReceivedRequest:
    """A request on arrival. `path` contains the key, `wait` is above 0 if the rate limit refuses it."""

    method: str
    path: str = attrs.field(repr=False)
    route: Route
    wait: float
    fault: str | None


class RequestHandler:
    """Handles web requests: admits or refuses, answers and records them.

    Attributes:
        lock: Guards the state of the sandbox, because a test may read it in another thread.
    """

    def __init__(
        self,
        answer: Callable[[ApiCall], ApiResponse],
        *,
        faults: FaultPlan,
        bucket: TokenBucket | None,
        slow_answer: float,
    ) -> None:
        self._answer = answer
        self._faults = faults
        self._bucket = bucket
        self._slow_answer = slow_answer
        self.lock = threading.RLock()
        self.requests: deque[SandboxRequest] = deque(maxlen=_LOG_LENGTH)
        self.counts: Counter[str] = Counter()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Handle a request of any method and path."""
        visit = self._receive(request.method, request.rel_url.raw_path)
        if visit.fault == "reset":
            self._remember(visit, None)
            return _reset_connection(request)
        try:
            body: bytes | None = await request.read()
        except web.RequestPayloadError:
            body = None
        except ConnectionError:
            self._remember(visit, None)
            return web.Response()  # never sent: the client closed the connection
        if body is None:
            answer = malformed_json("the body cannot be decoded").answer(is_cep=visit.route.is_cep)
        else:
            answer = self._find_answer(visit, _read_call(request, visit.route, body))
        self._remember(visit, answer)
        return await self._deliver(request, answer, visit.fault)

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> ApiResponse:
        """Answer a request without a socket.

        Raises:
            ConnectionResetError: A fault prevents the response.
        """
        path, _, query = target.partition("?")
        visit = self._receive(method, path)
        answer = None
        if visit.fault != "reset":
            answer = self._find_answer(visit, _make_call(visit.route, headers, query, body))
        self._remember(visit, answer)
        if answer is None or visit.fault == "lost":
            msg = "the connection was reset"
            raise ConnectionResetError(msg)
        if visit.fault == "truncated":
            return attrs.evolve(answer, body=_half(answer.body))
        return answer

    def _receive(self, method: str, path: str) -> _ReceivedRequest:
        """Route a request and choose its fault."""
        route = find_route(method, path)
        with self.lock:
            wait = self._bucket.take() if self._bucket else 0.0
            fault = None if wait else self._faults.choose(route.operation)
        return _ReceivedRequest(method=method, path=path, route=route, wait=wait, fault=fault)

    def _find_answer(self, visit: _ReceivedRequest, call: ApiCall) -> ApiResponse:
        """Return the API's response, or that of the rate limit or a fault."""
        try:
            answer = self._refuse(visit.route, visit.fault, visit.wait) or self._process(call)
        except ApiError as error:
            answer = error.answer(is_cep=visit.route.is_cep)
        if visit.fault == "html200":
            return attrs.evolve(answer, status=200, body=_PAGE, content_type="text/html")
        return answer

    def _refuse(self, route: Route, fault: str | None, wait: float) -> ApiResponse | None:
        """Return the response of the rate limit or a fault, or `None`."""
        if wait:
            answer = too_many_requests().answer(is_cep=route.is_cep)
            return attrs.evolve(answer, retry_after=math.ceil(wait))
        refusal = _REFUSALS.get(fault or "")
        return refusal(route.is_cep) if refusal else None

    def _process(self, call: ApiCall) -> ApiResponse:
        if call.route.operation == UNKNOWN:
            msg = "There is no such route"
            raise not_found(msg)
        with self.lock:
            return self._answer(call)

    def _remember(self, visit: _ReceivedRequest, answer: ApiResponse | None) -> None:
        """Record a request without its keys."""
        entry = SandboxRequest(
            method=visit.method,
            operation=visit.route.operation,
            path=mask_key(visit.path),
            status=answer.status if answer and visit.fault != "lost" else None,
            ids=answer.ids if answer else 0,
            fault=visit.fault,
        )
        with self.lock:
            self.requests.append(entry)
            self.counts[entry.operation] += 1
        fields = {"method": entry.method, "path": entry.path, "status": entry.status, "fault": entry.fault}
        log(_logger, logging.DEBUG, "request received", **fields)

    async def _deliver(
        self, request: web.Request, answer: ApiResponse, fault: str | None
    ) -> web.StreamResponse:
        """Send a response, or the part of it that the fault leaves."""
        if fault == "lost":
            return _reset_connection(request)
        if fault == "truncated":
            return await _send_truncated(request, answer)
        if fault == "slow":
            await asyncio.sleep(self._slow_answer)
        headers = {} if answer.retry_after is None else {"Retry-After": str(answer.retry_after)}
        return web.Response(
            status=answer.status, body=answer.body, content_type=answer.content_type, headers=headers
        )


def _read_call(request: web.Request, route: Route, body: bytes) -> ApiCall:
    return ApiCall(
        route=route,
        headers=request.headers,
        query=request.query,
        content_type=request.content_type,
        body=body,
    )


def _make_call(route: Route, headers: Mapping[str, str], query: str, body: bytes) -> ApiCall:
    fields = CIMultiDict(headers)
    return ApiCall(
        route=route,
        headers=fields,
        query=dict(parse_qsl(query, keep_blank_values=True)),
        content_type=fields.get("Content-Type", "").partition(";")[0],
        body=body,
    )


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _reset_connection(request: web.Request) -> web.Response:
    """Reset the connection. aiohttp needs a response, which it cannot send."""
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    return web.Response()


async def _send_truncated(request: web.Request, answer: ApiResponse) -> web.StreamResponse:
    """Announce the whole body, send half of it and close the connection."""
    response = web.StreamResponse(status=answer.status)
    response.content_type = answer.content_type
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(_half(answer.body))
    response.force_close()
    return response
