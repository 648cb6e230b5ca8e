"""Make the pages that the program knows itself: `python docs/reference/make_reference.py [DIRECTORY]`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import orjson

from aiobatch.cli._app import app
from aiobatch.cli.commands._schema import SCHEMAS

_CONTENTS = re.compile(
    r"^## Table of Contents\n\n(- .*\n)+\n", re.MULTILINE
)  # the lists of commands are enough
_COMMON = "**Options of every command**:"
_HEAD = """\
<!-- Made by `make reference` from what the program says of itself: change its docstrings, not this page. -->

How a command ends is told by its [exit code](exit-codes.md). [config.schema.json](config.schema.json)
describes the config of `run`, [report.schema.json](report.schema.json) what the commands of the sync engine
print with `--json`, and [history.schema.json](history.schema.json) what `runs`, `show` and `status` do;
`aiobatch schema` prints all three.
"""


def commands() -> str:
    """Describe each command; the options of every command stand at the top, and nowhere else."""
    text = _CONTENTS.sub("", app.generate_docs())
    top, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    title, rest = top.split("\n", 1)
    sections = [f"{section.partition(_COMMON)[0].rstrip()}\n" for section in sections]
    return "\n".join([title, "", f"{_HEAD}{rest.rstrip()}\n", *sections])


def pages() -> dict[str, str]:
    """Return each page's name and text."""
    return {
        "cli.md": commands(),
        **{
            f"{name}.schema.json": orjson.dumps(make(), option=orjson.OPT_INDENT_2).decode() + "\n"
            for name, make in SCHEMAS.items()
        },
    }


def main() -> None:
    """Write every page beside this script, or into the directory that is named."""
    parser = argparse.ArgumentParser(description="Make the pages of the reference.")
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).parent)
    directory: Path = parser.parse_args().directory
    for name, text in pages().items():
        (directory / name).write_text(text, encoding="utf-8")
        print(directory / name)


if __name__ == "__main__":
    main()
