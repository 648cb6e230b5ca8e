"""Tables of Delta Lake and Iceberg are read in one version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aiobatch.errors import InvalidInputError
from aiobatch.sync._errors import SourceError
from aiobatch.sync.sources import IdRules
from aiobatch.sync.sources._source import Source
from aiobatch.sync.sources._stage import stage

from ...staged import refusal, staged


def _version(source: str) -> tuple[int, str | None]:
    """Return how many IDs a source has, and the version that was read."""
    with duckdb.connect() as connection:
        counts = stage(connection, Source.parse(source), IdRules())
    return counts.kept, counts.version


def _rows(*ids: str) -> Any:
    arrow = pytest.importorskip("pyarrow")
    return arrow.table({"user_id": list(ids), "age": list(range(len(ids)))})


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    """Return a table with two versions."""
    library = pytest.importorskip("deltalake", reason="run pip install deltalake")
    library.write_deltalake(tmp_path / "users", _rows("a", "b"))
    library.write_deltalake(tmp_path / "users", _rows("c"), mode="append")
    return tmp_path / "users"


def test_delta_tables_are_read_in_one_version(delta: Path, tmp_path: Path) -> None:
    """The current version is read, or the one in the address. Deleted rows do not count."""
    assert staged(f"delta://{delta}", tmp_path, attributes=["age"]).attributes == {
        "a": {"age": 0},
        "b": {"age": 1},
        "c": {"age": 0},
    }
    assert _version(f"delta://{delta}") == (3, "1")
    assert _version(f"delta://{delta}?version=0") == (2, "0")
    pytest.importorskip("deltalake").DeltaTable(delta).delete("user_id = 'a'")
    assert _version(f"delta://{delta}") == (2, "2")


def test_delta_tables_that_cannot_be_read_are_named(
    delta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing table, version or column has a text."""
    assert "the table does not exist" in str(refusal(f"delta://{tmp_path}/none", tmp_path))
    assert "that version 9 exists" in str(refusal(f"delta://{delta}?version=9", tmp_path))
    assert "no column 'x'" in str(refusal(f"delta://{delta}", tmp_path, attributes=["x"]))
    monkeypatch.chdir(delta.parent)
    assert _version("delta:///users") == (3, "1")


@pytest.fixture
def iceberg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a table of a catalog that the environment names, with two snapshots."""
    library = pytest.importorskip(
        "pyiceberg.catalog.sql", reason="run pip install pyiceberg[sql-sqlite,pyarrow]"
    )
    settings = {"uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/warehouse"}
    for name, value in {**settings, "type": "sql"}.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__LAKE__{name.upper()}", value)
    config = pytest.importorskip("pyiceberg.utils.config")
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", config.Config())  # it was read at the import
    catalog = library.SqlCatalog("lake", **settings)
    catalog.create_namespace("crm")
    table = catalog.create_table("crm.users", schema=_rows("a").schema)
    yield table
    catalog.close()


@pytest.mark.filterwarnings("default")  # of the library
def test_iceberg_tables_are_read_in_one_snapshot(iceberg: Any, tmp_path: Path) -> None:
    """A table is named by its catalog or by a file of its metadata."""
    assert _version("iceberg://lake/crm.users") == (0, "none")
    iceberg.append(_rows("a", "b"))
    first = iceberg.current_snapshot().snapshot_id
    iceberg.append(_rows("c"))
    second = iceberg.current_snapshot().snapshot_id
    assert _version("iceberg://lake/crm.users") == (3, str(second))
    assert _version(f"iceberg://lake/crm.users?snapshot={first}") == (2, str(first))
    assert _version(f"iceberg://{iceberg.metadata_location}") == (3, str(second))
    path = iceberg.metadata_location.removeprefix("file://")
    assert staged(f"iceberg://{path}", tmp_path, attributes={"age": "years"}).ids == {"a", "b", "c"}
    assert staged(iceberg.scan().to_arrow_batch_reader(), tmp_path).ids == {"a", "b", "c"}
    assert "the table does not exist" in str(refusal("iceberg://lake/crm.none", tmp_path))
    assert "Check the settings of the library" in str(refusal("iceberg://none/crm.users", tmp_path))


@pytest.mark.parametrize(("kind", "package"), [("delta", "deltalake"), ("iceberg", "pyiceberg")])
def test_a_missing_library_is_named(
    kind: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text names the command that installs it."""
    monkeypatch.setitem(__import__("sys").modules, package, None)
    assert f"Run pip install {package}" in str(refusal(f"{kind}://lake/x", tmp_path))


class _Library:
    """A library whose table fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def DeltaTable(self, *_: object, **__: object) -> None:  # noqa: N802 - the name of the library
        raise self.error


def test_texts_of_libraries_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may contain addresses with signatures."""
    monkeypatch.setitem(__import__("sys").modules, "deltalake", _Library(ValueError("hunter2")))
    error = refusal("delta://s3://bucket/users", tmp_path)
    assert "the table cannot be read" in str(error)
    assert "hunter2" not in str(error)
    assert error.location == "delta://s3://bucket/users"
    own = SourceError("it is mine", location="x")
    monkeypatch.setitem(__import__("sys").modules, "deltalake", _Library(own))
    assert refusal("delta://s3://bucket/users", tmp_path) is own


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("delta://", {}),
        ("delta:///x?version=new", {}),
        ("delta://s3://me:hunter2@bucket/x", {}),
        ("iceberg://lake/x?token=hunter2", {}),
        ("delta:///x", {"format": "csv"}),
        ("delta:///x", {"query": "SELECT 1"}),
    ],
)
def test_addresses_of_tables_are_checked(address: str, options: Mapping[str, Any]) -> None:
    """A version is a number, and credentials come from the environment."""
    with pytest.raises(InvalidInputError) as caught:
        Source.parse(address, **options)
    assert "hunter2" not in str(caught.value)
    assert Source.parse("delta:///x").rereadable().label == "delta:///x"
