"""Measures of a whole process, and the server's counts.

A baseline imports this module too, so it does not import aiobatch.
"""

from __future__ import annotations

import os
import resource
import sys
import time

from .processes import MeasuredFunction, Measures, run_in_subprocess
from .resources import read_status
from .server_control import read_counts


def run_as_job(function: MeasuredFunction, **arguments: object) -> Measures:
    """Run a function in a subprocess and measure the whole process, with interpreter and imports.

    Args:
        function: As for `run_in_subprocess`. Its measure `inside` is the seconds of the work itself.
        arguments: Its arguments.
    """
    load = os.getloadavg()[0]
    started = time.perf_counter()
    measures = run_in_subprocess(function, **arguments)
    seconds = time.perf_counter() - started
    return {**measures, "seconds": seconds, "around": seconds - measures["inside"], "load": load}


def read_process() -> Measures:
    """Return the peak memory of this process in bytes, and the CPU seconds of all its threads."""
    return {"peak": _peak(), "cpu": time.process_time()}


def read_calls(url: str, *writes: str) -> Measures:
    """Return the server's counts.

    Args:
        url: The server's URL.
        writes: The operations to count as calls.
    """
    counts = read_counts(url)
    return {
        "calls": sum(counts["requests"].get(write, 0) for write in writes),
        "requests": sum(counts["requests"].values()),
        **{key: counts[key] for key in ("ids", "members", "lowest", "admitted", "too_many", "span")},
        "server_cpu": counts["cpu"],
    }


def _peak() -> float:
    # On Linux, `ru_maxrss` is inherited from the parent process.
    if (peak := read_status("VmHWM")) is not None:
        return peak
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1.0 if sys.platform == "darwin" else 1024.0)
