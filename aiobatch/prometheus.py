"""A hook that counts the events of clients in a prometheus_client registry. It needs the extra `prometheus`.

The labels have a closed set of values: no key, no ID and no name of an audience.
"""

from __future__ import annotations

from typing import Final

from .errors import InvalidInputError
from .events import Event, PauseEnded, PauseStarted, RequestFinished, SyncFinished, TokenSettled

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
except ImportError:
    _missing = "aiobatch.prometheus needs its extra: pip install 'aiobatch-client[prometheus]'"
    raise ImportError(_missing) from None

__all__ = ["PrometheusHook"]

_HTTP_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# Indexing takes seconds to minutes, and runs take up to hours.
_LONG_SECONDS: Final = (0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)
_SENT: Final = frozenset({"done", "sent"})


class PrometheusHook:
    """Counts events: `AudienceClient(…, on_event=PrometheusHook())`. Several clients can share a hook.

    Args:
        registry: Registers the metrics, those of one hook. None for the global registry.

    Raises:
        InvalidInputError: *registry* is no registry, or has the metrics of another hook.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = REGISTRY if registry is None else registry
        if not isinstance(registry, CollectorRegistry):
            msg = f"registry must be a CollectorRegistry, not {type(registry).__name__}."
            raise InvalidInputError(msg)
        try:
            self._register(registry)
        except ValueError:
            msg = "The registry has the metrics of aiobatch. Share one PrometheusHook between clients."
            raise InvalidInputError(msg) from None

    def _register(self, registry: CollectorRegistry) -> None:
        """Create the metrics. Their names and labels are documented in docs/howto/telemetry.md."""
        self._requests = Histogram(
            "aiobatch_request_duration_seconds",
            "Duration of requests. The status is the error's class if there was no response.",
            ["operation", "status"],
            registry=registry,
            buckets=_HTTP_SECONDS,
        )
        # The histogram of each pair of labels. They are few, and `labels` costs as much as `observe`.
        self._durations: dict[tuple[str, str | int | None], Histogram] = {}
        self._retries = Counter(
            "aiobatch_request_retries",
            "Requests that repeated a failed one.",
            ["operation"],
            registry=registry,
        )
        self._tokens = Histogram(
            "aiobatch_token_duration_seconds",
            "Seconds from a write until its indexing was settled.",
            ["outcome"],
            registry=registry,
            buckets=_LONG_SECONDS,
        )
        self._pauses = Counter("aiobatch_pauses", "Pauses after a 503 or 429.", ["status"], registry=registry)
        self._paused = Counter("aiobatch_paused_seconds", "Seconds of ended pauses.", registry=registry)
        self._syncs = Histogram(
            "aiobatch_sync_duration_seconds",
            "Duration of runs of the sync engine.",
            ["mode", "outcome"],
            registry=registry,
            buckets=_LONG_SECONDS,
        )
        self._ids = Counter(
            "aiobatch_sync_ids", "IDs of runs that sent, by action.", ["action"], registry=registry
        )

    def __call__(self, event: Event) -> None:
        """Count *event*. Other kinds of events are ignored."""
        if isinstance(event, RequestFinished):
            key = event.operation, event.error or event.status
            durations = self._durations.get(key)
            if durations is None:
                durations = self._durations[key] = self._requests.labels(*key)
            durations.observe(event.seconds)
            if event.attempt > 1:
                self._retries.labels(event.operation).inc()
        elif isinstance(event, TokenSettled):
            self._tokens.labels(event.outcome).observe(event.seconds)
        elif isinstance(event, PauseStarted):
            self._pauses.labels(event.status).inc()
        elif isinstance(event, PauseEnded):
            self._paused.inc(event.seconds)
        elif isinstance(event, SyncFinished):
            self._syncs.labels(event.mode, event.outcome).observe(event.seconds)
            if event.outcome in _SENT:
                for action, ids in event.ids.items():
                    self._ids.labels(action).inc(ids)
