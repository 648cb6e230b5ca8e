"""The recipes of docs/howto/telemetry.md for Sentry and Datadog, with their real SDKs."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.aiohttp import AioHttpIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from aiobatch import App, AudienceClient, PauseStarted, RetryPolicy, TokenSettled
from aiobatch.sandbox import API_KEY, REST_API_KEY, Sandbox
from aiobatch.testing import running_sandbox

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "telemetry.md"
_APP = App(rest_api_key=REST_API_KEY, api_key=API_KEY)


def load(title: str) -> dict[str, Any]:
    """Run the program below a heading of the page, and return its names."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n### {title}\n")[2]
    block = re.search(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(compile(block[1], PAGE, "exec"), names)  # noqa: S102 - the project's own documentation
    return names


class _Kept(Transport):
    """Keeps what Sentry would send."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.items += [item.payload.json for item in envelope.items]


@pytest.fixture
def sentry() -> Iterator[_Kept]:
    """Start Sentry with its integrations of aiohttp and logging, which it enables by itself elsewhere."""
    kept = _Kept()
    sentry_sdk.init(
        "http://public@127.0.0.1:1/1",
        transport=kept,
        traces_sample_rate=1.0,
        default_integrations=False,  # some patch the standard library
        auto_enabling_integrations=False,
        integrations=[AioHttpIntegration(), LoggingIntegration()],
    )
    yield kept
    sentry_sdk.get_client().close()
    sentry_sdk.init(default_integrations=False, auto_enabling_integrations=False)


async def _write(sandbox: Sandbox, hook: Any) -> None:
    """Create an audience of API 1.x, with a pause on the way, and view it."""
    retry = RetryPolicy(initial=0.001, maximum=0.001)
    async with AudienceClient(_APP, base_url=sandbox.url, on_event=hook, retry=retry) as client:
        sandbox.fail_next("503")
        await client.create("vip")
        await client.view("vip")


async def test_sentry(sentry: _Kept) -> None:
    """The recipe reports the fifth failure and a timeout. Sentry sends no key, and traces neither."""
    report = load("Sentry")["report"]
    async with running_sandbox(indexing_delay=0) as sandbox:
        with sentry_sdk.start_transaction(name="handler"):
            await _write(sandbox, report)
            for failures in (4, 5):
                report(PauseStarted(status=503, seconds=1.0, failures=failures))
            report(TokenSettled(wait_id=1, audience="vip", outcome="TIMED_OUT", polls=1, seconds=1.0))
    # Sentry also traces the sandbox, because it serves in this process.
    items = [item for item in sentry.items if "sandbox" not in item.get("transaction", "")]
    sent = [item["message"] for item in items if "message" in item]
    assert sent == ["Batch answers 503", "Batch has not indexed a write in time"]
    assert any(item.get("type") == "transaction" for item in items)
    assert "requests paused" in str(items)  # a breadcrumb of the logging integration
    assert not re.search(f"{API_KEY}|{REST_API_KEY}", str(items))


async def test_datadog(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe sends a value for each attempt, with closed sets of tags."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(60)
        monkeypatch.setenv("DD_AGENT_HOST", "127.0.0.1")
        monkeypatch.setenv("DD_DOGSTATSD_PORT", str(agent.getsockname()[1]))
        names = load("Datadog")
        async with running_sandbox(indexing_delay=0) as sandbox:
            await _write(sandbox, names["count"])
        names["statsd"].stop()
        names["statsd"].close_socket()
        text = ""
        while text.count("aiobatch.request.duration") < 3:
            text += agent.recv(1 << 16).decode() + "\n"
    assert sorted(re.findall(r"#operation:(\w+),status:(\w+)", text)) == [
        ("create", "200"),
        ("create", "503"),
        ("view", "200"),
    ]
