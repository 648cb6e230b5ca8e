from __future__ import annotations

import base64
import json
import os
import random
import signal
from pathlib import Path

import pytest

from aiobatch.cli._exit_codes import ExitCode
from aiobatch.sync import StagingError

from ..cli.signals import wait_until
from ..helpers.hanging_resolver import HangingResolver
from ..sync.crash.power_loss import Disk, Operation
from ..sync.crash.test_power_loss import _check
from ..sync.crash.test_power_loss import disk as disk  # noqa: PLC0414 - a fixture
from .chaos_env import ChaosEnv, ids, quick_sandbox, served

PART = "What hangs, fills up or loses power"
_ENDS = "the command ends within its grace, with the signal's exit code and a report, and its locks are free"


def _stopped(chaos_env: ChaosEnv, url: str, source: str, ready: Path, **env: str) -> None:
    """Start a sync, stop it by SIGTERM when it hangs, and check its end."""
    argv = ["sync", "vip", source, "--create", "--state", str(chaos_env.state), "--json"]
    process = chaos_env.start(url, *argv, **env)
    wait_until(lambda: ready.exists() or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    output = chaos_env.finish(process)
    assert output.code == ExitCode.TERMINATED
    assert json.loads(output.out)["outcome"] == "interrupted"


@pytest.mark.chaos(
    part=PART, done="a sync reads a pipe whose writer hangs, and gets SIGTERM", holds=_ENDS, short=False
)
def test_hanging_pipe_obeys_signals(chaos_env: ChaosEnv, tmp_path: Path) -> None:
    """The next run works at once."""
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)
    os.write(held, b"id\na\n")
    with served(quick_sandbox()) as sandbox:
        _stopped(chaos_env, sandbox.url, str(pipe), chaos_env.state)
        os.close(held)
        argv = ["sync", "vip", str(chaos_env.write(ids(10))), "--create", "--state", str(chaos_env.state)]
        assert chaos_env.run(sandbox.url, *argv).code == ExitCode.DONE
    chaos_env.case.add_fact("ended, and the next run was exact")


@pytest.mark.chaos(
    part=PART, done="the resolver never answers for Batch's host, and SIGTERM comes", holds=_ENDS, short=False
)
def test_hanging_resolver_obeys_signals(chaos_env: ChaosEnv, tmp_path: Path) -> None:
    """No thread of the resolver keeps the process."""
    resolver = HangingResolver.build(tmp_path)
    source = str(chaos_env.write(ids(10)))
    _stopped(chaos_env, "https://batch.hang", source, resolver.mark, **resolver.env)
    chaos_env.case.add_fact("ended")


@pytest.mark.chaos(
    part=PART,
    done="the machine loses power while a journal is written, and unsynced pages and names are lost",
    holds="the state has every transition that was reported, or a half-written block is refused",
    short=False,
)
def test_loss_of_power_loses_nothing(
    chaos_env: ChaosEnv, disk: tuple[Path, list[Operation]], tmp_path: Path
) -> None:
    """Whatever pages reached the disk, the state is right."""
    directory, operations = disk
    losses, refused = chaos_env.case.size(2, 150), 0
    for loss in range(losses):
        draw, replayed = random.Random(10_000 + loss), Disk(directory)
        for operation in operations[: draw.randint(1, len(operations))]:
            replayed.apply(operation)
        replayed.lose_power(tmp_path / f"disk-{loss}", draw)
        printed = [line.split() for line in replayed.printed.decode().splitlines()]
        reason = _check(tmp_path / f"disk-{loss}" / "state.duckdb", printed)
        assert reason in ({None, "damaged"} if replayed.is_rewriting("state.duckdb") else {None})
        refused += reason is not None
    chaos_env.case.add_fact(f"{losses} losses of power, {losses - refused} exact, {refused} refused")


@pytest.mark.chaos(
    part=PART,
    done="a source needs more space for temporary files than `max_spill` allows",
    holds="the error names the option, nothing is sent, and the files are gone",
    short=False,
)
async def test_spill_is_bounded(chaos_env: ChaosEnv) -> None:
    """The disk is never filled by a source."""
    draw = random.Random(1)
    members = ids(chaos_env.case.size(1_200_000, 1_500_000))
    # Without a pattern, so that DuckDB's compression saves nothing.
    source = chaos_env.write(f"{one}-{base64.b64encode(draw.randbytes(150)).decode()}" for one in members)
    async with quick_sandbox() as sandbox, chaos_env.client(sandbox.url) as client:
        with chaos_env.expect(StagingError, "max_spill"):
            await chaos_env.sync(client, str(source), memory_limit="100MB", max_spill="100MB")
        assert sandbox.operation_counts["update"] == 0
    assert not list(chaos_env.directory.rglob("duckdb_temp*"))
