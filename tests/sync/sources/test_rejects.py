from __future__ import annotations

import csv
import io
import re
import sqlite3
from pathlib import Path

import orjson
import pytest

from aiobatch import InvalidInputError
from aiobatch.sync import Source
from aiobatch.sync.sources._rejects import append_rejects

from ..sync_env import sync_env


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("source", "rejects"),
    [
        ("users.csv", "users.csv"),
        ("users.csv", "link.csv"),
        ("users.csv", "hard.csv"),
        ("users.csv", "sub/../users.csv"),
        ("parts", "parts/rejects.csv"),
        ("parts", "parts/a.csv"),
        ("parts/*.csv", "parts/rejects.csv"),
        ("parts/[a-f]*", "parts/f.csv"),
        ("users.csv", "state.duckdb"),
    ],
)
async def test_reject_file_cannot_be_a_part_of_the_source(tmp_path: Path, source: str, rejects: str) -> None:
    """It would overwrite the source, or the next run would read it."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "parts").mkdir()
    for name in ("users.csv", "parts/a.csv"):
        (tmp_path / name).write_text("id\na\n\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "users.csv")
    (tmp_path / "hard.csv").hardlink_to(tmp_path / "users.csv")
    async with sync_env(tmp_path) as env:
        with pytest.raises(InvalidInputError, match="rejects: "):
            await env.sync(str(tmp_path / source), rejects=tmp_path / rejects)
        assert env.writes == 0
        assert (tmp_path / "users.csv").read_text() == "id\na\n\n"
        await env.sync(["a"])  # the state is as it was


async def test_reject_file_cannot_be_the_database(tmp_path: Path) -> None:
    """The file of a database is a source, too."""
    path = tmp_path / "users.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE users (id TEXT)")
    database.close()
    source = Source.parse(f"sqlite:///{path}", query="SELECT id FROM users")
    async with sync_env(tmp_path) as env:
        with pytest.raises(InvalidInputError, match="rejects: "):
            await env.sync(source, rejects=path)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("source", "rejects"),
    [
        ("parts", "parts/_rejects.csv"),
        ("parts", "rejects.csv"),
        ("parts/*.csv", "parts/rejects.txt"),
        ("parts/*.csv", "rejects.csv"),
        ("parts/a.csv", "parts/rejects.csv"),
    ],
)
async def test_reject_file_may_be_beside_the_source(tmp_path: Path, source: str, rejects: str) -> None:
    """A file that no run reads as a part of the source is accepted."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.csv").write_text('id\na\n""\n')
    async with sync_env(tmp_path) as env:
        for _ in range(2):
            report = await env.sync(str(tmp_path / source), rejects=tmp_path / rejects)
            assert (report.kept, report.rejected) == (1, 1)
        assert (tmp_path / rejects).read_text().endswith("empty,\n")


NASTY = ["a\x1b]0;title\x07", "b\u0085c", "line\nbreak\r", "tab\there", "\x7f", "\x00nul"]


async def test_control_characters_are_escaped(tmp_path: Path) -> None:
    """Whatever an ID or a path contains, no terminal runs it. All other characters are as they were."""
    path = tmp_path / "us\x1b[31mers.jsonl"
    rows = [*NASTY, "=1+1\x01é\\u001b\u200d"]
    path.write_bytes(b"\n".join(orjson.dumps({"id": row}) for row in [*rows, "good"]))
    async with sync_env(tmp_path) as env:
        report = await env.sync(str(path), rejects=env.rejects)
        assert (report.kept, report.rejected) == (1, len(rows))
        text = env.rejects.read_text(encoding="utf-8")
    cells = list(csv.reader(io.StringIO(text)))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert [cell[4] for cell in cells[1:]] == [
        "a\\u001b]0;title\\u0007",
        "b\\u0085c",
        "line\\u000abreak\\u000d",
        "tab\\u0009here",
        "\\u007f",
        "\\u0000nul",
        "=1+1\\u0001é\\u001b\u200d",
    ]
    assert {cell[0] for cell in cells[1:]} == {str(path).replace("\x1b", "\\u001b")}


def test_refused_ids_are_escaped_too(tmp_path: Path) -> None:
    """IDs that Batch refused are added in the same form."""
    append_rejects(tmp_path / "rejects.csv", ["a\x1b\x9fb", "sound"])
    assert (tmp_path / "rejects.csv").read_text(encoding="utf-8") == (
        "batch,,,refused_by_batch,a\\u001b\\u009fb\nbatch,,,refused_by_batch,sound\n"
    )
