"""A hook that reports the events of clients as spans and metrics of OpenTelemetry. It needs the extra `otel`.

Spans and metrics contain no key and no ID. The labels of metrics have a closed set of values: no name of an
audience. Nothing is added to the requests, so Batch receives no `traceparent`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from .errors import InvalidInputError
from .events import Event, EventHook, PauseEnded, PauseStarted, RequestFinished, SyncFinished, TokenSettled

try:
    from opentelemetry import metrics, trace
except ImportError:
    _missing = "aiobatch.otel needs its extra: pip install 'aiobatch-client[otel]'"
    raise ImportError(_missing) from None

__all__ = ["OpenTelemetryHook"]

_SCOPE: Final = "aiobatch"
_WRITES: Final = frozenset({"create", "update", "replace", "delete"})
# Writes whose spans a later wait can be linked to.
_WRITES_KEPT: Final = 10_000
_HTTP_ERROR: Final = 400
_HTTPS_PORT: Final = 443
# Boundaries of OpenTelemetry's conventions for HTTP durations, seconds.
_HTTP_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# Indexing takes seconds to minutes, and runs take up to hours.
_LONG_SECONDS: Final = (0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)

_Value = str | int
# The spans of a client's writes, by the number of the request.
_Writes = OrderedDict[int, trace.SpanContext]
# Method, host, template of the path, status, error.
_RequestKey = tuple[str, str, str, int | None, str | None]


class OpenTelemetryHook:
    """Reports events as spans and metrics: `AudienceClient(…, on_event=OpenTelemetryHook())`.

    Several clients can share a hook.

    Spans: a client span per request and attempt, a child of the caller's span. A span per wait, linked to the
    span of the write. A span per run of the sync engine, with a child per phase.

    Args:
        tracer_provider: Creates the tracer. None for the global one.
        meter_provider: Creates the meter. None for the global one.

    Raises:
        InvalidInputError: A provider lacks the method of its kind.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        for provider, method in ((tracer_provider, "get_tracer"), (meter_provider, "get_meter")):
            if provider is not None and not callable(getattr(provider, method, None)):
                msg = f"A provider must have the method {method}. {type(provider).__name__} has none."
                raise InvalidInputError(msg)
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        self._meter = _Meter(metrics.get_meter(_SCOPE, meter_provider=meter_provider))
        self._requests: dict[_RequestKey, tuple[str, Mapping[str, _Value], bool]] = {}

    def for_client(self) -> EventHook:
        """Return the hook of one client, which links its waits to its writes."""
        return partial(self._report, OrderedDict())

    def __call__(self, event: Event) -> None:
        """Report *event* of an unknown client, so that no wait has a link."""
        self._report(OrderedDict(), event)

    def _report(self, writes: _Writes, event: Event) -> None:
        """Report *event*. Other kinds of events are ignored.

        Args:
            writes: The last writes of the client.
            event: The event.
        """
        if isinstance(event, RequestFinished):
            self._report_request(writes, event)
        elif isinstance(event, TokenSettled):
            self._report_wait(writes, event)
        elif isinstance(event, SyncFinished):
            self._report_sync(event)
        elif isinstance(event, PauseStarted):
            self._meter.pauses.add(1, {"http.response.status_code": event.status})
        elif isinstance(event, PauseEnded):
            self._meter.pause_seconds.record(event.seconds)

    def _report_request(self, writes: _Writes, event: RequestFinished) -> None:
        name, labels, failed = self._describe(event)
        self._meter.request_seconds.record(event.seconds, labels)
        if event.attempt > 1:
            labels = {**labels, "http.request.resend_count": event.attempt - 1}
        context = self._span(name, event.seconds, labels, kind=trace.SpanKind.CLIENT, failed=failed)
        if event.operation in _WRITES and not failed:
            writes[event.request_id] = context
            if len(writes) > _WRITES_KEPT:
                writes.popitem(last=False)

    def _report_wait(self, writes: _Writes, event: TokenSettled) -> None:
        self._meter.token_seconds.record(event.seconds, {"aiobatch.outcome": event.outcome})
        write = None if event.request_id is None else writes.get(event.request_id)
        self._span(
            "aiobatch.wait",
            event.seconds,
            {"aiobatch.outcome": event.outcome, "aiobatch.polls": event.polls},
            links=None if write is None else [trace.Link(write)],
            failed=event.outcome not in {"APPLIED", "REPLACED"},
        )

    def _report_sync(self, event: SyncFinished) -> None:
        labels = {"aiobatch.mode": event.mode, "aiobatch.outcome": event.outcome}
        self._meter.sync_seconds.record(event.seconds, labels)
        if event.outcome in {"done", "sent"}:
            for action, ids in event.ids.items():
                self._meter.ids.add(ids, {"aiobatch.action": action})
        attributes: dict[str, _Value] = {
            **labels,
            "aiobatch.audience": event.audience,
            "aiobatch.members": event.members,
            **{f"aiobatch.ids.{action}": ids for action, ids in event.ids.items()},
        }
        if event.run is not None:
            attributes["aiobatch.run"] = event.run
        if event.error is not None:
            attributes["error.type"] = event.error
        end = time.time_ns()
        start = end - _nanoseconds(event.seconds)
        span = self._tracer.start_span("aiobatch.sync", attributes=attributes, start_time=start)
        if event.error is not None:
            span.set_status(trace.StatusCode.ERROR)
        context = trace.set_span_in_context(span)
        for phase, seconds in event.phases:
            child = self._tracer.start_span(f"aiobatch.sync.{phase}", context, start_time=start)
            start += _nanoseconds(seconds)
            child.end(min(start, end))
        span.end(end)

    def _span(
        self,
        name: str,
        seconds: float,
        attributes: Mapping[str, _Value],
        *,
        kind: trace.SpanKind = trace.SpanKind.INTERNAL,
        links: list[trace.Link] | None = None,
        failed: bool,
    ) -> trace.SpanContext:
        """Create a span that ends now, a child of the current span, and return its context."""
        end = time.time_ns()
        span = self._tracer.start_span(
            name, kind=kind, attributes=attributes, links=links, start_time=end - _nanoseconds(seconds)
        )
        if failed:
            span.set_status(trace.StatusCode.ERROR)
        span.end(end)
        return span.get_span_context()

    def _describe(self, event: RequestFinished) -> tuple[str, Mapping[str, _Value], bool]:
        """Return the name of a request's span, the labels, and whether it failed. They are few, so kept."""
        key = event.method, event.host, _template(event), event.status, event.error
        found = self._requests.get(key)
        if found is None:
            found = self._requests[key] = _describe(*key)
        return found


def _describe(
    method: str, host: str, template: str, status: int | None, error: str | None
) -> tuple[str, Mapping[str, _Value], bool]:
    """Return the name of a span, its labels by the conventions of OpenTelemetry, and whether it failed."""
    labels: dict[str, _Value] = {"http.request.method": method, "url.template": template}
    address = urlsplit(f"//{host}")
    if address.hostname:
        labels |= {"server.address": address.hostname, "server.port": address.port or _HTTPS_PORT}
    if status is not None:
        labels["http.response.status_code"] = status
    failure = error or (str(status) if status is not None and status >= _HTTP_ERROR else None)
    if failure is not None:
        labels["error.type"] = failure
    return f"{method} {template}", labels, failure is not None


def _template(event: RequestFinished) -> str:
    """Return the path without key and name: the path of 1.x ends in the audience's name."""
    path = event.path
    if not path.startswith("/1."):
        return path
    if event.audience is not None:
        path = f"{path.rpartition('/')[0]}/{{name}}"
    return path.replace("***", "{api_key}")


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


class _Meter:
    """The instruments. Their names and labels are documented in docs/howto/telemetry.md."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.request_seconds = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_HTTP_SECONDS,
        )
        self.token_seconds = meter.create_histogram(
            "aiobatch.token.duration",
            "s",
            "Seconds from a write until its indexing was settled.",
            explicit_bucket_boundaries_advisory=_LONG_SECONDS,
        )
        self.pauses = meter.create_counter("aiobatch.client.pauses", "{pause}", "Pauses after a 503 or 429.")
        self.pause_seconds = meter.create_histogram(
            "aiobatch.client.pause.duration",
            "s",
            "Duration of pauses.",
            explicit_bucket_boundaries_advisory=_LONG_SECONDS,
        )
        self.sync_seconds = meter.create_histogram(
            "aiobatch.sync.duration",
            "s",
            "Duration of runs of the sync engine.",
            explicit_bucket_boundaries_advisory=_LONG_SECONDS,
        )
        self.ids = meter.create_counter("aiobatch.sync.ids", "{id}", "IDs of runs that sent, by action.")
