"""One line for each case: what is done, what must hold, what happened."""

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
COMMAND = "make fire"
# Characters of an error that a line of the table shows.
_FIRST_LINE = 200
_PACKAGES = ("aiohttp", "duckdb", "orjson", "pytest")


@attrs.frozen(kw_only=True)
class Row:
    """One case.

    Attributes:
        part: The heading that it stands under.
        done: What is done.
        holds: What must hold.
        happened: What happened, measured in the run.
        seconds: How long it took; None where it did not run.
        outcome: passed, failed or skipped.
    """

    part: str
    done: str
    holds: str
    happened: str
    seconds: float | None
    outcome: str

    @property
    def beginning(self) -> str:
        """The part of the line that is the same in every run."""
        return f"| {_escape(self.done)} | {_escape(self.holds)} | "

    def format(self) -> str:
        """Return the line."""
        words = {"failed": "**FAILED** ", "skipped": "*not run* "}.get(self.outcome, "")
        time = "" if self.seconds is None else f"; {self.seconds:.1f} s"
        return f"{self.beginning}{_escape(f'{words}{self.happened}{time}')} |"


def first_line(text: str) -> str:
    """Return the first line of what went wrong, short enough for a table."""
    line = next((line for line in text.splitlines() if line.strip()), "").strip()
    return line if len(line) <= _FIRST_LINE else f"{line[:_FIRST_LINE]}…"


def format_document(rows: Iterable[Row]) -> str:
    """Return the whole page."""
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
        f"What was done to aiobatch, what had to hold, and what happened. Written by `{COMMAND}` "
        f"([tests/chaos](../tests/chaos)) on {dt.datetime.now(dt.UTC):%Y-%m-%d}: {len(every)} cases, "
        f"{counts}; "
        f"{describe_machine()}.\n\n"
        "In every case, all that was left behind (logs at DEBUG, events, errors with their chains and "
        "tracebacks, reprs, output, state files) was searched for keys, of which none may be anywhere, and "
        "for user ids, which may be in a state file and in logs at DEBUG alone. A case that does not end "
        "in time fails.\n"
    )
    return head + "".join(_format_part(part, rows) for part, rows in parts.items())


def read_beginnings(document: str) -> list[tuple[str, str]]:
    """Return the part of each line of a page, and what is the same of it in every run."""
    part, found = "", []
    for line in document.splitlines():
        if line.startswith("## "):
            part = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith("| done |"):
            done, holds, _ = line.split(" | ", 2)
            found.append((part, f"{done} | {holds} | "))
    return found


def _format_part(part: str, rows: list[Row]) -> str:
    """Return one table with its heading."""
    lines = [f"\n## {part}\n", "| done | must hold | happened |", "|---|---|---|"]
    return "\n".join([*lines, *(row.format() for row in rows)]) + "\n"


def describe_machine() -> str:
    """Say on what it ran: hardware, system, versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.release().partition('-')[0]}; Python {platform.python_version()}, {packages}, "
        f"{ssl.OPENSSL_VERSION.rsplit(' ', 3)[0]}, {_describe_nginx()}"
    )


def _describe_nginx() -> str:
    """Return nginx's version."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        return "no nginx"
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    return re.sub(r".*nginx/", "nginx ", said.strip())


def _escape(text: str) -> str:
    """Return text that breaks no table."""
    return " ".join(text.split()).replace("|", "\\|")
