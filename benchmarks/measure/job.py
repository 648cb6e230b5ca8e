"""What is measured of a job: the whole of its process, and what the server saw of it.

A rival imports this as well, so that nothing of ours is imported here.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

from .processes import Contender, Measures, run_apart
from .server_control import read_counts

_STATUS = Path("/proc/self/status")


def run_whole(contender: Contender, **arguments: object) -> Measures:
    """Run a contender apart and count all of its process: interpreter, imports, and the way out.

    Args:
        contender: As for `run_apart`; of its measures, `inside` are the seconds of the work itself.
        arguments: As for `run_apart`.
    """
    load = os.getloadavg()[0]
    started = time.perf_counter()
    measures = run_apart(contender, **arguments)
    seconds = time.perf_counter() - started
    return {**measures, "seconds": seconds, "around": seconds - measures["inside"], "load": load}


def read_process() -> Measures:
    """Return the most bytes that this process ever held, and its CPU seconds, threads included."""
    return {"peak": _peak(), "cpu": time.process_time()}


def read_calls(url: str, *writes: str) -> Measures:
    """Return what the server counted.

    Args:
        url: The server's.
        writes: The operations that write.
    """
    counts = read_counts(url)
    return {
        "calls": sum(counts["requests"].get(write, 0) for write in writes),
        "requests": sum(counts["requests"].values()),
        **{key: counts[key] for key in ("ids", "members", "lowest", "admitted", "too_many", "span")},
        "server_cpu": counts["cpu"],
    }


def _peak() -> float:
    """Read the mark that the kernel keeps; that of `getrusage` is inherited on Linux from who started us."""
    if _STATUS.exists():
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("VmHWM:"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1.0 if sys.platform == "darwin" else 1024.0)
