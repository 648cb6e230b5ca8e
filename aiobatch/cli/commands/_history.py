"""The `runs` and `show` commands, which read the state and need no keys."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Annotated, Any, Final

import attrs
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ...models import check_name
from ...sync import Run, SyncEngine
from ...sync.config import DRAFT, matches, object_schema
from .._context import InjectedContext
from .._exit_codes import ExitCode
from ..inputs._place import find_state
from ..options._common import ConfigOptions
from ..options._sync import StateOption
from ..output._command_hints import command, with_remedy
from ..output._sync_report import describe_changes, describe_kept, pluralize, print_fields
from ..output._tables import Column
from ._status import OPEN, StatusRecord

__all__ = ["history_schema", "runs", "show"]

_FORMAT: Final = 1
_MINUTE: Final = 60
_RUNS = (
    Column("run", "run"),
    Column("audience", "audience"),
    Column("target", "target"),
    Column("started", "started (UTC)", plain="started"),
    Column("outcome", "outcome"),
    Column("adds", "to add", spare=True),
    Column("removes", "to remove", spare=True),
    Column("applied", "applied", spare=True),
    Column("members_after", "members", spare=True),
    Column("took", "took", spare=True, plain="seconds"),
    Column("mode", "mode", spare=True),
    Column("calls", "calls", spare=True),
    Column("source", "source", spare=True),
    Column("who", "who", spare=True),
    Column("rejected", "rejected rows", spare=True),
)
_MOST = 1_000_000
_STATE = Group("State", sort_key=7)
_NO_CONFIG = ConfigOptions()
_File = Annotated[StateOption, Parameter(group=_STATE)]


def runs(
    name: str | None = None,
    /,
    *,
    limit: Annotated[int, Parameter(metavar="N", validator=Number(gte=1, lte=_MOST))] = 20,
    state: _File = None,
    where: ConfigOptions = _NO_CONFIG,
    context: InjectedContext,
) -> ExitCode:
    """List runs, newest first, with audience, start, outcome and source.

    Example: `aiobatch runs vip --limit 5`

    Example: `aiobatch runs vip --config aiobatch.toml --target ios`

    Args:
        name: The audience. Default: all.
        limit: Print at most this many runs.
        state: Use this state file. Default: as in the config, or your own.
    """
    if name is not None:
        check_name(name)
    patterns = [] if where.target is None else [where.target]
    path = find_state(where, state, context.info)
    found = asyncio.run(SyncEngine(state=path).runs(name, limit=_MOST if patterns else limit))
    chosen = [run for run in found.runs if matches(run.target, patterns)][:limit]
    with context.output.rows(_RUNS) as add:
        for run in chosen:
            add(_record(run) if context.options.json else _row(run, several=len(found.targets) > 1))
    of = "" if name is None else f" of audience {name!r}"
    if found.live:
        context.info("A run is in progress. Until it ends, only the latest runs can be listed.")
    elif not chosen:
        context.info(f"No run{of} yet.")
    return ExitCode.DONE


def _record(run: Run) -> dict[str, Any]:
    """Return the JSON record of a run. docs/reference/history.schema.json is its schema."""
    return {"format": _FORMAT, **attrs.asdict(run)}


def _row(run: Run, *, several: bool) -> dict[str, Any]:
    """Return the row of a run. A single target is not named."""
    return {
        **attrs.asdict(run),
        "target": run.target if several else None,
        "outcome": run.outcome or OPEN,
        "rejected": run.rejected or None,
        "took": None if run.seconds is None else _took(run.seconds),
    }


def _took(seconds: float) -> str:
    """Format a duration as `1.6 s` or `1:02:03`."""
    return f"{seconds:.1f} s" if seconds < _MINUTE else str(dt.timedelta(seconds=round(seconds)))


def show(
    run: int,
    /,
    *,
    state: _File = None,
    config: Annotated[Path | None, Parameter(metavar="FILE", group=_STATE)] = None,
    context: InjectedContext,
) -> ExitCode:
    """Show the details of one run.

    Example: `aiobatch show 42 --json | jq .outcome`

    Args:
        run: The number of the run.
        state: Use this state file. Default: as in the config, or your own.
        config: Use this config. Default: $AIOBATCH_CONFIG, else ./aiobatch.toml.
    """
    path = find_state(ConfigOptions(config=config), state, context.info)
    found = asyncio.run(SyncEngine(state=path).show(run))
    if context.options.json:
        context.output.json(_record(found))
    else:
        print_fields(context.output, [(name, text) for name, text in _run_fields(found) if text])
    return ExitCode.DONE


def _run_fields(run: Run) -> list[tuple[str, str]]:
    """Return the fields of a run. Fields without a value are empty."""
    return [
        ("run", str(run.run)),
        ("audience", run.audience),
        ("target", run.target),
        ("outcome", run.outcome or OPEN),
        ("error", with_remedy(run.error or "", run.remedy)),
        ("settled", "yes" if run.settled else f"no, until the next run or {command('settle', run.audience)}"),
        ("mode", run.mode),
        ("source", run.source),
        ("IDs", f"{run.staged:,}"),
        ("rows", f"{pluralize(run.read, 'row')}: {describe_kept(run)}" if run.read is not None else ""),
        ("who", run.who),
        ("started", f"{run.started:%Y-%m-%d %H:%M:%S} UTC"),
        ("took", "" if run.seconds is None else _took(run.seconds)),
        ("changes" if run.whole else "changes planned", describe_changes(run)),
        ("applied", "" if run.applied is None else f"{run.applied:,} of {run.planned:,}"),
        ("refused by Batch", f"{run.refused:,}" if run.refused else ""),
        ("members before", f"{run.members_before:,}"),
        ("members after", "" if run.members_after is None else f"{run.members_after:,}"),
        ("calls", f"{run.planned_calls:,} planned" + ("" if run.calls is None else f", {run.calls:,} sent")),
        ("retries", pluralize(run.retries, "request") if run.retries else ""),
        (
            "roll back with",
            command("rollback", run.audience, "--to", str(run.run)) if run.changes_retained else "",
        ),
    ]


def history_schema() -> dict[str, Any]:
    """Return the JSON Schema of the `--json` output of runs, show and status."""
    definitions = {
        "run": object_schema(Run, nullable=True),
        "audience": object_schema(StatusRecord, nullable=True),
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
