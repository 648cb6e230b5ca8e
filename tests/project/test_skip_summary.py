"""The line about skipped tests at the end of a run."""

from __future__ import annotations

import pytest

from ..helpers.skip_summary import summarize

NGINX = "Skipped: nginx is not installed: apt-get install nginx"
POSTGRESQL = "Skipped: PostgreSQL is not installed: apt-get install postgresql"
PEER = "Skipped: openai is not installed: make .venv/.bench"
ROOT = "Skipped: only root may mount a file system"


@pytest.mark.parametrize(
    ("reasons", "line"),
    [
        ([NGINX], "1 test was skipped. To run more: apt-get install nginx."),
        (
            [NGINX, POSTGRESQL, PEER, PEER],
            "4 tests were skipped. To run more: apt-get install nginx postgresql && make .venv/.bench.",
        ),
        ([ROOT, ROOT], "2 tests were skipped. Reasons: only root may mount a file system."),
    ],
)
def test_summary_names_each_install_command_once(reasons: list[str], line: str) -> None:
    """Equal commands are merged, and a reason without a command is printed as it is."""
    assert summarize(reasons) == line
