"""The `report` command: what happened to each audience, as a page for a browser."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Annotated, Final

import attrs
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ....errors import InvalidInputError
from ....sync import Run, SyncEngine
from ....sync.state.upkeep import save_private
from ..._context import Context, InjectedContext
from ..._exit_codes import ExitCode
from ..._signals import in_thread
from ...inputs._known_places import KnownPlaces, find_places
from ...options._common import ConfigOptions, Flag, Seconds
from ...options._sync import StateOption
from ...output._command_hints import command_context
from ...output._errors import report_error
from ...output._sync_report import pluralize
from ._page import PlaceReport, page_of, reports_of
from ._serve import serve

__all__ = ["Page", "report"]

# Runs of the state that are read for the page.
_RUNS: Final = 10_000
_REFRESH: Final = 10
_GROUP = Group("Report", sort_key=6)
_NO_CONFIG = ConfigOptions()


@Parameter(name="*", group=_GROUP)
@attrs.frozen(kw_only=True)
class ReportOptions:
    """Options of `report`.

    Attributes:
        out: Write the page to this file.
        serve: Show the page on this machine until Ctrl-C, as it is at each load.
        port: Serve on this port. 0 takes a free one.
        max_age: Mark an audience whose last success is older than this.
        state: Use this state file. Default: as in the config, or your own.
        env_file: Read variables from the KEY=VALUE lines of this file.
    """

    out: Annotated[Path | None, Parameter(metavar="FILE")] = None
    serve: Flag = False
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 8766
    max_age: Seconds = None
    state: StateOption = None
    env_file: Annotated[str | None, Parameter(metavar="FILE")] = None


_OPTIONS = ReportOptions()


@attrs.frozen(kw_only=True)
class Page:
    """A page and what it was made of.

    Attributes:
        text: The HTML document.
        found: The places.
        reports: What it shows of each.
    """

    text: str
    found: KnownPlaces
    reports: list[PlaceReport]


async def report(
    *, options: ReportOptions = _OPTIONS, where: ConfigOptions = _NO_CONFIG, context: InjectedContext
) -> ExitCode:
    """Write a page with the history of each audience and what needs attention.

    The page is one HTML file that loads nothing from elsewhere, and shows no IDs and no keys. The command
    needs the extra `report`, and no keys.

    Example: `aiobatch report --config aiobatch.toml --out report.html`

    Example: `aiobatch report --serve`
    """
    if (options.out is None) == (not options.serve):
        msg = "Pass either --out FILE or --serve."
        raise InvalidInputError(msg)
    page = await in_thread(lambda: _make(options, where, context))  # also finds errors before serving
    if options.serve:
        quiet = Context(options=attrs.evolve(context.options, quiet=True), output=context.output)
        await serve(
            lambda: _make(options, where, quiet, refresh=_REFRESH).text, port=options.port, context=context
        )
    out = options.out
    assert out is not None  # noqa: S101 - checked above
    await in_thread(lambda: save_private(out, page.text.encode()))
    attention = sum(bool(one.attention) for one in page.reports)
    if context.options.json:
        record = {"report": str(out), "places": len(page.reports), "need_attention": attention}
        context.output.json(record)
    places = pluralize(len(page.reports), "place")
    context.info(f"Wrote {out} with {places}. Places that need attention: {attention:,}.")
    problem = None if page.found.is_new else page.found.problem
    return ExitCode.DONE if problem is None else report_error(problem)


def _make(
    options: ReportOptions, where: ConfigOptions, context: Context, *, refresh: int | None = None
) -> Page:
    """Read the state and return the page."""
    found = find_places(where, options.state, options.env_file, context.info)
    now = dt.datetime.now(dt.UTC)
    path = None if found.config is None else found.config.path
    with command_context(config=path, state=options.state):
        reports = reports_of(found, _runs(found), now, options.max_age)
        return Page(text=page_of(found, reports, now, refresh=refresh), found=found, reports=reports)


def _runs(found: KnownPlaces) -> tuple[Run, ...]:
    """Return the runs of a state, the newest first. There are none if it cannot be read."""
    if found.problem is not None:
        return ()
    return asyncio.run(SyncEngine(state=found.state).runs(limit=_RUNS)).runs
