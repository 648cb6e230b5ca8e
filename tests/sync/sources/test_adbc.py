"""Any ADBC driver is loaded by its manifest."""

from __future__ import annotations

import importlib
import sqlite3
from pathlib import Path

import pytest

from aiobatch.errors import InvalidInputError
from aiobatch.sync.sources import has_literal_password, redact
from aiobatch.sync.sources._source import Source

from ..staged import refusal, staged


def _install(directory: Path, name: str, package: str) -> None:
    """Write the manifest of an installed driver under another name."""
    library = importlib.import_module(package)._driver_path()
    (directory / f"{name}.toml").write_text(
        f'manifest_version = 1\nname = "{name}"\nversion = "1"\n[Driver]\nshared = "{library}"\n'
    )


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a SQLite file, and let the driver manager find two drivers by new names."""
    _install(tmp_path, "lite", "adbc_driver_sqlite")
    _install(tmp_path, "postgresql", "adbc_driver_postgresql")
    monkeypatch.setenv("ADBC_DRIVER_PATH", str(tmp_path))
    path = tmp_path / "users.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE users(user_id TEXT, age INT, secret REAL);"
            "INSERT INTO users VALUES ('a', 1, 0.5), ('b', 2, NULL), (NULL, 3, 1.5)"
        )
    connection.close()
    return path


def test_drivers_are_found_by_their_manifest(database: Path, tmp_path: Path) -> None:
    """The name after `adbc+` is that of the manifest. Only the wanted columns count."""
    found = staged(
        f"adbc+lite://{database}", tmp_path, query="SELECT * FROM users -- all;", attributes=["age"]
    )
    assert found.attributes == {"a": {"age": 1}, "b": {"age": 2}}
    assert found.counts.rejected == 1
    assert staged("adbc+lite://", tmp_path, query="SELECT 'x' AS id;").ids == {"x"}


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("DELETE FROM users", "the database failed: "),
        ("SELECT user_id FROM users; DELETE FROM users", "the database failed: "),
        ("SELECT age AS n, secret FROM users", "no single column with a name of an ID column"),
        ("SELECT secret AS id FROM users", "has the type DOUBLE"),
    ],
)
def test_other_statements_and_ids_are_refused(
    query: str, problem: str, database: Path, tmp_path: Path
) -> None:
    """A query is one SELECT, and its columns follow the rules of all sources."""
    assert problem in str(refusal(f"adbc+lite://{database}", tmp_path, query=query))
    assert staged(f"adbc+lite://{database}", tmp_path, query="SELECT user_id FROM users").ids == {"a", "b"}


def test_a_missing_driver_is_named(database: Path, tmp_path: Path) -> None:
    """The text names the command that installs it, and no password."""
    address = f"adbc+snowflake2://me:hunter2@account/{database.name}?token=hunter3"
    error = str(refusal(address, tmp_path, query="SELECT 1"))
    assert "no ADBC driver 'snowflake2' is installed" in error
    assert "dbc install snowflake2" in error
    assert "adbc+snowflake2://me@account/users.db" in error
    assert "hunter" not in error


@pytest.mark.parametrize("address", ["{0}", "postgresql://{0}"])
def test_passwords_are_masked_in_the_texts_of_drivers(address: str, database: Path, tmp_path: Path) -> None:
    """The driver gets an address of its own scheme, or the one that follows its name."""
    assert database.exists()
    url = "adbc+postgresql://" + address.format("me:hunter2@127.0.0.1:1/db?connect_timeout=2")
    error = str(refusal(url, tmp_path, query="SELECT 1"))
    assert "the database failed" in error
    assert "hunter2" not in error


@pytest.mark.parametrize(
    "name", ["password", "token", "private_key", "adbc.snowflake.sql.client_option.auth_token"]
)
def test_parameters_of_drivers_are_secret(name: str) -> None:
    """Keys and tokens in parameters are passwords."""
    address = f"adbc+snowflake://me@account/db?warehouse=w&{name}=hunter2"
    assert has_literal_password(address)
    assert redact(address) == "adbc+snowflake://me@account/db"
    assert not has_literal_password(address.replace("hunter2", "${TOKEN}"))


@pytest.mark.parametrize("address", ["adbc+lite://x", "adbc+://x", "adbc://x", "adbc+../x://y"])
def test_an_address_needs_a_driver_and_a_query(address: str) -> None:
    """Neither has a default."""
    with pytest.raises(InvalidInputError):
        Source.parse(address)
