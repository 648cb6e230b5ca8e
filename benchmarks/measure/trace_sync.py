"""The files and functions of `aiobatch.sync` that one small sync enters, as a measure of its indirection.

Run `python -m benchmarks.measure.trace_sync`. It syncs three IDs from memory into an existing audience of the
sandbox, with a new state file. A file or function counts if the sync calls it at least once, in any thread. A
move is a call of a function in another file than the function called before it. Resumed coroutines are not
calls, and neither are comprehensions and lambdas. With `--moves` it lists the calls that move most often.
"""

from __future__ import annotations

import asyncio
import collections
import dis
import os
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import attrs

from aiobatch import AudienceClient, Project, sync
from aiobatch.sandbox import PROJECT_KEY, REST_API_KEY, Sandbox

_PACKAGE = f"{Path(sync.__file__).parent}/"
_SHOWN = 40
_RESUME = dis.opmap["RESUME"]


@attrs.define
class CallTrace:
    """Counts calls of functions of `aiobatch.sync` while it is installed as the profile function.

    Attributes:
        functions: Calls by file and function.
        moves: Moves by file left, file entered and function.
    """

    functions: collections.Counter[tuple[str, str]] = attrs.field(factory=collections.Counter)
    moves: collections.Counter[tuple[str, str, str]] = attrs.field(factory=collections.Counter)
    _last: str = ""

    def profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Count one event of `sys.setprofile`."""
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(_PACKAGE) or code.co_name.startswith("<"):
            return
        instruction = code.co_code[frame.f_lasti : frame.f_lasti + 2]
        if instruction[0] == _RESUME and instruction[1] & 3:  # after a yield or an await, not at the start
            return
        file = code.co_filename.removeprefix(_PACKAGE)
        self.functions[file, code.co_qualname] += 1
        if file != self._last:
            self.moves[self._last, file, code.co_qualname] += 1
            self._last = file


async def trace_sync() -> CallTrace:
    """Return the trace of a sync of three IDs."""
    trace, project = CallTrace(), Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
    options = sync.SyncOptions()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["XDG_DATA_HOME"] = directory  # the audience's lock is in it
        async with Sandbox() as sandbox, AudienceClient(project, base_url=sandbox.url) as client:
            token = await client.create("vip")
            assert token is not None  # noqa: S101 - API 2.x returns one
            await client.await_applied(token)
            state = Path(directory) / "state.duckdb"
            threading.setprofile(trace.profile)
            sys.setprofile(trace.profile)
            try:
                await sync.sync_audience(client, "vip", ["a", "b", "c"], state=state, options=options)
            finally:
                sys.setprofile(None)
                threading.setprofile(None)
    return trace


def main() -> None:
    """Print the figures."""
    trace = asyncio.run(trace_sync())
    files = {file for file, _ in trace.functions}
    print(f"{len(files)} files, {len(trace.functions)} functions, {trace.moves.total()} moves")
    if "--moves" in sys.argv:
        for (left, entered, function), count in trace.moves.most_common(_SHOWN):
            print(f"{count:5} {left} -> {entered} {function}")


if __name__ == "__main__":
    main()
