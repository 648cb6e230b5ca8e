"""The exact wording of each command: tests/cli/golden/COMMAND.txt has its description and its messages.

A file is a transcript. To add a case, add its line `$ aiobatch …`. To accept new wording, run

    AIOBATCH_GOLDEN=write python -m pytest -n0 tests/cli/test_golden.py

and read the difference. Lines of stderr begin with `! `. The line `# write FILE ID…` writes a source,
`# config LINE…` the config, and `# replace AUDIENCE ID…` is a replace by another program. The help of the
options is in docs/reference/cli.md.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiobatch.cli._app import app
from aiobatch.sandbox import Sandbox

from .conftest import Run
from .reports import write

GOLDEN = Path(__file__).resolve().parent / "golden"
COMMANDS = sorted(name for name in app if not name.startswith("-"))
# What differs from run to run, and what a transcript has in its place.
_VARIABLE = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:?\d\d)?"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)? s\b"), "N s"),
    (re.compile(r"\t\d\.\d\b"), "\tN"),
    (re.compile(r"\b0:00:0\d\b"), "0:00:0N"),
    (re.compile(r"\b(\w+):(create|update|replace|delete):[\w-]{8,}"), r"\1:\2:TOKEN"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"project [0-9a-f]{8}"), "project 01234567"),
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
)


def _run_line(line: str, run: Run, sandbox: Sandbox) -> Iterator[str]:
    """Run one line of a transcript and yield what it prints."""
    kind, word, *words = shlex.split(line)
    if (kind, word) == ("#", "write"):
        write(words[1:], words[0])
    elif (kind, word) == ("#", "replace"):
        sandbox.replace_behind_back(words[0], words[1:])
    elif (kind, word) == ("#", "config"):
        Path("aiobatch.toml").write_text("\n".join(line.split()[2:]), encoding="utf-8")
    elif kind == "$":
        result = run(*words)
        yield from result.out.partition("╭")[0].splitlines()  # without the options
        yield from (f"! {text}" for text in result.err.splitlines())
        if result.code:
            yield f"(exit code {result.code})"


def _transcript(text: str, run: Run, sandbox: Sandbox, home: Path) -> str:
    """Run the lines of a transcript again, and return it with what they print now."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(("$ ", "# ")):
            lines += ["", line] if lines and not lines[-1].startswith("# ") else [line]
            lines += _run_line(line, run, sandbox)
    found = "\n".join(lines).replace(str(home), "HOME") + "\n"
    for pattern, word in _VARIABLE:
        found = pattern.sub(word, found)
    return found


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("workdir")
def test_wording_is_as_agreed(
    command: str, run: Run, sandbox: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The help and the messages of each command are those of its transcript."""
    monkeypatch.setattr("sys.stdin", None)
    path = GOLDEN / f"{command}.txt"
    agreed = path.read_text(encoding="utf-8")
    run("--version")  # flushes what rich kept from a test that closed stdout
    found = _transcript(agreed, run, sandbox, home)
    if os.environ.get("AIOBATCH_GOLDEN") == "write":
        path.write_text(found, encoding="utf-8")
    else:
        assert found == agreed


def test_each_transcript_begins_with_the_help() -> None:
    """Each command has a transcript, which begins with its help."""
    assert sorted(path.stem for path in GOLDEN.iterdir()) == COMMANDS
    for command in COMMANDS:
        path = GOLDEN / f"{command}.txt"
        assert path.read_text(encoding="utf-8").startswith(f"$ aiobatch {command} --help\n")
