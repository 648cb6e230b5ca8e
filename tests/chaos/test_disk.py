from __future__ import annotations

import asyncio
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import duckdb
import pytest

from aiobatch.cli._exit_codes import ExitCode
from aiobatch.sandbox import Sandbox
from aiobatch.sync import StateError, UnknownMembersError

from .chaos_env import PRIVATE, ChaosEnv, Output, ids, quick_sandbox, served, wait_until

FULL = "A full disk below the state file"
UNUSABLE = "Unusable state files"
EXACT = "at the end, the audience has exactly the source's members"


@attrs.frozen
class Disk:
    """A small file system in memory.

    Attributes:
        path: Its mount point.
    """

    path: Path

    @property
    def state(self) -> Path:
        """The path of a state file on it."""
        return self.path / "state.duckdb"

    @property
    def used(self) -> int:
        """The used KiB."""
        return shutil.disk_usage(self.path).used // 1024

    def change(self, options: str) -> None:
        """Remount it with other options, to resize it or make it read-only."""
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)

    def fill(self) -> None:
        """Use all free space."""
        with (self.path / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(b"x" * 4096):
                    pass
            except OSError:
                return

    def clear(self) -> None:
        """Free the space that `fill` used."""
        (self.path / "filler").unlink(missing_ok=True)


@pytest.fixture
def disk(chaos_env: ChaosEnv) -> Iterator[Disk]:
    """A small disk below the searched directory."""
    path = chaos_env.directory / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a file system")
    yield Disk(path)
    for file in path.glob("state.*"):  # the search runs after the disk is unmounted
        if file.is_file():
            shutil.copy(file, chaos_env.directory)
    subprocess.run(["umount", "--lazy", path], check=True)


async def _wait_for_updates(sandbox: Sandbox, calls: int) -> None:
    """Wait until the sandbox has received *calls* updates."""
    await wait_until(lambda: sandbox.operation_counts.get("update", 0) >= calls)


def keep(chaos_env: ChaosEnv, error: StateError) -> StateError:
    """Keep an error for the search, and return it."""
    chaos_env.leak_search.errors.append(error)
    return error


@pytest.mark.sweep
@pytest.mark.chaos(
    part=FULL,
    done="the disk is full at first and a little larger in each run, until a sync succeeds. Twice",
    holds=f"each failed run reports the full disk. {EXACT}",
)
async def test_disk_full_at_every_stage(chaos_env: ChaosEnv, disk: Disk) -> None:
    """Wherever the disk is full (staging, journal, end), the next run resumes there."""
    case = chaos_env.case
    members = ids(case.size(6_000, 40_000))
    reasons: list[str] = []
    async with quick_sandbox() as sandbox, chaos_env.client(sandbox.url) as client:
        for source in ([*members[1_000:], *ids(500, 900_000)], members):
            for size in range(disk.used + 16, 1_000_000, case.size(256, 32)):
                disk.change(f"size={size}k")
                try:
                    await chaos_env.sync(client, source, state=disk.state)
                except StateError as error:
                    reasons.append(keep(chaos_env, error).reason)
                else:
                    break
            assert set(sandbox.members("vip")) == set(source)
        disk.change("size=64m")
        assert not (await chaos_env.sync(client, members, state=disk.state)).changes
        case.add_requests(client)
    assert len(reasons) >= 4
    assert set(reasons) == {"full"}
    case.add_fact(
        f"{len(reasons)} runs found it full, 2 succeeded, 0 of {len(members):,} IDs lost or left over"
    )


@pytest.mark.sweep
@pytest.mark.chaos(
    part=FULL,
    done="another process fills the disk while chunks are sent",
    holds=f"the run reports the full disk. With free space, the next run settles the open chunks. {EXACT}",
)
async def test_disk_filled_while_sending(chaos_env: ChaosEnv, disk: Disk) -> None:
    """Sent chunks are settled, whenever the journal could no longer be written."""
    case = chaos_env.case
    members = ids(10_000)
    disk.change("size=64m")
    reasons: list[str] = []
    settled = 0
    async with quick_sandbox() as sandbox, chaos_env.client(sandbox.url) as client:
        for chunk in range(1, 50, case.size(12, 2)):
            name, sent = f"vip-{chunk}", sandbox.operation_counts.get("update", 0)

            async def fill(due: int = sent + chunk) -> None:
                await _wait_for_updates(sandbox, due)
                disk.fill()

            filling = asyncio.create_task(fill())
            try:
                await chaos_env.sync(client, members, name, state=disk.state, chunk_size=200)
            except StateError as error:
                reasons.append(keep(chaos_env, error).reason)
            await filling
            disk.clear()
            report = await chaos_env.sync(client, members, name, state=disk.state)
            settled += report.settled_run is not None
            assert set(sandbox.members(name)) == set(members)
    assert set(reasons) == {"full"}
    case.add_fact(f"{len(reasons)} runs were stopped, {settled} of them settled by the next, 0 IDs lost")


@pytest.mark.chaos(
    part=FULL,
    done="`plan --out` and `sync --rejects` write to a full disk",
    holds="the message names the file, no partial plan is left, and nothing is sent",
    short=False,
)
def test_output_files_on_a_full_disk(chaos_env: ChaosEnv, disk: Disk) -> None:
    """A file that cannot be written is reported before anything is sent."""
    source = chaos_env.write([*ids(1_000), *["bad\tid"] * 50_000])
    plan, rejects = disk.path / "plan.json", disk.path / "rejects.csv"
    with served(quick_sandbox()) as sandbox:
        disk.fill()
        for path, command in ((plan, ["plan", "--out"]), (rejects, ["sync", "--rejects"])):
            argv = [command[0], "vip", str(source), "--create", "--state", str(chaos_env.state)]
            output = chaos_env.run(sandbox.url, *argv, *command[1:], str(path))
            assert output.code in {ExitCode.FAILED, ExitCode.USAGE}, output.err
            assert str(path) in error_text(output)
            assert re.search("no space left", error_text(output), re.IGNORECASE)
            chaos_env.case.add_fact(
                f"`{command[0]}` exits with {output.code}: “{error_quote(chaos_env, output)}”"
            )
            output.out = output.out.replace(PRIVATE, "")  # a plan contains a sample of its IDs
        assert not plan.exists()
        assert not sandbox.operation_counts.get("update")


@pytest.mark.chaos(
    part=UNUSABLE,
    done="the file system of the state is read-only",
    holds="exit code 1 and a message that names the state, before any request",
    short=False,
)
def test_read_only_disk(chaos_env: ChaosEnv, disk: Disk) -> None:
    """A new state and an old one are refused alike. The old one is unchanged."""
    source = chaos_env.write(ids(1_000))
    disk.change("size=64m")
    with served(quick_sandbox()) as sandbox:
        assert chaos_env.run(sandbox.url, *sync(source, disk.state)).code == ExitCode.DONE
        before = sandbox.request_count
        disk.change("ro")
        for state in (disk.path / "new.duckdb", disk.state):
            check_refused(chaos_env, sandbox, state, source)
        assert sandbox.request_count == before
        disk.change("rw")
        assert chaos_env.run(sandbox.url, *sync(source, disk.state)).code == ExitCode.DONE


def sync(source: Path, state: Path, name: str = "vip") -> list[str]:
    """Return the arguments of a sync."""
    return ["sync", name, str(source), "--create", "--state", str(state)]


def error_text(output: Output) -> str:
    """Return a process's messages without its log records."""
    lines = (line for line in output.err.splitlines() if line.startswith("aiobatch: "))
    return " ".join(line.removeprefix("aiobatch: ") for line in lines)


def check_refused(chaos_env: ChaosEnv, sandbox: Sandbox, state: Path, source: Path) -> Output:
    """Run a sync with an unusable state: it fails with a message and sends no request."""
    before = sandbox.request_count
    output = chaos_env.run(sandbox.url, *sync(source, state))
    assert output.code == ExitCode.FAILED, output.err
    assert str(state) in error_text(output)
    assert "Traceback" not in output.err
    assert sandbox.request_count == before
    chaos_env.case.add_fact(f"“{error_quote(chaos_env, output)}”")
    return output


def error_quote(chaos_env: ChaosEnv, output: Output) -> str:
    """Return a process's messages without the test's directory."""
    return error_text(output).replace(str(chaos_env.directory), "…")


def _directory(state: Path) -> None:
    state.unlink()
    state.mkdir()


def _newer(state: Path) -> None:
    with duckdb.connect(state) as database:
        database.execute("UPDATE aiobatch_state SET version = version + 1")


def _foreign(state: Path) -> None:
    state.unlink()
    with duckdb.connect(state) as database:
        database.execute("CREATE TABLE precious AS SELECT 1 AS one")


def _loop(state: Path) -> None:
    state.unlink()
    state.symlink_to(state)


def _other(state: Path) -> None:
    state.write_bytes(b"id\nu1\n" * 10_000)


# The fault, how to cause it, and the remedy in the message.
UNUSABLE_STATES: Mapping[str, tuple[str, Callable[[Path], None], str]] = {
    "directory": ("the state is a directory", _directory, "name a file in it"),
    "newer": ("the state is of a newer version", _newer, "install the aiobatch"),
    "foreign": ("the state is another program's DuckDB file", _foreign, "choose another path"),
    "loop": ("the state is a symbolic link to itself", _loop, "check the path"),
    "other": ("the state is not a database", _other, "adopt"),
}
SHORT = ("directory",)


@pytest.mark.parametrize(
    ("damage", "remedy"),
    [
        pytest.param(
            damage,
            remedy,
            marks=pytest.mark.chaos(
                part=UNUSABLE,
                done=done,
                holds="exit code 1 and a remedy. No request is sent and the file is unchanged",
                short=name in SHORT,
            ),
            id=name,
        )
        for name, (done, damage, remedy) in UNUSABLE_STATES.items()
    ],
)
def test_unusable_state_is_refused(damage: Callable[[Path], None], remedy: str, chaos_env: ChaosEnv) -> None:
    """An unusable state is refused and left unchanged."""
    source = chaos_env.write(ids(1_000))
    with served(quick_sandbox()) as sandbox:
        assert chaos_env.run(sandbox.url, *sync(source, chaos_env.state)).code == ExitCode.DONE
        damage(chaos_env.state)
        before = chaos_env.state.read_bytes() if chaos_env.state.is_file() else None
        assert remedy in error_text(check_refused(chaos_env, sandbox, chaos_env.state, source)).lower()
        assert before is None or chaos_env.state.read_bytes() == before


@pytest.mark.chaos(
    part=UNUSABLE,
    done="the state is truncated at a random byte",
    holds="it is refused with a remedy and nothing is sent. Once restored, syncs continue",
)
async def test_truncated_state_is_refused(chaos_env: ChaosEnv) -> None:
    """A truncated state is refused, however much of it is left."""
    members = ids(20_000)
    async with quick_sandbox() as sandbox, chaos_env.client(sandbox.url) as client:
        await chaos_env.sync(client, members)
        whole, sent = chaos_env.state.read_bytes(), sandbox.operation_counts["update"]
        rounds = chaos_env.case.size(10, 200)
        for seed in range(rounds):
            chaos_env.state.write_bytes(whole[: random.Random(seed).randrange(1, len(whole))])
            with pytest.raises(StateError) as caught:
                await chaos_env.sync(client, members)
            assert caught.value.reason == "damaged"
            keep(chaos_env, caught.value)
        assert sandbox.operation_counts["update"] == sent
        chaos_env.case.add_fact(
            f"{rounds} truncations, all refused: “{str(caught.value).partition(': ')[2]}”"
        )
        chaos_env.state.write_bytes(whole)
        assert not (await chaos_env.sync(client, members)).changes


@pytest.mark.chaos(
    part=UNUSABLE,
    done="the state is missing or an empty file, and the audience has members",
    holds="nothing is sent, and the error suggests `adopt`",
)
async def test_missing_state_sends_nothing(chaos_env: ChaosEnv) -> None:
    """A run without recorded members does not guess them."""
    members = ids(1_000)
    async with quick_sandbox() as sandbox, chaos_env.client(sandbox.url) as client:
        await chaos_env.sync(client, members)
        for path in chaos_env.directory.glob("state*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        sent = sandbox.operation_counts["update"]
        with chaos_env.expect(UnknownMembersError, "adopt"):
            await chaos_env.sync(client, members[:-1])
        chaos_env.state.write_bytes(b"")
        with pytest.raises(StateError, match="adopt"):
            await chaos_env.sync(client, members[:-1])
        assert sandbox.operation_counts["update"] == sent
        assert len(sandbox.members("vip")) == len(members)


@pytest.mark.chaos(
    part=UNUSABLE,
    done="a run is killed, and the state's write-ahead log is truncated at a random byte",
    holds=f"the state is refused with a remedy, or the next run resumes. {EXACT}",
    short=False,
)
async def test_truncated_log_ends_exact(chaos_env: ChaosEnv) -> None:
    """Lost journal entries are sent again, and a second add changes nothing."""
    members = ids(60_000)
    source, log = chaos_env.write(members), chaos_env.state.with_name("state.duckdb.wal")
    refusals = resumed = lost = 0
    async with quick_sandbox(indexing_delay=(0.2, 0.4)) as sandbox:
        for seed in range(20):
            draw, name = random.Random(seed), f"vip-{seed}"
            argv = sync(source, chaos_env.state, name)
            process = chaos_env.start(sandbox.url, *argv)
            await _wait_for_updates(sandbox, sandbox.operation_counts.get("update", 0) + draw.randint(1, 6))
            process.kill()
            await asyncio.to_thread(chaos_env.finish, process)
            database, whole = chaos_env.state.read_bytes(), log.read_bytes()
            log.write_bytes(whole[: draw.randrange(len(whole))])
            lost += len(whole) - log.stat().st_size
            output = await asyncio.to_thread(chaos_env.run, sandbox.url, *argv)
            if output.code != ExitCode.DONE:
                refusals += 1
                assert output.code in {ExitCode.FAILED, ExitCode.UNKNOWN_MEMBERS}
                assert re.search(r"adopt|resync", error_text(output)), output.err
                chaos_env.state.write_bytes(database)
                log.write_bytes(whole)
                assert (await asyncio.to_thread(chaos_env.run, sandbox.url, *argv)).code == ExitCode.DONE
            else:
                resumed += 1
            assert set(sandbox.members(name)) == set(members)
    chaos_env.case.add_fact(
        f"{lost:,} bytes removed, {resumed} times resumed, {refusals} times refused, exact each time"
    )
