"""docs/howto/orchestrate.md: its programs in Dagster, Prefect and Spark, and its commands."""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import attrs
import pytest
import yaml

from .page import HOWTO, Place, read_blocks

PAGE = HOWTO / "orchestrate.md"


def test_every_block_is_tested() -> None:
    """The page has no other blocks than those that the tests below read."""
    kinds = re.findall(r"^```(\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert kinds == ["python", "sh", "python", "yaml", "sh", "python"]


def prepare(place: Place, section: str) -> Place:
    """Write the program of a section as `main.py`, with a state and sources on this disk."""
    (program,) = read_blocks(PAGE, section, "python")
    directory = place.directory
    for name in ("vip", "trial"):
        write_source(directory / f"{name}.csv", 200)
    for cloud, local in (
        ("s3://my-bucket/aiobatch", f"file://{directory}/state"),
        ("s3://my-bucket/users", str(directory)),
        ("s3a://my-bucket", str(directory)),
        ('.parquet"', '.csv"'),
    ):
        program = program.replace(cloud, local)
    (directory / "state").mkdir()
    (directory / "main.py").write_text(program, encoding="utf-8")
    variables = {
        "AUDIENCE_STATE": f"file://{directory}/state",
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": f"{directory}/prefect",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "240",
    }
    return attrs.evolve(place, variables=variables)


def write_source(path: Path, rows: int) -> None:
    """Write a CSV file of IDs."""
    path.write_text("user_id\n" + "".join(f"u{row}\n" for row in range(rows)), encoding="utf-8")


@pytest.mark.sweep
async def test_dagster_materialises_the_asset(place: Place) -> None:
    """The asset has the members. A run that the guard refuses fails, and is not retried."""
    pytest.importorskip("dagster", reason="Dagster is not installed: make test-recipes")
    local = await asyncio.to_thread(prepare, place, "Dagster")
    _, line = read_blocks(PAGE, "Dagster", "sh")[0].splitlines()
    code, output = await local.run(*line.split())
    assert code == 0, output
    assert len(place.sandbox.members("vip")) == 200
    write_source(place.directory / "vip.csv", 10)
    code, output = await local.run(*line.split())
    assert code != 0
    assert "GuardError" in output
    assert "STEP_UP_FOR_RETRY" not in output
    assert len(place.sandbox.members("vip")) == 200


@pytest.mark.sweep
async def test_prefect_runs_the_flow(place: Place) -> None:
    """The flow syncs both audiences."""
    pytest.importorskip("prefect", reason="Prefect is not installed: make test-recipes")
    local = await asyncio.to_thread(prepare, place, "Prefect")
    code, output = await local.run("python", "main.py")
    assert code == 0, output
    assert "{'vip': 200, 'trial': 200}" in output
    assert [len(place.sandbox.members(name)) for name in ("vip", "trial")] == [200, 200]


@pytest.mark.sweep
async def test_spark_adds_each_batch(place: Place) -> None:
    """Rows of a stream become members. A batch that comes again sends nothing."""
    pytest.importorskip("pyspark", reason="PySpark is not installed: make test-recipes")
    if shutil.which("java") is None:
        pytest.skip("Java is not installed: apt-get install openjdk-17-jre-headless")
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    local = await asyncio.to_thread(prepare, place, "Spark")
    (place.directory / "signups").mkdir()
    rows = arrow.table({"user_id": [f"u{row}" for row in range(40)]})
    parquet.write_table(rows, place.directory / "signups" / "a.parquet")
    for _ in range(2):
        code, output = await local.run("python", "main.py", PYSPARK_PYTHON="python")
        assert code == 0, output
        assert len(place.sandbox.members("signups")) == 40
        await asyncio.to_thread(shutil.rmtree, place.directory / "checkpoint")
    assert place.sandbox.operation_counts["update"] == 1


@pytest.mark.sweep
async def test_dbt_decides_whether_a_sync_starts(place: Place) -> None:
    """The model's tests are those of an audience, and a failed build sends nothing."""
    (text,) = read_blocks(PAGE, "dbt", "yaml")
    ((model,),) = [yaml.safe_load(text)["models"]]
    (column,) = model["columns"]
    assert (model["name"], column["name"]) == ("vip", "user_id")
    assert column["data_tests"] == ["unique", "not_null"]
    await asyncio.to_thread(_create_warehouse, place.directory)
    (line,) = read_blocks(PAGE, "dbt", "sh")
    line = line.replace("postgresql://etl@warehouse/crm", f"sqlite:///{place.directory}/crm.db")
    line = line.replace("analytics.vip", "vip").replace("s3://my-bucket/aiobatch", "state.duckdb")
    for exit_code, expected in ((1, []), (0, ["vip"])):
        stub = place.directory / "bin" / "dbt"
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f"#!/bin/sh\nexit {exit_code}\n", encoding="utf-8")
        stub.chmod(0o755)
        code, output = await place.run("bash", "-c", line)
        assert code == exit_code, output
        assert [one.name for one in place.sandbox.audiences()] == expected
    assert len(place.sandbox.members("vip")) == 30


def _create_warehouse(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "crm.db")) as crm:
        crm.execute("CREATE TABLE vip (user_id TEXT)")
        crm.executemany("INSERT INTO vip VALUES (?)", [(f"u{row}",) for row in range(30)])
        crm.commit()
