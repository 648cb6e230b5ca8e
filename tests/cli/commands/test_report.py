"""The page of `report`: what it shows, that it loads nothing and leaks nothing, and its server."""

from __future__ import annotations

import asyncio
import datetime as dt
import html
import html.parser
import http.client
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from aiobatch._tasks import in_thread
from aiobatch.cli import ExitCode
from aiobatch.cli._context import Context
from aiobatch.cli.commands.report._page import page_of, reports_of
from aiobatch.cli.commands.report._serve import serve
from aiobatch.cli.inputs._known_places import KnownPlaces
from aiobatch.cli.options._common import GlobalOptions
from aiobatch.errors import InvalidInputError
from aiobatch.sandbox import Sandbox
from aiobatch.sync import Attempt, Mode, PlaceStatus, Run, RunOutcome, StateError

from ..conftest import KEYS
from ..conftest import Run as RunCommand
from ..reports import users, write

pytestmark = pytest.mark.usefixtures("workdir")

NOW = dt.datetime(2026, 11, 29, 8, 0, tzinfo=dt.UTC)
CONFIG = """
[defaults]
create = true
state = "state.duckdb"
[projects.web]
rest_api_key = "${BATCH_REST_API_KEY}"
project_key = "${BATCH_PROJECT_KEY}"
[audiences.vip]
source = "users.csv"
[audiences.lost]
source = "lost.csv"
"""
_EMPTY = frozenset({"meta", "link", "br", "line", "polyline", "rect"})


class Checker(html.parser.HTMLParser):
    """Checks that elements nest, and collects anchors, links and what a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        self.tags.add(tag)
        values = dict(attributes)
        self.ids += [value for name, value in attributes if name == "id" and value]
        self.links += [values[name] or "" for name in ("href", "src", "action", "data") if name in values]
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Open and close an element."""
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element, except the title of a bar."""
        if tag == "rect":
            return
        assert self.open.pop() == tag


def check(text: str) -> Checker:
    """Return what a page has. Its elements nest, its anchors differ, and it loads nothing."""
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    anchors = {link.removeprefix("#") for link in checker.links if link.startswith("#")}
    assert anchors <= set(checker.ids)
    assert {link for link in checker.links if not link.startswith("#")} == {"data:,"}
    assert checker.tags.isdisjoint({"script", "img", "iframe", "object", "form"})
    assert re.search(r"url\(|@import|https?:", text) is None
    return checker


def run_of(number: int, **values: Any) -> Run:
    """Return a run of the audience `vip`."""
    started = NOW - dt.timedelta(days=9 - number)
    return Run(
        **{
            "run": number,
            "key": "k",
            "audience": "vip",
            "target": "web",
            "who": "etl@host",
            "source": "users.csv",
            "mode": Mode.MIRROR,
            "started": started,
            "ended": started + dt.timedelta(seconds=90),
            "seconds": 90.0,
            "staged": 10,
            "adds": number,
            "removes": 1,
            "attribute_changes": 0,
            "resends": 0,
            "untracked_removals": 0,
            "members_before": 0,
            "members_after": 10 * number,
            "planned_calls": 1,
            "calls": 1,
            "retries": 0,
            "applied": number,
            "refused": 0,
            "outcome": RunOutcome.DONE,
            "error": None,
            "settled": True,
            "changes_retained": False,
            **values,
        }
    )


def attempt_of(outcome: RunOutcome | None = RunOutcome.DONE, **values: Any) -> Attempt:
    """Return an attempt at `vip`, an hour ago."""
    base: dict[str, Any] = {"command": "run", "audience": "vip", "target": "web", "key": "k"}
    return Attempt(**base | {"started": NOW - dt.timedelta(hours=1), "outcome": outcome} | values)


def place_of(attempt: Attempt | None = None, **values: Any) -> PlaceStatus:
    """Return a place that succeeded an hour ago."""
    base: dict[str, Any] = {
        "key": "k",
        "members": 30,
        "known": True,
        "last_success": NOW - dt.timedelta(hours=1),
    }
    return PlaceStatus(audience="vip", target="web", last_attempt=attempt, **base | values)


def page(place: PlaceStatus, *runs: Run, max_age: float | None = None, **values: Any) -> str:
    """Return the page of one place."""
    attempts = () if place.last_attempt is None else (place.last_attempt,)
    found = KnownPlaces(state=Path("s.duckdb"), places=[place], attempts=attempts, **values)
    return page_of(found, reports_of(found, runs[::-1], NOW, max_age), NOW)


def test_the_page_of_a_config_has_every_place(run: RunCommand, sandbox: Sandbox) -> None:
    """After two runs, the page has both places, charts and the failure, and no key and no ID."""
    Path("aiobatch.toml").write_text(CONFIG, encoding="utf-8")
    for numbers in (range(1000, 1005), range(1001, 1009)):
        write([*users(numbers), "broken" * 500])
        assert run("run").code == ExitCode.BAD_SOURCE
    result = run("report", "--out", "report.html", "--json")
    assert result.code == ExitCode.DONE
    assert result.objects == [{"report": "report.html", "places": 2, "need_attention": 2}]
    text = Path("report.html").read_text(encoding="utf-8")
    check(text)
    assert Path("report.html").stat().st_mode & 0o777 == 0o600
    assert text.count("<svg") == 3
    assert "IDs to add: 9, at most 5 in one run. Members to remove: 1," in text
    assert "Source lost.csv: it cannot be read" in text
    assert "Rows that the latest attempt rejected, too long: 1<" in text
    assert not any(key in text for key in KEYS)
    assert re.search(r"u10\d\d|broken", text) is None


def test_a_report_without_runs_names_the_first_step(run: RunCommand, sandbox: Sandbox) -> None:
    """Before the first run, each place names the command that loads it. A new state has no place."""
    Path("aiobatch.toml").write_text(CONFIG, encoding="utf-8")
    assert run("report", "--out", "report.html").code == ExitCode.DONE
    text = Path("report.html").read_text(encoding="utf-8")
    assert text.count("aiobatch run --config aiobatch.toml") == 4
    assert run("report", "--out", "report.html", "--state", "none.duckdb").code == ExitCode.DONE
    assert "No audience was loaded yet." in Path("report.html").read_text(encoding="utf-8")


def test_a_state_that_cannot_be_read_is_on_the_page(run: RunCommand, sandbox: Sandbox) -> None:
    """The page is written and has the problem, and the exit code is that of the error."""
    Path("broken.duckdb").write_bytes(b"no state" * 999)
    assert run("report", "--out", "report.html", "--state", "broken.duckdb").code == ExitCode.FAILED
    assert "The records cannot be read." in Path("report.html").read_text(encoding="utf-8")


def test_wrong_options_are_explained(run: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of --out and --serve is needed, and so is the extra."""
    for words in ((), ("--out", "x.html", "--serve")):
        assert run("report", *words).code == ExitCode.USAGE
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = run("report", "--out", "x.html", "--state", "none.duckdb")
    assert (result.code, "aiobatch-client[report]" in result.err) == (ExitCode.USAGE, True)


def test_a_state_and_a_time_have_one_page() -> None:
    """The same records and clock give the same bytes."""
    attempt = attempt_of(exit_code=0)
    runs = [run_of(1), run_of(2, removes=0), run_of(3)]
    first, second = (page(place_of(attempt), *runs) for _ in range(2))
    assert first == second
    assert "Nothing. Each audience is loaded" in first
    check(first)


@pytest.mark.parametrize(
    ("place", "runs", "values", "expected"),
    [
        (place_of(last_success=None), (), {}, "It was never loaded."),
        (place_of(last_success=NOW - dt.timedelta(days=3)), (), {"max_age": 60.0}, "success was 3 d 0 h ago"),
        (place_of(attempt_of(RunOutcome.REFUSED, error="Too many.", exit_code=11)), (), {}, "Too many."),
        (place_of(attempt_of(None), outcome=None), (), {}, "did not end. If its process was killed"),
        (place_of(open_run=3), (), {}, "Run 3 did not finish."),
        (place_of(attempt_of(rejected=2, read=9, rejects="r.csv", exit_code=77)), (), {}, "are in r.csv."),
        (place_of(attempt_of(rejected=2, read=9)), (), {}, "2 of 9 rows of the source were rejected."),
        (place_of(), (run_of(4, refused=7),), {}, "Batch refused 7 IDs of run 4."),
        (
            place_of(),
            (),
            {"problem": StateError("it is damaged.", path="s.duckdb", reason="failed")},
            "it is damaged.",
        ),
    ],
)
def test_what_needs_attention(
    place: PlaceStatus, runs: tuple[Run, ...], values: dict[str, Any], expected: str
) -> None:
    """Each problem is at the top of the page, with what to do."""
    text = page(place, *runs, **values)
    check(text)
    top = text.partition("All audiences")[0]
    assert expected in top
    assert '<div class="box fine">' not in top


def test_a_run_in_progress_needs_no_attention() -> None:
    """While a run has the state open, its attempt and its run are no problems."""
    text = page(place_of(attempt_of(None), outcome=None, open_run=3, live=True))
    assert "A run is in progress." in text
    assert '<div class="box fine">' in text
    assert "running" in text


def test_runs_without_changes_have_no_chart_of_them() -> None:
    """A run that is open, or changed nothing, leaves a chart out and no hole."""
    quiet = run_of(1, adds=0, removes=0)
    still_open = run_of(2, outcome=None, seconds=None, ended=None, members_after=None, refused=None)
    assert page(place_of(), quiet).count("<svg") == 2
    assert page(place_of(), still_open).count("<svg") == 1
    assert page(place_of(), run_of(1, removes=0, seconds=0.4)).count("<svg") == 3


def test_names_are_escaped() -> None:
    """Markup and control characters in a name or an error stay text."""
    evil = "<script>alert(1)</script>\x1b[31m\" onload='x"
    place = PlaceStatus(
        audience=evil,
        target=evil,
        last_attempt=attempt_of(RunOutcome.FAILED, audience=evil, target=evil, error=evil, key=None),
    )
    text = page(place)
    check(text)
    assert "\x1b" not in text
    assert "<script" not in text


def _get(port: int, path: str = "/", host: str | None = None) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


async def _serving(
    make: Callable[[], str], capfd: pytest.CaptureFixture[str]
) -> tuple[asyncio.Task[Any], int]:
    context = Context.of(GlobalOptions(quiet=True))
    task = asyncio.create_task(serve(make, port=0, context=context))
    out = ""
    while ":" not in out:
        await asyncio.sleep(0)
        out += capfd.readouterr().out
    return task, int(out.strip().rstrip("/").rpartition(":")[2])


def _raise_broken_pipe(*_: object) -> None:
    raise BrokenPipeError


async def test_the_server_answers_only_this_machine(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is made for each load. Another name or path gets an error, and so does a failure."""
    pages: Iterator[str | Exception] = iter(["first", "second", InvalidInputError("the config is broken.")])

    def make() -> str:
        text = next(pages)
        if isinstance(text, Exception):
            raise text
        return text

    task, port = await _serving(make, capfd)
    html_type = "text/html; charset=utf-8"
    assert await in_thread(lambda: _get(port)) == (200, html_type, "first")
    assert await in_thread(lambda: _get(port, host=f"localhost:{port}")) == (200, html_type, "second")
    for path, host, status in (("/", "evil.example", 403), ("/x", None, 404), ("/", None, 500)):
        found = await in_thread(lambda path=path, host=host: _get(port, path, host))  # type: ignore[misc]
        assert (found[0], found[1]) == (status, "text/plain; charset=utf-8")
    monkeypatch.setattr(BaseHTTPRequestHandler, "send_response", _raise_broken_pipe)
    with pytest.raises(http.client.RemoteDisconnected):
        await in_thread(lambda: _get(port, "/x"))
    assert capfd.readouterr() == ("", "")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InvalidInputError, match="Cannot listen on port"):
            await serve(make, port=taken.getsockname()[1], context=Context.of(GlobalOptions()))


def test_serve_shows_the_state_as_it_is(
    run: RunCommand, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--serve` serves the page of the command, which a browser loads again by itself."""
    served: list[str] = []

    async def once(make: Callable[[], str], *, port: int, context: Context) -> None:
        served.append(await in_thread(make))
        raise asyncio.CancelledError

    monkeypatch.setattr("aiobatch.cli.commands.report._report.serve", once)
    Path("aiobatch.toml").write_text(CONFIG, encoding="utf-8")
    assert run("report", "--serve", "--port", "0").code == ExitCode.INTERRUPTED
    assert 'http-equiv="refresh" content="10"' in served[0]
    check(served[0])


@pytest.mark.sweep
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_the_page_fits_a_browser(tmp_path: Path) -> None:
    """At 1300 and 390 pixels nothing overflows, tables scroll by keyboard, and pictures have a name."""
    runs = [run_of(number) for number in range(1, 60)]
    place = place_of(attempt_of(RunOutcome.FAILED, error="word " * 60 + "x" * 300))
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy".*?>')
    text = policy.sub("", page(place, *runs)).replace("<details>", "<details open>")
    measure = """
      const seen = [...document.querySelectorAll("iframe")].map((frame) => {
        const page = frame.contentDocument, root = page.documentElement;
        const named = [...page.querySelectorAll("[role=img],[role=region]")].every(
          (one) => one.ariaLabel || one.getAttribute("aria-labelledby"));
        const reached = [...page.querySelectorAll(".table")].every((one) => one.tabIndex === 0);
        const drawn = [...page.querySelectorAll("svg")].every((one) => one.clientHeight > 99);
        return [root.scrollWidth <= frame.clientWidth, named, reached, drawn];
      });
      document.title = JSON.stringify(seen);
    """
    source = html.escape(text)
    frames = "".join(
        f'<iframe style="border:0;width:{width}px" srcdoc="{source}"></iframe>' for width in (1300, 390)
    )
    outer = tmp_path / "outer.html"
    outer.write_text(f"<body>{frames}<script>onload = () => {{{measure}}}</script>", encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'c'}"]
    done = subprocess.run(
        [*command, "--dump-dom", outer.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    found = re.search(r"<title>(.*?)</title>", done.stdout)
    assert found is not None
    assert found[1] == "[[true,true,true,true],[true,true,true,true]]"
