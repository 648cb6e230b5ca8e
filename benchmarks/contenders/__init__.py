"""Who waits side by side: ours over both APIs, loops by hand, and the packages that wait for a server."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping

import attrs

from ..measure.processes import Measures, run_named

OURS_2X = "aiobatch, 2.x"
OURS_1X = "aiobatch, 1.x"


@attrs.frozen(kw_only=True)
class Entrant:
    """One who waits.

    Attributes:
        name: As the table says it.
        how: What of it is used, and what differs from its defaults.
        module: Where its `await_tokens` is.
        requirement: What to install.
        packages: The distributions that have to be there.
        arguments: What its `await_tokens` takes besides.
    """

    name: str
    how: str
    module: str
    requirement: str = ""
    packages: tuple[str, ...] = ()
    arguments: Mapping[str, object] = {}

    @property
    def is_ours(self) -> bool:
        """Whether this is what all the others are compared with."""
        return self.name in {OURS_2X, OURS_1X}

    def is_installed(self) -> bool:
        """Tell whether this interpreter has what it takes."""
        return all(_has(package) for package in self.packages)

    def run(self, **arguments: object) -> Measures:
        """Let it wait, in a process of its own.

        Args:
            arguments: What `await_tokens` takes: url, order, waiters.

        Raises:
            CalledProcessError: It failed; its traceback is on standard error.
        """
        return run_named(self.module, "await_tokens", **arguments, **self.arguments)


def _has(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _peer(name: str, how: str, *, requirement: str = "", needs: tuple[str, ...] = ()) -> Entrant:
    """Describe a peer whose module is called as its package is."""
    return Entrant(
        name=name,
        how=how,
        module=f"benchmarks.contenders.peers.{name.partition('-')[0]}",
        requirement=requirement or name,
        packages=(name, *needs),
    )


ENTRANTS: tuple[Entrant, ...] = (
    Entrant(
        name=OURS_2X,
        how="`AudienceClient.await_applied` with its defaults",
        module="benchmarks.contenders.aiobatch_client",
        arguments={"version": "2.11"},
    ),
    Entrant(
        name=OURS_1X,
        how="the same; the list of 1.x carries no states, so that every token is asked about by itself",
        module="benchmarks.contenders.aiobatch_client",
        arguments={"version": "1.0"},
    ),
    Entrant(
        name="aiohttp by hand",
        how="a loop for each wait that asks every second, with orjson",
        module="benchmarks.contenders.by_hand",
        packages=("aiohttp",),
        arguments={"version": "2.11"},
    ),
    _peer("httpx", "the same loop; 100 requests at once, or its pool times them all out"),
    _peer("requests", "the same loop in a thread for each wait; a pool of 100 connections"),
    _peer("azure-core", "`AsyncLROPoller` over `AsyncLROBasePolling`; 1 s in place of 30"),
    _peer(
        "google-api-core",
        "`AsyncOperation.result` over its REST client; a timeout of 60 s in place of none",
        requirement="google-api-core[async_rest,grpc]",
        needs=("grpcio",),
    ),
    _peer(
        "algoliasearch", "`SearchClient.wait_for_task` with its defaults and four hosts, all the same server"
    ),
    _peer("meilisearch-python-sdk", "`AsyncClient.wait_for_task`; a timeout of 60 s in place of 5"),
    _peer("openai", "`vector_stores.files.poll` with its defaults"),
    _peer("aiobotocore", "Lambda's waiter `function_active_v2`, every 1 s; 100 connections in place of 10"),
)
