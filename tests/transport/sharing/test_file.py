"""The file of a shared limit: where it is, who can read it, and what happens if it is damaged or locked."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiobatch._clock import SystemClock
from aiobatch.errors import InvalidInputError
from aiobatch.testing import FakeClock
from aiobatch.transport._sharing import _file
from aiobatch.transport._sharing._file import FileStore
from aiobatch.transport._sharing._state import SharedState, StoreError


async def make_store(directory: Path | None, clock: FakeClock | SystemClock | None = None) -> FileStore:
    """Return a store that is open."""
    store = FileStore(directory, "name", clock or FakeClock(100.0), 5.0)
    await store.open()
    return store


def ask(state: SharedState, now: float) -> object:
    """Ask for a slot."""
    return state.ask(now, 5.0, "user", None)


async def test_file_is_private(tmp_path: Path) -> None:
    """Directory and file belong to the user alone, whatever the umask was and an earlier mode is."""
    directory = tmp_path / "new" / "deep"
    store = await make_store(directory)
    await store.transact(ask)
    (file,) = directory.iterdir()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o666)
    await store.transact(ask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await store.aclose()


@pytest.mark.parametrize("damage", [b"", b"\0" * 500, b"{}", b"x" * 100_000, b"00000000 {}\n"], ids=len)
async def test_damaged_file_is_rebuilt(tmp_path: Path, damage: bytes) -> None:
    """Foreign content is replaced, and the limit works on."""
    store = await make_store(tmp_path)
    await store.transact(ask)
    file = tmp_path / "name.limit"
    file.write_bytes(damage)
    assert (await store.transact(ask)).result == (None, 0.0)
    assert (await store.transact(ask)).result[1] == pytest.approx(0.202)
    assert file.stat().st_size < 1000


async def test_state_of_an_earlier_boot_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock starts with each boot, so older times mean nothing."""
    await (await make_store(tmp_path, FakeClock(50_000.0))).transact(
        lambda state, now: state.pause(now + 9, 503, 1)
    )
    boot = tmp_path / "boot"
    boot.write_text("another\n")
    monkeypatch.setattr(_file, "_BOOT_ID", boot)
    reply = await (await make_store(tmp_path, FakeClock(10.0))).transact(ask)
    assert reply.result == (None, 0.0)
    monkeypatch.setattr(_file, "_BOOT_ID", tmp_path / "none")
    assert (await (await make_store(tmp_path, FakeClock(10.0))).transact(ask)).state.boot == ""


async def test_deleted_directory_is_created_again(tmp_path: Path) -> None:
    """A cleaner may delete the directory. One change fails, and the next one creates it."""
    directory = tmp_path / "gone"
    store = await make_store(directory)
    await store.transact(ask)
    (file,) = directory.iterdir()
    file.unlink()
    directory.rmdir()
    with pytest.raises(StoreError, match="ENOENT"):
        await store.transact(ask)
    assert (await store.transact(ask)).result == (None, 0.0)


async def test_frozen_process_does_not_block(tmp_path: Path) -> None:
    """A process that is stopped while it holds the lock fails a change after seconds."""
    clock = FakeClock(100.0)
    store = await make_store(tmp_path, clock)
    await store.transact(ask)
    file = tmp_path / "name.limit"
    with file.open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="locked"):
            await store.transact(ask)
        assert 101 < clock.monotonic() < 104
        waiting = asyncio.create_task(store.transact(ask))
        await clock.sleep(0.1)
        fcntl.flock(held, fcntl.LOCK_UN)
        assert (await waiting).result == (None, 0.0)


async def test_killed_holder_releases_the_lock(tmp_path: Path) -> None:
    """The kernel releases the lock of a process that is killed."""
    store = await make_store(tmp_path, SystemClock())
    await store.transact(ask)
    file = tmp_path / "name.limit"
    code = (
        "import fcntl, sys, time\n"
        "file = open(sys.argv[1], 'rb+')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "time.sleep(600)\n"
    )
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(file), stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    await holder.stdout.readline()
    holder.kill()
    await holder.wait()
    assert (await store.transact(ask)).state.users


async def test_place_is_the_same_in_any_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOME, TMPDIR and XDG_RUNTIME_DIR differ between cron, a shell and a service, and decide nothing."""
    monkeypatch.setattr(_file, "_PLACES", (tmp_path / "missing", tmp_path))
    for variable in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    await (await make_store(None)).transact(ask)
    assert (tmp_path / f"aiobatch-{os.geteuid()}" / "name.limit").is_file()


async def test_directory_of_another_kind_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link or a file at the place of the directory may be a trap, and lax permissions are corrected."""
    bad, good, target = tmp_path / "bad", tmp_path / "good", tmp_path / "target"
    name = f"aiobatch-{os.geteuid()}"
    for place in (bad, good, target):
        place.mkdir()
    (bad / name).symlink_to(target)
    (good / name).mkdir(mode=0o777)
    (good / name).chmod(0o777)
    monkeypatch.setattr(_file, "_PLACES", (bad, good))
    await (await make_store(None)).transact(ask)
    assert not list(target.iterdir())
    assert stat.S_IMODE((good / name).stat().st_mode) == 0o700

    for places in ((bad,), ()):
        monkeypatch.setattr(_file, "_PLACES", places)
        with pytest.raises(StoreError, match=r"EPERM|ENOENT"):
            await (await make_store(None)).transact(ask)


async def test_full_disk_is_an_error_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that was written in part raises, so that a fixed share is used."""
    store = await make_store(tmp_path)
    monkeypatch.setattr(os, "pwrite", lambda *_: 3)
    with pytest.raises(StoreError, match="ENOSPC"):
        await store.transact(ask)


async def test_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files have no locks, the error names the other way."""
    monkeypatch.setattr(_file, "fcntl", None)
    with pytest.raises(InvalidInputError, match="Redis"):
        await make_store(tmp_path)


def test_clock_of_all_processes_is_one() -> None:
    """The times in the file are those of the system's monotonic clock, which all processes share."""
    code = "import time; print(time.monotonic())"
    before = SystemClock().monotonic()
    other = float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert before <= other <= time.monotonic()
