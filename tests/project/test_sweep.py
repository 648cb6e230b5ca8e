"""The short and the long form of the suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ..helpers.sweep import SWEEP_VARIABLE, examples

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("value", "count"), [("", 10), ("0", 10), ("1", 1_000)])
def test_form_decides_the_number_of_examples(value: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`examples()` returns its second number in the long form only."""
    monkeypatch.setenv(SWEEP_VARIABLE, value)
    assert examples(10, 1_000) == count


@pytest.mark.sweep
def test_long_form_only() -> None:
    """A marked test runs in the long form; the test below counts on it."""
    assert examples(0, 1) == 1


@pytest.mark.parametrize(("options", "found"), [([], False), (["--sweep"], True)])
def test_marked_tests_run_in_the_long_form(
    options: list[str], *, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--sweep` selects the tests that are marked, and nothing else does."""
    monkeypatch.delenv(SWEEP_VARIABLE, raising=False)
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", __file__, *options]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ("test_long_form_only" in listed) == found
