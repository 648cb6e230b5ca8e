"""The hook for prometheus_client: the metrics of scripted runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from aiobatch import (
    App,
    AudienceClient,
    AudienceNotFoundError,
    Event,
    InvalidInputError,
    PauseEnded,
    PauseStarted,
    Project,
    RetryPolicy,
)
from aiobatch.errors import SyncError
from aiobatch.prometheus import PrometheusHook
from aiobatch.sandbox import API_KEY, PROJECT_KEY, REST_API_KEY
from aiobatch.sync import SyncOptions, sync_audience
from aiobatch.testing import running_sandbox

_PROJECT = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
_APP = App(rest_api_key=REST_API_KEY, api_key=API_KEY)


def _values(registry: CollectorRegistry) -> dict[str, float]:
    """Return the samples as a scraper reads them, but for times and buckets."""
    text = generate_latest(registry).decode()
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_sum", "_created"))
    }


async def test_metrics_of_a_script(tmp_path: Path) -> None:
    """Requests, retries, waits and runs are counted, without any key, ID or name."""
    registry = CollectorRegistry()
    hook = PrometheusHook(registry)
    state, options = tmp_path / "s.duckdb", SyncOptions(create=True)
    async with (
        running_sandbox(indexing_delay=0) as sandbox,
        AudienceClient(_APP, base_url=sandbox.url, on_event=hook) as app,
        AudienceClient(
            _PROJECT, base_url=sandbox.url, on_event=hook, retry=RetryPolicy(initial=0.001)
        ) as client,
    ):
        await app.create("vip-name")
        await client.create("vip-name")
        for kind in ("502", "lost"):
            sandbox.fail_next(kind, operation="update")
        await client.await_applied(await client.update("vip-name", add=["secret-id"]))
        with pytest.raises(AudienceNotFoundError):
            await client.view("nothing")
        await sync_audience(client, "other", ["secret-id", "secret-2"], state=state, options=options)
        with pytest.raises(SyncError):
            await sync_audience(client, "other", [], state=state)
    values = _values(registry)
    for name, value in {
        "aiobatch_request_duration_seconds_count['200', 'create']": 1,
        "aiobatch_request_duration_seconds_count['502', 'update']": 1,
        "aiobatch_request_duration_seconds_count['TransportError', 'update']": 1,
        "aiobatch_request_retries_total['update']": 2,
        "aiobatch_sync_duration_seconds_count['done', 'mirror']": 1,
        "aiobatch_sync_duration_seconds_count['mirror', 'refused']": 1,
        "aiobatch_sync_ids_total['add']": 2,
        "aiobatch_sync_ids_total['remove']": 0,
    }.items():
        assert values[name] == value, name
    assert values["aiobatch_token_duration_seconds_count['APPLIED']"] >= 2
    text = generate_latest(registry).decode()
    for secret in ("secret-", "vip-name", "other", REST_API_KEY, API_KEY, PROJECT_KEY):
        assert secret not in text


def test_pauses_and_other_events() -> None:
    """Pauses are counted by status, with the seconds of those that ended. Other events are ignored."""
    registry = CollectorRegistry()
    hook = PrometheusHook(registry)
    for event in (PauseStarted(status=503, seconds=1, failures=1), PauseEnded(seconds=2.5), Event()):
        hook(event)
    values = _values(registry)
    assert values["aiobatch_pauses_total['503']"] == 1
    assert values["aiobatch_paused_seconds_total[]"] == 2.5


def test_wrong_registry() -> None:
    """A registry has room for one hook, and nothing else is a registry."""
    registry = CollectorRegistry()
    PrometheusHook(registry)
    with pytest.raises(InvalidInputError, match=r"Share one PrometheusHook between clients"):
        PrometheusHook(registry)
    with pytest.raises(InvalidInputError, match=r"registry must be a CollectorRegistry, not str\."):
        PrometheusHook("http://localhost:9090")  # type: ignore[arg-type]
