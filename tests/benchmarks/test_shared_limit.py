"""The scenario of a shared limit runs with two processes for a moment."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("httpx", reason="httpx is not installed: make .venv/.bench")
pytest.importorskip("requests", reason="requests is not installed: make .venv/.bench")

from aiobatch.sandbox import SandboxRequest
from benchmarks.__main__ import main
from benchmarks.scenarios.shared_limit import SharedLimit
from benchmarks.servers.limited import count


@pytest.mark.sweep
def test_shared_limit_has_three_targets(capsys: pytest.CaptureFixture[str]) -> None:
    """Both lines are measured. Processes that share the limit get no 429."""
    scenario = SharedLimit(processes=2, workers=2, rate=20, seconds=1.0)
    main(["shared_limit", "--rounds", "1", "--json"], {"shared_limit": scenario})
    output = json.loads(capsys.readouterr().out)
    (comparison,) = output["comparisons"]
    assert [line["name"] for line in comparison["lines"]] == ["Limits(rate, shared=True)", "Limits(rate)"]
    used, refused, _, _ = comparison["lines"][0]["values"]
    assert used > 0
    assert refused == 0
    assert [row["target"]["bound"] for row in output["rows"]] == [97, 0, 10]


def test_server_counts_each_client() -> None:
    """The audience's name in the path is the client, and a 429 is a refusal."""

    def request(name: str, status: int) -> SandboxRequest:
        path = f"/1.0/***/audiences/{name}"
        return SandboxRequest(method="GET", operation="view", path=path, status=status, ids=0, fault=None)

    requests = (request("p0", 404), request("p0", 429), request("p1", 404), request("p0", 404))
    assert count(requests) == {"accepted": {"p0": 2, "p1": 1}, "refused": {"p0": 1}}
