"""Generator of the reference pages: `python docs/reference/make_reference.py [DIRECTORY]`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import orjson

from aiobatch.cli import ExitCode
from aiobatch.cli._app import app
from aiobatch.cli.commands._schema import SCHEMAS

_CONTENTS = re.compile(r"^## Table of Contents\n\n(- .*\n)+\n", re.MULTILINE)  # the lists of commands suffice
_EXIT_CODES = re.compile(r"^(\| code .*\n\|---.*\n)(?:\|.*\n)+", re.MULTILINE)
_COMMON = "**Options of every command**:"
_HEAD = """\
<!-- `make reference` writes this page from the docstrings of the commands. Change those instead. -->

Each command reports its outcome by its [exit code](exit-codes.md). These schemas describe what it reads and
prints, and `aiobatch schema` prints them:

- [config.schema.json](config.schema.json): the config of `run`
- [report.schema.json](report.schema.json): the reports of the commands of the sync engine, with `--json`
- [history.schema.json](history.schema.json): the output of `runs`, `show` and `status`, with `--json`
- [doctor.schema.json](doctor.schema.json): the output of `doctor`, with `--json`
"""


def commands() -> str:
    """Describe each command, with the options of all commands at the top only."""
    text = _CONTENTS.sub("", app.generate_docs())
    top, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    title, rest = top.split("\n", 1)
    sections = [f"{section.partition(_COMMON)[0].rstrip()}\n" for section in sections]
    return "\n".join([title, "", f"{_HEAD}{rest.rstrip()}\n", *sections])


def exit_codes() -> str:
    """Return the page of the exit codes with its table written again."""
    page = (Path(__file__).parent / "exit-codes.md").read_text(encoding="utf-8")
    rows = "".join(f"| {int(code)} | `{code.name}` | {code.meaning} |\n" for code in ExitCode)
    return _EXIT_CODES.sub(lambda match: match[1] + rows, page)


def pages() -> dict[str, str]:
    """Return the text of each page by its name."""
    return {
        "cli.md": commands(),
        "exit-codes.md": exit_codes(),
        **{
            f"{name}.schema.json": orjson.dumps(make(), option=orjson.OPT_INDENT_2).decode() + "\n"
            for name, make in SCHEMAS.items()
        },
    }


def main() -> None:
    """Write every page beside this script, or into the given directory."""
    parser = argparse.ArgumentParser(description="Write the reference pages.")
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).parent)
    directory: Path = parser.parse_args().directory
    for name, text in pages().items():
        (directory / name).write_text(text, encoding="utf-8")
        print(directory / name)


if __name__ == "__main__":
    main()
