"""Options and fixtures of the chaos tests: the short and full form, the table, and the search for leaks."""

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
from .case_rows import case_rows
from .chaos_env import Case, ChaosEnv, assert_no_leaks, use_distinct_keys
from .result_table import DOCUMENT, Row, first_line, format_document
from .servers.nginx import Certificate

# The time limit of a case in seconds, in the short and in the full form.
CASE_TIMEOUTS = (300.0, 600.0)
_CASE = pytest.StashKey[Case]()
_ROWS = pytest.StashKey[dict[str, Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `make chaos`."""
    parser.addoption(
        "--chaos", action="store_true", help="run the full campaign and write docs/reliability.md"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "chaos(part, done, holds, short=True): one row of docs/reliability.md")
    config.stash[_ROWS] = {}
    if _is_full(config) and config.getoption("numprocesses", None):
        msg = "--chaos writes one table. Run it without --numprocesses."
        raise pytest.UsageError(msg)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the cases of the full campaign in the short form."""
    if _is_full(config):
        return
    long = [item for item in items if _is_long(item)]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if not _is_long(item)]


def _is_long(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("chaos")
    return marker is not None and not marker.kwargs.get("short", True)


def _is_full(config: pytest.Config) -> bool:
    return bool(config.getoption("chaos", default=False))


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """The test's row of the table."""
    case = request.node.stash[_CASE] = Case(_is_full(request.config))
    return case


@pytest.fixture
def leak_search() -> Iterator[LeakSearch]:
    """Collects all log records, at DEBUG."""
    leak_search, root = LeakSearch(), logging.getLogger()
    level = root.level
    root.addHandler(leak_search)
    root.setLevel(logging.DEBUG)
    yield leak_search
    root.setLevel(level)
    root.removeHandler(leak_search)


@pytest.fixture(autouse=True)
def chaos_env(
    case: Case, leak_search: LeakSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ChaosEnv]:
    """The environment of the test. At its end, everything it left is searched for leaks."""
    use_distinct_keys(monkeypatch)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    directory = tmp_path / "chaos_env"
    directory.mkdir()
    monkeypatch.setenv("XDG_DATA_HOME", str(directory))
    chaos_env = ChaosEnv(case, leak_search, directory)
    yield chaos_env
    assert_no_leaks(chaos_env)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate of an authority that only these tests trust."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    chain, vouching = directory / "chain.pem", directory / "authority.pem"
    authority.issue_cert("127.0.0.1", "::1", "localhost").private_key_and_cert_chain_pem.write_to_path(chain)
    authority.cert_pem.write_to_path(vouching)
    return Certificate(chain=chain, authority=vouching)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A free port that nothing listens on unless the test does."""
    with reserved_port() as port:
        yield port


@pytest.fixture
def nginx_directory(tmp_path: Path) -> Path:
    """The directory of nginx's files, which are not searched."""
    path = tmp_path / "nginx"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def _case_timeout(case: Case) -> Iterator[None]:
    """Fail a test that hangs."""
    with time_limit(CASE_TIMEOUTS[case.full]):
        yield


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Fail a block that takes longer, repeatedly, with a BaseException, which no code retries."""
    msg = f"not finished within {seconds:g} s"
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
    if late:  # and the block suppressed the failure
        pytest.fail(msg)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record a row for every marked test, also if its set-up or tear-down failed."""
    report = yield
    marker = item.get_closest_marker("chaos")
    if marker is not None and (report.when == "call" or not report.passed):
        facts = ", ".join(item.stash[_CASE].facts) if _CASE in item.stash else ""
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
    """Write and print the table after the full campaign. After the short form, print it if verbose."""
    config, rows = session.config, session.config.stash[_ROWS].values()
    if not rows or not (_is_full(config) or config.get_verbosity() > 0):
        return
    outcome = write_document(rows) if _is_full(config) else ""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"\n{format_document(rows)}\n{outcome}")


def write_document(rows: Collection[Row]) -> str:
    """Write the page if every case ran. Return a line that reports whether it was written."""
    place = f"docs/{DOCUMENT.name}"
    missing = len({case.case_columns for case in case_rows()} - {row.case_columns for row in rows})
    if missing:
        return f"{place} is unchanged: {missing} cases did not run"
    DOCUMENT.write_text(format_document(rows), encoding="utf-8")
    return f"written: {place}"
