"""The frame of the campaign: its two forms, its table, and the search for keys after every case."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest
import trustme

from ..helpers.leak_search import LeakSearch
from ..helpers.ports import reserved_port
from .cases import list_cases
from .chaos_env import Case, Ground, assert_silent, give_keys
from .result_table import DOCUMENT, Row, first_line, format_document
from .servers.nginx import Certificate

# Seconds after which a case has not ended in time, in the short form and in the full one.
WITHIN = (300.0, 600.0)
_CASE = pytest.StashKey[Case]()
_ROWS = pytest.StashKey[dict[str, Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `make fire` uses."""
    parser.addoption("--fire", action="store_true", help="run the whole campaign and write its table")


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marker means."""
    config.addinivalue_line("markers", "fire(part, done, holds, short=True): one line of docs/reliability.md")
    config.stash[_ROWS] = {}
    if _is_full(config) and config.getoption("numprocesses", None):
        msg = "--fire writes one table: run it in one process, without --numprocesses"
        raise pytest.UsageError(msg)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out of the short form what is for the whole campaign alone."""
    if _is_full(config):
        return
    long = [item for item in items if _is_long(item)]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if not _is_long(item)]


def _is_long(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("fire")
    return marker is not None and not marker.kwargs.get("short", True)


def _is_full(config: pytest.Config) -> bool:
    return bool(config.getoption("fire", default=False))


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """The test's line of the table."""
    case = request.node.stash[_CASE] = Case(_is_full(request.config))
    return case


@pytest.fixture
def evidence() -> Iterator[LeakSearch]:
    """Everything is kept that is logged, at DEBUG."""
    evidence, root = LeakSearch(), logging.getLogger()
    level = root.level
    root.addHandler(evidence)
    root.setLevel(logging.DEBUG)
    yield evidence
    root.setLevel(level)
    root.removeHandler(evidence)


@pytest.fixture(autouse=True)
def ground(
    case: Case, evidence: LeakSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ground]:
    """Where the test plays; at its end all that it left behind is searched."""
    give_keys(monkeypatch)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    directory = tmp_path / "ground"
    directory.mkdir()
    monkeypatch.setenv("XDG_DATA_HOME", str(directory))
    ground = Ground(case, evidence, directory)
    yield ground
    assert_silent(ground)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate of an authority that only this test knows."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    chain, vouching = directory / "chain.pem", directory / "authority.pem"
    authority.issue_cert("127.0.0.1", "::1", "localhost").private_key_and_cert_chain_pem.write_to_path(chain)
    authority.cert_pem.write_to_path(vouching)
    return Certificate(chain=chain, authority=vouching)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that nobody listens on, until the test does."""
    with reserved_port() as port:
        yield port


@pytest.fixture
def nginx_directory(tmp_path: Path) -> Path:
    """Where nginx has its files; they are not ours, and are not searched."""
    path = tmp_path / "nginx"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def _in_time(case: Case) -> Iterator[None]:
    """Fail a test that hangs, wherever it hangs."""
    with alarm(WITHIN[case.full]):
        yield


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Fail what takes longer, again and again until it ends; with no Exception, which might be retried."""
    msg = f"not ended within {seconds:g} s"
    late = False

    def fail(_number: int, _frame: FrameType | None) -> None:
        nonlocal late
        late = True
        pytest.fail(msg)

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds / 10)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if late:  # and whoever met it went on all the same
        pytest.fail(msg)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a line of the table of every test with a marker, of what went wrong in its frame as well."""
    report = yield
    marker = item.get_closest_marker("fire")
    if marker is not None and (report.when == "call" or not report.passed):
        facts = "; ".join(item.stash[_CASE].facts) if _CASE in item.stash else ""
        if report.skipped and isinstance(report.longrepr, tuple):
            facts = str(report.longrepr[2]).removeprefix("Skipped: ")
        elif report.failed:
            facts = first_line(str(call.excinfo.value) if call.excinfo else "")
        seconds = call.duration if report.when == "call" and not report.skipped else None
        texts = {name: marker.kwargs[name] for name in ("part", "done", "holds")}
        row = Row(**texts, happened=facts, seconds=seconds, outcome=report.outcome)
        item.config.stash[_ROWS][item.nodeid] = row
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table after the whole campaign; print it, after the short form if that is verbose."""
    config, rows = session.config, session.config.stash[_ROWS].values()
    if not rows or not (_is_full(config) or config.get_verbosity() > 0):
        return
    verdict = write_document(rows) if _is_full(config) else ""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"\n{format_document(rows)}\n{verdict}")


def write_document(rows: Collection[Row]) -> str:
    """Write the page where no case was left out, and say whether it was written."""
    place = f"docs/{DOCUMENT.name}"
    missing = len({case.beginning for case in list_cases()} - {row.beginning for row in rows})
    if missing:
        return f"{place} is left as it is: {missing} cases were left out"
    DOCUMENT.write_text(format_document(rows), encoding="utf-8")
    return f"written: {place}"
