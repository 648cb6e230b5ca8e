"""aiobatch's client with each hook for telemetry. It needs the extras `otel` and `prometheus`."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NoOpTracerProvider
from prometheus_client import CollectorRegistry

from aiobatch import AudienceClient, EventHook, Project
from aiobatch.otel import OpenTelemetryHook
from aiobatch.prometheus import PrometheusHook

from ..measure.processes import Measures
from ..measure.resources import Stopwatch, check, confirm
from ..measure.server_control import Order, begin
from ..workload.ids import PROJECT_KEY, REST_API_KEY, names


class _DiscardingExporter(SpanExporter):
    """Takes spans as an exporter does, and keeps none."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 - the interface
        return SpanExportResult.SUCCESS


def _meters() -> MeterProvider:
    return MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)


def _hooks() -> Mapping[str, EventHook | None]:
    """Return the hooks by their names in the scenario."""
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(_DiscardingExporter()))
    return {
        "no hook": None,
        "Prometheus": PrometheusHook(CollectorRegistry()),
        "OpenTelemetry, metrics": OpenTelemetryHook(NoOpTracerProvider(), _meters()),
        "OpenTelemetry, traces and metrics": OpenTelemetryHook(tracers, _meters()),
    }


async def view_many(url: str, views: int, blocks: int, concurrency: int, latency: float) -> Measures:
    """View many audiences with each hook, in alternation.

    Args:
        url: The server's URL.
        views: The number of views with each hook.
        blocks: The number of alternations. Each is a `view_many`.
        concurrency: The number of views at once.
        latency: Seconds before each response.

    Returns:
        For each hook, `NAME: seconds` and `NAME: cpu`.
    """
    begin(url, Order(latency=latency))
    spent: Counter[str] = Counter()
    seen = 0
    project = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
    audiences = names(views // blocks)
    async with contextlib.AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(AudienceClient(project, base_url=url, on_event=hook))
            for name, hook in _hooks().items()
        }
        for block in range(-1, blocks):  # the first block opens the connections and does not count
            for name, client in clients.items():
                watch = Stopwatch()
                async for _ in client.view_many(audiences, concurrency=concurrency):
                    seen += 1
                if block >= 0:
                    read = watch.read()
                    spent.update({f"{name}: seconds": read["seconds"], f"{name}: cpu": read["cpu"]})
    requests = (blocks + 1) * len(audiences) * len(clients)
    check("audiences seen", seen, requests)
    return {**spent, **confirm(url, "view", requests=requests)}
