"""Arguments of the wrong type: refused by their name, before anything is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from aiobatch import AudienceClient, InvalidInputError, Project
from aiobatch.interfaces import Request, Response
from aiobatch.sync import (
    GuardPolicy,
    Mode,
    Overrides,
    SyncEngine,
    SyncOptions,
)
from aiobatch.testing import FakeTransport

# A value that no error may repeat.
PRIVATE = "zoe@example.com"
IDS = ["u1"]

# The arguments of each operation, after the client and the name.
ARGUMENTS: Mapping[str, tuple[Any, ...]] = {
    "sync": (IDS,),
    "resync": (IDS,),
    "plan": (IDS,),
    "adopt": (IDS,),
    "rollback": (1,),
    "settle": (),
    "verify": (),
    "forget": (),
}
RUNS = [name for name in ARGUMENTS if name not in {"verify", "forget"}]


async def call(operation: str, client: Any, name: Any, **engine_arguments: Any) -> object:
    """Call an operation of an engine that is opened for it."""
    async with SyncEngine(**engine_arguments) as engine:
        return await getattr(engine, operation)(client, name, *ARGUMENTS[operation])


def refuse(request: Request) -> Response:
    """Answer nothing: nothing may be sent."""
    msg = f"the {request.label} was sent"
    raise AssertionError(msg)


@pytest.fixture
async def client() -> AsyncIterator[AudienceClient]:
    """A client that must send nothing."""
    project = Project(rest_api_key="rest", project_key="project")
    async with AudienceClient(project, transport=FakeTransport(refuse)) as client:
        yield client


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where there is no state yet."""
    return tmp_path / "state.duckdb"


@pytest.mark.parametrize("operation", list(ARGUMENTS))
@pytest.mark.parametrize("wrong", [None, 5, PRIVATE, {}])
async def test_invalid_client_or_name_sends_nothing(
    client: AudienceClient, state: Path, operation: str, wrong: Any
) -> None:
    """A client of another type and a name that is no string are refused."""
    with pytest.raises(InvalidInputError, match=r"^client must be of type AudienceClient, not ") as caught:
        await call(operation, wrong, "vip", state=state)
    assert PRIVATE not in str(caught.value)
    if not isinstance(wrong, str):
        with pytest.raises(InvalidInputError, match=r"^An audience name must be a string, not "):
            await call(operation, client, wrong, state=state)


@pytest.mark.parametrize("operation", RUNS)
@pytest.mark.parametrize("wrong", [None, 5, PRIVATE, {}, SyncOptions, Mode.ADD])
async def test_invalid_options_send_nothing(
    client: AudienceClient, state: Path, operation: str, wrong: Any
) -> None:
    """Options must be SyncOptions."""
    with pytest.raises(InvalidInputError, match=r"^options must be of type SyncOptions, not ") as caught:
        await call(operation, client, "vip", state=state, options=wrong)
    assert PRIVATE not in str(caught.value)


async def hear(_: object) -> None:
    """Hear of progress, if anybody awaits it."""


@pytest.mark.parametrize("operation", RUNS)
async def test_invalid_hook_or_stop_sends_nothing(
    client: AudienceClient, state: Path, operation: str
) -> None:
    """A hook must be a plain function, and a stop an event."""
    for stop in (5, PRIVATE, True):
        with pytest.raises(InvalidInputError, match=r"^stop must be of type Event, not "):
            await call(operation, client, "vip", state=state, stop=stop)
    for on_progress in (5, PRIVATE, hear):
        with pytest.raises(InvalidInputError, match=r"^on_progress must be a "):
            await call(operation, client, "vip", state=state, on_progress=on_progress)


@pytest.mark.parametrize("operation", [*RUNS, "forget"])
@pytest.mark.parametrize("wrong", [5, b"state", True, []])
async def test_state_must_be_a_path(client: AudienceClient, operation: str, wrong: Any) -> None:
    """A state is a path."""
    with pytest.raises(InvalidInputError, match=r"^state must be the path of a file or a URL "):
        await call(operation, client, "vip", state=wrong)


@pytest.mark.parametrize("to", [True, None, "1", 1.0])
async def test_run_number_must_be_an_int(client: AudienceClient, state: Path, to: Any) -> None:
    """True is not the number of a run."""
    with pytest.raises(InvalidInputError, match=r"^to must be the number of a run"):
        async with SyncEngine(state=state) as engine:
            await engine.rollback(client, "vip", to)


@pytest.mark.parametrize("plan", [None, {}, PRIVATE])
async def test_plan_must_be_a_plan(client: AudienceClient, state: Path, plan: Any) -> None:
    """A plan is what `plan` returned, or what was loaded."""
    with pytest.raises(InvalidInputError, match=r"^plan must be of type Plan, not "):
        async with SyncEngine(state=state) as engine:
            await engine.apply(client, plan, IDS)


@pytest.mark.parametrize("value", ["false", "true", 1, 0, None])
@pytest.mark.parametrize(
    ("options", "field"),
    [(Overrides, "allow_empty"), *((SyncOptions, field) for field in ("trim", "create", "wait", "strict"))],
)
def test_flag_must_be_a_bool(options: type[Any], field: str, value: Any) -> None:
    """A text such as "false" would count as true."""
    with pytest.raises(InvalidInputError, match=f"^{field} must be true or false, not "):
        options(**{field: value})


@pytest.mark.parametrize("value", [True, "30", -1, 101, float("nan")])
def test_percentage_must_be_a_number_from_0_to_100(value: Any) -> None:
    """True is not one per cent."""
    with pytest.raises(InvalidInputError, match="max_removals_percent must be a number from 0 to 100"):
        GuardPolicy(max_removals_percent=value)


@pytest.mark.parametrize("value", [None, 5, "wipe", Mode])
def test_unknown_mode_lists_the_modes(value: Any) -> None:
    """The text names the modes."""
    with pytest.raises(InvalidInputError, match=r"^mode must be one of mirror, add, remove"):
        SyncOptions(mode=value)


@pytest.mark.parametrize(("field", "kind"), [("guard", "GuardPolicy"), ("overrides", "Overrides")])
def test_guard_must_be_of_its_type(field: str, kind: str) -> None:
    """It is refused with the options, before any run."""
    wrong: Any = {field: True}
    with pytest.raises(InvalidInputError, match=f"^{field} must be of type {kind}, not True"):
        SyncOptions(**wrong)
