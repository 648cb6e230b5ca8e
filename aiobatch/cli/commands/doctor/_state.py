"""The checks of the state: whether it opens, its runs, its locks, and the free disk."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import socket
import stat
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Final

from ....errors import AiobatchError, SyncError
from ....sync import AudienceStatus, StateLocation, Status, SyncEngine, read_attempts
from ....sync.state.upkeep import HeldLock, held_locks
from ..._signals import in_thread
from ...output._command_hints import command, command_context
from ...output._errors import text_of
from ._finding import Finding, note, passed, problem, problem_of, skipped
from ._route import TIMEOUT
from ._setup import Setup

__all__ = ["check_state"]

# Bytes that must be free, beside twice the size of the state: a run writes and spills.
_LEAST: Final = 200_000_000
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_NETWORK_DRIVE: Final = "Check whether its network drive is reachable."
_OTHER_PATH: Final = "Check the path, or choose another one with --state."


async def check_state(setup: Setup) -> AsyncGenerator[Finding, None]:
    """Yield the findings about the state. Nothing is written to it."""
    state = setup.state
    if state is None:
        yield skipped("state", "The state is unknown.")
        return
    status, findings = await _open(state)
    for one in (*findings, *_check_opened(setup, status), *await _check_folder(state, _keys(setup, status))):
        yield one


def _check_opened(setup: Setup, status: Status | None) -> Iterator[Finding]:
    """Yield the findings about what a state contains, if it has been opened."""
    if status is not None:
        yield from _check_status(setup, status)
        yield from _check_leases(setup, status)


async def _open(state: StateLocation) -> tuple[Status | None, list[Finding]]:
    """Return the status of a state. If there is none, return why."""
    try:
        async with asyncio.timeout(TIMEOUT):
            await in_thread(lambda: read_attempts(state))
            return await SyncEngine(state=state).status(), []
    except TimeoutError:
        found = problem("state", f"The state did not open within {TIMEOUT:g} s.", _OTHER_PATH)
    except (AiobatchError, OSError) as error:
        text = error.text if isinstance(error, SyncError) else text_of(error)
        found = problem_of("state", text, _OTHER_PATH)
        if getattr(error, "reason", None) == "missing":
            found = passed("state", "There is no state yet. The first run creates it.")
    return None, [found]


async def _check_folder(state: StateLocation, keys: set[str]) -> list[Finding]:
    """Return the findings about the files beside a state, their locks and the free space."""

    def check() -> list[Finding]:
        locks = (
            [*_check_file(state), *_check_locks(held_locks(state, keys))] if isinstance(state, Path) else []
        )
        return [*locks, _check_disk(state)]

    try:
        async with asyncio.timeout(TIMEOUT):
            return await in_thread(check)
    except TimeoutError:
        text = f"The folder of the state did not answer within {TIMEOUT:g} s."
        return [problem("disk", text, _NETWORK_DRIVE)]


def _keys(setup: Setup, status: Status | None) -> set[str]:
    """Return the keys of the audiences of the state and of the config."""
    keys = set() if status is None else {one.key for one in status.audiences}
    audiences = () if setup.config is None else setup.config.audiences
    targets = {} if setup.config is None else setup.config.targets
    return keys | {
        targets[label].audience_key(one.name)
        for one in audiences
        for label in one.targets
        if label in targets
    }


def _label(setup: Setup, one: AudienceStatus) -> str | None:
    """Return the name in the config of the app or project of an audience. None if it has none."""
    targets = {} if setup.config is None else setup.config.targets
    return next((label for label, at in targets.items() if at.audience_key(one.audience) == one.key), None)


def _check_status(setup: Setup, status: Status) -> Iterator[Finding]:
    """Yield the findings about the content of a state."""
    yield passed("state", f"The state opens: {len(status.audiences)} audiences with runs.")
    known = set() if setup.config is None else {one.name for one in setup.config.audiences}
    for one in status.audiences:
        if one.open_run is not None and not status.is_live(one.key):
            label = _label(setup, one)
            with command_context(config_target=label):
                fix = f"The next run finishes it, or run {command('settle', one.audience)}."
            place = f"{one.audience} → {label or one.target}"
            yield problem("state", f"{place}: run {one.open_run} did not finish.", fix)
        elif setup.config is not None and one.audience not in known:
            text = f"{one.audience} → {one.target} is in the state and not in the config."
            yield note("state", text, fix="Check that the config names the state that you mean.")


def _check_leases(setup: Setup, status: Status) -> Iterator[Finding]:
    """Yield the leases of a state on object storage that processes hold. A state file has none."""
    if status.held is None:
        return
    held = [one for one in status.audiences if one.key in status.held]
    for one in held:
        text = f"{one.audience} → {_label(setup, one) or one.target}: a process holds the lease."
        yield problem(
            "locks", text, "Wait for it to end. The lease of a process that died expires by itself."
        )
    if not status.held:
        yield passed("locks", "No process holds a lease.")


def _check_file(state: Path) -> Iterator[Finding]:
    """Yield what is wrong with the access to a state file."""
    if state.is_file() and state.stat().st_mode & _OTHERS:
        fix = f"Run `chmod 600 {shlex.quote(str(state))}`."
        yield problem("state", "Other users can open the state.", fix)
    folder = _existing(state.absolute().parent)
    if not os.access(folder, os.W_OK):
        yield problem("state", "The folder of the state cannot be written.", _OTHER_PATH)


def _check_locks(held: Iterator[HeldLock]) -> Iterator[Finding]:
    """Yield the holders of locks."""
    found = {(one.pid, one.what, one.since): one for one in held}
    for one in found.values():
        what = f" ({one.what})" if one.what else ""
        since = f" since {one.since}" if one.since else ""
        if one.pid is None:
            yield problem("locks", "An unknown process holds a lock.", "Wait for it to end, then try again.")
        elif one.host not in {None, socket.gethostname()}:
            text = f"Process {one.pid} of another machine{what} holds a lock{since}."
            yield problem("locks", text, "Wait for it to end, or look at it on that machine.")
        else:
            fix = f"Wait for it to end. To look at it, run `ps -p {one.pid} -o pid,etime,stat`."
            yield problem("locks", f"Process {one.pid}{what} holds a lock{since}.", fix)
    if not found:
        yield passed("locks", "No process holds a lock.")


def _check_disk(state: StateLocation) -> Finding:
    """Return the finding about the free space where the state, or its cache, is."""
    folder = state.absolute().parent if isinstance(state, Path) else Path(tempfile.gettempdir())
    size = state.stat().st_size if isinstance(state, Path) and state.is_file() else 0
    free, needed = shutil.disk_usage(_existing(folder)).free, _LEAST + 2 * size
    text = f"{free / 1e9:,.1f} GB are free for the state, which has {size / 1e9:,.1f} GB."
    if free >= needed:
        return passed("disk", text)
    return problem("disk", text, f"Free {(needed - free) / 1e9:,.1f} GB, or move the state to a larger disk.")


def _existing(folder: Path) -> Path:
    """Return the nearest folder that exists."""
    return next(one for one in (folder, *folder.parents) if one.is_dir())
