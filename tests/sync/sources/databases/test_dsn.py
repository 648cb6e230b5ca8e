from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.errors import InvalidInputError
from aiobatch.sync.sources._dsn import expand, has_literal_password, redact, scrub


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u:${PW}@h/db", "postgresql://u:a%40%2Fb@h/db"),
        ("postgresql://u@${HOST}/db", "postgresql://u@h:5432/db"),
        ("${DSN}", "postgresql://u:p@h/db"),
        ("${DIR}/a@b.csv", "/some dir/a@b.csv"),
        ("plain", "plain"),
    ],
)
def test_environment_variables_are_filled_in(text: str, expected: str) -> None:
    """A variable is percent-encoded in a user or password, and inserted as it is elsewhere."""
    env = {"PW": "a@/b", "HOST": "h:5432", "DSN": "postgresql://u:p@h/db", "DIR": "/some dir"}
    assert expand(text, env) == expected


def test_missing_variable_is_named() -> None:
    """A variable that is not set is an error that names it."""
    with pytest.raises(InvalidInputError, match="NOT_SET"):
        expand("postgresql://u:${NOT_SET}@h/db", {})


@pytest.mark.parametrize("text", ["${E}/users.csv", "s3://bucket/${E}", "${E}", "postgresql://me@h/${E}"])
def test_empty_variable_is_refused(text: str) -> None:
    """An empty variable would name another place. A user or a password may be empty."""
    with pytest.raises(InvalidInputError, match="the environment variable E is empty"):
        expand(text, {"E": ""})
    assert expand("postgresql://${E}@h/x", {"E": ""}) == "postgresql://@h/x"


@pytest.mark.parametrize(
    "text", ["${}/u.csv", "${a b}/u.csv", "${DATA/u.csv", "s3://bucket/${a-b}", "${A}/${"]
)
def test_broken_variable_is_refused(text: str) -> None:
    """A variable without a valid name is no part of a path."""
    with pytest.raises(InvalidInputError, match="Write \\$\\{NAME\\}"):
        expand(text, {"A": "x", "DATA": "x"})


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping the process's own environment is read."""
    monkeypatch.setenv("AIOBATCH_TEST_PW", "x")
    assert expand("${AIOBATCH_TEST_PW}") == "x"


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://u:secret@h:5432/db", "postgresql://u@h:5432/db"),
        ("postgresql://u:sec/re@t@h/db?password=x", "postgresql://u@h/db"),
        ("postgresql://:secret@h/db", "postgresql://h/db"),
        ("postgresql://h/db?password=secret", "postgresql://h/db"),
        ("PostgreSQL://u:secret@h/db", "PostgreSQL://u@h/db"),
        ("postgresql://me@corp.example:secret@h/db", "postgresql://me@corp.example@h/db"),
        ("postgresql://u@h:5432/db?password=secret@secret&x=secret", "postgresql://***"),
        ("postgresql://u@h1,h2:1/db", "postgresql://u@h1,h2:1/db"),
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
    ],
)
def test_address_is_shown_without_password(dsn: str, shown: str) -> None:
    """Scheme, user, host and database are shown, without password and parameters."""
    assert redact(dsn) == shown


@pytest.mark.parametrize(
    "dsn",
    ["POSTGRESQL://u:secret@h/db", " postgresql://u:secret@h/db", "postgresql://h/db?p%61ssWord=secret"],
)
def test_password_is_detected_in_any_spelling(dsn: str) -> None:
    """Capitals, blanks and percent signs in an address do not hide its password."""
    assert has_literal_password(dsn)
    assert "secret" not in scrub(f"no route to {dsn}: secret", dsn)


_PASSWORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=20)


@given(password=_PASSWORDS, how=st.sampled_from(["raw", "quoted", "parameter"]))
def test_no_password_survives_scrubbing(password: str, how: str) -> None:
    """In any part of an address, a password's text and encoding are removed from a driver's message."""
    written = password if how == "raw" else quote(password, safe="")
    dsn = f"postgresql://h/db?password={written}" if how == "parameter" else f"postgresql://u:{written}@h/db"
    text = f'cannot parse "{dsn}": near "{written}" of {password}'
    clean = scrub(text, dsn)
    assert written not in clean
    assert password not in clean


def test_pieces_of_a_password_are_scrubbed() -> None:
    """A parser that cuts an unquoted password in pieces shows none of them."""
    clean = scrub('invalid integer value "half" for "port", host "other"', "postgresql://u:half/other@h/db")
    assert clean == 'invalid integer value "***" for "port", host "***"'
