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

from .chaos_env import PRIVATE, Ground, Output, ids, quick_sandbox, served, until

FULL = "A full disk under the state"
UNUSABLE = "A state that cannot be used"
EXACT = "in the end there are exactly the source's members"


@attrs.frozen
class Disk:
    """A file system of its own, in memory.

    Attributes:
        path: Where it is mounted.
    """

    path: Path

    @property
    def state(self) -> Path:
        """A state file on it."""
        return self.path / "state.duckdb"

    @property
    def used(self) -> int:
        """KiB that are taken."""
        return shutil.disk_usage(self.path).used // 1024

    def change(self, options: str) -> None:
        """Make it larger, or read-only."""
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)

    def fill(self) -> None:
        """Take all that is left."""
        with (self.path / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(b"x" * 4096):
                    pass
            except OSError:
                return

    def clear(self) -> None:
        """Give back what `fill` took."""
        (self.path / "filler").unlink(missing_ok=True)


@pytest.fixture
def disk(ground: Ground) -> Iterator[Disk]:
    """A small disk, under the directory that is searched."""
    path = ground.directory / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    yield Disk(path)
    for file in path.glob("state.*"):  # the search comes when the disk is gone
        if file.is_file():
            shutil.copy(file, ground.directory)
    subprocess.run(["umount", "--lazy", path], check=True)


async def _sent(sandbox: Sandbox, calls: int) -> None:
    """Wait until so many write calls have come in."""
    await until(lambda: sandbox.operation_counts.get("update", 0) >= calls)


def keep(ground: Ground, error: StateError) -> StateError:
    """Keep an error for the search."""
    ground.evidence.errors.append(error)
    return error


@pytest.mark.fire(
    part=FULL,
    done="the disk is full at first, and a little larger in each run until a sync comes through; twice",
    holds=f"a run that fails says that the disk is full; {EXACT}",
)
async def test_a_disk_that_is_full_at_every_stage(ground: Ground, disk: Disk) -> None:
    """Wherever it is full, in staging, in the journal or at the end, the next run goes on from there."""
    case = ground.case
    members = ids(case.size(6_000, 40_000))
    reasons: list[str] = []
    async with quick_sandbox() as sandbox, ground.client(sandbox.url) as client:
        for source in ([*members[1_000:], *ids(500, 900_000)], members):
            for size in range(disk.used + 16, 1_000_000, case.size(256, 32)):
                disk.change(f"size={size}k")
                try:
                    await ground.sync(client, source, state=disk.state)
                except StateError as error:
                    reasons.append(keep(ground, error).reason)
                else:
                    break
            assert set(sandbox.members("vip")) == set(source)
        disk.change("size=64m")
        assert not (await ground.sync(client, members, state=disk.state)).changes
        case.count(client)
    assert len(reasons) >= 4
    assert set(reasons) == {"full"}
    case.tell(f"{len(reasons)} runs found it full, 2 came through; 0 of {len(members):,} ids lost, 0 strays")


@pytest.mark.fire(
    part=FULL,
    done="somebody else fills the disk while chunks are sent",
    holds=f"the run says that the disk is full; with room again, the next one settles what was open; {EXACT}",
)
async def test_a_disk_that_somebody_else_fills(ground: Ground, disk: Disk) -> None:
    """What was sent before is settled, whenever it was that the journal could not be written any more."""
    case = ground.case
    members = ids(10_000)
    disk.change("size=16m")
    reasons: list[str] = []
    settled = 0
    async with quick_sandbox() as sandbox, ground.client(sandbox.url) as client:
        for chunk in range(1, 50, case.size(12, 2)):
            name, sent = f"vip-{chunk}", sandbox.operation_counts.get("update", 0)

            async def fill(due: int = sent + chunk) -> None:
                await _sent(sandbox, due)
                disk.fill()

            filling = asyncio.create_task(fill())
            try:
                await ground.sync(client, members, name, state=disk.state, chunk_size=200)
            except StateError as error:
                reasons.append(keep(ground, error).reason)
            await filling
            disk.clear()
            report = await ground.sync(client, members, name, state=disk.state)
            settled += report.settled_run is not None
            assert set(sandbox.members(name)) == set(members)
    assert set(reasons) == {"full"}
    case.tell(f"{len(reasons)} runs were stopped, {settled} of them settled by the next; 0 ids lost")


@pytest.mark.fire(
    part=FULL,
    done="`plan --out` and `sync --rejects` write to a full disk",
    holds="a message that names the file; no half a plan is left; nothing is sent",
)
def test_other_files_on_a_full_disk(ground: Ground, disk: Disk) -> None:
    """What cannot be written is said before anything is sent."""
    source = ground.write([*ids(1_000), *["bad\tid"] * 50_000])
    plan, rejects = disk.path / "plan.json", disk.path / "rejects.csv"
    with served(quick_sandbox()) as sandbox:
        disk.fill()
        for path, command in ((plan, ["plan", "--out"]), (rejects, ["sync", "--rejects"])):
            argv = [command[0], "vip", str(source), "--create", "--state", str(ground.state)]
            output = ground.run(sandbox.url, *argv, *command[1:], str(path))
            assert output.code in {ExitCode.FAILED, ExitCode.USAGE}, output.err
            assert str(path) in said(output)
            assert re.search("no space left", said(output), re.IGNORECASE)
            ground.case.tell(f"`{command[0]}` exits with {output.code}: “{shorten(ground, output)}”")
            output.out = output.out.replace(PRIVATE, "")  # a plan shows a sample of its ids
        assert not plan.exists()
        assert not sandbox.operation_counts.get("update")


@pytest.mark.fire(
    part=UNUSABLE,
    done="the file system under the state is read-only",
    holds="exit code 1 and a message that names the state, before anything is asked or sent",
)
def test_a_read_only_disk(ground: Ground, disk: Disk) -> None:
    """A new state and an old one are refused alike; the old one is unharmed."""
    source = ground.write(ids(1_000))
    disk.change("size=64m")
    with served(quick_sandbox()) as sandbox:
        assert ground.run(sandbox.url, *sync(source, disk.state)).code == ExitCode.DONE
        before = sandbox.request_count
        disk.change("ro")
        for state in (disk.path / "new.duckdb", disk.state):
            refused(ground, sandbox, state, source)
        assert sandbox.request_count == before
        disk.change("rw")
        assert ground.run(sandbox.url, *sync(source, disk.state)).code == ExitCode.DONE


def sync(source: Path, state: Path, name: str = "vip") -> list[str]:
    """Return the arguments of a sync."""
    return ["sync", name, str(source), "--create", "--state", str(state)]


def said(output: Output) -> str:
    """Return what a process said that is no log record."""
    lines = (line for line in output.err.splitlines() if line.startswith("aiobatch: "))
    return " ".join(line.removeprefix("aiobatch: ") for line in lines)


def refused(ground: Ground, sandbox: Sandbox, state: Path, source: Path) -> Output:
    """Run a sync that a state refuses: it says so, with a code of its own, and asks nobody anything."""
    before = sandbox.request_count
    output = ground.run(sandbox.url, *sync(source, state))
    assert output.code == ExitCode.FAILED, output.err
    assert str(state) in said(output)
    assert "Traceback" not in output.err
    assert sandbox.request_count == before
    ground.case.tell(f"“{shorten(ground, output)}”")
    return output


def shorten(ground: Ground, output: Output) -> str:
    """Return what a process said, without where this test has its files."""
    return said(output).replace(str(ground.directory), "…")


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


# What is done, how, and what to do about it.
BROKEN: Mapping[str, tuple[str, Callable[[Path], None], str]] = {
    "directory": ("the state is a directory", _directory, "name a file in it, such as state.duckdb"),
    "newer": ("the state is of a newer version", _newer, "install the aiobatch that wrote it, or"),
    "foreign": ("the state is somebody else's DuckDB file", _foreign, "choose another path"),
    "loop": ("the state is a symbolic link to itself", _loop, "check the path, its rights and the disk"),
    "other": ("the state is no database at all", _other, "`adopt` the members"),
}
SHORT = ("directory", "newer")


@pytest.mark.parametrize(
    ("spoil", "remedy"),
    [
        pytest.param(
            spoil,
            remedy,
            marks=pytest.mark.fire(
                part=UNUSABLE,
                done=done,
                holds="exit code 1 and what to do; nobody is asked anything; the file is left as it is",
                short=name in SHORT,
            ),
            id=name,
        )
        for name, (done, spoil, remedy) in BROKEN.items()
    ],
)
def test_a_state_that_is_none(spoil: Callable[[Path], None], remedy: str, ground: Ground) -> None:
    """Whatever stands in a state's place is refused and left alone."""
    source = ground.write(ids(1_000))
    with served(quick_sandbox()) as sandbox:
        assert ground.run(sandbox.url, *sync(source, ground.state)).code == ExitCode.DONE
        spoil(ground.state)
        before = ground.state.read_bytes() if ground.state.is_file() else None
        assert remedy in said(refused(ground, sandbox, ground.state, source))
        assert before is None or ground.state.read_bytes() == before


@pytest.mark.fire(
    part=UNUSABLE,
    done="the state is cut off at a random byte",
    holds="it is refused with what to do, nothing is sent; restored, it goes on",
)
async def test_a_state_that_is_cut_off(ground: Ground) -> None:
    """However much of it is left, it is refused, as soon as the missing part is read."""
    members = ids(20_000)
    async with quick_sandbox() as sandbox, ground.client(sandbox.url) as client:
        await ground.sync(client, members)
        whole, sent = ground.state.read_bytes(), sandbox.operation_counts["update"]
        rounds = ground.case.size(10, 200)
        for seed in range(rounds):
            ground.state.write_bytes(whole[: random.Random(seed).randrange(1, len(whole))])
            with pytest.raises(StateError) as caught:
                await ground.sync(client, members)
            assert caught.value.reason == "damaged"
            keep(ground, caught.value)
        assert sandbox.operation_counts["update"] == sent
        ground.case.tell(f"{rounds} cuts, all refused: “{str(caught.value).partition(': ')[2]}”")
        ground.state.write_bytes(whole)
        assert not (await ground.sync(client, members)).changes


@pytest.mark.fire(
    part=UNUSABLE,
    done="the state is gone, or an empty file, and the audience has members",
    holds="nothing is sent, `adopt` is offered",
)
async def test_a_state_that_is_gone(ground: Ground) -> None:
    """Who knows no members does not guess them."""
    members = ids(1_000)
    async with quick_sandbox() as sandbox, ground.client(sandbox.url) as client:
        await ground.sync(client, members)
        for path in ground.directory.glob("state*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        sent = sandbox.operation_counts["update"]
        with ground.expect(UnknownMembersError, "adopt"):
            await ground.sync(client, members[:-1])
        ground.state.write_bytes(b"")
        with pytest.raises(StateError, match="adopt"):
            await ground.sync(client, members[:-1])
        assert sandbox.operation_counts["update"] == sent
        assert len(sandbox.members("vip")) == len(members)


@pytest.mark.fire(
    part=UNUSABLE,
    done="a run is killed, and the state's write-ahead log is cut off at a random byte",
    holds=f"it is refused with what to do, or gone on from; {EXACT}",
    short=False,
)
async def test_a_log_that_is_cut_off(ground: Ground) -> None:
    """What was lost of the journal is sent again: adding twice changes nothing."""
    members = ids(60_000)
    source, log = ground.write(members), ground.state.with_name("state.duckdb.wal")
    refusals = resumed = lost = 0
    async with quick_sandbox(indexing_delay=(0.2, 0.4)) as sandbox:
        for seed in range(20):
            draw, name = random.Random(seed), f"vip-{seed}"
            argv = sync(source, ground.state, name)
            process = ground.start(sandbox.url, *argv)
            await _sent(sandbox, sandbox.operation_counts.get("update", 0) + draw.randint(1, 6))
            process.kill()
            await asyncio.to_thread(ground.finish, process)
            database, whole = ground.state.read_bytes(), log.read_bytes()
            log.write_bytes(whole[: draw.randrange(len(whole))])
            lost += len(whole) - log.stat().st_size
            output = await asyncio.to_thread(ground.run, sandbox.url, *argv)
            if output.code != ExitCode.DONE:
                refusals += 1
                assert output.code in {ExitCode.FAILED, ExitCode.UNKNOWN_MEMBERS}
                assert "adopt" in said(output), output.err
                ground.state.write_bytes(database)
                log.write_bytes(whole)
                assert (await asyncio.to_thread(ground.run, sandbox.url, *argv)).code == ExitCode.DONE
            else:
                resumed += 1
            assert set(sandbox.members(name)) == set(members)
    ground.case.tell(
        f"{lost:,} bytes cut off; {resumed} times gone on from, {refusals} times refused; exact each time"
    )
