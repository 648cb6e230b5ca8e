"""What is measured inside a client's process: seconds, CPU, memory, the loop's lateness, the lag of waits."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import attrs

from .processes import Measures
from .server_control import Order, begin, read_counts

_TICK = 0.005
# Seconds for which the loop's lateness is measured before there is anything to do: the machine's own.
_IDLE = 0.5
_STATUS = Path("/proc/self/status")


def check(what: str, actual: float, expected: float) -> None:
    """Refuse to measure what did not do the work.

    Raises:
        RuntimeError: The numbers differ.
    """
    if actual != expected:
        msg = f"{what}: {actual:,} in place of {expected:,}; a benchmark of work not done says nothing"
        raise RuntimeError(msg)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which *share* of the values are."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


class Memory:
    """How far the process grows in memory, as the kernel keeps the mark: no sample is missed.

    `ru_maxrss` would be no help: a process inherits it from the one that started it.
    """

    def __init__(self) -> None:
        self._before = _read_status("VmRSS")

    def read(self) -> Measures:
        """Return the bytes from what it held at first to the most it ever held; nothing without /proc."""
        if self._before is None or (most := _read_status("VmHWM")) is None:
            return {}
        return {"grown": most - self._before}


def confirm(url: str, operation: str, *, requests: int, ids: int = 0) -> Measures:
    """Compare what a contender believes with what the server counted.

    Args:
        url: The server's.
        operation: What was asked for; nothing else may have been.
        requests: How often.
        ids: How many ids went along.

    Returns:
        What the server counted, and its CPU seconds.
    """
    counts = read_counts(url)
    check(f"requests to {operation}", counts["requests"].get(operation, 0), requests)
    check("requests", sum(counts["requests"].values()), requests)
    check("ids", counts["ids"], ids)
    return {"requests": requests, "ids": ids, "server_cpu": counts["cpu"]}


def _read_status(field: str) -> float | None:
    """Read bytes out of /proc."""
    if not _STATUS.exists():
        return None
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith(f"{field}:"))


@attrs.define
class Stopwatch:
    """Seconds and CPU seconds since it was made."""

    _started: float = attrs.field(factory=time.perf_counter)
    _cpu: float = attrs.field(factory=time.process_time)

    def read(self, done: int = 0) -> Measures:
        """Return the seconds on the wall, those of the CPU, and how much was done per second."""
        seconds = time.perf_counter() - self._started
        return {"seconds": seconds, "cpu": time.process_time() - self._cpu, "rate": done / seconds}


async def measure_waits(
    wait: Callable[[str, str], Awaitable[object]], url: str, order: Order, *, waiters: int = 1
) -> Measures:
    """Let tasks wait for all tokens of an order, from the moment at which the tokens begin.

    Args:
        wait: Waits for a token, given its audience and itself; raises when it gives up.
        url: The server's.
        order: What the server does meanwhile.
        waiters: Tasks for each token.
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
    _tell_losses(Counter(type(end).__name__ for end in ends if isinstance(end, Exception)))
    ticking.cancel()
    counts = read_counts(url)
    requests = sum(counts["requests"].values())
    return {
        **spent,
        **_describe_lags(lags),
        **_describe_lateness(lateness),
        "late_idle": 1e3 * quantile(idle, 0.99),
        "requests": requests,
        "requests_a_token": requests / order.tokens,
        "peak": counts["peak"],
        "lost": len(waits) - len(lags),
    }


def _describe_lateness(lateness: Sequence[float]) -> Measures:
    """Sum the loop's lateness up, in milliseconds; nothing of what was over before the first tick."""
    return {"late_p99": 1e3 * quantile(lateness, 0.99), "late_max": 1e3 * max(lateness)} if lateness else {}


def _describe_lags(lags: Sequence[float]) -> Measures:
    """Sum lags up, in seconds; nothing where every wait was lost."""
    check("waits that ended before their token was applied", sum(lag < 0 for lag in lags), 0)
    return {"lag_mean": statistics.fmean(lags), "lag_p99": quantile(lags, 0.99)} if lags else {}


async def _lag(
    wait: Callable[[str, str], Awaitable[object]], number: int, applied_at: float
) -> float | Exception:
    """Return the seconds from when a token was applied until its waiter knew, or what ended a lost wait."""
    try:
        await wait(f"a{number}", f"t{number}")
    except Exception as error:  # noqa: BLE001 - whatever ended it, it is lost, and counted
        return error
    return time.time() - applied_at


def _tell_losses(losses: Counter[str]) -> None:
    """Say on standard error, which the table is not on, what ended the lost waits."""
    if losses:
        told = ", ".join(f"{count:,} by {name}" for name, count in losses.most_common())
        print(f"    waits lost: {told}", file=sys.stderr)


async def _tick(lateness: list[float]) -> None:
    """Write down how late the event loop is, every few milliseconds: what a web handler on it would feel."""
    while True:
        due = time.perf_counter() + _TICK
        await asyncio.sleep(_TICK)
        lateness.append(time.perf_counter() - due)
