"""Files of IDs are read like any source, and checked before anything is sent."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch import InvalidInputError
from aiobatch.cli.inputs._id_files import IdFile, check_disjoint

from ...helpers.sweep import examples


async def _read(path: Path, column: str | None = None) -> list[str]:
    return [value async for value in IdFile(str(path), column).ids()]


@settings(max_examples=examples(15, 100))
@given(
    ids=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9))
)
def test_any_ids_survive_a_csv(ids: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """The IDs of a CSV are read unchanged and in order, and counted alike."""
    path = tmp_path_factory.mktemp("ids") / "ids"
    rows = ('"{}",x\n'.format(value.replace('"', '""')) for value in ids)
    path.write_text("id,other\n" + "".join(rows), encoding="utf-8")

    async def read() -> tuple[list[str], int]:
        return await _read(path, "id"), sum([len(block) async for block in IdFile(str(path), "id").blocks()])

    assert asyncio.run(read()) == (ids, len(ids))


@pytest.mark.parametrize("name", ["ids", "ids.txt", "ids.gz", "ids.txt.gz"])
async def test_files_without_a_column_have_one_id_per_line(name: str, tmp_path: Path) -> None:
    """Without a column, each line is an ID, also in a compressed file."""
    data = b"u1\n\n u2 \n"
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert await _read(tmp_path / name) == ["u1", "u2"]


async def test_formats_with_columns_need_no_option(tmp_path: Path) -> None:
    """JSON lines and Parquet name their columns, so the ID column is found."""
    (tmp_path / "ids.jsonl").write_text('{"user_id": "u1"}\n{"user_id": "u2"}\n')
    duckdb.connect().execute(
        f"COPY (SELECT 'u' || n AS id FROM range(2) AS t(n)) TO '{tmp_path / 'ids.pq'}' (FORMAT parquet)"
    )
    assert await _read(tmp_path / "ids.jsonl") == ["u1", "u2"]
    assert await _read(tmp_path / "ids.pq") == ["u0", "u1"]


async def test_ids_in_both_files_are_named_by_position(tmp_path: Path) -> None:
    """Files with an ID in common are rejected with the position of the ID, not with the ID."""
    for name, text in (("small", "u3\n"), ("large", "u1\nu2\nu3\n")):
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInputError, match=r"ID 3 of .*large is also in .*small") as caught:
        await check_disjoint(IdFile(str(tmp_path / "small")), IdFile(str(tmp_path / "large")))
    assert "u3" not in str(caught.value)
