"""The machine of a run: date, hardware, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs

_PROCESSORS = Path("/proc/cpuinfo")
# The dependencies of aiobatch, the peers, and their HTTP libraries.
_PACKAGES = (
    *("aiohttp", "attrs", "cattrs", "orjson", "python-backoff", "duckdb"),
    *("aiobotocore", "botocore", "algoliasearch", "azure-core", "google-api-core", "google-auth", "grpcio"),
    *("httpx", "httpx2", "meilisearch-python-sdk", "openai", "requests"),
)


@attrs.frozen(kw_only=True)
class Machine:
    """The machine of a run.

    Attributes:
        date: The date and time in UTC.
        processor: The processor's name, as far as the system reports it.
        cores: The number of cores.
        memory: The memory in bytes.
        kernel: The system, its release and architecture.
        load: The load averages over 1, 5 and 15 minutes.
        python: The interpreter and its version.
        packages: The versions of installed packages by name.
    """

    date: str
    processor: str
    cores: int
    memory: int
    kernel: str
    load: tuple[float, ...]
    python: str
    packages: dict[str, str]

    def __str__(self) -> str:
        """Format it as one line."""
        return "; ".join(text for _, text in self.facts())

    def facts(self) -> list[tuple[str, str]]:
        """Return names and texts of all facts."""
        return [
            ("date", self.date),
            ("processor", f"{self.processor}, {self.cores} cores"),
            ("memory", f"{self.memory / 2**30:.1f} GiB"),
            ("system", self.kernel),
            ("load before", ", ".join(f"{average:.1f}" for average in self.load)),
            ("python", self.python),
            ("packages", ", ".join(f"{name} {version}" for name, version in self.packages.items())),
        ]


def describe_machine() -> Machine:
    """Return the facts of this machine."""
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
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
    lines = _PROCESSORS.read_text(encoding="utf-8").splitlines() if _PROCESSORS.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
