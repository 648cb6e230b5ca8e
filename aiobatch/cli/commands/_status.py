"""The `status` command: each place with its last success and its last attempt."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal, Self

import attrs
from cyclopts import Group, Parameter

from ...errors import InvalidInputError
from ...sync import PlaceStatus
from .._alerts import fresh, send_alerts, stale
from .._context import Context, InjectedContext
from .._exit_codes import ExitCode
from ..inputs._known_places import KnownPlaces, find_places
from ..options._common import ConfigOptions, Seconds
from ..options._sync import StateOption
from ..output._command_hints import command as command_line
from ..output._command_hints import command_context
from ..output._errors import report_error
from ..output._exposition import exposition
from ..output._messages import print_error
from ..output._tables import Column

__all__ = ["FORMAT", "OPEN", "StatusRecord", "format_age", "status"]

FORMAT: Final = 1
# The outcome of a run that has none yet, or was killed.
OPEN: Final = "open"
_STATUS = (
    Column("audience", "audience"),
    Column("target", "target"),
    Column("members", "members"),
    Column("success", "last success", plain="last_success"),
    Column("attempt", "last attempt", plain="attempted"),
    Column("outcome", "outcome"),
    Column("code", "code"),
    Column("open", "open IDs", plain="open_total"),
    Column("reason", "reason"),
    Column("last_run", "run", spare=True),
)
_STATE = Group("State", sort_key=7)
_NO_CONFIG = ConfigOptions()


def status(
    *,
    max_age: Annotated[Seconds, Parameter(group=_STATE)] = None,
    state: Annotated[StateOption, Parameter(group=_STATE)] = None,
    env_file: Annotated[str | None, Parameter(metavar="FILE", group=_STATE)] = None,
    format_: Annotated[Literal["prometheus"] | None, Parameter(name="--format", group=_STATE)] = None,
    where: ConfigOptions = _NO_CONFIG,
    context: InjectedContext,
) -> ExitCode:
    """Show the last success and the last attempt of each audience.

    With a config, lists every audience in every app and project of it, also those that were never loaded. It
    needs no keys, and works during a run: the run refreshes the status every few seconds.

    Example: `aiobatch status --config aiobatch.toml`

    Example: `aiobatch status --config aiobatch.toml --max-age 26h`

    Example: `aiobatch status --format prometheus > metrics.tmp && mv metrics.tmp aiobatch.prom`

    Args:
        max_age: List only what is older than this, and exit with 17 if anything is.
        state: Use this state file. Default: as in the config, or your own.
        env_file: Read variables from the KEY=VALUE lines of this file.
        format_: Print metrics for the textfile collector of Prometheus.
    """
    if format_ is not None and context.options.json:
        msg = "--json and --format exclude each other. Choose one."
        raise InvalidInputError(msg)
    found = find_places(where, state, env_file, context.info)
    now = dt.datetime.now(dt.UTC)
    with command_context(state=found.state):
        if format_ is not None:
            for line in exposition(found.places, is_readable=found.problem is None):
                context.output.line(line)
        if max_age is None and format_ is None:
            _print(found.places, now, context)
            for line in _notes(found, now):
                context.info(line)
        elif max_age is not None:
            overdue = [one for one in found.places if one.overdue(now, max_age)]
            if context.options.json:
                _print(overdue, now, context)
            for line in _alarms(found, now, max_age):
                print_error(line)
            _notify(found, now, max_age)
        if found.problem is not None:
            return report_error(found.problem)
    has_alarm = max_age is not None and (overdue or not found.places)
    return ExitCode.OVERDUE if has_alarm else ExitCode.DONE


def _print(places: Sequence[PlaceStatus], now: dt.datetime, context: Context) -> None:
    """Print places."""
    with context.output.rows(_STATUS) as add:
        for place in places:
            record = StatusRecord.of(place, now)
            add(record.values() if context.options.json else record.row())


def _notes(found: KnownPlaces, now: dt.datetime) -> Iterator[str]:
    """Yield messages about places."""
    if not found.places and found.problem is None:
        yield "No run yet."
    if found.live and found.written is not None:
        age = format_age((now - found.written).total_seconds())
        yield f"A run is in progress. This is its status of {age} ago."
        return
    for one in found.places:
        if one.live:
            yield f"{one.label}: a run is in progress."
        elif one.open_run is not None:
            yield (
                f"{one.label}: run {one.open_run} did not finish. The next run finishes it, or run "
                f"{command_line('settle', one.audience)}."
            )


def _alarms(found: KnownPlaces, now: dt.datetime, limit: float) -> Iterator[str]:
    """Yield a line for each place without a recent success."""
    if not found.places and found.problem is None:
        yield f"State '{found.state}': no audience was ever loaded."
    for one in found.places:
        why = one.overdue(now, limit)
        # Of a state that cannot be read, each success is unknown. One line is enough.
        if why is None or (found.problem is not None and not found.is_new):
            continue
        attempt = one.last_attempt
        if attempt is None:
            yield f"{one.label}: {why}, no attempt is recorded."
            continue
        ago = format_age((now - attempt.started).total_seconds())
        outcome = f"{one.last_outcome or _unfinished(one)}"
        error = f": {attempt.error}" if attempt.error else "."
        yield f"{one.label}: {why}, last attempt {ago} ago: {outcome}{error}"


def _notify(found: KnownPlaces, now: dt.datetime, limit: float) -> None:
    """Send an alert for each place that has become stale, or is no longer."""
    if found.config is None or found.config.notify is None or not (found.problem is None or found.is_new):
        return
    news = [
        stale(one.label, f"{why[0].upper()}{why[1:]}.")
        if (why := one.overdue(now, limit))
        else fresh(one.label)
        for one in found.places
    ]
    send_alerts(found.config.notify, found.state, news)


def _unfinished(place: PlaceStatus) -> str:
    return "running" if place.live else "killed"


@attrs.frozen(kw_only=True)
class StatusRecord(PlaceStatus):
    """The status of a place, as `status` prints it.

    Attributes:
        age_seconds: Seconds since its last success. None: there was none.
    """

    age_seconds: float | None

    @classmethod
    def of(cls, place: PlaceStatus, now: dt.datetime) -> Self:
        """Return the record of a place at the time *now*."""
        success = place.last_success
        age = None if success is None else (now - success).total_seconds()
        return cls(**attrs.asdict(place, recurse=False), age_seconds=age)

    def values(self) -> dict[str, Any]:
        """Return the JSON record. docs/reference/history.schema.json is its schema."""
        return {"format": FORMAT, **attrs.asdict(self)}

    def row(self) -> dict[str, Any]:
        """Return the row of the table."""
        attempt, now = self.last_attempt, dt.datetime.now(dt.UTC)
        unfinished = None if attempt is None and not self.live else _unfinished(self)
        if self.open_run is not None and self.outcome is None:
            unfinished = OPEN
        return {
            **attrs.asdict(self),
            "members": self.members if self.known else None if self.members is None else "unknown",
            "success": "never" if self.age_seconds is None else f"{format_age(self.age_seconds)} ago",
            "attempt": None
            if attempt is None
            else f"{format_age((now - attempt.started).total_seconds())} ago",
            "attempted": None if attempt is None else attempt.started,
            "outcome": self.last_outcome or unfinished,
            "code": None if attempt is None else attempt.exit_code,
            "reason": None if attempt is None else attempt.error,
            "open": ", ".join(f"{ids:,} {at}" for at, ids in self.open_ids.items()) or None,
            "open_total": sum(self.open_ids.values()),
        }


def format_age(seconds: float) -> str:
    """Format an age as `2 d 3 h`, `3 h 4 min`, `4 min` or `5 s`."""
    seconds = max(seconds, 0)  # the clock of another machine may be ahead
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
