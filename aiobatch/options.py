"""Settings of a client: its target, and how to retry, poll and pace. All defaults are defined here."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import attrs

from ._secret import Secret
from .errors import InvalidInputError

__all__ = ["App", "Limits", "PollingPolicy", "Project", "RetryPolicy", "Secret", "check_timeout"]

_APP_VERSION, _PROJECT_VERSION = "1.0", "2.11"
_VERSIONS_APP = ("1.0", "1.1")
# BATCH_API.md, "versions seen": the pages end at 2.11, and later ones are in use.
_VERSION_PROJECT = re.compile(r"2\.(?:0|[1-9][0-9]{0,3})")


def _number(value: object, place: str) -> float:
    """Return *value* if it is a finite number. *place* names it in the error."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"{place} must be a number, not {type(value).__name__}."
        raise InvalidInputError(msg)
    if not abs(value) <= sys.float_info.max:  # true of NaN, infinities and integers that no float holds
        msg = f"{place} must be a finite number."
        raise InvalidInputError(msg)
    return value


def check_timeout(value: float | None, name: str = "timeout") -> float | None:
    """Return *value* if it is a valid timeout.

    Args:
        value: Seconds above zero. None for no limit.
        name: The argument's name, for the error.

    Raises:
        InvalidInputError: The value is zero, negative, NaN, infinite or not a number.
    """
    if value is not None and _number(value, name) <= 0:
        msg = f"{name} must be above 0 seconds, not {value}. None means no limit."
        raise InvalidInputError(msg)
    return value


def check_whole(value: object, place: str) -> int:
    """Return *value* if it is an int of at least 1. *place* names it in the error."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = f"{place} must be an int of at least 1."
        raise InvalidInputError(msg)
    return value


def check_instance(value: object, kind: type, place: str) -> None:
    """Raise InvalidInputError if *value*, the argument *place*, is not a *kind*."""
    if not isinstance(value, kind):
        msg = f"{place} must be of type {kind.__name__}, not {type(value).__name__}, or be left out."
        raise InvalidInputError(msg)


def check_methods(value: object, names: Iterable[str], place: str) -> None:
    """Raise InvalidInputError if *value*, the argument *place*, lacks one of the methods *names*."""
    if missing := [name for name in names if not callable(getattr(value, name, None))]:
        msg = f"{place} of type {type(value).__name__} must have the methods {', '.join(missing)}."
        raise InvalidInputError(msg)


def check_callback(value: object, place: str) -> None:
    """Raise InvalidInputError if *value*, the argument *place*, is not a plain function."""
    if not callable(value):
        msg = f"{place} must be a function, not {type(value).__name__}."
        raise InvalidInputError(msg)
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(type(value).__call__):
        msg = f"{place} must be a plain function, because a coroutine is never awaited. It may fill a queue."
        raise InvalidInputError(msg)


_Validator = Callable[[object, "attrs.Attribute[Any]", Any], None]


def _place(owner: object, field: attrs.Attribute[Any]) -> str:
    """Return a field's name for an error: `Limits.rate`."""
    return f"{type(owner).__name__}.{field.name}"


def _number_that(is_valid: Callable[[float], bool], description: str) -> _Validator:
    """Return a validator of a finite number."""

    def validate(owner: object, field: attrs.Attribute[Any], value: object) -> None:
        place = _place(owner, field)
        if not is_valid(_number(value, place)):
            msg = f"{place} must be {description}, not {value}."
            raise InvalidInputError(msg)

    return validate


_above_zero = _number_that(lambda number: number > 0, "above 0")
_not_negative = _number_that(lambda number: number >= 0, "0 or more")
_share = _number_that(lambda number: 0 <= number <= 1, "from 0 to 1")
_none_or_above_zero: _Validator = attrs.validators.optional(_above_zero)


def _whole(owner: object, field: attrs.Attribute[Any], value: object) -> None:
    check_whole(value, _place(owner, field))


def _boolean(owner: object, field: attrs.Attribute[Any], value: object) -> None:
    check_instance(value, bool, _place(owner, field))


def _to_secret(key: str | Secret) -> Secret:
    """Wrap a key of any type before it is checked, so that no error can show it."""
    return key if isinstance(key, Secret) else Secret(key)


def _to_shared(value: bool | str | os.PathLike[str] | Secret) -> bool | Path | Secret:  # noqa: FBT001 - an option
    """Wrap a URL, which may contain a password. Any other text is a directory."""
    if isinstance(value, str) and "://" in value:
        return Secret(value)
    return (
        value if isinstance(value, bool | Secret) or not isinstance(value, str | os.PathLike) else Path(value)
    )


def _check_shared(self: object, field: attrs.Attribute[Any], value: object) -> None:
    place = _place(self, field)
    if isinstance(value, Secret):
        if re.match(r"(?:rediss?|unix)://.", str(value.reveal())) is None:
            msg = f"{place} must be a URL of the form redis://host:6379/0, rediss://… or unix://…."
            raise InvalidInputError(msg)
    elif not isinstance(value, bool | Path):
        msg = f"{place} must be True, False, a Redis URL or a directory, not {type(value).__name__}."
        raise InvalidInputError(msg)
    if value is not False and getattr(self, "rate", None) is None:
        msg = f"{place} needs Limits.rate, the requests per second that all share."
        raise InvalidInputError(msg)


def _check_key(self: object, field: attrs.Attribute[Any], value: Secret) -> None:
    """Check a key that is sent in a header."""
    place = _place(self, field)
    if not isinstance(value.reveal(), str):
        msg = f"{place} must be a string, not {type(value.reveal()).__name__}."
        raise InvalidInputError(msg)
    if not value.reveal().strip():
        msg = f"{place} must not be empty. Copy the key from Batch's dashboard, Settings."
        raise InvalidInputError(msg)
    if re.fullmatch(r"[!-~]+", value.reveal()) is None:
        msg = f"{place} must be printable ASCII without spaces or a newline. Copy only the key itself."
        raise InvalidInputError(msg)


def _check_path_key(self: object, field: attrs.Attribute[Any], value: Secret) -> None:
    """Check a key that is sent in a URL's path, where dots alone would lead to another path."""
    _check_key(self, field, value)
    if re.fullmatch(r"(?!\.+\Z)[A-Za-z0-9_.~-]+", value.reveal()) is None:
        msg = (
            f"{_place(self, field)} is part of the URL's path and may contain only letters, digits, '_', "
            "'-', '.' and '~'. Copy it again from Batch's dashboard, Settings."
        )
        raise InvalidInputError(msg)


def _check_app_version(_self: object, _field: object, value: object) -> None:
    if value not in _VERSIONS_APP:
        msg = f"App.version must be one of the strings {', '.join(_VERSIONS_APP)}. Use Project for 2.x."
        raise InvalidInputError(msg)


def _check_project_version(_self: object, _field: object, value: object) -> None:
    if not isinstance(value, str) or _VERSION_PROJECT.fullmatch(value) is None:
        msg = "Project.version must be a string such as '2.11'. Use App for 1.x."
        raise InvalidInputError(msg)


class _Environment:
    """Environment variables, hidden from tracebacks that show local variables."""

    def __init__(self, env: Mapping[str, str] | None) -> None:
        self._env = os.environ if env is None else env
        if not isinstance(self._env, Mapping):
            msg = f"env must be a mapping such as os.environ, not {type(env).__name__}."
            raise InvalidInputError(msg)

    def key(self, variable: str, other: str = "", remedy: str = "") -> Secret:
        """Return a required key. If only the *other* API's key is set, the error names its *remedy*."""
        if not self._env.get(variable):
            msg = f"The environment variable {variable} is not set or is empty. Set it to Batch's key."
            if other and self._env.get(other):
                msg += f" {other} is set, so you may want {remedy}."
            raise InvalidInputError(msg)
        return Secret(self._env[variable])

    def version(self, default: str) -> str:
        """Return the API's version."""
        return self._env.get("BATCH_API_VERSION") or default


@attrs.frozen(kw_only=True, init=False)
class App:
    """One app of the Mobile Engagement Platform: Custom Audience API 1.0 or 1.1.

    Batch keeps each platform apart. To reach iOS and Android, use one App and one client for each.

    Attributes:
        rest_api_key: The company-wide REST key. Never shown.
        api_key: The app's Live, Dev or SDK API key. It is part of the URL. Never shown.
        version: `"1.0"` for custom and advertising IDs, `"1.1"` for install IDs with attributes and tags.
    """

    rest_api_key: Secret = attrs.field(validator=_check_key)
    api_key: Secret = attrs.field(validator=_check_path_key)
    version: str = attrs.field(default=_APP_VERSION, validator=_check_app_version)

    def __init__(
        self, *, rest_api_key: str | Secret, api_key: str | Secret, version: str = _APP_VERSION
    ) -> None:
        # Rebind the names first: a traceback that shows local variables contains this frame.
        rest_api_key, api_key = _to_secret(rest_api_key), _to_secret(api_key)
        self.__attrs_init__(rest_api_key=rest_api_key, api_key=api_key, version=version)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Create an App from BATCH_REST_API_KEY, BATCH_API_KEY and, if set, BATCH_API_VERSION.

        Args:
            env: Environment variables. None for the process's own.

        Raises:
            InvalidInputError: A variable is missing or invalid.
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
        rest_api_key: The company-wide REST key. Never shown.
        project_key: The project's key. Never shown.
        version: `"2.1"` to `"2.11"`, or any other 2.x.
    """

    rest_api_key: Secret = attrs.field(validator=_check_key)
    project_key: Secret = attrs.field(validator=_check_key)
    version: str = attrs.field(default=_PROJECT_VERSION, validator=_check_project_version)

    def __init__(
        self, *, rest_api_key: str | Secret, project_key: str | Secret, version: str = _PROJECT_VERSION
    ) -> None:
        # Rebind the names first: a traceback that shows local variables contains this frame.
        rest_api_key, project_key = _to_secret(rest_api_key), _to_secret(project_key)
        self.__attrs_init__(rest_api_key=rest_api_key, project_key=project_key, version=version)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Create a Project from BATCH_REST_API_KEY, BATCH_PROJECT_KEY and, if set, BATCH_API_VERSION.

        Args:
            env: Environment variables. None for the process's own.

        Raises:
            InvalidInputError: A variable is missing or invalid.
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
    """The policy of retrying a request.

    Attributes:
        attempts: Maximum number of requests, including the first.
        timeout: Seconds from the start of a call within which each of its requests must start. They include
            the wait for admission, while the client is paused or at its limits.
        request_timeout: Seconds that one request may take, from its admission to the last byte.
        connect_timeout: Seconds that a new connection may take, with DNS and TLS. At most nine tenths of
            `request_timeout`.
        initial: Upper bound of the first random delay, seconds. The bound doubles with every retry.
        maximum: Limit of that bound, seconds.
        retry_after_max: Longest `Retry-After` to wait for, seconds. A longer one ends the retrying at once.
        budget: Number of retries that all requests of a client share. A success returns one. If none is left,
            failures are raised at once, so that thousands of callers do not overload a failing service.
        fail_when_paused: Whether a call fails at once while a 503 or 429 pauses the client. The error has the
            seconds until the next probe. By default the call waits.
    """

    attempts: int = attrs.field(default=6, validator=_whole)
    timeout: float = attrs.field(default=120.0, validator=_above_zero)
    request_timeout: float = attrs.field(default=30.0, validator=_above_zero)
    connect_timeout: float = attrs.field(default=10.0, validator=_above_zero)
    initial: float = attrs.field(default=0.5, validator=_above_zero)
    maximum: float = attrs.field(default=20.0, validator=_above_zero)
    retry_after_max: float = attrs.field(default=120.0, validator=_not_negative)
    budget: int = attrs.field(default=500, validator=_whole)
    fail_when_paused: bool = attrs.field(default=False, validator=_boolean)


@attrs.frozen(kw_only=True)
class PollingPolicy:
    """The policy of polling a token until it is APPLIED.

    Attributes:
        timeout: Maximum seconds of a wait. None for no limit. `await_applied(timeout=…)` overrides it.
        poll_cost: Seconds of delay that one poll is worth. A larger value means fewer polls and more delay.
        minimum: Minimum seconds between two polls of a token.
        maximum: Maximum seconds between two polls of a token. It wins over a larger `minimum`.
        failure_maximum: Maximum seconds before the next poll after 429, 5xx or a broken connection.
        jitter: Share of an interval by which it varies, 0 to 1.
        rate: Maximum polls per second, over all tokens of the client.
        in_flight: Maximum number of concurrent polls, which leaves capacity for other calls.
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
    """The share of the target that a client uses.

    Attributes:
        rate: Maximum requests per second. None for no limit, but a 429 still slows the client. Clients of one
            process with the same keys share it.
        shared: Who else shares `rate`, pauses, and what 429 responses taught. True: all processes of this
            user on this machine. A Redis URL: all machines that use it. A directory: all processes that use
            this directory. Never shown, because a URL may contain a password.
        company_wide: Whether all apps and projects of one REST API key share `rate`.
        in_flight: Maximum number of concurrent requests.
        uploads_in_flight: Maximum number of concurrent chunks of one upload. Each holds up to 10,000 IDs in
            memory.
        response_bytes: Maximum bytes of a decompressed response. A larger response is an error. A list of 100
            audiences takes about 30 kB.
        pause_initial: Seconds of the first pause after a 503 or 429 without `Retry-After`. Each further pause
            doubles. After a 503, polls probe earlier.
        pause_maximum: Maximum seconds of such a pause.
        retry_after_max: Longest `Retry-After` that a pause obeys, seconds. If a server asks for more, one
            probe is sent earlier.
    """

    rate: float | None = attrs.field(default=None, validator=_none_or_above_zero)
    shared: bool | Path | Secret = attrs.field(default=False, converter=_to_shared, validator=_check_shared)
    company_wide: bool = attrs.field(default=False, validator=_boolean)
    in_flight: int = attrs.field(default=64, validator=_whole)
    uploads_in_flight: int = attrs.field(default=8, validator=_whole)
    response_bytes: int = attrs.field(default=1024 * 1024, validator=_whole)
    pause_initial: float = attrs.field(default=0.5, validator=_above_zero)
    pause_maximum: float = attrs.field(default=15.0, validator=_above_zero)
    retry_after_max: float = attrs.field(default=120.0, validator=_above_zero)
