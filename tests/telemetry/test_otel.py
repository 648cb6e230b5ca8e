"""The hook for OpenTelemetry: the spans and metrics of scripted runs."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

import aiobatch.otel
from aiobatch import (
    App,
    AudienceClient,
    AudienceNotFoundError,
    Event,
    InvalidInputError,
    PauseEnded,
    PauseStarted,
    Project,
    RequestFinished,
    RetryPolicy,
    TokenSettled,
)
from aiobatch.errors import SyncError
from aiobatch.otel import OpenTelemetryHook
from aiobatch.sandbox import API_KEY, PROJECT_KEY, REST_API_KEY, Sandbox
from aiobatch.sync import SyncOptions, sync_audience
from aiobatch.testing import running_sandbox

_PROJECT = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
_CREATE = SyncOptions(create=True)
_APP = App(rest_api_key=REST_API_KEY, api_key=API_KEY)


@attrs.frozen
class Telemetry:
    """A hook whose spans and metrics stay in memory."""

    spans: InMemorySpanExporter
    metrics: InMemoryMetricReader
    tracers: TracerProvider
    hook: OpenTelemetryHook

    @classmethod
    def create(cls) -> Telemetry:
        """Create the providers and the hook."""
        spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(spans))
        meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
        return cls(spans, reader, tracers, OpenTelemetryHook(tracers, meters))

    def tree(self) -> list[Any]:
        """Return the roots in order of their start, each as its name and its children."""
        spans = sorted(self.spans.get_finished_spans(), key=lambda span: span.start_time or 0)
        known = {span.context.span_id for span in spans}

        def children(parent: int | None) -> list[Any]:
            below = [span for span in spans if (span.parent and span.parent.span_id) == parent]
            return [
                (span.name, children(span.context.span_id)) if children(span.context.span_id) else span.name
                for span in below
            ]

        assert all(span.parent is None or span.parent.span_id in known for span in spans)
        return children(None)

    def points(self) -> dict[str, list[tuple[dict[str, Any], float]]]:
        """Return the points of each metric: the labels, and the sum or the number of recorded values."""
        data = self.metrics.get_metrics_data()
        assert data is not None
        found: dict[str, list[tuple[dict[str, Any], float]]] = {}
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = [
                        (dict(point.attributes or {}), _value(point)) for point in metric.data.data_points
                    ]
        return found

    def text(self) -> str:
        """Return everything that would be exported."""
        spans = [span.to_json() for span in self.spans.get_finished_spans()]
        return json.dumps([*spans, str(self.metrics.get_metrics_data())])


def _value(point: Any) -> float:
    assert isinstance(point, HistogramDataPoint | NumberDataPoint)
    return point.count if isinstance(point, HistogramDataPoint) else point.value


@pytest.fixture
def telemetry() -> Telemetry:
    """Return a hook whose spans and metrics stay in memory."""
    return Telemetry.create()


def _client(sandbox: Sandbox, telemetry: Telemetry, target: App | Project = _PROJECT) -> AudienceClient:
    retry = RetryPolicy(initial=0.001, maximum=0.001)
    return AudienceClient(target, base_url=sandbox.url, on_event=telemetry.hook, retry=retry)


async def test_span_tree_of_a_scripted_run(telemetry: Telemetry) -> None:
    """Create, update, a retry, waits and a view of nothing are children of the caller. Polls are none."""
    tracer = telemetry.tracers.get_tracer("app")
    async with running_sandbox(indexing_delay=0) as sandbox, _client(sandbox, telemetry) as client:
        with tracer.start_as_current_span("handler"):
            token = await client.create("vip")
            assert token is not None
            await client.await_applied(token)
            sandbox.fail_next("502", operation="update")
            await client.await_applied(await client.update("vip", add=["u-4711"], remove=["u-4712"]))
            with pytest.raises(AudienceNotFoundError):
                await client.view("nothing")
        polls = client.stats.polls
    handler = (
        "handler",
        [
            "POST /2.11/audiences/create",
            "aiobatch.wait",
            "POST /2.11/audiences/update",
            "POST /2.11/audiences/update",
            "aiobatch.wait",
            "GET /2.11/audiences/view",
        ],
    )
    assert telemetry.tree() == [handler, *["GET /2.11/audiences/view"] * polls]


async def test_attributes_of_requests(telemetry: Telemetry) -> None:
    """Spans have the attributes of the conventions for HTTP clients, and failures have a status."""
    async with running_sandbox(indexing_delay=0) as sandbox, _client(sandbox, telemetry, _APP) as client:
        await client.create("vip")
        sandbox.fail_next("502", operation="update")
        await client.update("vip", add=["u-4711"])
        sandbox.fail_next("lost", operation="delete")
        with pytest.raises(AudienceNotFoundError):  # the lost request has deleted it
            await client.delete("vip")
        port = sandbox.port
    spans = [
        span for span in telemetry.spans.get_finished_spans() if span.name.startswith(("PATCH", "DELETE"))
    ]
    route = "/1.0/{api_key}/custom-audience/{name}"
    common = {"url.template": route, "server.address": "127.0.0.1", "server.port": port}
    patch, delete = common | {"http.request.method": "PATCH"}, common | {"http.request.method": "DELETE"}
    assert [dict(span.attributes or {}) for span in spans] == [
        patch | {"http.response.status_code": 502, "error.type": "502"},
        patch | {"http.response.status_code": 200, "http.request.resend_count": 1},
        delete | {"error.type": "TransportError"},
        delete | {"http.response.status_code": 404, "error.type": "404", "http.request.resend_count": 1},
    ]
    assert [span.status.status_code.name for span in spans] == ["ERROR", "UNSET", "ERROR", "ERROR"]
    assert {span.kind for span in spans} == {SpanKind.CLIENT}


async def test_waits_are_linked_to_their_writes(telemetry: Telemetry) -> None:
    """Each wait names the span of its own write, also if two clients share the hook."""
    async with (
        running_sandbox(indexing_delay=0) as sandbox,
        _client(sandbox, telemetry) as first,
        _client(sandbox, telemetry) as second,
    ):
        for client, name in ((first, "a"), (second, "b")):
            created = await client.create(name)
            assert created is not None
            await client.await_applied(created)
        tokens = [await client.update(name, add=["u1"]) for client, name in ((second, "b"), (first, "a"))]
        await first.await_applied(tokens[1])
        await second.await_applied(tokens[0])
        await second.await_applied(str(tokens[1]))  # the other client wrote
    spans = telemetry.spans.get_finished_spans()
    writes = [span.context.span_id for span in spans if span.name.startswith("POST")]
    links = [[link.context.span_id for link in span.links] for span in spans if span.name == "aiobatch.wait"]
    assert links == [[writes[0]], [writes[1]], [writes[3]], [writes[2]], []]


async def test_spans_of_runs(telemetry: Telemetry, tmp_path: Path) -> None:
    """A run has a span with a child for each phase, and its requests are the caller's."""
    options = SyncOptions(create=True)
    async with running_sandbox(indexing_delay=0) as sandbox, _client(sandbox, telemetry) as client:
        await sync_audience(client, "vip", ["u-4711", "u-4712"], state=tmp_path / "s.duckdb", options=options)
        with pytest.raises(SyncError):
            await sync_audience(client, "vip", [], state=tmp_path / "s.duckdb")
    runs = [root for root in telemetry.tree() if root[0] == "aiobatch.sync"]
    phases = ["settling", "reading", "planning", "creating", "sending", "waiting", "checking"]
    assert runs == [
        ("aiobatch.sync", [f"aiobatch.sync.{phase}" for phase in phases]),
        ("aiobatch.sync", [f"aiobatch.sync.{phase}" for phase in phases[:3]]),
    ]
    done, refused = [span for span in telemetry.spans.get_finished_spans() if span.name == "aiobatch.sync"]
    assert done.attributes is not None
    assert refused.attributes is not None
    assert (done.attributes["aiobatch.outcome"], done.attributes["aiobatch.ids.add"]) == ("done", 2)
    assert (refused.attributes["aiobatch.outcome"], refused.attributes["error.type"]) == (
        "refused",
        "GuardError",
    )
    assert refused.status.status_code.name == "ERROR"
    assert "aiobatch.run" not in refused.attributes
    ids = {labels["aiobatch.action"]: ids for labels, ids in telemetry.points()["aiobatch.sync.ids"]}
    assert ids == {"add": 2, "remove": 0, "attributes": 0, "resend": 0, "refuse": 0, "reject": 0}


async def test_nothing_secret_is_exported(telemetry: Telemetry, tmp_path: Path) -> None:
    """No span and no metric of a long script contains a key or an ID. Metrics name no audience."""
    ids = [f"secret-id-{number}" for number in range(20)]
    for target in (_PROJECT, _APP):
        async with (
            running_sandbox(indexing_delay=0) as sandbox,
            _client(sandbox, telemetry, target) as client,
        ):
            await client.create("vip-name")
            for kind in ("reset", "html200", "truncated", "429", "lost"):
                sandbox.fail_next(kind, operation="update")
            await client.await_applied(await client.update("vip-name", add=ids))
            options = SyncOptions(create=True)
            await sync_audience(client, "other-name", ids, state=tmp_path / "s.duckdb", options=options)
            async for _ in client.list_audiences():
                pass
    text = telemetry.text()
    for secret in ("secret-id", REST_API_KEY, API_KEY, PROJECT_KEY, "traceparent", "vip-name"):
        assert secret not in text
    assert "other-name" in text  # the span of the run names its audience
    assert "other-name" not in str(telemetry.points())


async def test_labels_have_closed_sets(telemetry: Telemetry, tmp_path: Path) -> None:
    """The number of points of a metric does not grow with audiences, IDs, runs and waits."""

    async def script(client: AudienceClient, name: str) -> None:
        created = await client.create(name)
        if created is not None:
            await client.await_applied(created)
        await client.await_applied(await client.update(name, add=["u1"]))
        await sync_audience(client, f"{name}s", ["u1", "u2"], state=tmp_path / "s.duckdb", options=_CREATE)

    async with (
        running_sandbox(indexing_delay=0) as sandbox,
        _client(sandbox, telemetry) as client,
        _client(sandbox, telemetry, _APP) as app,
    ):
        await script(client, "a0")
        await script(app, "a0")
        before = {name: len(points) for name, points in telemetry.points().items()}
        await script(client, "a1")
        await script(app, "a2")
    assert {name: len(points) for name, points in telemetry.points().items()} == before
    assert set(before) == {
        "http.client.request.duration",
        "aiobatch.token.duration",
        "aiobatch.sync.duration",
        "aiobatch.sync.ids",
    }


def test_pauses_and_other_events(telemetry: Telemetry) -> None:
    """Pauses are counted by status and timed. Events without a meaning for telemetry are ignored."""
    telemetry.hook(PauseStarted(status=503, seconds=1.0, failures=1))
    telemetry.hook(PauseStarted(status=429, seconds=1.0, failures=2))
    telemetry.hook(PauseEnded(seconds=3.0))
    telemetry.hook(Event())
    assert telemetry.points() == {
        "aiobatch.client.pauses": [
            ({"http.response.status_code": 503}, 1),
            ({"http.response.status_code": 429}, 1),
        ],
        "aiobatch.client.pause.duration": [({}, 1)],
    }
    assert telemetry.tree() == []


def test_only_the_last_writes_are_kept(telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook does not grow with the number of writes. A wait for an older one has no link."""
    monkeypatch.setattr(aiobatch.otel, "_WRITES_KEPT", 1)
    hook = telemetry.hook.for_client()
    for number in (1, 2):
        hook(_finished(request_id=number))
    for number in (1, 2):
        event = TokenSettled(
            wait_id=number, audience="vip", outcome="TIMED_OUT", polls=1, seconds=1.0, request_id=number
        )
        hook(event)
        telemetry.hook(event)  # of another client
    waits = [span for span in telemetry.spans.get_finished_spans() if span.name == "aiobatch.wait"]
    assert [len(span.links) for span in waits] == [0, 0, 1, 0]
    assert {span.status.status_code.name for span in waits} == {"ERROR"}


def test_host_is_unknown_with_another_transport(telemetry: Telemetry) -> None:
    """Without a host, as with a scripted transport, the span has no server."""
    telemetry.hook(_finished(host=""))
    telemetry.hook(_finished(host="api.batch.com"))
    first, second = telemetry.spans.get_finished_spans()
    assert first.attributes is not None
    assert second.attributes is not None
    assert "server.address" not in first.attributes
    assert (second.attributes["server.address"], second.attributes["server.port"]) == ("api.batch.com", 443)


def test_wrong_provider() -> None:
    """A provider of the other kind is refused when the hook is created."""
    with pytest.raises(InvalidInputError, match=r"A provider must have the method get_tracer. MeterProvider"):
        OpenTelemetryHook(MeterProvider(shutdown_on_exit=False))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"A provider must have the method get_meter. TracerProvider"):
        OpenTelemetryHook(None, TracerProvider(shutdown_on_exit=False))  # type: ignore[arg-type]


def test_global_providers() -> None:
    """Without providers the global ones count, which do nothing until a program sets them."""
    OpenTelemetryHook()(_finished())


@pytest.mark.parametrize(
    ("module", "extra", "package"),
    [("otel", "otel", "opentelemetry"), ("prometheus", "prometheus", "prometheus_client")],
)
def test_missing_extra(module: str, extra: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its package, the import of the module names the extra."""
    found = importlib.util.find_spec(f"aiobatch.{module}")
    assert found is not None
    assert found.loader is not None
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install 'aiobatch-client\[{extra}\]'"):
        found.loader.exec_module(importlib.util.module_from_spec(found))


def _finished(*, request_id: int = 1, host: str = "127.0.0.1:80") -> RequestFinished:
    return RequestFinished(
        operation="update",
        method="POST",
        host=host,
        path="/2.11/audiences/update",
        audience="vip",
        body_bytes=1,
        request_id=request_id,
        attempt=1,
        status=202,
        error=None,
        seconds=0.1,
    )
