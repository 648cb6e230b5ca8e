"""One stage for each API and each transport."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aiobatch import AudienceClient
from aiobatch.sandbox import Sandbox, SandboxOptions
from aiobatch.testing import FakeClock

from ..helpers.sandbox_clock import SandboxClock
from .stage import TARGETS, Answers, QuickClock, Stage


@pytest.fixture(params=list(TARGETS))
def label(request: pytest.FixtureRequest) -> str:
    """The API."""
    return str(request.param)


@pytest.fixture(params=["fake", "socket"])
def is_fake(request: pytest.FixtureRequest) -> bool:
    """Whether there is no socket."""
    return bool(request.param == "fake")


@pytest.fixture
def delay(is_fake: bool) -> tuple[float, float]:
    """Seconds of indexing: minutes where they cost nothing. A test may override this."""
    return (60, 180) if is_fake else (1, 2)


@pytest.fixture
def answers() -> Answers:
    """The answers that Batch does not document. A test may override this."""
    return {}


@pytest.fixture
async def stage(
    label: str, is_fake: bool, delay: float | tuple[float, float], answers: Answers
) -> AsyncIterator[Stage]:
    """A stage."""
    clock = FakeClock() if is_fake else QuickClock()
    time = SandboxClock(clock.monotonic)
    options = SandboxOptions(indexing_delay=delay, slow_answer=0.01, **answers)
    sandbox = Sandbox(options, monotonic=time)
    if not is_fake:
        await sandbox.start()
    yield Stage(label=label, sandbox=sandbox, time=time, clock=clock, is_fake=is_fake)
    await sandbox.aclose()


@pytest.fixture
async def client(stage: Stage) -> AsyncIterator[AudienceClient]:
    """An open client."""
    async with stage.client() as client:
        yield client
