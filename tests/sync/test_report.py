from __future__ import annotations

import asyncio
import itertools
import pickle
from pathlib import Path

import orjson
import pytest

from aiobatch import AudienceClient, AuthenticationError
from aiobatch.interfaces import Request, Response
from aiobatch.sync import (
    BULK_RETRY,
    DriftError,
    GuardError,
    InterruptedRunError,
    Mode,
    NotAppliedError,
    ReplacedElsewhereError,
    RunOutcome,
    SendError,
    SyncOptions,
    report_of,
    sync_audience,
)
from aiobatch.sync._report import outcome_of, text_of
from aiobatch.testing import FakeTransport, json_response

from .sync_env import PROJECT, QUICK, ids, sync_env


async def test_report_is_plain_json(tmp_path: Path) -> None:
    """A report contains JSON values only, and no ID and no key."""
    async with sync_env(tmp_path) as env:
        report = await env.sync(ids(range(25)))
        document = orjson.loads(orjson.dumps(report.to_dict()))
        assert (document["format"], document["outcome"], document["mode"]) == (1, "done", "mirror")
        assert (document["adds"], document["calls"], document["reasons"]) == (25, 3, {})
        assert document["started"].endswith("Z")
        assert "user-" not in str(document)
        assert report.changes == 25


async def test_error_carries_the_report_of_its_run(tmp_path: Path) -> None:
    """The report is there when a run fails as well, and it survives pickling."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(200)))
        with pytest.raises(GuardError) as caught:
            await env.sync(["a", " ", "a"])
        report = pickle.loads(pickle.dumps(caught.value)).report  # noqa: S301 - just made
        assert report == report_of(caught.value, audience="x", mode=Mode.ADD, source="y")
        assert (report.outcome, report.read, report.kept, report.duplicate, report.rejected) == (
            RunOutcome.REFUSED,
            3,
            1,
            1,
            1,
        )
        assert (report.removes, report.members_before, report.calls) == (200, 200, 0)
        assert (report.error, report.remedy) == (caught.value.text, caught.value.remedy)


def test_report_of_an_error_without_one() -> None:
    """A run that failed before it began is reported with what is known."""
    error = AuthenticationError("the key is wrong", status=401, method="GET", path="/")
    report = report_of(error, audience="vip", mode=Mode.MIRROR, source="users.csv")
    assert (report.audience, report.source, report.outcome) == ("vip", "users.csv", RunOutcome.FAILED)
    assert (report.error, report.calls, report.run) == ("the key is wrong [401]", 0, None)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DriftError("x", audience="vip"), RunOutcome.DRIFT),
        (NotAppliedError("x", audience="vip"), RunOutcome.NOT_APPLIED),
        (InterruptedRunError("x", audience="vip"), RunOutcome.INTERRUPTED),
        (ReplacedElsewhereError("x", audience="vip"), RunOutcome.REPLACED),
        (SendError("x", audience="vip"), RunOutcome.FAILED),
        (asyncio.CancelledError(), RunOutcome.INTERRUPTED),
        (ZeroDivisionError("user-1"), RunOutcome.FAILED),
    ],
)
def test_each_error_has_an_outcome_and_a_text_without_ids(error: BaseException, outcome: RunOutcome) -> None:
    """Of errors that are not aiobatch's the history keeps the type alone."""
    assert outcome_of(error) is outcome
    assert "user-1" not in text_of(error)


def test_bulk_policy_outlasts_half_an_hour() -> None:
    """It allows more tries than a probe every 15 seconds makes."""
    assert BULK_RETRY.timeout == 1800
    assert BULK_RETRY.attempts > BULK_RETRY.timeout / 15
    assert BULK_RETRY.budget > BULK_RETRY.attempts


async def test_run_counts_its_own_retries(tmp_path: Path) -> None:
    """Retries of other runs that share the client are not counted."""
    left = 3
    numbers = itertools.count()

    def answer(request: Request) -> Response:
        nonlocal left
        if request.operation == "view":
            row = {"name": request.audience, "type": "CUSTOM_ID", "indexing_state": "APPLIED", "nb_ids": 0}
            return json_response(200, row)
        if b'"name":"unlucky"' in request.body and left:
            left -= 1
            return json_response(500, {"error_code": "INTERNAL", "error_message": "try again"})
        return json_response(202, {"indexing_token": f"token{next(numbers)}"})

    async with AudienceClient(PROJECT, transport=FakeTransport(answer), **QUICK) as client:
        lucky, unlucky = await asyncio.gather(
            *(
                sync_audience(client, name, ["a"], state=tmp_path / name, options=SyncOptions(drift=1))
                for name in ("lucky", "unlucky")
            )
        )
        assert client.stats.retries == 3
    assert (lucky.retries, unlucky.retries) == (0, 3)
