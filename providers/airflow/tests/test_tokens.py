"""Waits for tokens: the trigger, the sensor and the update."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSensorTimeout, TaskDeferred

from aiobatch import IndexingToken
from aiobatch.sandbox import Sandbox
from airflow_provider_batchcom._sync import MAX_TOKENS, _newest
from airflow_provider_batchcom._update import check_outcomes
from airflow_provider_batchcom.hooks.batchcom import BatchcomHook
from airflow_provider_batchcom.operators.batchcom import BatchcomUpdateAudienceOperator
from airflow_provider_batchcom.sensors.batchcom import BatchcomTokensSensor
from airflow_provider_batchcom.triggers.batchcom import BatchcomTokensTrigger

from .conftest import Ended
from .dags import many_tasks, one_task

RunSandbox = Callable[..., Sandbox]
RunDag = Callable[..., Ended]
_HOUR = 3600.0


def send(*replaced: str) -> list[str]:
    """Create an audience and add an ID, then replace the members by *replaced*. Return the update's token."""

    async def work() -> list[str]:
        async with BatchcomHook().get_client() as client:
            token = await client.create("vip")
            assert token is not None
            await client.await_applied(token)
            token = await client.update("vip", add=["u1"])
            if replaced:
                await client.replace("vip", replaced)
            return [str(token)]

    return asyncio.run(work())


def fire(trigger: BatchcomTokensTrigger) -> dict[str, Any]:
    """Return the payload of a trigger's only event. It went through the database before."""
    path, arguments = trigger.serialize()
    assert path == f"{BatchcomTokensTrigger.__module__}.BatchcomTokensTrigger"

    async def run() -> list[Any]:
        return [event async for event in BatchcomTokensTrigger(**arguments).run()]

    (event,) = asyncio.run(run())
    payload: dict[str, Any] = event.payload
    return payload


def test_trigger_reports_the_outcomes(run_sandbox: RunSandbox) -> None:
    """The event has the outcomes, and all that the trigger was given for later."""
    run_sandbox(indexing_delay=0.2)
    deadline = time.time() + _HOUR
    event = fire(BatchcomTokensTrigger(send(), deadline, carry={"report": {"run": 3}}))
    assert event == {
        "outcomes": {"APPLIED": 1},
        "error": None,
        "deadline": deadline,
        "carry": {"report": {"run": 3}},
    }


def test_deadline_does_not_move(run_sandbox: RunSandbox) -> None:
    """A trigger that starts again after its deadline polls once more and ends."""
    run_sandbox(indexing_delay=0.2)
    tokens = send()
    sent = f"{IndexingToken.parse(tokens[0]).audience}:update:unknown-token"
    event = fire(BatchcomTokensTrigger(tokens, deadline=1.0))
    assert event["outcomes"] == {"APPLIED": 1}
    event = fire(BatchcomTokensTrigger([sent], deadline=1.0))
    assert sum(event["outcomes"].values()) == 1
    assert "APPLIED" not in event["outcomes"]
    assert event["error"]


def test_replaced_token_fails_for_good(run_sandbox: RunSandbox) -> None:
    """A token that another writer superseded needs a person."""
    run_sandbox(indexing_delay=1.0)
    event = fire(BatchcomTokensTrigger(send("other"), time.time() + _HOUR))
    assert event["outcomes"] == {"REPLACED": 1}
    with pytest.raises(AirflowFailException, match="REPLACED"):
        check_outcomes(event)


@pytest.mark.parametrize("outcome", ["TIMED_OUT", "FAILED"])
def test_other_outcomes_are_retried(outcome: str) -> None:
    """A timeout, or a token that cannot be checked, may be fixed by a retry."""
    with pytest.raises(AirflowException, match=f"2 tokens are not APPLIED .{outcome}.") as caught:
        check_outcomes({"outcomes": {"APPLIED": 1, outcome: 2}, "error": "x"})
    assert not isinstance(caught.value, AirflowFailException)
    check_outcomes({"outcomes": {"APPLIED": 1, outcome: 2}, "error": "x"}, tolerate=[outcome])


def test_few_tokens_are_stored() -> None:
    """A run of many chunks waits for the newest tokens, which are APPLIED last."""
    tokens = [IndexingToken("vip", f"t{n}") for n in range(MAX_TOKENS + 5)]
    assert _newest(tokens) == [str(token) for token in tokens[5:]]


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(("replaced", "state"), [((), "success"), (("other",), "failed")])
def test_sensor_ends_as_its_tokens(
    run_sandbox: RunSandbox, run_dag: RunDag, deferrable: bool, replaced: tuple[str, ...], state: str
) -> None:
    """The sensor succeeds when all is APPLIED, and fails at once if a token is REPLACED."""
    run_sandbox(indexing_delay=1.0)
    task = f"""
BatchcomTokensSensor(
    task_id="wait", tokens={send(*replaced)!r}, deferrable={deferrable}, retries=2, poke_interval=0.1
)
"""
    ended = run_dag(many_tasks(task))
    assert (ended.states, ended.tries) == ({"wait": [state]}, {"wait": 1})


def test_sensor_defers_in_portions() -> None:
    """More tokens than a trigger takes are waited for one portion after the other."""
    tokens = [f"vip:update:t{n}" for n in range(MAX_TOKENS + 5)]
    sensor = BatchcomTokensSensor(task_id="wait", tokens=[*tokens, tokens[0]], deferrable=True, timeout=60)
    with pytest.raises(TaskDeferred) as first:
        sensor.execute({})
    trigger = first.value.trigger
    event = {"outcomes": {"APPLIED": 1}, "error": None, "deadline": trigger.deadline, "carry": trigger.carry}
    with pytest.raises(TaskDeferred) as second:
        sensor.complete({}, event)
    assert [*trigger.tokens, *second.value.trigger.tokens] == tokens
    assert second.value.trigger.deadline == trigger.deadline
    sensor.complete({}, event | {"carry": second.value.trigger.carry})
    with pytest.raises(AirflowSensorTimeout):
        sensor.complete({}, event | {"outcomes": {"TIMED_OUT": 1}})


def test_sensor_without_tokens_succeeds() -> None:
    """There is nothing to wait for. A text is no list of tokens."""
    BatchcomTokensSensor(task_id="wait", tokens=[], deferrable=True).execute({})
    wrong = BatchcomTokensSensor(task_id="wait", tokens="vip:update:t", deferrable=True)
    with pytest.raises(AirflowFailException, match="list of texts, not str"):
        wrong.execute({})


@pytest.mark.parametrize("arguments", [{}, {"add": "u1"}, {"add": None, "remove": 3}])
def test_bad_update_is_refused(run_sandbox: RunSandbox, run_dag: RunDag, arguments: dict[str, Any]) -> None:
    """An update needs lists of IDs. It fails without a retry."""
    sandbox = run_sandbox()
    ended = run_dag(one_task("BatchcomUpdateAudienceOperator", retries=2, deferrable=False, **arguments))
    assert (ended.states, ended.tries) == ({"sync": ["failed"]}, {"sync": 1})
    assert sandbox.request_count == 0


def test_missing_audience_is_not_retried(run_sandbox: RunSandbox, run_dag: RunDag, tmp_path: Path) -> None:
    """An update of a missing audience fails without a retry."""
    run_sandbox()
    ended = run_dag(one_task("BatchcomUpdateAudienceOperator", retries=2, deferrable=False, add=["u1"]))
    assert (ended.states, ended.tries) == ({"sync": ["failed"]}, {"sync": 1})
    assert "[exit code 3]" in ended.log


def test_default_of_deferrable_is_that_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's setting decides where the operator does not."""
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    assert BatchcomUpdateAudienceOperator(task_id="x", audience="vip").deferrable
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "False")
    assert not BatchcomUpdateAudienceOperator(task_id="x", audience="vip").deferrable
