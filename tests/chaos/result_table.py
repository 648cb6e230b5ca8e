"""The table of cases in docs/reliability.md: the fault, what must hold, what happened."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterable
from pathlib import Path

import attrs

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
COMMAND = "make chaos"
# The number of characters of an error in a row.
_FIRST_LINE = 200
_PACKAGES = ("aiohttp", "duckdb", "orjson", "pytest")


@attrs.frozen(kw_only=True)
class Row:
    """One case.

    Attributes:
        part: Its section.
        done: The fault.
        holds: What must hold.
        happened: The results of the run.
        seconds: The duration. None if the case did not run.
        outcome: passed, failed or skipped.
    """

    part: str
    done: str
    holds: str
    happened: str
    seconds: float | None
    outcome: str

    @property
    def case_columns(self) -> str:
        """The columns that are the same in every run."""
        return f"| {_escape(self.done)} | {_escape(self.holds)} | "

    def format(self) -> str:
        """Return the row as Markdown."""
        words = {"failed": "**FAILED** ", "skipped": "*not run* "}.get(self.outcome, "")
        time = "" if self.seconds is None else f" ({self.seconds:.1f} s)"
        return f"{self.case_columns}{_escape(f'{words}{self.happened}{time}')} |"


def first_line(text: str) -> str:
    """Return the first line of *text*, short enough for a table."""
    line = next((line for line in text.splitlines() if line.strip()), "").strip()
    return line if len(line) <= _FIRST_LINE else f"{line[:_FIRST_LINE]}…"


def format_document(rows: Iterable[Row]) -> str:
    """Return the page."""
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(row.part, []).append(row)
    every = [row for rows in parts.values() for row in rows]
    counts = ", ".join(
        f"{number} {outcome}"
        for outcome in ("passed", "failed", "skipped")
        if (number := sum(row.outcome == outcome for row in every))
    )
    head = (
        "# Reliability\n\n"
        "This page lists the faults that aiobatch is tested with, what must hold, and what happened. "
        f"`{COMMAND}` ([tests/chaos](../tests/chaos)) wrote it on {dt.datetime.now(dt.UTC):%Y-%m-%d}: "
        f"{len(every)} cases, {counts}.\n\n"
        f"Machine: {describe_machine()}.\n\n"
        "After every case, everything that it left is searched: DEBUG logs, events, errors with their chains "
        "and tracebacks, reprs, output and state files. They must contain no key. Only state files and DEBUG "
        "logs may contain user IDs. A case that exceeds its time limit fails.\n"
    )
    return head + "".join(_format_part(part, rows) for part, rows in parts.items())


def read_case_columns(document: str) -> list[tuple[str, str]]:
    """Return the section and the constant columns of each row of a page."""
    part, found = "", []
    for line in document.splitlines():
        if line.startswith("## "):
            part = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith("| fault |"):
            done, holds, _ = line.split(" | ", 2)
            found.append((part, f"{done} | {holds} | "))
    return found


def _format_part(part: str, rows: list[Row]) -> str:
    """Return one section with its table."""
    lines = [f"\n## {part}\n", "| fault | must hold | happened |", "|---|---|---|"]
    return "\n".join([*lines, *(row.format() for row in rows)]) + "\n"


def describe_machine() -> str:
    """Return the hardware, system and versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.release().partition('-')[0]}, Python {platform.python_version()}, {packages}, "
        f"{ssl.OPENSSL_VERSION.rsplit(' ', 3)[0]}, {_describe_nginx()}"
    )


def _describe_nginx() -> str:
    """Return nginx's version."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        return "no nginx"
    output = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    return re.sub(r".*nginx/", "nginx ", output.strip())


def _escape(text: str) -> str:
    """Return text that is safe in a table."""
    return " ".join(text.split()).replace("|", "\\|")
