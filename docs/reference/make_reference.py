"""Generator of the reference pages: `python docs/reference/make_reference.py [DIRECTORY]`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import orjson

from aiobatch.cli import ExitCode
from aiobatch.cli._app import app
from aiobatch.cli.commands._schema import SCHEMAS
from aiobatch.sync import GuardPolicy, Source, SyncOptions
from aiobatch.sync.config import config_schema

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
_CONFIG_HEAD = """\
# aiobatch.toml

<!-- `make reference` writes this page from the declared options. Change those instead. -->

The config of `aiobatch run` and of the other commands that sync. `aiobatch init` writes one with comments,
`aiobatch run --check` validates it without any network, and [config.schema.json](config.schema.json) is its
JSON Schema for editors. [Run sync jobs](../howto/sync-jobs.md) has an example.

`${NAME}` is an [environment variable](environment.md). A key is never written into the config. Paths are
relative to its folder. An unknown key is an error.
"""
# Tables of the config: heading, the path of its schema, and the class that has the defaults.
_TABLES: tuple[tuple[str, tuple[str, ...], type[attrs.AttrsInstance] | None], ...] = (
    ("[audiences.NAME]", ("audiences", "*"), SyncOptions),
    ("[audiences.NAME.source]", ("audiences", "*", "source"), Source),
    ("[audiences.NAME.guard]", ("audiences", "*", "guard"), GuardPolicy),
    ("[defaults]", ("defaults",), SyncOptions),
    ("[defaults.guard]", ("defaults", "guard"), GuardPolicy),
    ("[apps.NAME]", ("apps", "*"), None),
    ("[projects.NAME]", ("projects", "*"), None),
    ("[notify]", ("notify",), None),
)


def config() -> str:
    """Return the page of the config: each table with its keys, their types and their defaults."""
    parts = [_CONFIG_HEAD]
    for title, path, owner in _TABLES:
        schema: Mapping[str, Any] = config_schema()
        for key in path:
            schema = schema["additionalProperties"] if key == "*" else schema["properties"][key]
            schema = next((one for one in schema.get("anyOf", ()) if one.get("type") == "object"), schema)
        defaults = {} if owner is None else {field.name: field.default for field in attrs.fields(owner)}
        rows = [
            f"| `{name}` | {_kind(one)} | {_default(defaults.get(name))} | {_cell(one['description'])} |"
            for name, one in schema["properties"].items()
            if name != "guard"
        ]
        parts.append(
            "\n".join(
                [
                    f"## {title}",
                    "",
                    schema["description"],
                    "",
                    "| key | value | default | meaning |",
                    "|---|---|---|---|",
                ]
            )
        )
        parts[-1] += "\n" + "\n".join(rows) + "\n"
    return "\n".join(parts)


def _kind(schema: Mapping[str, Any]) -> str:
    """Return the values that a schema accepts, in words."""
    return _cell(" or ".join(dict.fromkeys(_kinds(schema))))


def _kinds(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the kinds of values that a schema accepts."""
    if [one.get("type") for one in schema.get("anyOf", ())] == ["number", "string"]:
        yield "seconds, or a text such as `26h`"
        return
    for one in schema.get("anyOf", ()):
        yield from _kinds(one)
    if "enum" in schema:
        yield ", ".join(f"`{value}`" for value in schema["enum"])
    elif schema.get("type") == "array":
        yield f"list of {' or '.join(dict.fromkeys(_kinds(schema['items'])))}"
    elif schema.get("type") == "string" and "pattern" in schema:
        yield "`${NAME}`" if "\\$" in schema["pattern"] else "text"
    else:
        types = schema.get("type", ())
        for name in [types] if isinstance(types, str) else types:
            yield {
                "string": "text",
                "integer": "whole number",
                "boolean": "true or false",
                "object": "table",
            }.get(name, name)


def _default(value: Any) -> str:
    """Return a default as TOML. Without one, the key is left out."""
    if value is None or value is attrs.NOTHING or isinstance(value, attrs.Factory):  # type: ignore[arg-type]
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{orjson.dumps(value).decode()}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


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
        "config.md": config(),
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
