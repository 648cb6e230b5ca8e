from __future__ import annotations

import os
import resource
import runpy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

import pytest

from aiobatch import __main__ as entry
from aiobatch import sync


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str] | None]:
    """Replace the command line: record the arguments and return 7."""
    seen: list[Sequence[str] | None] = []

    def main(argv: Sequence[str] | None = None) -> int:
        seen.append(argv)
        return 7

    cli = ModuleType("aiobatch.cli")
    cli.__dict__["main"] = main
    monkeypatch.setitem(sys.modules, "aiobatch.cli", cli)
    return seen


@pytest.fixture
def process() -> Iterator[None]:
    """Restore the settings of the process."""
    umask, core = os.umask(0o022), resource.getrlimit(resource.RLIMIT_CORE)
    yield
    os.umask(umask)
    resource.setrlimit(resource.RLIMIT_CORE, core)


def _hide(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Fail the import of the command line, as if *missing* were not installed."""

    class Finder:
        @staticmethod
        def find_spec(fullname: str, path: object = None, target: object = None) -> None:
            if fullname == "aiobatch.cli":
                raise ModuleNotFoundError(name=missing)

    monkeypatch.delitem(sys.modules, "aiobatch.cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])


def test_arguments_and_exit_code_pass_through(calls: list[Sequence[str] | None]) -> None:
    """The entry point passes its arguments to the command line and returns its exit code."""
    assert entry.main(["list"]) == 7
    assert calls == [["list"]]


def test_python_dash_m_exits_with_the_code(
    process: None, calls: list[Sequence[str] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m aiobatch` exits with the command line's code."""
    monkeypatch.delitem(sys.modules, "aiobatch.__main__")
    with pytest.raises(SystemExit) as exited:
        runpy.run_module("aiobatch", run_name="__main__")
    assert exited.value.code == 7
    assert calls == [None]


def test_process_of_the_command_is_private(process: None, calls: list[Sequence[str] | None]) -> None:
    """It leaves no core dump, which would hold the keys, and its files are for the user alone."""
    assert entry.main() == 7
    assert os.umask(0o022) == 0o077
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0


def test_missing_extra_prints_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the extra's packages there is one line on stderr, nothing on stdout, and exit code 2."""
    _hide(monkeypatch, "cyclopts")
    assert entry.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "aiobatch: the command line needs its extra: pip install 'aiobatch-client[cli]'\n"


def test_windows_gets_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the file locks of POSIX there is one line on stderr, and exit code 2."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert entry.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "On Windows, use it in WSL." in err
    with pytest.raises(ImportError, match="On Windows, use it in WSL"):
        runpy.run_path(str(sync.__file__))


def test_import_of_sync_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """`import aiobatch.sync` without its packages names the package to install."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'aiobatch-client\[sync\]'"):
        runpy.run_path(str(sync.__file__))


@pytest.mark.parametrize("missing", ["aiobatch.cli._app", None], ids=["own module", "nameless"])
def test_missing_module_of_the_package_is_raised(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing module of this package is a bug, not a missing extra."""
    _hide(monkeypatch, missing)
    with pytest.raises(ModuleNotFoundError):
        entry.main([])


def test_version_needs_no_network_package() -> None:
    """The start of a command imports neither aiohttp nor DuckDB, which take longer than all the rest."""
    code = (
        "import sys; from aiobatch.__main__ import main; main(['--version']); "
        "sys.exit(sum(name in sys.modules for name in ('aiohttp', 'duckdb')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout[:8]) == (0, b"aiobatch")
