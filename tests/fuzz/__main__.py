"""Coverage-guided fuzzing of one target: `python -m tests.fuzz TARGET --seconds N`.

New inputs are saved in `build/fuzz/TARGET`. An input that reveals a bug is a file beside it. Fix the bug,
then move the input into `tests/fuzz/corpus/TARGET`, which the suite replays.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

from .scratch_dir import scratch_dir


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60, help="duration in seconds (default: 60)")
    parser.add_argument("--found", type=Path, default=Path("build/fuzz"), help="directory for new inputs")
    given = parser.parse_args()
    try:
        atheris = importlib.import_module("atheris")
    except ModuleNotFoundError:
        sys.exit("atheris is not installed. Run: pip install atheris")
    scratch_dir()  # in this process, which cleans up: the child exits without cleaning up
    if child := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    with atheris.instrument_imports(include=["aiobatch", "email", "tomllib"]):
        targets = importlib.import_module("tests.fuzz.targets")
    if given.target not in targets.TARGETS:
        sys.exit(f"Target {given.target!r} is unknown. The targets are {', '.join(targets.TARGETS)}.")
    found = given.found / given.target
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={given.seconds}", f"-artifact_prefix={found}.", "-timeout=20"]
    places = [str(found), str(targets.CORPUS / given.target)]
    atheris.Setup([sys.argv[0], *options, *places], targets.TARGETS[given.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
