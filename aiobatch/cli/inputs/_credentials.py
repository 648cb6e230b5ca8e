"""Credentials and clients of commands. Keys come from the environment or a file, never from an argument."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import attrs

from ..._client import AudienceClient
from ..._logs import log
from ...errors import InvalidInputError
from ...events import EventHook
from ...options import App, Limits, Project, RetryPolicy
from ...transport import DEFAULT_BASE_URL
from .._arguments import SET_KEYS_HINT
from .._signals import in_thread
from ..options._common import TargetOptions
from ..output._logging import log_events
from ..output._telemetry import telemetry_hook

__all__ = [
    "allows_http",
    "choose_target",
    "find_target",
    "make_client",
    "open_client",
    "read_env_file",
    "variables",
]

_logger = logging.getLogger("aiobatch.cli")

_ASSIGNMENT = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
# Major version -> class of the target and variable of its key.
_KINDS: dict[str, tuple[type[App | Project], str]] = {
    "1": (App, "BATCH_API_KEY"),
    "2": (Project, "BATCH_PROJECT_KEY"),
}
# What other users can do with a file -> the bits of its mode.
_OTHERS = {"readable": stat.S_IRGRP | stat.S_IROTH, "writable": stat.S_IWGRP | stat.S_IWOTH}
_COMMENT = re.compile(r"\s#")
_QUOTES = "\"'"


class ConfiguredTarget(Protocol):
    """An app or project of a config."""

    @property
    def target(self) -> App | Project:
        """Its keys and version."""

    @property
    def limits(self) -> Limits:
        """The limits of its client."""


@contextlib.asynccontextmanager
async def open_client(
    options: TargetOptions,
    on_event: EventHook | None = None,
    *,
    retry: RetryPolicy | None = None,
    place: ConfiguredTarget | None = None,
) -> AsyncIterator[AudienceClient]:
    """Open a client for the target of a command.

    Args:
        options: The target options.
        on_event: Receives the client's events.
        retry: The retry policy. Default: the client's.
        place: An app or project of a config. None for the one of the environment.

    Yields:
        The open client.

    Raises:
        InvalidInputError: A key is missing or invalid, or the choice of the API is ambiguous.
        OSError: The file with the keys cannot be read.
    """
    if place is None:
        target, env = await in_thread(lambda: find_target(options))
    else:
        target, env = place.target, await in_thread(lambda: variables(options.env_file))
    limits = Limits() if place is None else place.limits
    if options.rate is not None:
        from ...sandbox import parse_rate  # noqa: PLC0415 - it loads a server, and few commands have a rate

        try:
            limits = attrs.evolve(limits, rate=parse_rate(options.rate))
        except InvalidInputError as error:
            msg = f"Invalid value {options.rate!r} for --rate: {error}"
            raise InvalidInputError(msg) from None
    base_url = env.get("BATCH_BASE_URL") or None
    async with make_client(
        target, base_url=base_url, allow_http=allows_http(env), limits=limits, on_event=on_event, retry=retry
    ) as client:
        yield client


def allows_http(env: Mapping[str, str]) -> bool | None:
    """Return whether *env* allows plain http to another machine. None leaves it to the environment."""
    return None if env is os.environ else env.get("BATCH_ALLOW_HTTP") == "1"


def find_target(options: TargetOptions) -> tuple[App | Project, Mapping[str, str]]:
    """Return the target of a command, and the variables that name it.

    Args:
        options: The target options. An env file is read.

    Raises:
        InvalidInputError: As for `open_client`.
        OSError: The file with the keys cannot be read.
    """
    path, env = options.env_file, variables(options.env_file)
    try:
        return choose_target(env, options.api), env
    except InvalidInputError as error:
        if path is None:
            raise
        msg = f"{error} The variables were read from {path}, not from the environment."
        raise InvalidInputError(msg) from None


def variables(env_file: str | None) -> Mapping[str, str]:
    """Return the variables of an env file, or of the environment.

    Args:
        env_file: The path of an env file. None for the environment.

    Raises:
        InvalidInputError: The file has an invalid line.
        OSError: The file cannot be read.
    """
    return os.environ if env_file is None else read_env_file(env_file)


def make_client(
    target: App | Project,
    *,
    base_url: str | None = None,
    allow_http: bool | None = None,
    limits: Limits | None = None,
    on_event: EventHook | None = None,
    retry: RetryPolicy | None = None,
) -> AudienceClient:
    """Return a client.

    Args:
        target: The app or project.
        base_url: The origin. Default: BATCH_BASE_URL or Batch.
        allow_http: Whether plain http to another machine is allowed. Default: BATCH_ALLOW_HTTP.
        limits: The limits. Default: the client's.
        on_event: Receives the client's events.
        retry: The retry policy. Default: the client's.

    Raises:
        InvalidInputError: An argument is invalid.
    """
    with _variables_named("BATCH_BASE_URL"):
        return AudienceClient(
            target,
            base_url=base_url,
            allow_http=allow_http,
            retry=retry or RetryPolicy(),
            limits=limits or Limits(),
            on_event=[hook for hook in (log_events(on_event), telemetry_hook()) if hook is not None],
        )


@contextlib.contextmanager
def _variables_named(*variables: str) -> Iterator[None]:
    """Add environment variables to an error, because the library names its own arguments."""
    try:
        yield
    except InvalidInputError as error:
        msg = f"{f'{error}'.rstrip('.')}. Check {', '.join(variables)}."
        raise InvalidInputError(msg) from None


def choose_target(env: Mapping[str, str], api: str | None) -> App | Project:
    """Return the app or the project whose keys are set.

    Args:
        env: The environment variables.
        api: `1.x`, `2.x` or a version. None: BATCH_API_VERSION, or else the API whose key is set.

    Raises:
        InvalidInputError: A key is missing or invalid, or the choice of the API is ambiguous.
    """
    wanted = api or env.get("BATCH_API_VERSION") or _guess(env)
    major = wanted.partition(".")[0]
    if major not in _KINDS:
        msg = f"API {wanted!r} does not exist. Use 1.x or 2.x, or a version such as 1.0, 1.1 or 2.11."
        raise InvalidInputError(msg)
    kind, key = _KINDS[major]
    variables = {name: value for name, value in env.items() if name != "BATCH_API_VERSION"}
    if not wanted.endswith("x"):
        variables["BATCH_API_VERSION"] = wanted
    for name in ("BATCH_REST_API_KEY", key):
        if not variables.get(name):
            others = [other for other, (_, its_key) in _KINDS.items() if name == key and env.get(its_key)]
            other = f" Or use --api {others[0]}.x, because its key is set." if others else ""
            msg = f"{name} is not set or is empty. Set it to the key from Batch's dashboard, Settings.{other}"
            raise InvalidInputError(msg)
    with _variables_named("BATCH_REST_API_KEY", key, "BATCH_API_VERSION"):
        return kind.from_env(variables)


def _guess(env: Mapping[str, str]) -> str:
    """Return the API whose key is set."""
    has_app, has_project = bool(env.get("BATCH_API_KEY")), bool(env.get("BATCH_PROJECT_KEY"))
    if has_app and has_project:
        msg = (
            "BATCH_API_KEY and BATCH_PROJECT_KEY are both set. "
            "Choose with --api 1.x (the app) or --api 2.x (the project)."
        )
        raise InvalidInputError(msg)
    if not has_app and not has_project:
        msg = f"No keys are set. {SET_KEYS_HINT}"
        raise InvalidInputError(msg)
    return "2.x" if has_project else "1.x"


def read_env_file(path: str, *, warn: bool = True) -> dict[str, str]:
    """Return the variables of a file of KEY=VALUE lines.

    It may contain `export`, quotes, comments and empty lines. Without BATCH_BASE_URL, the address is Batch's.

    Args:
        path: The file.
        warn: Whether to log a warning if other users can read or change it.

    Raises:
        InvalidInputError: A line has another form. The text has its number, not its content.
        OSError: The file cannot be read.
    """
    with Path(path).open(encoding="utf-8-sig") as file:
        mode = os.fstat(file.fileno()).st_mode
        for access, bits in _OTHERS.items():
            if warn and stat.S_ISREG(mode) and mode & bits:
                text = f"env file {access} by other users"
                log(_logger, logging.WARNING, text, path=str(path), fix=f"chmod 600 {path}")
        try:
            lines = file.read().splitlines()
        except UnicodeDecodeError:
            msg = f"{path}: not a text file of KEY=VALUE lines."
            raise InvalidInputError(msg) from None
    # The file replaces the environment. Its keys must not go to an address that the environment names.
    assignments = dict(
        _read_assignment(line.strip(), f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    )
    return assignments | {"BATCH_BASE_URL": assignments.get("BATCH_BASE_URL") or DEFAULT_BASE_URL}


def _read_assignment(line: str, place: str) -> tuple[str, str]:
    """Return the name and the value of one line."""
    match = _ASSIGNMENT.fullmatch(line)
    if match is None:
        msg = f"{place}: not a KEY=VALUE line."
        raise InvalidInputError(msg)
    name, value = match.groups()
    if value[:1] in _QUOTES and len(value) > 1 and value[0] == value[-1]:
        return name, value[1:-1]
    if _COMMENT.search(value):  # a shell cuts it off, and other programs do not
        msg = (
            f"{place}: it is unclear whether the text from ' #' on is a comment. Write a comment on a line "
            "of its own, or the whole value in quotes."
        )
        raise InvalidInputError(msg)
    return name, value
