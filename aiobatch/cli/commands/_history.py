"""What a state says of itself: runs, one run, and how each audience stands; no key is needed."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Self

import attrs
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ...models import check_name
from ...sync import (
    AudienceStatus,
    Run,
    Status,
    SyncEngine,
)
from ...sync.config import DRAFT, object_schema
from .._context import InjectedContext
from .._exit_codes import ExitCode
from ..output._command_hints import command, with_remedy
from ..output._sync_report import describe_changes, pluralize, print_fields
from ..output._tables import Column

__all__ = ["history_schema", "runs", "show", "status"]

_FORMAT: Final = 1
_MINUTE: Final = 60
# What stands for the outcome of a run that has none: it goes on, or was killed.
_OPEN: Final = "open"

_RUNS = (
    Column("run", "run"),
    Column("audience", "audience"),
    Column("target", "target"),
    Column("started", "started (UTC)"),
    Column("outcome", "outcome"),
    Column("adds", "to add", spare=True),
    Column("removes", "to remove", spare=True),
    Column("applied", "applied", spare=True),
    Column("members_after", "members", spare=True),
    Column("took", "took", spare=True),
    Column("mode", "mode", spare=True),
    Column("calls", "calls", spare=True),
    Column("source", "source", spare=True),
    Column("who", "who", spare=True),
)
_STATUS = (
    Column("name", "audience"),
    Column("target", "target"),
    Column("members", "members"),
    Column("age", "last success"),
    Column("outcome", "outcome"),
    Column("open", "open ids"),
    Column("last_run", "run", spare=True),
    Column("last_success", "last success (UTC)", spare=True),
)
_MOST = 1_000_000
_STATE = Group("State", sort_key=7)
_File = Annotated[Path | None, Parameter(name="--state", metavar="FILE", group=_STATE)]


def runs(
    name: str | None = None,
    /,
    *,
    limit: Annotated[int, Parameter(metavar="N", validator=Number(gte=1, lte=_MOST))] = 20,
    state: _File = None,
    context: InjectedContext,
) -> ExitCode:
    """List runs, the latest first: when, of whom, from what, and what came of them.

    Example: `aiobatch runs vip --limit 5`

    Args:
        name: An audience; all by default.
        limit: Print at most this many runs.
        state: Use this state file. Default: one in your data directory.
    """
    if name is not None:
        check_name(name)
    found = asyncio.run(SyncEngine(state=state).runs(name, limit=limit))
    with context.output.rows(_RUNS) as add:
        for run in found.runs:
            add(_record(run) if context.options.json else _row(run, several=len(found.targets) > 1))
    whose = "" if name is None else f" of audience {name!r}"
    if found.live:
        context.info("a run is going on; until it ends, only the state's latest runs can be read")
    elif not found.runs:
        context.info(f"no run{whose} yet")
    return ExitCode.DONE


def _has_several(status: Status) -> bool:
    """Tell whether there are audiences of several targets."""
    return len({audience.target for audience in status.audiences}) > 1


def _record(run: Run) -> dict[str, Any]:
    """Return a run as `--json` prints it; docs/reference/history.schema.json describes it."""
    return {"format": _FORMAT, **attrs.asdict(run)}


def _row(run: Run, *, several: bool) -> dict[str, Any]:
    """Return a run as its row of the table; one target alone need not be named."""
    return {
        **attrs.asdict(run),
        "target": run.target if several else None,
        "outcome": run.outcome or _OPEN,
        "took": None if run.seconds is None else _took(run.seconds),
    }


def _took(seconds: float) -> str:
    """Write how long something took, such as `1.6 s` or `1:02:03`."""
    return f"{seconds:.1f} s" if seconds < _MINUTE else str(dt.timedelta(seconds=round(seconds)))


def show(run: int, /, *, state: _File = None, context: InjectedContext) -> ExitCode:
    """Show all that is known of one run.

    Example: `aiobatch show 42 --json | jq .outcome`

    Args:
        run: Its number.
        state: Use this state file. Default: one in your data directory.
    """
    found = asyncio.run(SyncEngine(state=state).show(run))
    if context.options.json:
        context.output.json(_record(found))
    else:
        print_fields(context.output, [(name, text) for name, text in _run_fields(found) if text])
    return ExitCode.DONE


def _run_fields(run: Run) -> list[tuple[str, str]]:
    """Return what is known of a run, as pairs; what there is nothing to say of is empty."""
    return [
        ("run", str(run.run)),
        ("audience", run.audience),
        ("target", run.target),
        ("outcome", run.outcome or _OPEN),
        ("error", with_remedy(run.error or "", run.remedy)),
        ("settled", "yes" if run.settled else f"no: the next run does it, or {_wait_for(run.audience)}"),
        ("mode", run.mode),
        ("source", f"{run.source}: {pluralize(run.staged, 'id')}"),
        ("who", run.who),
        ("started", f"{run.started:%Y-%m-%d %H:%M:%S} UTC"),
        ("took", "" if run.seconds is None else _took(run.seconds)),
        ("changes" if run.whole else "changes planned", describe_changes(run)),
        ("applied", "" if run.applied is None else f"{run.applied:,} of {run.planned:,}"),
        ("refused by Batch", f"{run.refused:,}" if run.refused else ""),
        ("members before", f"{run.members_before:,}"),
        ("members after", "" if run.members_after is None else f"{run.members_after:,}"),
        ("calls", f"{run.planned_calls:,} planned" + ("" if run.calls is None else f", {run.calls:,} made")),
        ("repeated", pluralize(run.retries, "request") if run.retries else ""),
        (
            "to go back to it",
            command("rollback", run.audience, "--to", str(run.run)) if run.changes_retained else "",
        ),
    ]


def _wait_for(name: str) -> str:
    """Return the command that settles what is open."""
    return command("wait", name, "--state")


def status(*, state: _File = None, context: InjectedContext) -> ExitCode:
    """Show how each audience stands: members, age of the last success, and what is open of a run.

    It works while a run goes on, which writes it every few seconds.

    Example: `aiobatch status --json | jq .age_seconds`

    Args:
        state: Use this state file. Default: one in your data directory.
    """
    found = asyncio.run(SyncEngine(state=state).status())
    now = dt.datetime.now(dt.UTC)
    several = _has_several(found)
    with context.output.rows(_STATUS, as_table=True) as add:
        for audience in found.audiences:
            record = AudienceRecord.of(audience, now, live=found.live)
            add(record.values() if context.options.json else record.row(several=several))
    for line in _notes(found, now):
        context.info(line)
    return ExitCode.DONE


def _notes(found: Status, now: dt.datetime) -> Iterator[str]:
    """Return what else is to be said of a state."""
    if not found.audiences:
        yield "no run yet"
    if found.live:
        yield f"a run is going on; this is how it stood {_age((now - found.written).total_seconds())} ago"
        return
    several = _has_several(found)
    for one in found.audiences:
        if one.open_run is not None:
            name = f"{one.name} ({one.target})" if several else one.name
            yield (
                f"{name}: run {one.open_run} is open, and nobody works on it: the next run settles it, or "
                f"{_wait_for(one.name)}"
            )


@attrs.frozen(kw_only=True)
class AudienceRecord(AudienceStatus):
    """How an audience stands, as status prints it.

    Attributes:
        age_seconds: Seconds since its last success; None if there was none.
        live: Whether a run has the state open: then this is how it stood when that run wrote it last.
    """

    age_seconds: float | None
    live: bool

    @classmethod
    def of(cls, audience: AudienceStatus, now: dt.datetime, *, live: bool) -> Self:
        """Say how an audience stands *now*."""
        success = audience.last_success
        age = None if success is None else (now - success).total_seconds()
        return cls(**attrs.asdict(audience), age_seconds=age, live=live)

    def values(self) -> dict[str, Any]:
        """Return it as `--json` prints it; docs/reference/history.schema.json describes it."""
        return {"format": _FORMAT, **attrs.asdict(self)}

    def row(self, *, several: bool) -> dict[str, Any]:
        """Return it as its row of the table; one target alone need not be named."""
        return {
            **attrs.asdict(self),
            "target": self.target if several else None,
            "members": self.members if self.known else "unknown",
            "age": "never" if self.age_seconds is None else f"{_age(self.age_seconds)} ago",
            "outcome": self.outcome or _OPEN,
            "open": ", ".join(f"{ids:,} {at}" for at, ids in self.open_ids.items()) or None,
        }


def history_schema() -> dict[str, Any]:
    """Return the JSON Schema of what runs, show and status print with `--json`."""
    definitions = {
        "run": object_schema(Run, nullable=True),
        "audience": object_schema(AudienceRecord, nullable=True),
    }
    for one in definitions.values():
        version = {"const": _FORMAT, "description": "The version of this schema."}
        one["properties"] = {"format": version, **one["properties"]}
        one["required"] = ["format", *one["required"]]
    return {
        "$schema": DRAFT,
        "title": "Each line that aiobatch runs, show (a run) and status (an audience) print with --json",
        "oneOf": [{"$ref": f"#/definitions/{name}"} for name in definitions],
        "definitions": definitions,
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
