"""What the engine's doors are given by mistake: refused by its name, before anything is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from aiobatch import AudienceClient, InvalidInputError, Project
from aiobatch._http import Request, Response
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
async def test_whose_audience(client: AudienceClient, state: Path, operation: str, wrong: Any) -> None:
    """A client that is none is refused, and so is a name that is no string."""
    with pytest.raises(InvalidInputError, match=r"^client must be of type AudienceClient, not ") as caught:
        await call(operation, wrong, "vip", state=state)
    assert PRIVATE not in str(caught.value)
    if not isinstance(wrong, str):
        with pytest.raises(InvalidInputError, match=r"^An audience name must be a string, not "):
            await call(operation, client, wrong, state=state)


@pytest.mark.parametrize("operation", RUNS)
@pytest.mark.parametrize("wrong", [None, 5, PRIVATE, {}, SyncOptions, Mode.ADD])
async def test_how(client: AudienceClient, state: Path, operation: str, wrong: Any) -> None:
    """Options are SyncOptions; a stop is an event, and progress a plain function."""
    with pytest.raises(InvalidInputError, match=r"^options must be of type SyncOptions, not ") as caught:
        await call(operation, client, "vip", state=state, options=wrong)
    assert PRIVATE not in str(caught.value)


async def hear(_: object) -> None:
    """Hear of progress, if anybody awaits it."""


@pytest.mark.parametrize("operation", RUNS)
async def test_what_is_called_or_waited_for(client: AudienceClient, state: Path, operation: str) -> None:
    """A stop is an event, and progress a plain function."""
    for stop in (5, PRIVATE, True):
        with pytest.raises(InvalidInputError, match=r"^stop must be of type Event, not "):
            await call(operation, client, "vip", state=state, stop=stop)
    for on_progress in (5, PRIVATE, hear):
        with pytest.raises(InvalidInputError, match=r"^on_progress must be a "):
            await call(operation, client, "vip", state=state, on_progress=on_progress)


@pytest.mark.parametrize("operation", [*RUNS, "forget"])
@pytest.mark.parametrize("wrong", [5, b"state", True, []])
async def test_where(client: AudienceClient, operation: str, wrong: Any) -> None:
    """A state is a path."""
    with pytest.raises(InvalidInputError, match=r"^state must be the path of a file, not "):
        await call(operation, client, "vip", state=wrong)


@pytest.mark.parametrize("to", [True, None, "1", 1.0])
async def test_which_run(client: AudienceClient, state: Path, to: Any) -> None:
    """True is no number of a run."""
    with pytest.raises(InvalidInputError, match=r"^to must be the number of a run"):
        async with SyncEngine(state=state) as engine:
            await engine.rollback(client, "vip", to)


@pytest.mark.parametrize("plan", [None, {}, PRIVATE])
async def test_which_plan(client: AudienceClient, state: Path, plan: Any) -> None:
    """A plan is what `plan` returned, or what was read back."""
    with pytest.raises(InvalidInputError, match=r"^plan must be of type Plan, not "):
        async with SyncEngine(state=state) as engine:
            await engine.apply(client, plan, IDS)


@pytest.mark.parametrize("value", ["false", "true", 1, 0, None])
@pytest.mark.parametrize(
    ("options", "field"),
    [(Overrides, "allow_empty"), *((SyncOptions, field) for field in ("trim", "create", "wait", "strict"))],
)
def test_a_flag_that_is_none(options: type[Any], field: str, value: Any) -> None:
    """A text such as "false" would allow what it was meant to forbid."""
    with pytest.raises(InvalidInputError, match=f"^{field} must be True or False, not "):
        options(**{field: value})


@pytest.mark.parametrize("value", [True, "30", -1, 101, float("nan")])
def test_a_percentage_that_is_none(value: Any) -> None:
    """True is not one per cent."""
    with pytest.raises(InvalidInputError, match="max_removals_percent must be 0 to 100"):
        GuardPolicy(max_removals_percent=value)


@pytest.mark.parametrize("value", [None, 5, "wipe", Mode])
def test_a_mode_that_is_none(value: Any) -> None:
    """The text names the modes."""
    with pytest.raises(InvalidInputError, match=r"^mode must be one of mirror, add, remove"):
        SyncOptions(mode=value)


@pytest.mark.parametrize(("field", "kind"), [("guard", "GuardPolicy"), ("overrides", "Overrides")])
def test_a_guard_that_is_none(field: str, kind: str) -> None:
    """It is refused with the options, and not when it is to judge."""
    wrong: Any = {field: True}
    with pytest.raises(InvalidInputError, match=f"^{field} must be of type {kind}, not bool"):
        SyncOptions(**wrong)
