from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ...staged import parquet, refusal, staged


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_types_are_kept(tmp_path: Path) -> None:
    """Numbers, dates and lists need no conversion. Bytes that are text become text."""
    query = "SELECT 7::BIGINT AS id, 1.5 AS n, DATE '2023-08-12' AS d, ['b','a'] AS t, 'x'::BLOB AS b"
    path = parquet(tmp_path / "x.parquet", query)
    result = staged(path, tmp_path, attributes=["n", "d", "b"], tags_column="t")
    assert result.attributes == {"7": {"b": "x", "date(d)": "2023-08-12T00:00:00Z", "n": 1.5}}
    assert result.tags == {"7": ["a", "b"]}


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda content: content[: len(content) // 2], "footer"),
        (lambda content: content[:-4], "footer"),
        (lambda content: content[:5], "too small"),
        (lambda content: b"", "too small"),
        (lambda content: b"id\n" + b"a\n" * 50, "footer"),
        (lambda content: content[:400] + bytes(4000) + content[4400:], "damaged"),
    ],
    ids=["half", "no magic", "nothing but a beginning", "empty", "another format", "a hole"],
)
def test_damage_stops_the_run(damage: Callable[[bytes], bytes], problem: str, tmp_path: Path) -> None:
    """A truncated or overwritten file is refused."""
    whole = parquet(
        tmp_path / "whole.parquet", "SELECT 'user_' || uuid() AS id FROM range(20000)"
    ).read_bytes()
    path = _write(tmp_path / "x.parquet", damage(whole))
    assert problem in str(refusal(path, tmp_path))


def test_text_that_is_not_utf8_stops_the_run(tmp_path: Path) -> None:
    """IDs that are not UTF-8 are refused, and not shown."""
    path = parquet(tmp_path / "x.parquet", "SELECT 'secret\\xFF'::BLOB AS id")
    error = refusal(path, tmp_path)
    assert "not UTF-8" in str(error)
    assert "secret" not in str(error)
