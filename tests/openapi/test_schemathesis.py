"""Schemathesis against the sandbox: requests that the documents allow, and requests that they do not."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method

from aiobatch.sandbox import API_KEY, PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions

from ..helpers.sweep import examples
from .document import DOCUMENTS

# The number of requests of each operation, and of sequences. `make fuzz` sets more.
EXAMPLES = int(os.environ.get("AIOBATCH_FUZZ_EXAMPLES", str(examples(5, 15))))
_HEADERS = {
    "1": {"X-Authorization": REST_API_KEY},
    "2": {"Authorization": f"Bearer {REST_API_KEY}", "X-Batch-Project": PROJECT_KEY},
}


class Server:
    """Runs sandboxes, one after the other, in a thread with its own loop, because schemathesis blocks."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._sandbox = Sandbox()

    def fresh(self) -> str:
        """Start an empty sandbox and return its URL."""
        self._do(self._sandbox.aclose())
        self._sandbox = Sandbox(SandboxOptions(indexing_delay=0))
        self._do(self._sandbox.start())
        return self._sandbox.url

    def close(self) -> None:
        """Stop the sandbox and its thread."""
        self._do(self._sandbox.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Return the server of this module."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    """Return the URL of a sandbox for all single requests."""
    return server.fresh()


def _schema(label: str, mode: str = "all") -> Any:
    """Read a document. *mode* is `positive`, or `all` for invalid requests too."""
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "headers": _HEADERS[label[0]],
            "parameters": {"path.api_key": API_KEY, "path.version": "2.11"},
            "generation": {"max-examples": EXAMPLES, "mode": mode},
        }
    )
    return schemathesis.openapi.from_path(DOCUMENTS[label], config=config)


v10, v11, v2 = map(_schema, DOCUMENTS)

# The sandbox's errors for a valid request that conflicts with the present audiences.
_CONFLICTS = (
    "name is taken",
    "type does not match",
    "indexing_token does not belong",
    "from is not a cursor",
)


def _accepted_unless_conflicting(context: Any, response: Any, case: Any) -> bool | None:
    """Check that a valid request is accepted, unless it conflicts with the present audiences."""
    if any(words in response.text for words in _CONFLICTS):
        return None
    return positive_data_acceptance(context, response, case)


# An unknown route is 404 ROUTE_NOT_FOUND by the documentation, also a known path with another method.
_CHECKS: dict[str, Any] = {
    "excluded_checks": [positive_data_acceptance, unsupported_method],
    "additional_checks": [_accepted_unless_conflicting],
}


@pytest.mark.sample(2)
@v10.parametrize()  # type: ignore[untyped-decorator] # schemathesis leaves it untyped
def test_responses_of_1_0_match_the_document(case: Any, url: str) -> None:
    """Valid and invalid requests have a documented status, type and body. Invalid ones are refused."""
    case.call_and_validate(base_url=url, **_CHECKS)


@pytest.mark.sample(2)
@v11.parametrize()  # type: ignore[untyped-decorator] # schemathesis leaves it untyped
def test_responses_of_1_1_match_the_document(case: Any, url: str) -> None:
    """The same holds for 1.1 with attributes and tags."""
    case.call_and_validate(base_url=url, **_CHECKS)


@pytest.mark.sample(2)
@v2.parametrize()  # type: ignore[untyped-decorator] # schemathesis leaves it untyped
def test_responses_of_2_x_match_the_document(case: Any, url: str) -> None:
    """The same holds for 2.x with names in bodies and queries."""
    case.call_and_validate(base_url=url, **_CHECKS)


def test_responses_to_any_sequence_match_the_document(label: str, server: Server) -> None:
    """Audiences are created, written, viewed with their tokens, listed and deleted in any order."""

    class Machine(_schema(label, "positive").as_state_machine()):  # type: ignore[misc] # made at run time
        def setup(self) -> None:
            self.url = server.fresh()

        def before_call(self, case: Any) -> None:
            known = {"api_key": API_KEY, "version": "2.11"}
            case.path_parameters |= {name: known[name] for name in case.path_parameters.keys() & known.keys()}

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"base_url": self.url}

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            case.validate_response(response, **_CHECKS)

    Machine.run(
        settings=settings(
            max_examples=max(EXAMPLES // 2, 2), stateful_step_count=8, derandomize=True, database=None
        )
    )
