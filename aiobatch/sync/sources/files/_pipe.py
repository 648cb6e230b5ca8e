"""Reading of pipes that may have no writer, or one that hangs."""

from __future__ import annotations

import io
import os
import select
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Final

from ..._errors import SourceError
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


def piped_blocks(context: ReadContext, stream: IO[bytes] | io.RawIOBase, shown: str) -> Iterator[bytes]:
    """Yield the blocks of a stream until its end.

    Args:
        context: Stops the reading, and limits the wait for a block.
        stream: Standard input, or what `open_without_waiting` returned.
        shown: The name of the stream in errors.

    Raises:
        SourceError: If there was no data for too long.
    """
    wait, waits = select.poll(), False
    with suppress(OSError, io.UnsupportedOperation):  # a buffer in memory has no descriptor
        wait.register(stream.fileno(), select.POLLIN)
        waits = True
    last = time.monotonic()
    while True:
        context.interruptible.check()
        if waits and not wait.poll(_TICK):
            if context.idle_timeout is not None and time.monotonic() - last > context.idle_timeout:
                msg = f"its writer sent nothing for {context.idle_timeout:g} seconds"
                raise SourceError(msg, location=shown)
            continue
        # A buffered stream returns what it has, and does not wait for more.
        block = stream.read1(_BLOCK) if isinstance(stream, io.BufferedReader) else stream.read(_BLOCK)
        if block == b"":
            return
        if block:  # None: another reader was faster
            yield block
        last = time.monotonic()
