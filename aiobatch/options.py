"""What a client is told: whose audiences, and how to retry, poll and pace. Every default lives here, once."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import attrs

from ._messages import Secret
from .errors import InvalidInputError

__all__ = ["App", "Limits", "PollingPolicy", "Project", "RetryPolicy", "check_base_url", "check_timeout"]

# BATCH_API.md, "base": Batch's own address.
_DEFAULT_BASE_URL = "https://api.batch.com"
_VERSIONS_APP = ("1.0", "1.1")
_VERSION_PROJECT = re.compile(r"2\.\d{1,3}")


def _number(value: object, name: str) -> float:
    """Return *value* as a finite number, or say that *name* is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        msg = f"{name} must be a finite number, not {value!r}"
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
        msg = f"{name} must be above 0 seconds, not {value!r}; None means no limit"
        raise InvalidInputError(msg)
    return value


def _above_zero(_self: object, field: attrs.Attribute[Any], value: object) -> None:
    if _number(value, field.name) <= 0:
        msg = f"{field.name} must be above 0, not {value!r}"
        raise InvalidInputError(msg)


def _not_negative(_self: object, field: attrs.Attribute[Any], value: object) -> None:
    if _number(value, field.name) < 0:
        msg = f"{field.name} must not be negative, not {value!r}"
        raise InvalidInputError(msg)


def _whole(_self: object, field: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = f"{field.name} must be a whole number of at least 1, not {value!r}"
        raise InvalidInputError(msg)


def _optional(check: Callable[[object, attrs.Attribute[Any], object], None]) -> Callable[..., None]:
    """Let None through to *check*."""

    def optional(self: object, field: attrs.Attribute[Any], value: object) -> None:
        if value is not None:
            check(self, field, value)

    return optional


def _to_secret(value: str | Secret) -> Secret:
    """Check a key and hide it; an error never shows it."""
    key = value.reveal() if isinstance(value, Secret) else value
    if not isinstance(key, str):
        msg = f"a key must be a string, not {type(key).__name__}"
        raise InvalidInputError(msg)
    if not key.strip():
        msg = "a key must not be empty; take it from Batch's dashboard, Settings"
        raise InvalidInputError(msg)
    if not key.isascii() or not key.isprintable() or " " in key:
        msg = "a key must be printable ASCII without spaces or a newline; strip() what was read from a file"
        raise InvalidInputError(msg)
    return Secret(key)


def _check_path_key(_self: object, _field: object, value: Secret) -> None:
    """Check a key that stands in a URL path."""
    if not re.fullmatch(r"[A-Za-z0-9_.~-]+", value.reveal()) or not value.reveal().strip("."):
        msg = "api_key stands in the URL's path and may hold letters, digits, '_', '-', '.' and '~' only"
        raise InvalidInputError(msg)


def _check_app_version(_self: object, _field: object, value: object) -> None:
    if value not in _VERSIONS_APP:
        msg = f"an App's version is one of {', '.join(_VERSIONS_APP)}, not {value!r}; for 2.x use Project"
        raise InvalidInputError(msg)


def _check_project_version(_self: object, _field: object, value: object) -> None:
    if not isinstance(value, str) or _VERSION_PROJECT.fullmatch(value) is None:
        msg = f"a Project's version is 2.1 to 2.11 or later, as a string, not {value!r}; for 1.x use App"
        raise InvalidInputError(msg)


def _from_env(env: Mapping[str, str], variable: str) -> str:
    """Read a required environment variable."""
    try:
        return env[variable]
    except KeyError:
        msg = f"the environment variable {variable} is not set"
        raise InvalidInputError(msg) from None


@attrs.frozen(kw_only=True)
class App:
    """One app of the Mobile Engagement Platform: Custom Audience API 1.0 or 1.1.

    Batch keeps each platform apart: to reach iOS and Android, use one App, and one client, for each.

    Attributes:
        rest_api_key: The company-wide REST key; shown nowhere.
        api_key: The app's Live, Dev or SDK API key; it stands in the URL and is shown nowhere.
        version: `"1.0"` for custom and advertising ids, `"1.1"` for install ids with attributes and tags.
    """

    rest_api_key: Secret = attrs.field(converter=_to_secret)
    api_key: Secret = attrs.field(converter=_to_secret, validator=_check_path_key)
    version: str = attrs.field(default="1.0", validator=_check_app_version)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read BATCH_REST_API_KEY, BATCH_API_KEY and, where set, BATCH_API_VERSION.

        Args:
            env: Where to read; None for the process's environment.

        Raises:
            InvalidInputError: A variable is missing or cannot be a key or version.
        """
        env = os.environ if env is None else env
        return cls(
            rest_api_key=_from_env(env, "BATCH_REST_API_KEY"),
            api_key=_from_env(env, "BATCH_API_KEY"),
            version=env.get("BATCH_API_VERSION", "1.0"),
        )


@attrs.frozen(kw_only=True)
class Project:
    """One project of the Customer Engagement Platform: Audience API 2.x.

    Attributes:
        rest_api_key: The company-wide REST key; shown nowhere.
        project_key: The project's key; shown nowhere.
        version: `"2.1"` to `"2.11"` or later.
    """

    rest_api_key: Secret = attrs.field(converter=_to_secret)
    project_key: Secret = attrs.field(converter=_to_secret)
    version: str = attrs.field(default="2.11", validator=_check_project_version)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read BATCH_REST_API_KEY, BATCH_PROJECT_KEY and, where set, BATCH_API_VERSION.

        Args:
            env: Where to read; None for the process's environment.

        Raises:
            InvalidInputError: A variable is missing or cannot be a key or version.
        """
        env = os.environ if env is None else env
        return cls(
            rest_api_key=_from_env(env, "BATCH_REST_API_KEY"),
            project_key=_from_env(env, "BATCH_PROJECT_KEY"),
            version=env.get("BATCH_API_VERSION", "2.11"),
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
        maximum: Seconds between two polls of a token at most.
        failure_maximum: Seconds that a poll's delay after 429, 5xx or a broken connection never passes.
        jitter: Share of an interval by which it varies, 0 to 1.
        rate: Polls per second at most, over all tokens of the client.
        in_flight: Polls at once at most, so that the host's own calls find the way free.
    """

    timeout: float | None = attrs.field(default=900.0, validator=_optional(_above_zero))
    poll_cost: float = attrs.field(default=0.26, validator=_above_zero)
    minimum: float = attrs.field(default=0.2, validator=_above_zero)
    maximum: float = attrs.field(default=15.0, validator=_above_zero)
    failure_maximum: float = attrs.field(default=10.0, validator=_above_zero)
    jitter: float = attrs.field(default=0.1, validator=[_not_negative, attrs.validators.le(1)])
    rate: float = attrs.field(default=1000.0, validator=_above_zero)
    in_flight: int = attrs.field(default=32, validator=_whole)


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

    rate: float | None = attrs.field(default=None, validator=_optional(_above_zero))
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
    url = os.environ.get("BATCH_BASE_URL") or _DEFAULT_BASE_URL if base_url is None else base_url
    if not isinstance(url, str) or not _is_origin(url):
        msg = "base_url must be an origin such as 'https://api.batch.com': no user, path, query or fragment"
        raise InvalidInputError(msg)
    if url.startswith("http://") and not _is_loopback(urlsplit(url).hostname or ""):
        msg = "base_url: plain http is for a loopback address only, keys would travel unencrypted; use https"
        raise InvalidInputError(msg)
    return url.rstrip("/")


def _is_origin(url: str) -> bool:
    """Tell whether *url* is scheme, host and perhaps a port, and nothing else."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    rest = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not rest and url.isprintable()


def _is_loopback(host: str) -> bool:
    """Tell whether *host* is this machine, without asking a resolver."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
