"""Whose audiences a command is about: keys from the environment or a file, never from an argument."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from ..._client import AudienceClient
from ...errors import InvalidInputError
from ...events import EventHook
from ...options import App, Limits, Project, RetryPolicy
from .._arguments import SET_KEYS_HINT
from .._signals import in_thread
from ..options._common import TargetOptions
from ..output._logging import log_events

__all__ = ["choose_target", "find_target", "make_client", "open_client", "read_env_file"]

_logger = logging.getLogger("aiobatch.cli")

_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
# What the library's errors name, and what stands for it here.
_NAMES = {
    "rest_api_key": "BATCH_REST_API_KEY",
    "api_key": "BATCH_API_KEY",
    "project_key": "BATCH_PROJECT_KEY",
    "version": "BATCH_API_VERSION",
    "base_url": "BATCH_BASE_URL",
    "App.from_env()": "--api 1.x",
    "Project.from_env()": "--api 2.x",
}
_NAMED = re.compile(
    r"(?:App|Project)\.(rest_api_key|api_key|project_key|version)\b"
    r"|\b(base_url)(?=:| must)|((?:App|Project)\.from_env\(\))"
)
_QUOTES = "\"'"


@contextlib.asynccontextmanager
async def open_client(
    options: TargetOptions, on_event: EventHook | None = None, *, retry: RetryPolicy | None = None
) -> AsyncIterator[AudienceClient]:
    """Open a client for what *options* and the environment say.

    Args:
        options: What the command line says.
        on_event: Takes the client's events.
        retry: How a request is tried again; None for the client's own way.

    Raises:
        InvalidInputError: A key is missing or no key, or it is not clear which API is meant.
        OSError: The file with the keys cannot be read.
    """
    target, env = await in_thread(lambda: find_target(options))
    rate = None if options.rate is None else _read_rate(options.rate)
    base_url = env.get("BATCH_BASE_URL") or None
    async with make_client(target, base_url=base_url, rate=rate, on_event=on_event, retry=retry) as client:
        yield client


def find_target(options: TargetOptions) -> tuple[App | Project, Mapping[str, str]]:
    """Return whose audiences are meant, and the variables that say so; a file may have to be read.

    Args:
        options: What the command line says.

    Raises:
        InvalidInputError: As for `open_client`.
        OSError: The file with the keys cannot be read.
    """
    path = options.env_file
    env = os.environ if path is None else read_env_file(path)
    try:
        return choose_target(env, options.api), env
    except InvalidInputError as error:
        if path is None:
            raise
        msg = f"{error}; {path} was read in place of it"
        raise InvalidInputError(msg) from None


def _read_rate(text: str) -> float:
    """Read `5/s`, as the sandbox does."""
    from ...sandbox import parse_rate  # noqa: PLC0415 - it loads a server, and few commands have a rate

    return parse_rate(text)


def make_client(
    target: App | Project,
    *,
    base_url: str | None = None,
    rate: float | None = None,
    on_event: EventHook | None = None,
    retry: RetryPolicy | None = None,
) -> AudienceClient:
    """Return a client.

    Args:
        target: Whose audiences.
        base_url: Where to send to; None for BATCH_BASE_URL or Batch itself.
        rate: Requests per second at most; None for no limit of ours.
        on_event: Takes the client's events.
        retry: How a request is tried again; None for the client's own way.

    Raises:
        InvalidInputError: One of them cannot be meant.
    """
    with _naming_variables():
        return AudienceClient(
            target,
            base_url=base_url,
            retry=retry or RetryPolicy(),
            limits=Limits(rate=rate),
            on_event=log_events(on_event),
        )


@contextlib.contextmanager
def _naming_variables() -> Iterator[None]:
    """Let errors name what a user of the command line sets: variables of the environment, and options."""
    try:
        yield
    except InvalidInputError as error:
        text = _NAMED.sub(lambda match: _NAMES[match[match.lastindex or 0]], f"{error}")
        raise InvalidInputError(text) from None


def choose_target(env: Mapping[str, str], api: str | None) -> App | Project:
    """Choose between an app and a project.

    Args:
        env: Where the keys are.
        api: `1.x`, `2.x` or a version; None to go by BATCH_API_VERSION or else by the keys that are set.

    Raises:
        InvalidInputError: A key is missing or no key, or it is not clear which API is meant.
    """
    kinds: dict[str, type[App | Project]] = {"1": App, "2": Project}
    wanted = api or env.get("BATCH_API_VERSION") or _guess(env)
    kind = kinds.get(wanted.partition(".")[0])
    if kind is None:
        msg = f"there is no API {wanted!r}: give 1.x or 2.x, or a version such as 1.0, 1.1 or 2.11"
        raise InvalidInputError(msg)
    rest = {name: value for name, value in env.items() if name != "BATCH_API_VERSION"}
    if not wanted.endswith("x"):
        rest["BATCH_API_VERSION"] = wanted
    with _naming_variables():
        return kind.from_env(rest)


def _guess(env: Mapping[str, str]) -> str:
    """Return the API whose key is set."""
    has_app, has_project = bool(env.get("BATCH_API_KEY")), bool(env.get("BATCH_PROJECT_KEY"))
    if has_app and has_project:
        msg = (
            "BATCH_API_KEY and BATCH_PROJECT_KEY are both set: "
            "choose with --api 1.x (the app) or --api 2.x (the project)"
        )
        raise InvalidInputError(msg)
    if not has_app and not has_project:
        msg = f"no keys are set: {SET_KEYS_HINT}"
        raise InvalidInputError(msg)
    return "2.x" if has_project else "1.x"


def read_env_file(path: str) -> dict[str, str]:
    """Read KEY=VALUE lines; `export`, quotes, empty lines and comments are allowed.

    Args:
        path: The file; a warning is logged where others can read it.

    Raises:
        InvalidInputError: A line is something else; the text names it and shows nothing of it.
        OSError: It cannot be read.
    """
    with Path(path).open(encoding="utf-8-sig") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
            _logger.warning("%s can be read by other users: chmod 600 %s", path, path)
        try:
            lines = file.read().splitlines()
        except UnicodeDecodeError:
            msg = f"{path}: not a text file of KEY=VALUE lines"
            raise InvalidInputError(msg) from None
    return dict(
        _read_assignment(line.strip(), f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    )


def _read_assignment(line: str, place: str) -> tuple[str, str]:
    """Read one line."""
    match = _ASSIGNMENT.fullmatch(line)
    if match is None:
        msg = f"{place}: not a line KEY=VALUE"
        raise InvalidInputError(msg)
    name, value = match.groups()
    if value[:1] in _QUOTES and len(value) > 1 and value[0] == value[-1]:
        value = value[1:-1]
    return name, value
