"""The export of commands to a collector of OpenTelemetry, and what remains without one."""

from __future__ import annotations

import http.server
import socket
import sys
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from aiobatch.cli import ExitCode
from aiobatch.cli.output import _telemetry
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox

from .conftest import Run

_TRACE, _PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class _Collector(http.server.ThreadingHTTPServer):
    """A collector that keeps what it received, by path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: dict[str, bytes] = {}


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Keep the body."""
        assert isinstance(self.server, _Collector)
        self.server.received[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Print nothing."""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "TRACEPARENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Collector]:
    """Run a collector, and set the variable with its address."""
    with _Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join()


def test_command_exports_its_spans(run: Run, collector: _Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are children of the command's span, which continues the trace of TRACEPARENT."""
    monkeypatch.setenv("TRACEPARENT", f"00-{_TRACE}-{_PARENT}-01")
    assert run("create", "vip").code == ExitCode.DONE
    request = ExportTraceServiceRequest.FromString(collector.received["/v1/traces"])
    (resource,) = request.resource_spans
    names = {entry.key: entry.value.string_value for entry in resource.resource.attributes}
    assert names["service.name"] == "aiobatch"
    spans = {span.name: span for scope in resource.scope_spans for span in scope.spans}
    assert set(spans) == {"aiobatch create", "POST /2.11/audiences/create"}
    command, create = spans["aiobatch create"], spans["POST /2.11/audiences/create"]
    assert (command.trace_id.hex(), command.parent_span_id.hex()) == (_TRACE, _PARENT)
    assert create.parent_span_id == command.span_id
    assert b"http.client.request.duration" in collector.received["/v1/metrics"]
    for body in collector.received.values():
        assert REST_API_KEY.encode() not in body
        assert PROJECT_KEY.encode() not in body


@pytest.mark.parametrize(("signal", "path"), [("TRACES", "/v1/traces"), ("METRICS", "/v1/metrics")])
def test_one_signal_alone(
    run: Run, collector: _Collector, monkeypatch: pytest.MonkeyPatch, signal: str, path: str
) -> None:
    """A signal whose exporter is none is not exported. A failed command exports too, with its exit code."""
    other = ({"TRACES", "METRICS"} - {signal}).pop()
    monkeypatch.setenv(f"OTEL_{other}_EXPORTER", "none")
    monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "otlp")
    assert run("view", "missing").code == ExitCode.NOT_FOUND
    assert set(collector.received) == {path}


@pytest.mark.parametrize(
    "name", ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"]
)
def test_collector_that_never_answers(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The command ends soon, with its own exit code and no line more."""
    monkeypatch.setattr(_telemetry, "_PATIENCE", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(name, f"http://127.0.0.1:{silent.getsockname()[1]}")
        result = run("view", "missing")
    assert result.code == ExitCode.NOT_FOUND
    assert "telemetry" not in result.err


def test_interrupt_ends_the_last_export(
    run: Run, collector: _Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C during the last export changes no exit code."""

    class Event:
        def set(self) -> None:
            pass

        def wait(self, seconds: float) -> bool:
            raise KeyboardInterrupt

    monkeypatch.setattr(_telemetry, "_Event", Event)
    result = run("view", "missing", "-v")
    assert result.code == ExitCode.NOT_FOUND
    assert "telemetry was not exported in time" in result.err


def test_unknown_exporter(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that is not installed is a warning, and the command runs."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    result = run("view", "missing")
    assert result.code == ExitCode.NOT_FOUND
    assert "telemetry is off" in result.err
    assert "'zipkin'" in result.err


def test_missing_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the variables have no effect."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)
    result = run("view", "missing")
    assert result.code == ExitCode.NOT_FOUND
    assert "telemetry" not in result.err


def test_disabled_sdk(run: Run, collector: _Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SDK_DISABLED turns everything off."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert run("view", "missing").code == ExitCode.NOT_FOUND
    assert collector.received == {}
