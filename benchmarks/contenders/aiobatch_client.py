"""aiobatch's client with its defaults."""

from __future__ import annotations

from aiobatch import App, AudienceClient, EventHook, IndexingToken, Operation, Project

from ..measure.processes import Measures
from ..measure.resources import Memory, Stopwatch, check, confirm, measure_waits
from ..measure.server_control import Order, begin
from ..workload.ids import API_KEY, PROJECT_KEY, REST_API_KEY, ids, names


def _client(url: str, version: str = "2.11", hook: EventHook | None = None) -> AudienceClient:
    if version.startswith("1"):
        app = App(rest_api_key=REST_API_KEY, api_key=API_KEY, version=version)
        return AudienceClient(app, base_url=url)
    project = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY, version=version)
    return AudienceClient(project, base_url=url, on_event=hook)


def _hook(kind: str) -> EventHook | None:
    """Return a hook that records into memory: `traces and metrics`, `metrics` or `prometheus`."""
    if not kind:
        return None
    if kind == "prometheus":
        from prometheus_client import CollectorRegistry  # noqa: PLC0415 - most scenarios need no extra

        from aiobatch.prometheus import PrometheusHook  # noqa: PLC0415

        return PrometheusHook(CollectorRegistry())
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: PLC0415
    from opentelemetry.trace import NoOpTracerProvider  # noqa: PLC0415

    from aiobatch.otel import OpenTelemetryHook  # noqa: PLC0415

    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    if kind == "metrics":
        return OpenTelemetryHook(NoOpTracerProvider(), meters)
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    return OpenTelemetryHook(tracers, meters)


async def view_many(url: str, views: int, concurrency: int, hook: str = "") -> Measures:
    """View many audiences, with a kind of hook or none."""
    begin(url, Order())
    seen = set()
    async with _client(url, hook=_hook(hook)) as client:
        watch = Stopwatch()
        async for audience in client.view_many(names(views), concurrency=concurrency):
            seen.add(audience.name)
        spent = watch.read(views)
    check("audiences seen", len(seen), views)
    return {**spent, **confirm(url, "view", requests=views)}


async def upload(url: str, count: int, *, in_order: bool = False) -> Measures:
    """Upload IDs from a generator."""
    begin(url, Order())
    async with _client(url) as client:
        memory = Memory()
        watch = Stopwatch()
        tokens = await client.upload("vip", add=ids(count, in_order=in_order))
        spent = {**watch.read(count), **memory.read()}
    return {**spent, **confirm(url, "update", requests=len(tokens), ids=count)}


async def await_tokens(url: str, order: dict[str, object], version: str, waiters: int = 1) -> Measures:
    """Wait for tokens of unknown age, as after a restart."""
    async with _client(url, version) as client:

        async def wait(audience: str, token: str) -> None:
            await client.await_applied(IndexingToken(audience, token, Operation.UPDATE))

        return await measure_waits(wait, url, Order(**order), waiters=waiters)  # type: ignore[arg-type]  # came as JSON
