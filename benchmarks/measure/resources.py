"""Measures inside a client's process: time, CPU, memory, lateness of the loop, lag of waits."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import attrs

from .processes import Measures
from .server_control import Order, begin, read_counts

_TICK = 0.005
# Seconds to measure the lateness of the idle loop, which is that of the machine.
_IDLE = 0.5
# Seconds between two looks at a directory.
_LOOK = 0.25
_STATUS = Path("/proc/self/status")


def check(what: str, actual: float, expected: float) -> None:
    """Check that the work was done.

    Raises:
        RuntimeError: The numbers differ.
    """
    if actual != expected:
        msg = f"{what}: {actual:,} instead of {expected:,}, so the measures are not comparable"
        raise RuntimeError(msg)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which *share* of the values are."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


class Memory:
    """The memory growth of this process, from the kernel's high-water mark, which misses no peak."""

    def __init__(self) -> None:
        self._before = read_status("VmRSS")

    def read(self) -> Measures:
        """Return the bytes from the start to the peak. Nothing without /proc."""
        if self._before is None or (most := read_status("VmHWM")) is None:
            return {}
        return {"grown": most - self._before}


@contextlib.asynccontextmanager
async def measuring_disk(directory: Path) -> AsyncIterator[Measures]:
    """Yield measures, of which `spilled` is the most bytes in a directory so far, looked at now and then."""
    measures = {"spilled": 0.0}

    async def look() -> None:
        while True:
            measures["spilled"] = max(measures["spilled"], bytes_in(directory))
            await asyncio.sleep(_LOOK)

    looking = asyncio.create_task(look())
    try:
        yield measures
    finally:
        looking.cancel()


def bytes_in(directory: Path) -> float:
    """Return the bytes of the files in a directory. Files may vanish meanwhile."""
    total = 0.0
    for file in directory.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def confirm(url: str, operation: str, *, requests: int, ids: int = 0) -> Measures:
    """Check the server's counts.

    Args:
        url: The server's URL.
        operation: The only operation that may have been requested.
        requests: The expected number of requests.
        ids: The expected number of IDs.

    Returns:
        The counts and the server's CPU seconds.
    """
    counts = read_counts(url)
    check(f"requests to {operation}", counts["requests"].get(operation, 0), requests)
    check("requests", sum(counts["requests"].values()), requests)
    check("ids", counts["ids"], ids)
    return {"requests": requests, "ids": ids, "server_cpu": counts["cpu"]}


def read_status(field: str) -> float | None:
    """Return a field of /proc/self/status in bytes. None without /proc."""
    if not _STATUS.exists():
        return None
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith(f"{field}:"))


@attrs.define
class Stopwatch:
    """Measures seconds and CPU seconds since its creation."""

    _started: float = attrs.field(factory=time.perf_counter)
    _cpu: float = attrs.field(factory=time.process_time)

    def read(self, done: int = 0) -> Measures:
        """Return the seconds, the CPU seconds, and the rate of *done* per second."""
        seconds = time.perf_counter() - self._started
        return {"seconds": seconds, "cpu": time.process_time() - self._cpu, "rate": done / seconds}


async def measure_waits(
    wait: Callable[[str, str], Awaitable[object]], url: str, order: Order, *, waiters: int = 1
) -> Measures:
    """Wait for all tokens of an order in tasks.

    Args:
        wait: Waits for a token of an audience. Raises if the wait is lost.
        url: The server's URL.
        order: The behaviour of the server.
        waiters: The number of tasks for each token.
    """
    idle: list[float] = []
    lateness: list[float] = []
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_tick(idle), _IDLE)
    ticking = asyncio.create_task(_tick(lateness))
    applied_at = begin(url, order)
    watch = Stopwatch()
    waits = [_lag(wait, number, when) for number, when in enumerate(applied_at) for _ in range(waiters)]
    ends = await asyncio.gather(*waits)
    spent = watch.read()
    lags = [end for end in ends if isinstance(end, float)]
    _print_losses(Counter(type(end).__name__ for end in ends if isinstance(end, Exception)))
    ticking.cancel()
    counts = read_counts(url)
    requests = sum(counts["requests"].values())
    return {
        **spent,
        **_describe_lags(lags),
        **_describe_lateness(lateness, idle),
        "late_idle": 1e3 * quantile(idle, 0.99),
        "requests": requests,
        "requests_a_token": requests / order.tokens,
        "peak": counts["peak"],
        **({} if counts["burst"] is None else {"burst": counts["burst"]}),
        "lost": len(waits) - len(lags),
    }


def _describe_lateness(lateness: Sequence[float], idle: Sequence[float]) -> Measures:
    """Return the lateness of the loop in milliseconds. Nothing if there was no tick."""
    if not lateness:
        return {}
    late = quantile(lateness, 0.99)
    above = late - quantile(idle, 0.99)
    return {"late_p99": 1e3 * late, "late_max": 1e3 * max(lateness), "late_above": 1e3 * above}


def _describe_lags(lags: Sequence[float]) -> Measures:
    """Return the lags in seconds. Nothing if every wait was lost."""
    check("waits that ended before their token was applied", sum(lag < 0 for lag in lags), 0)
    return {"lag_mean": statistics.fmean(lags), "lag_p99": quantile(lags, 0.99)} if lags else {}


async def _lag(
    wait: Callable[[str, str], Awaitable[object]], number: int, applied_at: float
) -> float | Exception:
    """Return the lag of a wait in seconds, or the error of a lost wait."""
    try:
        await wait(f"a{number}", f"t{number}")
    except Exception as error:  # noqa: BLE001 - any error counts as a lost wait
        return error
    return time.time() - applied_at


def _print_losses(losses: Counter[str]) -> None:
    """Print the errors of lost waits to standard error."""
    if losses:
        texts = ", ".join(f"{count:,} by {name}" for name, count in losses.most_common())
        print(f"    waits lost: {texts}", file=sys.stderr)


async def _tick(lateness: list[float]) -> None:
    """Record the lateness of the event loop every few milliseconds."""
    while True:
        due = time.perf_counter() + _TICK
        await asyncio.sleep(_TICK)
        lateness.append(time.perf_counter() - due)
