from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from aiobatch import App, InvalidInputError, Project
from aiobatch.cli import ExitCode
from aiobatch.cli.inputs import _credentials
from aiobatch.cli.inputs._credentials import choose_target, open_client, read_env_file
from aiobatch.cli.options._common import TargetOptions
from aiobatch.sandbox import API_KEY, PROJECT_KEY, REST_API_KEY, Sandbox

from ..conftest import Run, Terminal

REST = {"BATCH_REST_API_KEY": "r"}
APP = REST | {"BATCH_API_KEY": "a"}
PROJECT = REST | {"BATCH_PROJECT_KEY": "p"}


@pytest.mark.parametrize(
    ("env", "api", "kind", "version"),
    [
        (APP, None, App, "1.0"),
        (PROJECT, None, Project, "2.11"),
        (APP | PROJECT, "1.x", App, "1.0"),
        (APP | PROJECT, "2.x", Project, "2.11"),
        (APP | PROJECT, "1.1", App, "1.1"),
        (APP | PROJECT, "2.4", Project, "2.4"),
        (APP | PROJECT | {"BATCH_API_VERSION": "1.1"}, None, App, "1.1"),
        (APP | PROJECT | {"BATCH_API_VERSION": "1.1"}, "2.x", Project, "2.11"),
        (APP | {"BATCH_PROJECT_KEY": ""}, None, App, "1.0"),
    ],
)
def test_the_target_follows_the_keys(
    env: Mapping[str, str], api: str | None, kind: type, version: str
) -> None:
    """--api decides, then BATCH_API_VERSION, then the one key that is set."""
    target = choose_target(env, api)
    assert isinstance(target, kind)
    assert target.version == version


@pytest.mark.parametrize(
    ("env", "api", "said"),
    [
        ({}, None, "BATCH_REST_API_KEY"),
        (APP | PROJECT, None, "--api 1.x (the app) or --api 2.x (the project)"),
        (APP, "2.x", "BATCH_PROJECT_KEY is not set"),
        (APP, "2.x", "--api 1.x"),
        (PROJECT, "3.x", "'3.x'"),
        (APP, "1.7", "BATCH_API_VERSION"),
        ({"BATCH_API_KEY": "a"}, None, "BATCH_REST_API_KEY is not set"),
        (APP | {"BATCH_API_KEY": "a b"}, None, "printable ASCII"),
    ],
)
def test_missing_keys_are_named(env: Mapping[str, str], api: str | None, said: str) -> None:
    """Where keys or the API are not clear, the error names the variable or option."""
    with pytest.raises(InvalidInputError) as caught:
        choose_target(env, api)
    assert said in str(caught.value)


@pytest.fixture
def env_file(tmp_path: Path) -> Callable[..., str]:
    """Write a file of keys and return its path."""

    def write(text: str, mode: int = 0o600) -> str:
        path = tmp_path / "keys.env"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return str(path)

    return write


def test_env_files_have_assignments(env_file: Callable[..., str]) -> None:
    """Comments, empty lines, `export`, quotes and spaces around them are understood."""
    text = "# keys\n\nexport A=1\n B = two words \nC='x'\nD=\"y\"\nE='\nF=\n"
    assert read_env_file(env_file(text)) == {
        "BATCH_BASE_URL": "https://api.batch.com",
        "A": "1",
        "B": "two words",
        "C": "x",
        "D": "y",
        "E": "'",
        "F": "",
    }


def test_other_lines_are_rejected_by_number(env_file: Callable[..., str], tmp_path: Path) -> None:
    """A line that is something else is named by its number and not shown."""
    with pytest.raises(InvalidInputError) as caught:
        read_env_file(env_file("A=1\nhunter2\n"))
    assert f"{tmp_path}/keys.env:2" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", ["hunter2 # prod", "'hunter2'\t#prod", "hunter2 #"])
def test_comments_after_a_value_are_refused(env_file: Callable[..., str], value: str) -> None:
    """A shell cuts them off, and Docker does not. Without a space or in quotes, # is a part of the value."""
    with pytest.raises(InvalidInputError, match=r"keys\.env:2: it is unclear .* in quotes\.") as caught:
        read_env_file(env_file(f"A=hunter#1\nB={value}\n"))
    assert "hunter" not in str(caught.value)
    assert read_env_file(env_file("A=hunter#1\nB='hunter # 1'\n")).items() >= {
        ("A", "hunter#1"),
        ("B", "hunter # 1"),
    }


def test_binary_env_files_are_rejected(tmp_path: Path) -> None:
    """A file that is no text is refused."""
    (tmp_path / "keys").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match="not a text file"):
        read_env_file(str(tmp_path / "keys"))


def test_env_files_replace_the_environment(
    run: Run, sandbox: Sandbox, env_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --env-file, no key of the environment counts, so that two companies' keys are never mixed."""
    monkeypatch.setenv("BATCH_REST_API_KEY", "another-company")
    path = env_file(
        f"BATCH_BASE_URL={sandbox.url}\nBATCH_REST_API_KEY={REST_API_KEY}\nBATCH_API_KEY={API_KEY}\n"
    )
    result = run("list", "--env-file", path)
    assert (result.code, result.err) == (0, "")
    path = env_file(f"BATCH_PROJECT_KEY={PROJECT_KEY}\n")
    result = run("list", "--env-file", path)
    assert "BATCH_REST_API_KEY is not set" in result.err
    assert path in result.err


async def test_env_files_decide_the_address(
    env_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys of a file that names no address go to Batch, never to an address of the environment."""
    addresses = []
    monkeypatch.setattr(_credentials, "make_client", lambda _, base_url, **__: addresses.append(base_url))
    monkeypatch.setenv("BATCH_BASE_URL", "http://127.0.0.1:9")
    path = env_file("BATCH_REST_API_KEY=a\nBATCH_PROJECT_KEY=b\n")
    with pytest.raises(TypeError):  # the replacement returns no client
        async with open_client(TargetOptions(env_file=path)):
            pass
    assert addresses == ["https://api.batch.com"]


@pytest.mark.parametrize(
    ("mode", "access"), [(0o640, "readable"), (0o604, "readable"), (0o620, "writable"), (0o602, "writable")]
)
def test_env_files_of_others_are_warned_of(
    mode: int, access: str, run: Run, env_file: Callable[..., str], sandbox: Sandbox
) -> None:
    """A file that others can read or change is used, with a warning that names the fix."""
    path = env_file(
        "\n".join(f"{name}={value}" for name, value in os.environ.items() if "BATCH" in name), mode
    )
    result = run("list", "--env-file", path)
    assert result.code == 0
    assert f"{access} by other users" in result.err
    assert f"chmod 600 {path}" in result.err
    assert run("list", "--env-file", path, "--quiet").err == ""


def test_missing_env_files_have_their_code(run: Run, tmp_path: Path) -> None:
    """A missing file of keys exits with 2."""
    result = run("list", "--env-file", str(tmp_path / "none"))
    assert result.code == ExitCode.USAGE
    assert str(tmp_path / "none") in result.err


async def test_rate_option_limits_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """--rate is the client's limit, and one that cannot be is refused."""
    for name, value in PROJECT.items():
        monkeypatch.setenv(name, value)
    async with open_client(TargetOptions(rate="5/s")) as client:
        assert client._limits.rate == 5
    with pytest.raises(InvalidInputError, match="rate"):
        await open_client(TargetOptions(rate="0/s")).__aenter__()


def test_ambiguous_keys_name_the_option(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """With keys for both APIs, the message names the option."""
    for name, value in (APP | PROJECT).items():
        monkeypatch.setenv(name, value)
    assert terminal.run("list") == ExitCode.USAGE
    assert "--api 1.x" in terminal.screen()
