"""Findings: what a check saw, and how to fix it."""

from __future__ import annotations

import enum
import re
from typing import Final

import attrs

__all__ = ["Finding", "FindingStatus", "note", "passed", "problem", "problem_of", "skipped"]

# The end of a sentence. A version such as 3.14 and a file name have no space after their dot.
_SENTENCE: Final = re.compile(r"(?<=[.])\s+(?=[A-Z`])")
# What only a program can do.
_FOR_PROGRAMS: Final = re.compile(r",? or pass a session [^.\[]*")
_DETAILS: Final = re.compile(r"\s*\[[^\]]*\]$")


class FindingStatus(enum.StrEnum):
    """The status of a finding."""

    OK = "ok"
    NOTE = "note"
    SKIPPED = "skipped"
    PROBLEM = "problem"


@attrs.frozen(kw_only=True)
class Finding:
    """What a check saw.

    Attributes:
        check: The name of the check, such as `clock`.
        target: The app's or project's name in the config. None if the check is about all.
        status: `ok`, `note`, `skipped` because of another problem, or `problem`.
        text: What the check saw.
        fix: How to fix a problem. None if there is none.
    """

    check: str
    target: str | None = None
    status: FindingStatus
    text: str
    fix: str | None = None


def passed(check: str, text: str, *, target: str | None = None) -> Finding:
    """Return a finding without a problem."""
    return Finding(check=check, target=target, status=FindingStatus.OK, text=text)


def note(check: str, text: str, *, fix: str | None = None) -> Finding:
    """Return a finding that is worth reading and no problem."""
    return Finding(check=check, status=FindingStatus.NOTE, text=text, fix=fix)


def skipped(check: str, text: str, *, target: str | None = None) -> Finding:
    """Return a finding of a check that could not be made."""
    return Finding(check=check, target=target, status=FindingStatus.SKIPPED, text=text)


def problem(check: str, text: str, fix: str, *, target: str | None = None) -> Finding:
    """Return a problem."""
    return Finding(check=check, target=target, status=FindingStatus.PROBLEM, text=text, fix=fix)


def problem_of(check: str, text: str, default: str, *, target: str | None = None) -> Finding:
    """Return the problem of an error, whose first sentence names the failure and whose rest is the fix.

    Args:
        check: The name of the check.
        text: The text of the error.
        default: The fix if the text has none.
        target: The app's or project's name in the config.
    """
    details = _DETAILS.search(text)
    plain = _FOR_PROGRAMS.sub("", _DETAILS.sub("", text)).replace("base_url", "BATCH_BASE_URL")
    what, *rest = _SENTENCE.split(plain.replace(" Nothing was sent.", ""))
    fix = " ".join(rest) or default
    return problem(check, f"{what}{details[0] if details else ''}", fix, target=target)
