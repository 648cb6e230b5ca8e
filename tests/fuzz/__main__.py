"""`python -m tests.fuzz TARGET --seconds N`: feed one target, guided by coverage, for as long as is wanted.

What it finds is kept in `build/fuzz/TARGET`; an input that shows a defect is a file beside it. Mend the
defect, and put the input into `tests/fuzz/corpus/TARGET`, which the suite replays.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

from .scratch_dir import scratch_dir


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: 60)")
    parser.add_argument("--found", type=Path, default=Path("build/fuzz"), help="where inputs are kept")
    given = parser.parse_args()
    try:
        atheris = importlib.import_module("atheris")
    except ModuleNotFoundError:
        sys.exit("atheris is not installed: pip install atheris")
    scratch_dir()  # of this process, which tidies up: the one that is fed ends without ado
    if child := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    with atheris.instrument_imports(include=["aiobatch", "email", "tomllib"]):
        targets = importlib.import_module("tests.fuzz.targets")
    if given.target not in targets.TARGETS:
        sys.exit(f"there is no target {given.target!r}; the targets are {', '.join(targets.TARGETS)}")
    found = given.found / given.target
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={given.seconds}", f"-artifact_prefix={found}.", "-timeout=20"]
    places = [str(found), str(targets.CORPUS / given.target)]
    atheris.Setup([sys.argv[0], *options, *places], targets.TARGETS[given.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
