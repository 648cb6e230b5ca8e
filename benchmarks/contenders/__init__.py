"""The contenders of the waiting scenarios: aiobatch with both APIs, hand-written loops, peers."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping

import attrs

from ..measure.processes import Measures, run_by_name_in_subprocess

AIOBATCH_2X = "aiobatch, 2.x"
AIOBATCH_1X = "aiobatch, 1.x"


@attrs.frozen(kw_only=True)
class Contender:
    """A contender.

    Attributes:
        name: Its name in the tables.
        how: The API that is used, and settings other than its defaults.
        module: The module with its `await_tokens`.
        requirement: The requirement to install.
        packages: The distributions that it needs.
        arguments: Further arguments of its `await_tokens`.
    """

    name: str
    how: str
    module: str
    requirement: str = ""
    packages: tuple[str, ...] = ()
    arguments: Mapping[str, object] = {}

    @property
    def is_aiobatch(self) -> bool:
        """Whether this is aiobatch."""
        return self.name in {AIOBATCH_2X, AIOBATCH_1X}

    def is_installed(self) -> bool:
        """Return whether its packages are installed."""
        return all(_has(package) for package in self.packages)

    def run(self, **arguments: object) -> Measures:
        """Run its waits in a subprocess.

        Args:
            arguments: The arguments of `await_tokens`: url, order, waiters.

        Raises:
            CalledProcessError: It failed. Its traceback is on standard error.
        """
        return run_by_name_in_subprocess(self.module, "await_tokens", **arguments, **self.arguments)


def _has(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _peer(name: str, how: str, *, requirement: str = "", needs: tuple[str, ...] = ()) -> Contender:
    """Return a contender whose module has the name of its package."""
    return Contender(
        name=name,
        how=how,
        module=f"benchmarks.contenders.peers.{name.partition('-')[0]}",
        requirement=requirement or name,
        packages=(name, *needs),
    )


CONTENDERS: tuple[Contender, ...] = (
    Contender(
        name=AIOBATCH_2X,
        how="`AudienceClient.await_applied` with its defaults",
        module="benchmarks.contenders.aiobatch_client",
        arguments={"version": "2.11"},
    ),
    Contender(
        name=AIOBATCH_1X,
        how="the same. The list of 1.x has no states, so every token is polled by itself",
        module="benchmarks.contenders.aiobatch_client",
        arguments={"version": "1.0"},
    ),
    Contender(
        name="aiohttp by hand",
        how="a loop for each wait that polls every second, with orjson",
        module="benchmarks.contenders.by_hand",
        packages=("aiohttp",),
        arguments={"version": "2.11"},
    ),
    _peer(
        "httpx", "the same loop with at most 100 requests at once, because more would time out in its pool"
    ),
    _peer("requests", "the same loop in a thread for each wait, with a pool of 100 connections"),
    _peer("azure-core", "`AsyncLROPoller` over `AsyncLROBasePolling`, with 1 s instead of 30"),
    _peer(
        "google-api-core",
        "`AsyncOperation.result` over its REST client, with a timeout of 60 s instead of none",
        requirement="google-api-core[async_rest,grpc]",
        needs=("grpcio",),
    ),
    _peer(
        "algoliasearch",
        "`SearchClient.wait_for_task` with its defaults and four hosts, which are all the same server",
    ),
    _peer("meilisearch-python-sdk", "`AsyncClient.wait_for_task`, with a timeout of 60 s instead of 5"),
    _peer("openai", "`vector_stores.files.poll` with its defaults"),
    _peer(
        "aiobotocore", "Lambda's waiter `function_active_v2`, every 1 s, with 100 connections instead of 10"
    ),
)
