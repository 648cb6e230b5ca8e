"""The import of the engine loads none of the packages that only some states and sources need."""

from __future__ import annotations

import subprocess
import sys

_LOADED = "import sys, aiobatch.sync; print(sorted({'obstore', 'pyarrow', 'pyspark'} & sys.modules.keys()))"


def test_engine_loads_no_package_of_the_cloud() -> None:
    """obstore, pyarrow and pyspark are loaded with the first state or source that needs them."""
    done = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
