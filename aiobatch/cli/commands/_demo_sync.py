"""The sync jobs of the demo, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shlex
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Iterable
from pathlib import Path
from typing import Any, Final

import attrs

from ...errors import AiobatchError
from ...sandbox import PROJECT_KEY, REST_API_KEY, Sandbox
from .._context import Context
from .._exit_codes import ExitCode
from .._signals import in_thread

__all__ = ["show_sync"]

_AUDIENCE: Final = "everyone"
_SOURCE: Final = "everyone.csv"
_SYNC: Final = ("sync", _AUDIENCE, _SOURCE)
_STATE: Final = ("--state", "demo.duckdb")
_REMOVED, _NEW = 300, 200
_MORE: Final = 150_000
# Slow enough to kill the run between two chunks.
_RATE: Final = "4/s"
_SEED: Final = 20_260


@attrs.frozen
class _Shell:
    """Runs aiobatch commands as a person would, against a sandbox.

    Attributes:
        sandbox: Takes the place of Batch.
        context: Prints the commands.
        directory: The working directory of the commands.
    """

    sandbox: Sandbox
    context: Context
    directory: Path

    async def run(self, *words: str, expected: ExitCode = ExitCode.DONE) -> None:
        """Run a command with the output of this process.

        Raises:
            AiobatchError: The exit code is not *expected*.
        """
        async with self._started(words) as process:
            code = await process.wait()
        if code != expected:
            msg = f"The demo failed: {words[0]} ended with exit code {code} instead of {int(expected)}."
            raise AiobatchError(msg)
        if code:
            self.context.info(f"(exit code {code})")

    async def kill(self, *words: str) -> None:
        """Run a command and kill it after it has sent a chunk.

        Raises:
            AiobatchError: It ended before.
        """
        updates = self._updates
        async with self._started(words) as process:
            while process.returncode is None and self._updates == updates:  # noqa: ASYNC110 - a count has no event
                await asyncio.sleep(0.01)
        if process.returncode != -signal.SIGKILL:
            msg = f"The demo failed: {words[0]} ended with {process.returncode} before it could be killed."
            raise AiobatchError(msg)
        self.context.info(f"$ kill -9 {process.pid}")

    @property
    def _updates(self) -> int:
        """The number of updates that the sandbox has received."""
        return self.sandbox.operation_counts["update"]

    @contextlib.asynccontextmanager
    async def _started(self, words: Iterable[str]) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start a command, and kill it at the end if it still runs."""
        options = self.context.options
        flags = [*(["--json"] if options.json else []), *(["--quiet"] if options.quiet else [])]
        flags += ["--log-format", options.log_format]
        words = [*words, *_STATE]
        self.context.info(f"$ aiobatch {shlex.join(words)}")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aiobatch", *words, *flags),
            cwd=self.directory,
            env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sys.stdout,
            stderr=sys.stderr,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _environment(self) -> dict[str, str]:
        """Return an environment with the keys of the sandbox."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("BATCH_")}
        root = str(Path(__file__).parents[3])
        return env | {
            "BATCH_BASE_URL": self.sandbox.url,
            "BATCH_REST_API_KEY": REST_API_KEY,
            "BATCH_PROJECT_KEY": PROJECT_KEY,
            "PYTHONPATH": os.pathsep.join(filter(None, (root, env.get("PYTHONPATH")))),
        }

    async def title(self, title: str, ids: Collection[str]) -> None:
        """Print a title and write *ids* to the source."""
        self.context.info("")
        self.context.info(title)
        text = "\n".join(["user_id", *ids, ""])
        path = self.directory / _SOURCE
        await in_thread(lambda: path.write_text(text, encoding="utf-8"))

    def compare(self, ids: Collection[str]) -> None:
        """Check that the audience has exactly *ids*.

        Raises:
            AiobatchError: The audience has other IDs.
        """
        members: Collection[Any] = self.sandbox.members(_AUDIENCE)
        if set(members) != set(ids):
            msg = f"The demo failed: the audience does not have the expected {len(ids):,} IDs."
            raise AiobatchError(msg)
        self.context.info(f"The audience has exactly the {len(ids):,} IDs of the source.")


async def show_sync(sandbox: Sandbox, ids: Iterable[str], context: Context) -> None:
    """Sync an audience with a file that changes, becomes empty, and whose job is killed.

    Args:
        sandbox: Takes the place of Batch.
        ids: The first content of the file.
        context: Prints the commands.

    Raises:
        AiobatchError: A command or the audience does not have the expected result.
    """
    if getattr(sys, "frozen", False):
        context.info("The demo of a sync is left out, because a frozen program cannot start aiobatch again.")
        return
    members = list(dict.fromkeys(ids))
    async with _directory() as directory:
        shell = _Shell(sandbox, context, directory)
        for act in (_fill, _change, _empty, _kill, _resume):
            members = await act(shell, members)
            if act is not _kill:
                shell.compare(members)


async def _fill(shell: _Shell, members: list[str]) -> list[str]:
    """Fill the audience and return its expected members, as all acts do."""
    await shell.title("1. A sync fills an audience from a file.", members)
    await shell.run(*_SYNC, "--create")
    return members


async def _change(shell: _Shell, members: list[str]) -> list[str]:
    """Sync a file that has changed."""
    members = members[_REMOVED:] + _new_ids(_NEW)
    title = f"2. The file loses {_REMOVED} IDs and gains {_NEW}: only the difference is sent."
    await shell.title(title, members)
    await shell.run(*_SYNC)
    return members


async def _empty(shell: _Shell, members: list[str]) -> list[str]:
    """Sync an empty file."""
    await shell.title("3. An upstream job fails and the file is empty: the guard stops the run.", [])
    await shell.run(*_SYNC, expected=ExitCode.GUARDED)
    return members


async def _kill(shell: _Shell, members: list[str]) -> list[str]:
    """Kill a run that has sent a part of its changes."""
    members = members + _new_ids(_MORE)
    await shell.title(f"4. The file gains {_MORE:,} IDs, and the run is killed while it sends them.", members)
    await shell.kill(*_SYNC, "--rate", _RATE)
    await shell.run("status")
    return members


async def _resume(shell: _Shell, members: list[str]) -> list[str]:
    """Resume the killed run."""
    await shell.title("5. The same command finishes the killed run and sends the rest.", members)
    await shell.run(*_SYNC)
    return members


@contextlib.asynccontextmanager
async def _directory() -> AsyncIterator[Path]:
    """Create a temporary directory."""
    directory = await in_thread(lambda: tempfile.TemporaryDirectory(prefix="aiobatch-demo-"))
    try:
        yield Path(directory.name)
    finally:
        await in_thread(directory.cleanup)


def _new_ids(count: int) -> list[str]:
    """Return *count* IDs that no sample contains."""
    rng = random.Random(_SEED + count)
    return [f"new_{rng.getrandbits(50):010x}" for _ in range(count)]
