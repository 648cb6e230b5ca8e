"""Targets for files: plans, configs, tables of IDs."""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import re
from pathlib import Path

import duckdb

from aiobatch import IdType, InvalidInputError
from aiobatch.cli.inputs._id_files import IdFile
from aiobatch.models import check_id
from aiobatch.sync import ConfigError, Plan, load_config
from aiobatch.sync._errors import SourceError
from aiobatch.sync.sources._id_rules import IdRules
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import stage

from .scratch_dir import scratch_dir

_ENVIRONMENT = {"REST": "rest-7d1f0c", "IOS": "app-5e2b9a", "MAIN": "project-3c8e44", "BAD": "two words"}
# Text by which a cell can be recognised.
_CELL = re.compile(rb"[A-Za-z0-9@._+-]{8,}")


def _write(name: str, data: bytes) -> Path:
    path = scratch_dir() / name
    path.write_bytes(data)
    return path


def read_plan(data: bytes) -> None:
    """Read a plan. What was read is written and read again the same."""
    with contextlib.suppress(InvalidInputError):
        plan = Plan.from_json(data)
        _check_plan(plan)
        text = plan.to_json()
        assert Plan.from_json(text).to_json() == text


def _check_plan(plan: Plan) -> None:
    """Check the figures of a plan."""
    assert min(plan.changes, plan.members_before, plan.members_after, plan.staged, plan.calls) >= 0
    assert plan.made.utcoffset() is not None
    assert repr(plan)


def read_config(data: bytes) -> None:
    """Read a config. Error lines must name the file and contain no key."""
    path = _write("aiobatch.toml", data)
    try:
        shown = repr(load_config(path, env=_ENVIRONMENT))
    except ConfigError as error:
        shown, lines = str(error), error.lines
        assert lines
        assert all(line.startswith(str(path)) for line in lines)
    assert not [value for value in _ENVIRONMENT.values() if value in shown]


@functools.cache
def _connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1, "memory_limit": "200MB"})


def read_csv(data: bytes) -> None:
    """Stage a CSV file. The first byte of *data* chooses columns and compression."""
    _stage("x.csv", data)


def read_jsonl(data: bytes) -> None:
    """Stage a file of JSON lines. The first byte is as for CSV."""
    _stage("x.jsonl", data)


def read_parquet(data: bytes) -> None:
    """Stage a Parquet file. The first byte is as for CSV."""
    _stage("x.parquet", data)


def _stage(name: str, data: bytes) -> None:
    """Stage a file. Either every row is counted, or one error is raised that shows no row."""
    if not data:
        return
    content, flags = data[1:], data[0]
    packed = gzip.compress(content, compresslevel=1, mtime=0) if flags & 1 else content
    # A stream that ends early.
    if flags & 2:
        packed = packed[: len(packed) * 3 // 4]
    path = _write(name, packed)
    rejects = scratch_dir() / "rejects.csv"
    columns = {"attributes": {"age": "age", "at": "date(at)"}, "tags_column": "tags"} if flags & 4 else {}
    rules = IdRules(id_type=IdType.ADVERTISING_IDS if flags & 8 else IdType.CUSTOM_IDS, trim=not flags & 16)
    source = Source.parse(path, **columns)  # type: ignore[arg-type] # two of its keywords
    try:
        counts = stage(_connection(), source, rules, rejects=rejects)
    except SourceError as error:
        _check_silent(str(error), content)
        return
    assert counts.read == counts.kept + counts.duplicate + counts.rejected
    assert min(counts.read, counts.kept, counts.duplicate, counts.rejected) >= 0
    assert sum(counts.reasons.values()) == counts.rejected
    with rejects.open(newline="", encoding="utf-8") as file:
        assert sum(1 for _ in csv.DictReader(file)) == counts.rejected
    _check_staged(counts.kept)


def _check_staged(kept: int) -> None:
    """Check that the staged IDs can be sent."""
    rows = _connection().execute("SELECT id FROM staged").fetchall()
    assert len(rows) == len(set(rows)) == kept
    for (id_,) in rows:
        check_id(id_, "staged")


def _check_silent(text: str, content: bytes) -> None:
    """Check that an error contains no cell. It may contain names of columns."""
    header, _, rest = content.replace(b"\r", b"\n").lstrip(b"\xef\xbb\xbf").partition(b"\n")
    known = f"{text.partition(': ')[0]} {header.decode(errors='replace')}"
    message = text.partition(": ")[2]
    shown = [cell for cell in set(_CELL.findall(rest)) if cell.decode() in message]
    assert not [cell for cell in shown if cell.decode() not in known], f"the error shows {shown[0]!r}"


def read_id_file(data: bytes) -> None:
    """Read a file as IDs, one per line and from a column."""
    path = _write("ids.txt", data)
    for column in (None, "id", "b"):
        try:
            blocks = list(IdFile(str(path), column).source_blocks())
        except InvalidInputError as error:
            _check_silent(str(error), b"id\n" + data)
        else:
            assert all(check_id(one, "line") for block in blocks for one in block)
