"""docs/howto/sync-jobs.md as printed. Its lines run from an empty environment, with a home at most."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import yaml

from aiobatch.cli import ExitCode
from aiobatch.sandbox import API_KEY, PROJECT_KEY, REST_API_KEY, Sandbox

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "sync-jobs.md"
_BLOCK = re.compile(r"^```(sh|toml|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CRON = re.compile(r"^[0-9*]+ [0-9*]+ [0-9*]+ [0-9*]+ [0-9*]+ (.+)$")
# Directories of the guide, which are below a temporary one here.
_DIRECTORIES = ("/etc/aiobatch", "/var/lib/aiobatch", "/var/log", "/data", "/state")


@pytest.fixture
def root(tmp_path: Path, sandbox: Sandbox) -> Path:
    """Install what the guide presupposes: its directories, a source, and the file of the keys."""
    for directory in _DIRECTORIES:
        Path(f"{tmp_path}{directory}").mkdir(parents=True)
    duckdb.connect().execute(
        f"COPY (SELECT 'u' || range AS user_id FROM range(5)) TO '{tmp_path}/data/vip.parquet'"
    )
    with contextlib.closing(sqlite3.connect(f"{tmp_path}/data/crm.db")) as crm:
        for table in ("churned", "vip"):
            crm.execute(
                f"CREATE TABLE {table} AS SELECT 'u' || value AS user_id FROM json_each('[0,1,2,3,4]')"
            )
    keys = Path(f"{tmp_path}/etc/aiobatch/keys.env")
    keys.write_text(
        f"BATCH_BASE_URL={sandbox.url}\nBATCH_REST_API_KEY={REST_API_KEY}\n"
        f"BATCH_PROJECT_KEY={PROJECT_KEY}\nBATCH_IOS_KEY={API_KEY}\nPGPASSWORD=none\n"
    )
    keys.chmod(0o600)
    return tmp_path


def _blocks(language: str, root: Path) -> list[str]:
    """Return the blocks of a language, with the paths of this machine."""
    text = GUIDE.read_text(encoding="utf-8")
    for directory in _DIRECTORIES:
        text = re.sub(rf"(?<![\w/]){directory}(?=[/\w.])", f"{root}{directory}", text)
    text = re.sub(r"postgresql://[^'\" ]+/crm", f"sqlite:///{root}/data/crm.db", text)
    return [block for kind, block in _BLOCK.findall(text) if kind == language]


def _run(line: str, cwd: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line as cron does: with the shell, and with these variables only."""
    command = re.sub(r"(^|\s)(/opt/aiobatch/bin/)?aiobatch(?= )", rf"\1{sys.executable} -m aiobatch", line)
    return subprocess.run(
        ["env", "-i", *variables, "/bin/sh", "-c", command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def _done(line: str, cwd: Path, *variables: str) -> str:
    """Run a line that must succeed, and return what it prints.

    It has a home, as cron gives it one: the locks of audiences are there, and other tests have the same ones.
    """
    done = _run(line, cwd, f"HOME={cwd}", *variables)
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout


@pytest.fixture
def config(root: Path) -> Path:
    """Write the config of the guide."""
    path = Path(f"{root}/etc/aiobatch/aiobatch.toml")
    (text,) = _blocks("toml", root)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.sweep
def test_the_commands_run_as_printed(root: Path, config: Path, sandbox: Sandbox) -> None:
    """The config and each line of a shell work one after the other: the job, the alarm, the repairs."""
    keys = f"--env-file {root}/etc/aiobatch/keys.env"
    _done(f"aiobatch run {config} --check {keys}", root)
    _done(f"aiobatch run --config {config} --only vip {keys}", root)
    found: dict[str, int] = {}
    for line in (line for block in _blocks("sh", root) for line in block.splitlines()):
        if line.startswith("#") or "--json" in line:
            continue
        cron = _CRON.match(line)
        words = (cron[1] if cron else line.partition("#")[0]).strip()
        command = re.split(r"aiobatch ", words, maxsplit=1)[1].split()[0]
        found[command] = found.get(command, 0) + 1
        if "--max-age" in words:
            alarm = _run(words, root)
            assert (alarm.returncode, alarm.stdout) == (ExitCode.OVERDUE, "")
            assert alarm.stderr == "aiobatch: churned → web: never loaded, no attempt is recorded.\n"
            continue
        words = words.replace("show 42", "show 1")
        needs_keys = command not in {"status", "runs", "show"} and "--env-file" not in words
        _done(f"{words} {keys}" if needs_keys else words, root)
    # A new line of the guide is run as well, and is counted here.
    assert found == {
        "plan": 1,
        "apply": 1,
        "sync": 1,
        "status": 2,
        "runs": 1,
        "show": 1,
        "verify": 1,
        "resync": 1,
        "doctor": 1,
    }
    assert len(sandbox.members("vip", scope="1.x")) == 5


@pytest.mark.sweep
def test_the_task_of_airflow_runs_as_printed(root: Path, sandbox: Sandbox) -> None:
    """The line prints one report, which ends as its last line of stdout."""
    keys = Path(f"{root}/etc/aiobatch/keys.env").read_text().splitlines()
    lines = (line for block in _blocks("sh", root) for line in block.splitlines())
    (line,) = (line for line in lines if "aiobatch sync" in line and "--json" in line)
    _done("aiobatch create vip --wait", root, *keys)
    (report,) = _done(line, root, *keys).splitlines()
    assert json.loads(report)["outcome"] == "done"
    assert len(sandbox.members("vip")) == 5


@pytest.mark.sweep
def test_the_pod_runs_as_printed(root: Path, config: Path, sandbox: Sandbox) -> None:
    """The manifest is YAML, its state is on the volume, and its command syncs the whole config."""
    (text,) = _blocks("yaml", root)
    job = yaml.safe_load(text)
    assert (job["kind"], job["spec"]["concurrencyPolicy"]) == ("CronJob", "Forbid")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    args = container["args"]
    grace = float(args[args.index("--grace") + 1])
    assert grace < pod["terminationGracePeriodSeconds"]
    assert Path(f"{root}{mount['mountPath']}") == Path(args[args.index("--state") + 1]).parent
    assert mount["name"] == volume["name"]
    keys = Path(f"{root}/etc/aiobatch/keys.env").read_text().splitlines()
    report = json.loads(_done(shlex.join(["aiobatch", *args]), root, *keys))
    assert [one["outcome"] for one in report["audiences"]] == ["done"] * 3
    assert Path(f"{root}/state/state.duckdb").exists()


def test_every_block_is_run() -> None:
    """The guide has no block of another language, which no test would run."""
    kinds = re.findall(r"^```(\w+)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {kind: kinds.count(kind) for kind in kinds} == {"toml": 1, "sh": 7, "yaml": 1}
