"""What a state says of itself: runs, one run, and how each audience stands; no key is needed."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ..models import check_name
from ..sync import (
    AudienceStatus,
    LockedError,
    Run,
    State,
    UnknownRunError,
    default_state_path,
    list_runs,
    read_status,
    show_run,
)
from ._context import Here
from ._exit import ExitCode
from ._output import Column
from ._sync_report import facts

__all__ = ["runs", "show", "status"]

_RUNS = (
    Column("run", "run"),
    Column("audience", "audience"),
    Column("started", "started (UTC)"),
    Column("mode", "mode"),
    Column("outcome", "outcome"),
    Column("adds", "added"),
    Column("removes", "removed"),
    Column("members_after", "members"),
    Column("calls", "calls"),
    Column("who", "who"),
    Column("source", "source"),
)
_STATUS = (
    Column("name", "audience"),
    Column("members", "members"),
    Column("known", "known"),
    Column("last_success", "last success (UTC)"),
    Column("age", "age"),
    Column("open_run", "open run"),
    Column("open", "open ids"),
    Column("target", "target"),
)
_STATE = Group("State", sort_key=7)
_File = Annotated[Path | None, Parameter(name="--state", metavar="FILE", group=_STATE)]


def runs(
    name: str | None = None,
    /,
    *,
    limit: Annotated[int, Parameter(metavar="N", validator=Number(gte=1))] = 20,
    state: _File = None,
    context: Here,
) -> ExitCode:
    """List runs, the latest first: when, of whom, from what, and what came of them.

    Example: `aiobatch runs vip --limit 5`

    Args:
        name: An audience; all by default.
        limit: Runs at most.
        state: The state file; one in the user's data directory by default.
    """
    if name is not None:
        check_name(name)
    found = _runs(state or default_state_path(), name, limit)
    with context.output.rows(_RUNS) as add:
        for run in found:
            add(_record(run))
    if not found:
        context.say("no run yet" if name is None else f"no run of audience {name!r} yet")
    return ExitCode.DONE


def _runs(path: Path, name: str | None, limit: int) -> list[Run]:
    """Return runs from the state or, while another run has that open, from what it last wrote."""
    try:
        with State.read(path) as state:
            if name is None:
                return list_runs(state, limit=limit)
            keys = [audience.key for audience in state.audiences() if audience.name == name]
            found = [run for key in keys for run in list_runs(state, key=key, limit=limit)]
    except LockedError:
        found = [run for run in read_status(path).runs if name in {None, run.audience}]
    return sorted(found, key=lambda run: run.run, reverse=True)[:limit]


def show(run: int, /, *, state: _File = None, context: Here) -> ExitCode:
    """Show all that is known of one run.

    Example: `aiobatch show 42 --json | jq .outcome`

    Args:
        run: Its number.
        state: The state file; one in the user's data directory by default.
    """
    found = _run(state or default_state_path(), run)
    values = _record(found)
    if context.options.json:
        context.output.json(values)
    else:
        facts(context, [(name.replace("_", " "), _said(value)) for name, value in values.items()])
    return ExitCode.DONE


def _run(path: Path, number: int) -> Run:
    """Return a run from the state or, while another run has that open, from what it last wrote."""
    try:
        with State.read(path) as state:
            return show_run(state, number)
    except LockedError:
        with contextlib.suppress(StopIteration):
            return next(run for run in read_status(path).runs if run.run == number)
        msg = f"run {number} is none of the latest, and others cannot be read while a run goes on: try later"
        raise UnknownRunError(msg, run=number) from None


def _record(run: Run) -> dict[str, Any]:
    """Return a run as a record."""
    values = attrs.asdict(run)
    del values["key"]
    return values | {"mode": str(run.mode), "seconds": run.seconds}


def _said(value: object) -> str:
    """Write a value of a run for a person."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return f"{value:,}" if isinstance(value, int) else str(value)


def status(*, state: _File = None, context: Here) -> ExitCode:
    """Show how each audience stands: members, age of the last success, and what is open of a run.

    It works while a run goes on, which writes it every few seconds.

    Example: `aiobatch status --json | jq .age_seconds`

    Args:
        state: The state file; one in the user's data directory by default.
    """
    found = read_status(state or default_state_path())
    now = dt.datetime.now(dt.UTC)
    with context.output.rows(_STATUS) as add:
        for record in _stand(found.audiences, now, live=found.live):
            add(record)
    if found.live:
        context.say(
            f"a run is going on; this is how it stood {_age((now - found.written).total_seconds())} ago"
        )
    return ExitCode.DONE


def _stand(
    audiences: tuple[AudienceStatus, ...], now: dt.datetime, *, live: bool
) -> Iterator[dict[str, Any]]:
    """Return how audiences stand, as records; a target's digest tells two of one name apart."""
    names = [audience.name for audience in audiences]
    for audience in audiences:
        seconds = None if audience.last_success is None else (now - audience.last_success).total_seconds()
        yield {
            "name": audience.name,
            "target": audience.scope[:8] if names.count(audience.name) > 1 else None,
            "members": audience.members,
            "known": "yes" if audience.known else "no",
            "last_success": audience.last_success,
            "age": None if seconds is None else _age(seconds),
            "age_seconds": seconds,
            "open_run": audience.open_run,
            "open": ", ".join(f"{ids:,} {at}" for at, ids in audience.open_ids.items()) or None,
            "open_ids": audience.open_ids,
            "live": live,
        }


def _age(seconds: float) -> str:
    """Write `2 d 3 h`, `3 h 4 min`, `4 min` or `5 s`."""
    seconds = max(seconds, 0)  # another machine's clock may be ahead
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
