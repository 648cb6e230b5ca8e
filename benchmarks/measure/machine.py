"""What was measured on: date, machine, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs

_PROCESSORS = Path("/proc/cpuinfo")
# What ours is made of, and everything that it is compared with or that this stands on.
_PACKAGES = (
    "aiohttp",
    "attrs",
    "cattrs",
    "orjson",
    "python-backoff",
    "duckdb",
    "aiobotocore",
    "botocore",
    "algoliasearch",
    "azure-core",
    "google-api-core",
    "google-auth",
    "grpcio",
    "httpx",
    "httpx2",
    "meilisearch-python-sdk",
    "openai",
    "requests",
)


@attrs.frozen(kw_only=True)
class Machine:
    """Where and when something was measured.

    Attributes:
        date: In UTC.
        processor: Its name, as far as the system tells.
        cores: Those that this process may use.
        memory: Bytes; None where the system does not tell.
        kernel: The system, its release and architecture.
        load: The load's averages over 1, 5 and 15 minutes.
        python: The interpreter and its version.
        packages: Versions by name, of those that are installed.
    """

    date: str
    processor: str
    cores: int
    memory: int | None
    kernel: str
    load: tuple[float, ...]
    python: str
    packages: dict[str, str]

    def __str__(self) -> str:
        """Write it in a line."""
        memory = "" if self.memory is None else f", {self.memory / 2**30:.1f} GiB"
        load = ", ".join(f"{average:.1f}" for average in self.load)
        packages = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        machine = f"{self.processor}, {self.cores} cores{memory}, {self.kernel}, load {load}"
        return f"{self.date}; {machine}; {self.python}, {packages}"


def describe_machine() -> Machine:
    """Look around."""
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        processor=_processor(),
        cores=_cores(),
        memory=_memory(),
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        load=os.getloadavg(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages=dict(_versions()),
    )


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue


def _processor() -> str:
    if _PROCESSORS.exists():
        lines = (line.partition(":") for line in _PROCESSORS.read_text(encoding="utf-8").splitlines())
        names = (value.strip() for key, _, value in lines if key.strip() == "model name")
        return next(names, platform.machine())
    return platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int | None:
    names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
    if not os.sysconf_names.keys() >= set(names):
        return None
    pages, size = (os.sysconf(name) for name in names)
    return pages * size
