"""docs/howto/deploy.md: its image, its manifests and its workflow, as printed."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import duckdb
import pytest
import yaml
from packaging.requirements import Requirement

from aiobatch import __version__
from aiobatch.cli import ExitCode
from aiobatch.sync.state.objects._open import open_store

from ..helpers.s3_server import S3Server
from .page import HOWTO, Place, read_blocks

PAGE = HOWTO / "deploy.md"
CONFIG = "/etc/aiobatch/aiobatch.toml"
AUDIENCES = ("gold", "silver")
# Codes that need a person, of those that `run` can exit with.
FINAL = [
    ExitCode.USAGE,
    ExitCode.NOT_FOUND,
    ExitCode.REPLACED,
    ExitCode.GUARDED,
    ExitCode.DRIFTED,
    ExitCode.BAD_SOURCE,
    ExitCode.STALE,
    ExitCode.UNKNOWN_MEMBERS,
]


def image() -> dict[str, str]:
    """Return the instructions of the image. None of them occurs twice."""
    (text,) = read_blocks(PAGE, "An image", "dockerfile")
    return dict(line.split(" ", 1) for line in text.splitlines())


def manifest(section: str) -> dict[str, Any]:
    """Return the YAML of a section."""
    (text,) = read_blocks(PAGE, section, "yaml")
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def job(section: str) -> dict[str, Any]:
    """Return the job of a section, also that of a CronJob."""
    spec: dict[str, Any] = manifest(section)["spec"]
    inner: dict[str, Any] = spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec
    return inner


JOBS = ("A CronJob", "One pod for each audience")


def test_every_block_is_tested() -> None:
    """The page has no other blocks than those that the tests below read."""
    kinds = re.findall(r"^```(\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert kinds == ["toml", "dockerfile", "yaml", "yaml", "yaml"]


def test_installed_package_is_this_one() -> None:
    """The image and the workflow install the version of this checkout, with extras that exist."""
    steps = manifest("GitHub Actions")["jobs"]["sync"]["steps"]
    lines = [image()["RUN"], *(step["run"] for step in steps if "pip install" in step.get("run", ""))]
    known = importlib.metadata.metadata("aiobatch-client").get_all("Provides-Extra")
    assert known is not None
    assert len(lines) == 2
    for line in lines:
        (text,) = re.findall(r"'(.+)'", line)
        wanted = Requirement(text)
        assert (wanted.name, str(wanted.specifier)) == ("aiobatch-client", f"=={__version__}")
        assert wanted.extras <= set(known)


def test_image_is_clean(tmp_path: Path) -> None:
    """Hadolint finds nothing. The user is a number, and the commands are lists, so signals arrive."""
    lines = image()
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", lines["USER"])
    assert json.loads(lines["ENTRYPOINT"]) == ["aiobatch"]
    assert lines["COPY"].split()[-1] in json.loads(lines["CMD"])
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("hadolint is not installed: make test-recipes")
    (tmp_path / "Dockerfile").write_text(read_blocks(PAGE, "An image", "dockerfile")[0], encoding="utf-8")
    done = subprocess.run([program, tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("section", JOBS)
def test_jobs_survive_without_a_volume(section: str) -> None:
    """A pod has no volume, and time to end. A code that needs a person is not retried."""
    found = job(section)
    pod = found["template"]["spec"]
    (container,) = pod["containers"]
    assert "volumes" not in pod
    (grace,) = re.findall(r"--grace,? \"?(\d+)", str(container["args"]).replace("'", ""))
    assert int(grace) < pod["terminationGracePeriodSeconds"]
    (rule,) = found["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"] == {"operator": "In", "values": [int(code) for code in FINAL]}
    assert pod["restartPolicy"] == "Never"  # a failure policy needs it


@pytest.mark.parametrize("section", JOBS)
def test_manifests_are_valid(section: str) -> None:
    """Kubernetes accepts each manifest, without an unknown field."""
    library = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed: make test-recipes"
    )
    library.validate(manifest(section), "1.30", strict=True)


def test_workflow_is_valid(tmp_path: Path) -> None:
    """The workflow follows GitHub's schema."""
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed: make test-recipes")
    (tmp_path / "sync.yml").write_text(read_blocks(PAGE, "GitHub Actions", "yaml")[0], encoding="utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*command, tmp_path / "sync.yml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.fixture
async def cloud(place: Place, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return a place with the sources in the bucket, the config, and no home."""
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    await asyncio.to_thread(_upload, place.directory)
    (text,) = read_blocks(PAGE, "", "toml")
    (place.directory / "aiobatch.toml").write_text(text, encoding="utf-8")
    return attrs.evolve(place, variables={**s3.environ, "HOME": "/nonexistent"})


def _upload(directory: Path) -> None:
    store = open_store("s3://my-bucket")
    store.delete([one.path for one in store.list("")])
    for name in AUDIENCES:
        path = directory / f"{name}.parquet"
        with duckdb.connect() as connection:
            rows = f"SELECT '{name}' || range AS user_id FROM range(30)"
            connection.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
        store.upload(f"users/{name}.parquet", path)


def _members(place: Place) -> dict[str, int]:
    return {one.name: len(place.sandbox.members(one.name)) for one in place.sandbox.audiences()}


@pytest.mark.sweep
async def test_image_and_workflow_run_as_printed(cloud: Place) -> None:
    """The command of the image, that of the CronJob and that of the workflow sync all audiences."""
    local = str(cloud.directory / "aiobatch.toml")
    lines = image()
    (container,) = job("A CronJob")["template"]["spec"]["containers"]
    arguments = container["args"]
    assert arguments[:3] == json.loads(lines["CMD"])  # the CronJob adds a grace
    command = [*json.loads(lines["ENTRYPOINT"]), *arguments]
    code, output = await cloud.run(*(word.replace(CONFIG, local) for word in command))
    assert code == 0, output
    assert _members(cloud) == dict.fromkeys(AUDIENCES, 30)
    steps = manifest("GitHub Actions")["jobs"]["sync"]["steps"]
    (line,) = (step["run"] for step in steps if step.get("run", "").startswith("aiobatch"))
    code, output = await cloud.run("bash", "-e", "-c", line)
    assert code == 0, output
    (alarm,) = re.findall(r"`(aiobatch status [^`]+)`", PAGE.read_text(encoding="utf-8"))
    assert await cloud.run("bash", "-e", "-c", alarm) == (0, "")


@pytest.mark.sweep
async def test_each_pod_syncs_its_audience(cloud: Place) -> None:
    """Each number of the Indexed Job is an audience of its own, and the pods do not disturb each other."""
    found = job("One pod for each audience")
    (container,) = found["template"]["spec"]["containers"]
    local = str(cloud.directory / "aiobatch.toml")
    (script,) = container["args"]
    command = [*container["command"], script.replace(CONFIG, local)]
    pods = [cloud.run(*command, JOB_COMPLETION_INDEX=str(index)) for index in range(found["completions"])]
    for code, output in await asyncio.gather(*pods):
        assert code == 0, output
    assert _members(cloud) == dict.fromkeys(AUDIENCES, 30)
