"""A resolver that never answers for names that end in `.hang`, in processes that preload it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import attrs
import pytest

_SOURCE = Path(__file__).with_suffix(".c")


@attrs.frozen
class HangingResolver:
    """The resolver.

    Attributes:
        library: The library to preload.
        mark: A file that the resolver creates when it is asked.
    """

    library: Path
    mark: Path

    @classmethod
    def build(cls, directory: Path) -> HangingResolver:
        """Build the library, or skip the test if the machine has no C compiler."""
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("a C compiler is missing: apt-get install gcc libc6-dev")
        library = directory / "hanging_resolver.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"], check=True)
        return cls(library, directory / "asked")

    @property
    def env(self) -> dict[str, str]:
        """The variables of a process that uses it."""
        return {"LD_PRELOAD": str(self.library), "HANGING_MARK": str(self.mark)}
