"""A pytest plugin that sums up the skipped tests in one line, with the commands that install what they need.

A skip reason ends with its command where there is one: `nginx is not installed: apt-get install nginx`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pytest

_COMMAND = re.compile(r": (apt-get install|make) (\S+)$")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the line after the failures, if any test was skipped."""
    reports = terminalreporter.stats.get("skipped", ())
    if reports:
        terminalreporter.write_line(summarize([str(report.longrepr[2]) for report in reports]))


def summarize(reasons: Sequence[str]) -> str:
    """Return the line.

    Args:
        reasons: the reasons of all skipped tests, as pytest reports them.
    """
    reasons = [reason.removeprefix("Skipped: ") for reason in reasons]
    found = [_COMMAND.search(reason) for reason in reasons]
    packages: dict[str, set[str]] = {}
    for match in found:
        if match:
            packages.setdefault(match[1], set()).add(match[2])
    commands = [f"{command} {' '.join(sorted(names))}" for command, names in sorted(packages.items())]
    others = sorted({reason for reason, match in zip(reasons, found, strict=True) if not match})
    parts = [
        f"{_count(reasons)} skipped.",
        _list("To run more: ", commands, " && "),
        _list("Reasons: ", others),
    ]
    return " ".join(part for part in parts if part)


def _count(tests: Sequence[str]) -> str:
    return "1 test was" if len(tests) == 1 else f"{len(tests)} tests were"


def _list(title: str, parts: Iterable[str], separator: str = "; ") -> str:
    text = separator.join(parts)
    return f"{title}{text}." if text else ""
