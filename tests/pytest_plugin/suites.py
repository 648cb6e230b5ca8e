"""Test suites of users, which run in this process, with the plugin and no other but those that they name."""

from __future__ import annotations

import attrs
import pytest

# Each run in this process forgets the modules that it imports first. These take long.
from aiobatch._pytest import _async_parts, _asyncio_fixtures, _sandbox_thread

__all__ = ["Suite", "_async_parts", "_asyncio_fixtures", "_sandbox_thread"]

_INI = """
[pytest]
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


@attrs.frozen
class Suite:
    """A user's test suite in an empty folder."""

    pytester: pytest.Pytester

    def run(self, source: str, *arguments: str, plugin: bool = True) -> pytest.RunResult:
        """Run the tests of *source* and return the result.

        Args:
            source: The content of the test module.
            arguments: Additional arguments of pytest.
            plugin: Whether to load the plugin by its name.
        """
        asyncio = "pytest_asyncio.plugin" in arguments or not plugin
        self.pytester.makeini(_INI if asyncio else _INI.replace("asyncio_", "# asyncio_"))
        self.pytester.makepyfile(source)
        return self.pytester.runpytest_inprocess(*(["-p", "aiobatch"] if plugin else []), *arguments)
