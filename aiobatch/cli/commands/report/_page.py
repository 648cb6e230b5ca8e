"""The page of the report: what is known about each place, as one HTML document."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Any, Final

import attrs

from ....errors import InvalidInputError
from ....sync import Attempt, PlaceStatus, Run, RunOutcome
from ..._exit_codes import ExitCode
from ...inputs._known_places import KnownPlaces
from ...output._command_hints import command, command_context
from ...output._errors import text_of
from ...output._tables import clean
from .._status import format_age
from ._charts import HEIGHT, WIDTH, Chart, charts_of, format_seconds, format_time

__all__ = ["PlaceReport", "page_of", "reports_of"]

# Runs and attempts of a place that the page shows.
_RUNS: Final = 60
_ATTEMPTS: Final = 10
_GOOD: Final = (RunOutcome.DONE, RunOutcome.SENT, RunOutcome.PLANNED)


@attrs.frozen(kw_only=True)
class PlaceReport:
    """What the page shows of a place.

    Attributes:
        anchor: Its anchor in the page.
        place: The place.
        age: How long ago its last success was. None if there was none.
        attention: What needs attention, each with what to do.
        runs: Its latest runs, the oldest first.
        charts: The charts of these runs.
        attempts: Its latest attempts, the latest first.
        reasons: Reason -> rows that the latest attempt with a source rejected.
        refused: IDs that Batch refused in these runs.
    """

    anchor: str
    place: PlaceStatus
    age: str | None
    attention: tuple[str, ...]
    runs: tuple[Run, ...]
    charts: tuple[Chart, ...]
    attempts: tuple[Attempt, ...]
    reasons: dict[str, int]
    refused: int


def reports_of(
    found: KnownPlaces, runs: Sequence[Run], now: dt.datetime, max_age: float | None
) -> list[PlaceReport]:
    """Return what the page shows of each place.

    Args:
        found: The places.
        runs: Their runs, the newest first.
        now: The time.
        max_age: Seconds since a success at most. None: no limit.
    """
    return [
        _report(found, one, number, [run for run in runs if run.key == one.key], now, max_age)
        for number, one in enumerate(found.places, 1)
    ]


def page_of(
    found: KnownPlaces, reports: Sequence[PlaceReport], now: dt.datetime, *, refresh: int | None = None
) -> str:
    """Return the HTML document.

    Args:
        found: The places.
        reports: What the page shows of each.
        now: The time.
        refresh: Seconds until a browser loads the page again. None: it does not.

    Raises:
        InvalidInputError: The extra `report` is not installed.
    """
    try:
        import jinja2  # noqa: PLC0415 - an extra
    except ImportError:
        msg = "A report needs an extra. Run `pip install 'aiobatch-client[report]'`."
        raise InvalidInputError(msg) from None
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"time": format_time, "seconds": format_seconds, "clean": clean, "code": _meaning}
    text = resources.files(__package__).joinpath("page.html.jinja").read_text(encoding="utf-8")
    values: dict[str, Any] = {
        "found": found,
        "reports": reports,
        "now": now,
        "refresh": refresh,
        "problem": None if found.problem is None or found.is_new else text_of(found.problem),
        "width": WIDTH,
        "height": HEIGHT,
    }
    return environment.from_string(text).render(values)


def _report(
    found: KnownPlaces,
    place: PlaceStatus,
    number: int,
    runs: Sequence[Run],
    now: dt.datetime,
    max_age: float | None,
) -> PlaceReport:
    """Return what the page shows of one place."""
    shown = tuple(reversed(runs[:_RUNS]))
    attempts = place.own_attempts(found.attempts)[: -_ATTEMPTS - 1 : -1]
    success = place.last_success
    return PlaceReport(
        anchor=f"place-{number}",
        place=place,
        age=None if success is None else format_age((now - success).total_seconds()),
        attention=tuple(_attention(found, place, shown, now, max_age)),
        runs=shown,
        charts=tuple(charts_of(shown)),
        attempts=tuple(attempts),
        reasons=dict(next((one.reasons for one in attempts if one.read), {})),
        refused=sum(run.refused or 0 for run in shown),
    )


def _attention(
    found: KnownPlaces, place: PlaceStatus, runs: Sequence[Run], now: dt.datetime, max_age: float | None
) -> Iterator[str]:
    """Yield what needs attention, each with what to do."""
    attempt = place.last_attempt
    if found.problem is None or found.is_new:
        if place.last_success is None and not place.live:
            path = None if found.config is None or attempt else found.config.path
            fix = "" if path is None else f" To load it, run {command('run', '--config', str(path))}."
            yield f"It was never loaded.{fix}"
        elif max_age is not None and place.last_success is not None and place.overdue(now, max_age):
            yield f"Its last success was {format_age((now - place.last_success).total_seconds())} ago."
    if attempt is not None and place.last_outcome not in _GOOD:
        yield from _of_attempt(place, attempt, now)
    if place.open_run is not None and not place.live:
        with command_context(config_target=None if found.config is None else place.target):
            fix = command("settle", place.audience)
        yield f"Run {place.open_run} did not finish. The next run finishes it, or run {fix}."
    if attempt is not None and attempt.rejected:
        where = f" They are in {attempt.rejects}." if attempt.rejects else ""
        yield f"{attempt.rejected:,} of {attempt.read:,} rows of the source were rejected.{where}"
    if runs and runs[-1].refused:
        yield f"Batch refused {runs[-1].refused:,} IDs of run {runs[-1].run}. Check them in your source."


def _of_attempt(place: PlaceStatus, attempt: Attempt, now: dt.datetime) -> Iterator[str]:
    """Yield how the last attempt failed. One that is in progress has not."""
    ago = format_age((now - attempt.started).total_seconds())
    if place.last_outcome is not None:
        yield f"The last attempt, {ago} ago, ended as “{place.last_outcome}”. {attempt.error or ''}".strip()
    elif not place.live:
        yield f"The last attempt, {ago} ago, did not end. If its process was killed, run it again."


def _meaning(code: int) -> str:
    """Return the meaning of an exit code."""
    return next((one.meaning for one in ExitCode if one == code), "")
