"""The client with monitoring of every aiohttp session, as by Sentry and OpenTelemetry."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from aiobatch import App, AudienceClient
from aiobatch.sandbox import API_KEY, REST_API_KEY, Sandbox

APP = App(rest_api_key=REST_API_KEY, api_key=API_KEY)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """URLs recorded by monitoring that adds a trace config to every new session."""
    recorded: list[str] = []
    make = aiohttp.ClientSession.__init__

    async def record(_: object, __: SimpleNamespace, params: aiohttp.TraceRequestStartParams) -> None:
        recorded.append(str(params.url))

    @functools.wraps(make)
    def instrumented(*args: Any, **kwargs: Any) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(record)
        make(*args, **kwargs, trace_configs=[trace])

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", instrumented)
    return recorded


async def test_monitoring_does_not_record_the_key_in_the_url(recorded: list[str]) -> None:
    """The client's own session ignores the trace configs of monitoring."""
    async with Sandbox() as sandbox, AudienceClient(APP, base_url=sandbox.url) as client:
        await client.create("vip")
        assert sandbox.request_count == 1
    assert recorded == []


async def test_passed_session_keeps_its_traces(recorded: list[str]) -> None:
    """The owner of a session decides who monitors it."""
    async with (
        Sandbox() as sandbox,
        aiohttp.ClientSession() as session,
        AudienceClient(APP, base_url=sandbox.url, session=session) as client,
    ):
        await client.create("vip")
    assert len(recorded) == 1
