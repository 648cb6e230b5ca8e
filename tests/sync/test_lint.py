"""The lint of sources: DuckDB finds what `lint_ids` finds, and a run counts, warns or rejects."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch import InvalidInputError, lint_ids
from aiobatch.lint import HEADERS, INVISIBLE, PLACEHOLDERS, REFUSED_WORDS, LintKind, find_kinds
from aiobatch.sync import GuardError, GuardPolicy, Overrides, Source, SyncOptions, load_config
from aiobatch.sync._lint import lint_sql

from ..helpers.sweep import examples
from .sync_env import ids, sync_env

DAMAGED = {
    "1.23457E+15": LintKind.SCIENTIFIC,
    "1,23457E+15": LintKind.SCIENTIFIC,
    "4e+16": LintKind.SCIENTIFIC,
    "1001.0": LintKind.DECIMAL,
    "-7.00": LintKind.DECIMAL,
    "NULL": LintKind.REFUSED_WORD,
    "nan": LintKind.REFUSED_WORD,
    "[object Object]": LintKind.REFUSED_WORD,
    "N/A": LintKind.PLACEHOLDER,
    "#REF!": LintKind.PLACEHOLDER,
    "\\N": LintKind.PLACEHOLDER,
    "None": LintKind.PLACEHOLDER,
    "inf": LintKind.PLACEHOLDER,
    "#SPILL!": LintKind.PLACEHOLDER,
    "00000000-0000-0000-0000-000000000000": LintKind.PLACEHOLDER,
    "user_id": LintKind.HEADER,
    "{{user_id}}": LintKind.TEMPLATE,
    "user-{{ user.id | default: 'x' }}-1": LintKind.TEMPLATE,
    "{% if a %}1": LintKind.TEMPLATE,
    "${id}": LintKind.TEMPLATE,
    "#{user.id}": LintKind.TEMPLATE,
    "@{user}": LintKind.TEMPLATE,
    "<%= id %>": LintKind.TEMPLATE,
    "%%EMAIL%%": LintKind.TEMPLATE,
    "x-%%user id%%": LintKind.TEMPLATE,
    "%USER_ID%": LintKind.TEMPLATE,
    "*|EMAIL|*": LintKind.TEMPLATE,
    "[[id]]": LintKind.TEMPLATE,
    "[user_id]": LintKind.TEMPLATE,
    "<<id>>": LintKind.TEMPLATE,
    "<user id>": LintKind.TEMPLATE,
    "<UserId>": LintKind.TEMPLATE,
    "{user_id}": LintKind.TEMPLATE,
    "{0}": LintKind.TEMPLATE,
    "{}": LintKind.TEMPLATE,
    "$USER_ID": LintKind.TEMPLATE,
    "$(id)": LintKind.TEMPLATE,
    "%s": LintKind.TEMPLATE,
    "%(id)s": LintKind.TEMPLATE,
    "<b>1001</b>": LintKind.HTML,
    "<td>1001": LintKind.HTML,
    '<a href="mailto:a@b.fr">a@b.fr': LintKind.HTML,
    "1001<br/>": LintKind.HTML,
    "1001&nbsp;": LintKind.HTML,
    "AT&amp;T": LintKind.HTML,
    "&#233;t&#xE9;": LintKind.HTML,
    "<!-- 1001": LintKind.HTML,
    '"u1"': LintKind.QUOTED,
    "'u1'": LintKind.QUOTED,
    "`u1`": LintKind.QUOTED,
    '="00123"': LintKind.QUOTED,
    "“u1”": LintKind.QUOTED,
    "«u1»": LintKind.QUOTED,
    "\u2018u1\u2019": LintKind.QUOTED,
    '""': LintKind.QUOTED,
    '{"$oid": "507f"}': LintKind.QUOTED,
    '["u1"]': LintKind.QUOTED,
    "[1,2]": LintKind.QUOTED,
    "\ufeffu1": LintKind.INVISIBLE,
    "u\u200b1": LintKind.INVISIBLE,
    "\u202au1": LintKind.INVISIBLE,
    "Andr\ufffd": LintKind.INVISIBLE,
    "x" * 512: LintKind.TOO_LONG,
    "é" * 512: LintKind.TOO_LONG,
    " u1": LintKind.WHITESPACE,
    "u1\u3000": LintKind.WHITESPACE,
}
SOUND = [
    "u1",
    "1001",
    "1001.05",
    "12e5",
    "a.0",
    "x" * 511,
    "é" * 511,
    "nullable",
    "nonesuch",
    "00000000-0000-0000-0000-000000000001",
    "a@b.fr",
    "1.0.0",
    "é",
    "a b",
    "{6d92078a-8246-4ba4-ae5b-76104861e7dc}",
    "$device:1234",
    "100%",
    "a%20b",
    "50%%",
    "<1001>",
    "<a@b.fr>",
    "'",
    '"',
    '5"',
    "d'Arc",
    "'s-Gravenhage",
    "=x",
    "[a]1",
    "a&b",
    "a&b;",
    "a<b",
    "{1001}",
    "AT&T",
    "a" * 500 + "%",
]
NASTY = st.sampled_from(
    [
        *DAMAGED,
        *SOUND,
        *REFUSED_WORDS,
        *PLACEHOLDERS,
        *HEADERS,
        *INVISIBLE,
        *"0123456789.eE+- \t\u00a0#/N{}[]<>%$*|&;\n\"'`=“”«»,",
    ]
)


def _found(connection: duckdb.DuckDBPyConnection, text: str) -> set[LintKind]:
    tests = lint_sql("id")
    query = f"SELECT {', '.join(tests.values())} FROM (SELECT ?::VARCHAR AS id)"
    (row,) = connection.execute(query, [text]).fetchall()
    return {kind for kind, is_found in zip(tests, row, strict=True) if is_found}


@pytest.mark.parametrize("text", DAMAGED)
def test_each_kind_is_found(text: str) -> None:
    """Each example is of its kind, and of no other."""
    assert list(find_kinds(text)) == [DAMAGED[text]]


@pytest.mark.parametrize("text", SOUND)
def test_sound_ids_are_of_no_kind(text: str) -> None:
    """IDs that only resemble damaged ones are left alone."""
    assert list(find_kinds(text)) == []


@settings(max_examples=examples(300, 1000, full=5000), deadline=None)
@given(parts=st.lists(NASTY, min_size=1, max_size=3))
def test_duckdb_finds_what_lint_ids_finds(connection: duckdb.DuckDBPyConnection, parts: list[str]) -> None:
    """The SQL and the function agree on any text, except on what a source rejects anyway."""
    text = "".join(parts)
    assert _found(connection, text) == set(find_kinds(text)) - {LintKind.INVALID}


async def test_run_counts_and_warns_of_damaged_ids(tmp_path: Path) -> None:
    """The report has the counts, the warning describes them, and neither has an ID."""
    async with sync_env(tmp_path) as env:
        damaged = ["9.87654E+15", "9.87655E+15", "4711.0", "NULL"]
        report = await env.sync([*ids(range(20)), *damaged])
        assert report.lint == {"refused_word": 1, "scientific": 2, "decimal": 1}
        (warning,) = report.warnings
        assert "2 numbers in scientific notation (1.23457E+15)" in warning.text
        assert not any(one in f"{report}" for one in damaged if one != "NULL")
        assert env.members == {*ids(range(20)), *damaged}
        async with env.client() as client:
            plan = await env.call("plan", client, "vip", damaged)
        assert set(plan.sample_lint) == set(damaged)
        assert "9.87654E+15" not in f"{plan!r}"


async def test_header_of_another_part_is_found_under_its_own_name(tmp_path: Path) -> None:
    """The name of the ID column among the rows comes from a file that was appended with its header."""
    (tmp_path / "users.csv").write_text("Kundennummer,x\n1,a\nKundennummer,x\n2,b\n", encoding="utf-8")
    async with sync_env(tmp_path) as env:
        source = Source(path=str(tmp_path / "users.csv"), id_column="Kundennummer")
        report = await env.sync(source)
        assert report.lint == {"header": 1}
        rejected = await env.sync(source, lint="reject", rejects=env.rejects)
        assert (rejected.reasons, rejected.lint) == ({"header": 1}, {})
        assert env.members == {"1", "2"}
        assert ",header,Kundennummer" in env.rejects.read_text()


async def test_lint_can_be_off(tmp_path: Path) -> None:
    """Without lint nothing is counted, and everything is sent."""
    async with sync_env(tmp_path) as env:
        report = await env.sync(["NULL", "u1"], lint="off")
        assert (report.lint, report.warnings) == ({}, ())
        assert env.members == {"NULL", "u1"}
        with pytest.raises(InvalidInputError, match="lint must be one of off, warn, reject"):
            SyncOptions(lint="of")


async def test_untrimmed_whitespace_is_found(tmp_path: Path) -> None:
    """IDs keep their whitespace without trimming, and then it is counted."""
    async with sync_env(tmp_path) as env:
        report = await env.sync([" u1", "u2"], trim=False)
        assert report.lint == {"whitespace": 1}
        assert (await env.sync([" u1", "u2"], trim=False, lint="reject")).reasons == {"whitespace": 1}


async def test_guard_names_damaged_ids_and_additions(tmp_path: Path) -> None:
    """A column that became float removes and adds everybody, and the message shows why."""
    async with sync_env(tmp_path) as env:
        await env.sync([str(number) for number in range(200)])
        with pytest.raises(GuardError) as caught:
            await env.sync([f"{number}.0" for number in range(200)])
        assert "200 removals are 100.0 %" in str(caught.value)
        assert "The plan also adds 200 IDs." in str(caught.value)
        assert "200 whole numbers with decimals (1001.0)" in str(caught.value)
        assert (caught.value.additions, caught.value.report.lint) == (200, {"decimal": 200})


async def test_additions_may_be_limited(tmp_path: Path) -> None:
    """The limit of additions is off by default, spares a first load, and can be exceeded once."""
    limit = GuardPolicy(max_additions_percent=20)
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(100)), guard=limit)
        await env.sync(ids(range(120)), guard=limit)
        with pytest.raises(GuardError, match=r"130 additions are 108.3 % of 120 members, above") as caught:
            await env.sync(ids(range(250)), guard=limit)
        assert caught.value.options == {"allow_additions": 130}
        with pytest.raises(GuardError, match="more than the 129 that this run allows"):
            await env.sync(ids(range(250)), guard=limit, overrides=Overrides(allow_additions=129))
        await env.sync(ids(range(250)), guard=limit, overrides=Overrides(allow_additions=130))
        await env.sync(ids(range(900)))
        assert await env.has_exactly(ids(range(900)))


def test_lint_is_an_option_of_configs(tmp_path: Path) -> None:
    """A config sets it for all audiences or for one."""
    path = tmp_path / "aiobatch.toml"
    path.write_text(
        '[defaults]\nlint = "reject"\nguard = { max_additions_percent = 150 }\n'
        '[audiences.vip]\nsource = "a.csv"\n[audiences.all]\nsource = "b.csv"\nlint = "off"\n'
    )
    first, second = load_config(path, env={}).audiences
    assert (first.options.lint, second.options.lint) == ("reject", "off")
    assert first.options.guard.max_additions_percent == 150


def test_lint_ids_counts_the_new_kinds() -> None:
    """The library's function finds the same kinds as a sync."""
    found = lint_ids([*DAMAGED, *SOUND]).findings
    assert {kind: finding.count for kind, finding in found.items()} == {
        kind: list(DAMAGED.values()).count(kind) for kind in set(DAMAGED.values())
    }
