"""`python -m aiobatch`, and the `aiobatch` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_MISSING_EXTRA = "aiobatch: the command line needs its extra: pip install 'aiobatch-client[cli]'"
_USAGE_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the program's name; the process's own by default.

    Returns:
        The exit code; 2 where the `cli` extra is not installed.
    """
    try:
        from .cli import main as run  # noqa: PLC0415 - its packages may be missing, and that is told below
    except ModuleNotFoundError as exc:
        if _is_ours(exc.name):
            raise
        print(_MISSING_EXTRA, file=sys.stderr)  # noqa: T201 - what renders output is what is missing
        return _USAGE_ERROR
    return run(argv)


def _is_ours(module: str | None) -> bool:
    """Whether a missing module belongs to this package, so that it is a defect and no missing extra."""
    return module is None or module.partition(".")[0] == "aiobatch"


if __name__ == "__main__":
    sys.exit(main())
