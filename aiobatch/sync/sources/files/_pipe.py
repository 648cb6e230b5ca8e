"""Reading of pipes that may have no writer, or one that hangs."""

from __future__ import annotations

import io
import os
import select
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Final

from .._relation import ReadContext

_BLOCK: Final = 1024 * 1024
# Milliseconds between two looks at whether the run was stopped.
_TICK: Final = 100


def open_without_waiting(path: str) -> io.FileIO:
    """Open a pipe for reading, although nothing may write to it yet.

    Raises:
        OSError: If it cannot be opened.
    """
    return io.FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def piped_blocks(context: ReadContext, stream: IO[bytes] | io.RawIOBase) -> Iterator[bytes]:
    """Yield the blocks of a stream until its end.

    Args:
        context: Stops the reading, also if no block arrives for too long.
        stream: Standard input, or what `open_without_waiting` returned.
    """
    wait, waits = select.poll(), False
    with suppress(OSError, io.UnsupportedOperation):  # a buffer in memory has no descriptor
        wait.register(stream.fileno(), select.POLLIN)
        waits = True
    while True:
        context.interruptible.check()
        if waits and not wait.poll(_TICK):
            continue
        # A buffered stream returns what it has, and does not wait for more.
        block = stream.read1(_BLOCK) if isinstance(stream, io.BufferedReader) else stream.read(_BLOCK)
        if block == b"":
            return
        if block:  # None: another reader was faster
            yield block
        context.interruptible.arrived()
