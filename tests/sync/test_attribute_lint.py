"""The lint of attributes: DuckDB finds what `lint_attributes` finds, and a run counts, warns or rejects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch import App, Member, Project
from aiobatch.lint import AttributeLintKind, find_attribute_kinds, string_limit
from aiobatch.sync import Source, SyncReport
from aiobatch.sync._lint import attribute_lint_sql, is_within_limits_sql

from ..helpers.sweep import examples
from .sync_env import INSTALLS, PROJECT, SyncEnv, ids, sync_env

BEYOND = [
    Member("m1", attributes={"é": 1}),
    Member("m2", attributes={"bio": "x" * 65}),
    Member("m3", attributes={"bio": "", "sizes": []}),
    Member("m4", tags=["t" * 65]),
    Member("m5", attributes={"sizes": ["s"] * 26, "url(page)": f"https://a.io/{'x' * 2050}"}),
]
COUNTS = {"name": 1, "string": 2, "url": 1, "array": 2, "tag": 1}
NAMES = st.one_of(
    st.sampled_from(["a", "date(a)", "url(a)", "date(é)", "url(a", "a b", "a" * 30, "a" * 31, 'q"', "a.b"]),
    st.text("aZ_9-é\n)(", min_size=1, max_size=32).filter(str.strip),
)
TEXTS = st.one_of(
    st.sampled_from(["", "x" * 64, "é" * 65, 'x"\\', "x" * 300, "x" * 301]), st.text(max_size=3)
)
PLAIN = st.one_of(TEXTS, st.integers(-5, 5), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
VALUES = st.one_of(PLAIN, st.lists(PLAIN, max_size=3), st.lists(st.just("x"), min_size=25, max_size=26))


def _found(connection: duckdb.DuckDBPyConnection, member: Member, limit: int) -> set[AttributeLintKind]:
    tests = attribute_lint_sql(limit=limit)
    text = orjson.dumps(dict(member.attributes), option=orjson.OPT_SORT_KEYS).decode()
    columns = ", ".join([is_within_limits_sql(limit=limit), *tests.values()])
    query = f"SELECT {columns} FROM (SELECT ?::VARCHAR AS attributes, ?::VARCHAR[] AS tags)"
    (row,) = connection.execute(query, [text if member.attributes else None, list(member.tags)]).fetchall()
    is_sound, *found = row
    kinds = {kind for kind, is_found in zip(tests, found, strict=True) if is_found}
    assert not (is_sound and kinds - {AttributeLintKind.TAG}), "the cheap test hides a fault"
    return kinds


@settings(max_examples=examples(100, 1000, full=5000), deadline=None)
@given(
    attributes=st.dictionaries(NAMES, VALUES, max_size=3),
    tags=st.lists(st.sampled_from(["t", "é" * 64, "t" * 65]), max_size=2),
    mobile=st.booleans(),
)
def test_duckdb_finds_what_lint_attributes_finds(
    connection: duckdb.DuckDBPyConnection, attributes: dict[str, object], tags: list[str], mobile: bool
) -> None:
    """The SQL and the function agree on any attributes and tags."""
    typed = {"date(": "2026-01-02T03:04:05Z", "url(": f"https://a.io/{attributes.get('a')}".replace(" ", "")}
    sound = {
        name: next((one for start, one in typed.items() if name.startswith(start) and name[-1] == ")"), value)
        for name, value in attributes.items()
        if not (name.startswith(("date(", "url(")) and "\n" in name)
    }
    try:
        member = Member("m", attributes=sound, tags=tags)  # type: ignore[arg-type]  # any value
    except ValueError:
        return
    expected = find_attribute_kinds(member.attributes, member.tags, mobile=mobile)
    assert _found(connection, member, string_limit(mobile=mobile)) == expected


def test_ordinary_attributes_take_the_cheap_test(connection: duckdb.DuckDBPyConnection) -> None:
    """What nearly all rows have needs one regular expression, and no JSON function."""
    member = Member(
        "m", attributes={"age": 3, "date(born)": "2001-01-01", "city": "Nîmes", "vip": True, "score": -1.5e-9}
    )
    text = orjson.dumps(dict(member.attributes), option=orjson.OPT_SORT_KEYS).decode()
    query = f"SELECT {is_within_limits_sql(limit=64)} FROM (SELECT ? AS attributes)"
    assert connection.execute(query, [text]).fetchall() == [(True,)]


async def _sync(env: SyncEnv, *members: Member | str, **options: Any) -> SyncReport:
    return await env.sync([*ids(range(20)), *members], client={"target": INSTALLS}, **options)


async def test_run_counts_and_warns_of_attributes_beyond_limits(tmp_path: Path) -> None:
    """The report has the counts, the warning names attributes, and neither has a value. All are sent."""
    async with sync_env(tmp_path) as env:
        report = await _sync(env, *BEYOND)
        assert (report.attribute_lint, report.lint) == (COUNTS, {})
        (warning,) = report.warnings
        assert "2 with an empty or long string (more than 64 characters)" in warning.text
        assert "'bio', 'sizes', 'url(page)', 'é'" in warning.text
        assert "xxx" not in f"{report}"
        assert env.members == {*ids(range(20)), *(member.id for member in BEYOND)}
        async with env.client(target=INSTALLS) as client:
            plan = await env.call("plan", client, "vip", BEYOND)
        assert "1 with a tag of more than 64 characters" in plan.attribute_lint


async def test_lint_of_attributes_can_be_off(tmp_path: Path) -> None:
    """Without lint nothing is counted, and everything is sent."""
    async with sync_env(tmp_path) as env:
        report = await _sync(env, *BEYOND, lint="off")
        assert (report.attribute_lint, report.warnings) == ({}, ())


async def test_rows_with_attributes_beyond_limits_can_be_rejected(tmp_path: Path) -> None:
    """They are counted by reason, and the other rows are sent."""
    async with sync_env(tmp_path) as env:
        sound = Member("m6", attributes={"bio": "x" * 64}, tags=["t" * 64])
        report = await _sync(env, *BEYOND, sound, lint="reject")
        assert (report.reasons, report.attribute_lint) == ({"attribute_limit": 4, "tag_limit": 1}, {})
        assert env.members == {*ids(range(20)), "m6"}


async def test_removal_sends_no_attributes(tmp_path: Path) -> None:
    """An ID is removed whatever its attributes are."""
    async with sync_env(tmp_path) as env:
        await _sync(env, *(member.id for member in BEYOND))
        report = await env.sync(BEYOND, client={"target": INSTALLS}, mode="remove", lint="reject")
        assert (report.reasons, report.attribute_lint) == ({}, {})
        assert env.members == set(ids(range(20)))


@pytest.mark.parametrize(("target", "count"), [(INSTALLS, 1), (PROJECT, 0)])
async def test_mobile_apps_have_shorter_strings(tmp_path: Path, target: App | Project, count: int) -> None:
    """A string of 65 characters is too long for an app, and fine for a project."""
    path = tmp_path / "users.csv"
    path.write_text(f"user_id,city\nu1,{'x' * 65}\nu2,Paris\n", encoding="utf-8")
    async with sync_env(tmp_path) as env:
        source = Source(path=str(path), attributes={"city": "city"})
        report = await env.sync(source, client={"target": target})
        assert report.attribute_lint.get("string", 0) == count
