"""docs/howto/sync-jobs.md as printed: each command line runs from an empty environment, as cron runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from aiobatch.cli import ExitCode
from aiobatch.sandbox import API_KEY, PROJECT_KEY, REST_API_KEY, Sandbox

GUIDE = Path(__file__).resolve().parent.parent.parent / "docs" / "howto" / "sync-jobs.md"
_BLOCK = re.compile(r"^```(sh|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CRON = re.compile(r"^[0-9*]+ [0-9*]+ [0-9*]+ [0-9*]+ [0-9*]+ (.+)$")
# Directories of the guide, which are below a temporary one here.
_DIRECTORIES = ("/etc/aiobatch", "/var/lib/aiobatch", "/var/log", "/data")


@pytest.fixture
def root(tmp_path: Path, sandbox: Sandbox) -> Path:
    """Install what the guide presupposes: its directories, a source, and the file of the keys."""
    for directory in _DIRECTORIES:
        Path(f"{tmp_path}{directory}").mkdir(parents=True)
    duckdb.connect().execute(
        f"COPY (SELECT 'u' || range AS user_id FROM range(5)) TO '{tmp_path}/data/vip.parquet'"
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
    return [block for kind, block in _BLOCK.findall(text) if kind == language]


def _run(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as cron does: with the shell and without variables."""
    command = re.sub(r"(^|\s)(/opt/aiobatch/bin/)?aiobatch(?= )", rf"\1{sys.executable} -m aiobatch", line)
    return subprocess.run(
        ["env", "-i", "/bin/sh", "-c", command], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_guide_runs_as_printed(root: Path, sandbox: Sandbox) -> None:
    """The config, the job, the alarm and the repairs of the guide work one after the other."""
    config, keys = f"{root}/etc/aiobatch/aiobatch.toml", f"--env-file {root}/etc/aiobatch/keys.env"
    (text,) = _blocks("toml", root)
    Path(config).write_text(text, encoding="utf-8")
    assert _run(f"aiobatch run {config} --check {keys}", root).returncode == 0
    loaded = _run(f"aiobatch run --config {config} --only vip {keys}", root)
    assert loaded.returncode == 0, loaded.stderr
    lines = [line for block in _blocks("sh", root) for line in block.splitlines()]
    job, alarm = (match[1] for line in lines if (match := _CRON.match(line)))
    assert _run(job, root).returncode == 0
    assert len(sandbox.members("vip", scope="2.x")) == len(sandbox.members("vip", scope="1.x")) == 5
    found = _run(alarm, root)
    assert (found.returncode, found.stdout) == (ExitCode.OVERDUE, "")
    assert found.stderr == "aiobatch: churned → web: never loaded, no attempt is recorded.\n"
    for line in lines:
        words = line.partition("#")[0].strip()
        if words.startswith(("aiobatch status", "aiobatch runs")):
            assert _run(words, root).returncode == 0, words
        elif words.startswith(("aiobatch verify", "aiobatch resync")):
            done = _run(f"{words} {keys}", root)
            assert done.returncode == 0, (words, done.stderr)
