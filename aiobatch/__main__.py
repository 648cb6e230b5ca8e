"""The entry point of `python -m aiobatch` and of the `aiobatch` command."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence

_MISSING_EXTRA = "aiobatch: the command line needs its extra: pip install 'aiobatch-client[cli]'"
_MISSING_POSIX = (
    "aiobatch: the command line needs file locks and signals of POSIX. On Windows, use it in WSL."
)
_USAGE_ERROR = 2


def _protect_process() -> None:
    """Write no core dump, which would hold keys and IDs, and keep new files from other users."""
    os.umask(0o077)
    import resource  # noqa: PLC0415 - Windows does not have it

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name. Default: those of the process.

    Returns:
        The exit code, which is 2 if the `cli` extra is not installed, and on Windows.
    """
    if importlib.util.find_spec("fcntl") is None:
        print(_MISSING_POSIX, file=sys.stderr)  # noqa: T201 - the module that prints needs it too
        return _USAGE_ERROR
    try:
        from .cli import main as run  # noqa: PLC0415 - its packages may be missing, see below
    except ModuleNotFoundError as exc:
        # A missing module of this package is a bug, not a missing extra.
        if exc.name is None or exc.name.partition(".")[0] == "aiobatch":
            raise
        print(_MISSING_EXTRA, file=sys.stderr)  # noqa: T201 - the module that prints is the one that is missing
        return _USAGE_ERROR
    if argv is None:  # a process of its own
        _protect_process()
    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
