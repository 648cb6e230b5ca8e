"""The export of a command's spans and metrics, if the extra `otel` and its variables are there.

OpenTelemetry's SDK and its exporters read the OTEL_* variables. A collector that cannot be reached costs a
few seconds at the end and changes no exit code.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

import attrs

from ..._logs import log
from ...events import EventHook

__all__ = ["telemetry", "telemetry_hook"]

_logger = logging.getLogger("aiobatch.cli")
# Seconds for the last export, over all signals.
_PATIENCE = 4.0
_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"

_Event = threading.Event  # tests replace it

_hook: ContextVar[EventHook | None] = ContextVar("telemetry_hook", default=None)


def telemetry_hook() -> EventHook | None:
    """Return the hook of the command that runs, for its clients. None if nothing is exported."""
    return _hook.get()


@contextlib.contextmanager
def telemetry(command: str) -> Iterator[None]:
    """Export the spans and metrics of a command within a span of its own.

    Args:
        command: Its name.
    """
    signals = [signal for signal in ("TRACES", "METRICS") if _is_wanted(signal)]
    if not signals:
        yield
        return
    try:
        providers = _Providers.create(signals)
    except Exception as error:  # noqa: BLE001 - telemetry must not stop the command
        # A machine may set the variables for other programs, so a missing extra is no reason to warn.
        level = logging.INFO if isinstance(error, ImportError) else logging.WARNING
        log(_logger, level, "telemetry is off", reason=f"{type(error).__name__}: {error}")
        yield
        return
    token = _hook.set(providers.hook())
    try:
        with providers.span(f"aiobatch {command}"):
            yield
    finally:
        _hook.reset(token)
        providers.flush()


def _is_wanted(signal: str) -> bool:
    """Return whether the variables ask for the export of a signal."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = os.environ.get(f"OTEL_{signal}_EXPORTER")
    if exporter:
        return exporter != "none"
    return bool(os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or os.environ.get(_ENDPOINT))


@attrs.frozen(eq=False)
class _Providers:
    """The SDK's providers of the signals that are exported. None: not exported."""

    tracers: Any
    meters: Any

    @classmethod
    def create(cls, signals: list[str]) -> _Providers:
        """Create the providers, with the exporters that the variables name."""
        # The exporters log each failed attempt. The command logs one line.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - most commands export nothing
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        name = os.environ.get("OTEL_SERVICE_NAME") or "aiobatch"
        resource = Resource.create({SERVICE_NAME: name})
        tracers = meters = None
        if "TRACES" in signals:
            tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
            tracers.add_span_processor(BatchSpanProcessor(_exporter("TRACES")))
        if "METRICS" in signals:
            reader = PeriodicExportingMetricReader(_exporter("METRICS"))
            meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        return cls(tracers, meters)

    def hook(self) -> EventHook:
        """Return the hook for the clients of the command."""
        from opentelemetry.metrics import NoOpMeterProvider  # noqa: PLC0415 - as above
        from opentelemetry.trace import NoOpTracerProvider  # noqa: PLC0415

        from ...otel import OpenTelemetryHook  # noqa: PLC0415

        return OpenTelemetryHook(self.tracers or NoOpTracerProvider(), self.meters or NoOpMeterProvider())

    def span(self, name: str) -> contextlib.AbstractContextManager[Any]:
        """Start the span of the command, within the trace of TRACEPARENT if it is set."""
        if self.tracers is None:
            return contextlib.nullcontext()
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 - as above
            TraceContextTextMapPropagator,
        )

        carrier = {"traceparent": os.environ.get("TRACEPARENT", "")}
        parent = TraceContextTextMapPropagator().extract(carrier)
        tracer = self.tracers.get_tracer("aiobatch")
        # The text of an exception is no part of a trace, because other packages' texts may hold IDs.
        return tracer.start_as_current_span(  # type: ignore[no-any-return]
            name, parent, record_exception=False, set_status_on_exception=False
        )

    def flush(self) -> None:
        """Export what is left, within a few seconds. Another Ctrl-C ends the wait."""
        done = _Event()

        def shut_down() -> None:
            for provider in (self.tracers, self.meters):
                if provider is not None:
                    with contextlib.suppress(Exception):  # the last export decides nothing
                        provider.shutdown()
            done.set()

        threading.Thread(target=shut_down, name="aiobatch-telemetry", daemon=True).start()
        try:
            exported = done.wait(_PATIENCE)
        except KeyboardInterrupt:
            exported = False
        if not exported:
            # No warning: with --json, the report stays the last line of both streams.
            log(_logger, logging.INFO, "telemetry was not exported in time", seconds=_PATIENCE)


def _exporter(signal: str) -> Any:
    """Return the exporter that the variables name. OTLP by HTTP is the default."""
    name = os.environ.get(f"OTEL_{signal}_EXPORTER") or "otlp"
    if name == "otlp":
        protocol = (
            os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL")
            or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"
        )
        name = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}.get(protocol, protocol)
    group = f"opentelemetry_{signal.lower()}_exporter"
    found: Callable[[], Any] | None = None
    for entry in importlib.metadata.entry_points(group=group, name=name):
        found = entry.load()
    if found is None:
        msg = f"no installed package has the exporter {name!r} of OTEL_{signal}_EXPORTER"
        raise LookupError(msg)
    return found()
