"""The sync engine's part of the demo: jobs in processes of their own, one of them killed and gone on with."""

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
_GONE, _NEW = 300, 200
_MORE: Final = 150_000
# Slow enough for the kill to come between two chunks.
_RATE: Final = "4/s"
_SEED: Final = 20_260
_ROOT: Final = Path(__file__).resolve().parents[3]


@attrs.frozen
class _Shell:
    """Runs commands of ours as a person would, against a sandbox, in a directory that is theirs.

    Attributes:
        sandbox: In the place of Batch.
        context: Where commands are shown.
        directory: Where they run.
    """

    sandbox: Sandbox
    context: Context
    directory: Path

    async def run(self, *words: str, expected: ExitCode = ExitCode.DONE) -> None:
        """Run a command; what it prints goes where our own output goes.

        Raises:
            AiobatchError: It ended otherwise than *expected*.
        """
        async with self._started(words) as process:
            code = await process.wait()
        if code != expected:
            msg = f"the demo went wrong: {words[0]} ended with {code}, and should have with {int(expected)}"
            raise AiobatchError(msg)
        if code:
            self.context.info(f"(exit code {code})")

    async def kill(self, *words: str) -> None:
        """Run a command and kill it when it has sent a chunk.

        Raises:
            AiobatchError: It came to its end before.
        """
        updates = self._updates
        async with self._started(words) as process:
            while process.returncode is None and self._updates == updates:  # noqa: ASYNC110 - a count tells nobody
                await asyncio.sleep(0.01)
        if process.returncode != -signal.SIGKILL:
            msg = f"the demo went wrong: {words[0]} ended with {process.returncode} before it could be killed"
            raise AiobatchError(msg)
        self.context.info(f"$ kill -9 {process.pid}")

    @property
    def _updates(self) -> int:
        """How many updates the sandbox was sent."""
        return self.sandbox.operation_counts["update"]

    @contextlib.asynccontextmanager
    async def _started(self, words: Iterable[str]) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start a command; kill it if it is still there in the end."""
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
        """Return an environment whose keys are the sandbox's."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("BATCH_")}
        return env | {
            "BATCH_BASE_URL": self.sandbox.url,
            "BATCH_REST_API_KEY": REST_API_KEY,
            "BATCH_PROJECT_KEY": PROJECT_KEY,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), env.get("PYTHONPATH")))),
        }

    async def title(self, title: str, ids: Collection[str]) -> None:
        """Say what comes, and let the source hold *ids*."""
        self.context.info("")
        self.context.info(title)
        text = "\n".join(["user_id", *ids, ""])
        path = self.directory / _SOURCE
        await in_thread(lambda: path.write_text(text, encoding="utf-8"))

    def compare(self, ids: Collection[str]) -> None:
        """Say that the audience has exactly *ids*.

        Raises:
            AiobatchError: It has not.
        """
        members: Collection[Any] = self.sandbox.members(_AUDIENCE)
        if set(members) != set(ids):
            msg = f"the demo went wrong: the audience has not the {len(ids):,} ids that it should have"
            raise AiobatchError(msg)
        self.context.info(f"The sandbox's audience has exactly the {len(ids):,} ids of the source.")


async def show_sync(sandbox: Sandbox, ids: Iterable[str], context: Context) -> None:
    """Bring an audience in line with a file that changes, is emptied, and whose job is killed.

    Args:
        sandbox: In the place of Batch.
        ids: What the file holds at first.
        context: Where commands are shown.

    Raises:
        AiobatchError: Something came out otherwise than it should.
    """
    members = list(dict.fromkeys(ids))
    async with _directory() as directory:
        shell = _Shell(sandbox, context, directory)
        for act in (_fill, _change, _empty, _kill, _go_on):
            members = await act(shell, members)
            if act is not _kill:
                shell.compare(members)


async def _fill(shell: _Shell, members: list[str]) -> list[str]:
    """Load the audience; return what it should have, as each of these does."""
    await shell.title("1. A sync brings an audience in line with a file.", members)
    await shell.run(*_SYNC, "--create")
    return members


async def _change(shell: _Shell, members: list[str]) -> list[str]:
    """Let the file change."""
    members = members[_GONE:] + _make_up(_NEW)
    await shell.title(f"2. {_GONE} ids leave the file, {_NEW} come: only the difference is sent.", members)
    await shell.run(*_SYNC)
    return members


async def _empty(shell: _Shell, members: list[str]) -> list[str]:
    """Let the file be empty."""
    await shell.title("3. Something further up breaks, and the file is empty: the guard stops the run.", [])
    await shell.run(*_SYNC, expected=ExitCode.GUARDED)
    return members


async def _kill(shell: _Shell, members: list[str]) -> list[str]:
    """Kill a run that has sent a part of what came."""
    members = members + _make_up(_MORE)
    await shell.title(f"4. {_MORE:,} ids come, and the run is killed in the midst of sending them.", members)
    await shell.kill(*_SYNC, "--rate", _RATE)
    await shell.run("status")
    return members


async def _go_on(shell: _Shell, members: list[str]) -> list[str]:
    """Go on where the run was killed."""
    await shell.title("5. The same command again settles what was open, and sends what is left.", members)
    await shell.run(*_SYNC)
    return members


@contextlib.asynccontextmanager
async def _directory() -> AsyncIterator[Path]:
    """Make a directory that is gone in the end."""
    directory = await in_thread(lambda: tempfile.TemporaryDirectory(prefix="aiobatch-demo-"))
    try:
        yield Path(directory.name)
    finally:
        await in_thread(directory.cleanup)


def _make_up(count: int) -> list[str]:
    """Make up ids that no sample holds."""
    rng = random.Random(_SEED + count)
    return [f"new_{rng.getrandbits(50):010x}" for _ in range(count)]
