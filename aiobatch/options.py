"""What a client is told: whose audiences, and how to retry, poll and pace. Every default lives here, once."""

from __future__ import annotations

import inspect
import ipaddress
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Self

import attrs

from ._secret import Secret
from .errors import InvalidInputError

__all__ = ["App", "Limits", "PollingPolicy", "Project", "RetryPolicy", "check_base_url", "check_timeout"]

# BATCH_API.md, "base": Batch's own address.
_DEFAULT_BASE_URL = "https://api.batch.com"
_ORIGIN = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<host>[a-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?/?",
    re.ASCII | re.IGNORECASE,
)
_MAX_PORT = 65535
_APP_VERSION, _PROJECT_VERSION = "1.0", "2.11"
_VERSIONS_APP = ("1.0", "1.1")
_VERSION_PROJECT = re.compile(r"2\.[1-9][0-9]{0,2}")


def _number(value: object, place: str) -> float:
    """Return *value* as a finite number, or say that *place* holds none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"{place} must be a number, not {type(value).__name__}"
        raise InvalidInputError(msg)
    if not abs(value) <= sys.float_info.max:  # true of NaN, infinities and integers that no float holds
        msg = f"{place} must be a finite number"
        raise InvalidInputError(msg)
    return value


def check_timeout(value: float | None, name: str = "timeout") -> float | None:
    """Return *value* if it can be a timeout.

    Args:
        value: Seconds above zero; None for no limit.
        name: What to call it in an error.

    Raises:
        InvalidInputError: It is zero, negative, NaN, infinite or no number.
    """
    if value is not None and _number(value, name) <= 0:
        msg = f"{name} must be above 0 seconds, not {value}; None means no limit"
        raise InvalidInputError(msg)
    return value


def check_instance(value: object, kind: type, place: str) -> None:
    """Check that what stands in *place* is a *kind*; the error names its type alone."""
    if not isinstance(value, kind):
        msg = f"{place} must be of type {kind.__name__}, not {type(value).__name__}; or leave it out"
        raise InvalidInputError(msg)


def check_methods(value: object, names: Iterable[str], place: str) -> None:
    """Check that what stands in *place* has the methods *names*."""
    if not all(callable(getattr(value, name, None)) for name in names):
        msg = f"{place} must have the methods {', '.join(names)}; {type(value).__name__} has not all of them"
        raise InvalidInputError(msg)


def check_callback(value: object, place: str) -> None:
    """Check that what stands in *place* can be called; a coroutine function would be awaited by nobody."""
    if not callable(value):
        msg = f"{place} must be a function, not {type(value).__name__}"
        raise InvalidInputError(msg)
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(type(value).__call__):
        msg = f"{place} must be a plain function: nobody would await an async one; let it fill a queue"
        raise InvalidInputError(msg)


def _place(owner: object, field: attrs.Attribute[Any]) -> str:
    """Name a field for an error: `Limits.rate`."""
    return f"{type(owner).__name__}.{field.name}"


def _above_zero(self: object, field: attrs.Attribute[Any], value: object) -> None:
    place = _place(self, field)
    if _number(value, place) <= 0:
        msg = f"{place} must be above 0, not {value}"
        raise InvalidInputError(msg)


def _none_or_above_zero(self: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        _above_zero(self, field, value)


def _not_negative(self: object, field: attrs.Attribute[Any], value: object) -> None:
    place = _place(self, field)
    if _number(value, place) < 0:
        msg = f"{place} must not be negative, not {value}"
        raise InvalidInputError(msg)


def _share(self: object, field: attrs.Attribute[Any], value: object) -> None:
    place = _place(self, field)
    if not 0 <= _number(value, place) <= 1:
        msg = f"{place} must be from 0 to 1, not {value}"
        raise InvalidInputError(msg)


def _whole(self: object, field: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = f"{_place(self, field)} must be a whole number of at least 1, as an int"
        raise InvalidInputError(msg)


def _to_secret(key: str | Secret) -> Secret:
    """Hide a key, whatever it is: only a hidden one is checked, so that no error can show it."""
    return key if isinstance(key, Secret) else Secret(key)


def _check_key(self: object, field: attrs.Attribute[Any], value: Secret) -> None:
    """Check a key that stands in a header."""
    place = _place(self, field)
    if not isinstance(value.reveal(), str):
        msg = f"{place} must be a string, not {type(value.reveal()).__name__}"
        raise InvalidInputError(msg)
    if not value.reveal().strip():
        msg = f"{place} must not be empty; take the key from Batch's dashboard, Settings"
        raise InvalidInputError(msg)
    if re.fullmatch(r"[!-~]+", value.reveal()) is None:
        msg = (
            f"{place} must be printable ASCII without spaces or a newline; take away what came along with it"
        )
        raise InvalidInputError(msg)


def _check_path_key(self: object, field: attrs.Attribute[Any], value: Secret) -> None:
    """Check a key that stands in a URL's path, where dots alone would lead elsewhere."""
    _check_key(self, field, value)
    if re.fullmatch(r"(?!\.+\Z)[A-Za-z0-9_.~-]+", value.reveal()) is None:
        msg = (
            f"{_place(self, field)} stands in the URL's path and may hold letters, digits, '_', '-', '.' and "
            "'~' only; copy it anew from Batch's dashboard, Settings"
        )
        raise InvalidInputError(msg)


def _check_app_version(_self: object, _field: object, value: object) -> None:
    if value not in _VERSIONS_APP:
        msg = f"App.version must be one of the strings {', '.join(_VERSIONS_APP)}; for 2.x use Project"
        raise InvalidInputError(msg)


def _check_project_version(_self: object, _field: object, value: object) -> None:
    if not isinstance(value, str) or _VERSION_PROJECT.fullmatch(value) is None:
        msg = "Project.version must be a string, '2.1' to '2.11' or later; for 1.x use App"
        raise InvalidInputError(msg)


class _Environment:
    """Environment variables, out of sight of a traceback that shows local variables."""

    def __init__(self, env: Mapping[str, str] | None) -> None:
        self._env = os.environ if env is None else env
        if not isinstance(self._env, Mapping):
            msg = f"env must be a mapping, such as os.environ, not {type(env).__name__}"
            raise InvalidInputError(msg)

    def key(self, variable: str, other: str = "", remedy: str = "") -> Secret:
        """Read a key, which must be there; where that of the *other* API is, *remedy* reads it."""
        if not self._env.get(variable):
            msg = f"the environment variable {variable} is not set or is empty; set it to Batch's key"
            if other and self._env.get(other):
                msg += f", or use {remedy}, as {other} is set"
            raise InvalidInputError(msg)
        return Secret(self._env[variable])

    def version(self, default: str) -> str:
        """Read the API's version."""
        return self._env.get("BATCH_API_VERSION") or default


@attrs.frozen(kw_only=True, init=False)
class App:
    """One app of the Mobile Engagement Platform: Custom Audience API 1.0 or 1.1.

    Batch keeps each platform apart: to reach iOS and Android, use one App, and one client, for each.

    Attributes:
        rest_api_key: The company-wide REST key; shown nowhere.
        api_key: The app's Live, Dev or SDK API key; it stands in the URL and is shown nowhere.
        version: `"1.0"` for custom and advertising ids, `"1.1"` for install ids with attributes and tags.
    """

    rest_api_key: Secret = attrs.field(validator=_check_key)
    api_key: Secret = attrs.field(validator=_check_path_key)
    version: str = attrs.field(default=_APP_VERSION, validator=_check_app_version)

    def __init__(
        self, *, rest_api_key: str | Secret, api_key: str | Secret, version: str = _APP_VERSION
    ) -> None:
        # These names lose the bare keys first: a traceback that shows local variables has this frame in it.
        rest_api_key, api_key = _to_secret(rest_api_key), _to_secret(api_key)
        self.__attrs_init__(rest_api_key=rest_api_key, api_key=api_key, version=version)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read BATCH_REST_API_KEY, BATCH_API_KEY and, where set, BATCH_API_VERSION.

        Args:
            env: Where to read; None for the process's environment.

        Raises:
            InvalidInputError: A variable is missing or cannot be a key or version.
        """
        environment = _Environment(env)
        del env  # as in __init__
        return cls(
            rest_api_key=environment.key("BATCH_REST_API_KEY"),
            api_key=environment.key("BATCH_API_KEY", "BATCH_PROJECT_KEY", "Project.from_env()"),
            version=environment.version(_APP_VERSION),
        )


@attrs.frozen(kw_only=True, init=False)
class Project:
    """One project of the Customer Engagement Platform: Audience API 2.x.

    Attributes:
        rest_api_key: The company-wide REST key; shown nowhere.
        project_key: The project's key; shown nowhere.
        version: `"2.1"` to `"2.11"` or later.
    """

    rest_api_key: Secret = attrs.field(validator=_check_key)
    project_key: Secret = attrs.field(validator=_check_key)
    version: str = attrs.field(default=_PROJECT_VERSION, validator=_check_project_version)

    def __init__(
        self, *, rest_api_key: str | Secret, project_key: str | Secret, version: str = _PROJECT_VERSION
    ) -> None:
        # These names lose the bare keys first: a traceback that shows local variables has this frame in it.
        rest_api_key, project_key = _to_secret(rest_api_key), _to_secret(project_key)
        self.__attrs_init__(rest_api_key=rest_api_key, project_key=project_key, version=version)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read BATCH_REST_API_KEY, BATCH_PROJECT_KEY and, where set, BATCH_API_VERSION.

        Args:
            env: Where to read; None for the process's environment.

        Raises:
            InvalidInputError: A variable is missing or cannot be a key or version.
        """
        environment = _Environment(env)
        del env  # as in __init__
        return cls(
            rest_api_key=environment.key("BATCH_REST_API_KEY"),
            project_key=environment.key("BATCH_PROJECT_KEY", "BATCH_API_KEY", "App.from_env()"),
            version=environment.version(_PROJECT_VERSION),
        )


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How one request is tried again.

    Attributes:
        attempts: Requests at most, the first one included.
        timeout: Seconds from the first failure after which no retry starts.
        request_timeout: Seconds that one request may take, from its admission to the last byte.
        initial: Seconds below which the first delay is drawn; each further bound doubles.
        maximum: Seconds that a bound never passes.
        retry_after_max: Seconds of `Retry-After` that are obeyed; a longer wish ends the retrying at once.
        budget: Retries that all requests of a client share; a success gives back one. When none is left,
            failures are raised at once, so that thousands of callers do not hammer a service that is down.
    """

    attempts: int = attrs.field(default=6, validator=_whole)
    timeout: float = attrs.field(default=120.0, validator=_above_zero)
    request_timeout: float = attrs.field(default=30.0, validator=_above_zero)
    initial: float = attrs.field(default=0.5, validator=_above_zero)
    maximum: float = attrs.field(default=20.0, validator=_above_zero)
    retry_after_max: float = attrs.field(default=120.0, validator=_not_negative)
    budget: int = attrs.field(default=500, validator=_whole)


@attrs.frozen(kw_only=True)
class PollingPolicy:
    """How a token is asked about until it is APPLIED.

    Attributes:
        timeout: Seconds that a wait lasts at most; None for ever. `await_applied(timeout=…)` overrides it.
        poll_cost: Seconds of lag that one poll is worth: the larger, the fewer polls and the later the news.
        minimum: Seconds between two polls of a token at least.
        maximum: Seconds between two polls of a token at most; where `minimum` is larger, this wins.
        failure_maximum: Seconds that a poll's delay after 429, 5xx or a broken connection never passes.
        jitter: Share of an interval by which it varies, 0 to 1.
        rate: Polls per second at most, over all tokens of the client.
        in_flight: Polls at once at most, so that the host's own calls find the way free.
    """

    timeout: float | None = attrs.field(default=900.0, validator=_none_or_above_zero)
    poll_cost: float = attrs.field(default=0.23, validator=_above_zero)
    minimum: float = attrs.field(default=0.2, validator=_above_zero)
    maximum: float = attrs.field(default=15.0, validator=_above_zero)
    failure_maximum: float = attrs.field(default=10.0, validator=_above_zero)
    jitter: float = attrs.field(default=0.1, validator=_share)
    rate: float = attrs.field(default=2000.0, validator=_above_zero)
    in_flight: int = attrs.field(default=48, validator=_whole)


@attrs.frozen(kw_only=True)
class Limits:
    """How much of the target a client uses.

    Attributes:
        rate: Requests per second at most; None for no limit of our own (a 429 still slows everybody).
        in_flight: Requests at once at most.
        uploads_in_flight: Chunks of one upload at once at most; each holds up to 10,000 ids in memory.
        response_bytes: Bytes that an answer may have, decompressed; a larger one is an error.
        pause_initial: Seconds of the first pause after a 503 or 429 without `Retry-After`; each further one
            doubles.
        pause_maximum: Seconds that such a pause never passes.
    """

    rate: float | None = attrs.field(default=None, validator=_none_or_above_zero)
    in_flight: int = attrs.field(default=64, validator=_whole)
    uploads_in_flight: int = attrs.field(default=8, validator=_whole)
    response_bytes: int = attrs.field(default=16 * 1024 * 1024, validator=_whole)
    pause_initial: float = attrs.field(default=0.5, validator=_above_zero)
    pause_maximum: float = attrs.field(default=15.0, validator=_above_zero)


def check_base_url(base_url: str | None) -> str:
    """Return the origin to send to, without a trailing slash.

    Args:
        base_url: An origin such as `"https://api.batch.com"`; None for BATCH_BASE_URL or Batch's own.

    Raises:
        InvalidInputError: No http(s) origin, or plain http to a host that is not this machine: keys would
            travel unencrypted.
    """
    place = "the environment variable BATCH_BASE_URL" if base_url is None else "base_url"
    url = os.environ.get("BATCH_BASE_URL") or _DEFAULT_BASE_URL if base_url is None else base_url
    origin = _ORIGIN.fullmatch(url) if isinstance(url, str) else None
    if origin is None or not _is_address(origin):
        msg = f"{place} must be an origin such as 'https://api.batch.com': no user, path, query or fragment"
        raise InvalidInputError(msg)
    if origin["scheme"].lower() == "http" and not _is_loopback(origin["ipv6"] or origin["host"]):
        msg = f"{place}: plain http is for a loopback address only, keys would travel unencrypted; use https"
        raise InvalidInputError(msg)
    return url.rstrip("/").lower()


def _is_address(origin: re.Match[str]) -> bool:
    """Tell whether an origin's port and IPv6 address are in range."""
    if int(origin["port"] or 0) > _MAX_PORT:
        return False
    try:
        ipaddress.IPv6Address(origin["ipv6"] or "::")
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    """Tell whether *host* is this machine, without asking a resolver."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
