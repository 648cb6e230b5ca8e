"""The blocks of a page, and the place in which its programs and commands run."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox

HOWTO: Final = Path(__file__).resolve().parents[2] / "docs" / "howto"
# Seconds after which a command fails that would otherwise hang.
TIMEOUT: Final = 300.0


def read_blocks(page: Path, section: str, language: str) -> list[str]:
    """Return the blocks of a language in a section of a page."""
    parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = dict(zip(["", *parts[1::2]], parts[::2], strict=True))[section]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@attrs.frozen
class Place:
    """A directory in which a recipe runs against a sandbox.

    Attributes:
        directory: The directory. It is also the home.
        sandbox: Its Batch.
        variables: More variables of the environment.
    """

    directory: Path
    sandbox: Sandbox
    variables: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a command, in which `aiobatch` is this checkout."""
        commands = self.directory / "bin"
        if not commands.exists():  # a shell that reads half a program ends with code 0
            commands.mkdir()
            program = commands / "aiobatch"
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aiobatch "$@"\n', encoding="utf-8")
            program.chmod(0o755)
        return {
            "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TMPDIR": str(self.directory),
            "HOME": str(self.directory),
            "BATCH_BASE_URL": self.sandbox.url,
            "BATCH_REST_API_KEY": REST_API_KEY,
            "BATCH_PROJECT_KEY": PROJECT_KEY,
            **self.variables,
        }

    async def run(self, *command: str, **variables: str) -> tuple[int, str]:
        """Run a command. Return its exit code and its output."""
        running = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.directory,
            env=self.environ | variables,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(running.communicate(), TIMEOUT)
        finally:
            if running.returncode is None:
                running.kill()
                await running.wait()
        assert running.returncode is not None
        return running.returncode, output.decode()
