"""The origin to send to, and whether keys may be sent to it without encryption."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import urlsplit

from ..errors import InvalidInputError

__all__ = ["DEFAULT_BASE_URL", "check_base_url", "is_unencrypted"]

# BATCH_API.md, "base": Batch's own address.
DEFAULT_BASE_URL = "https://api.batch.com"
_OWN_DOMAIN = "batch.com"
_ORIGIN = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<host>[a-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?/?",
    re.ASCII | re.IGNORECASE,
)
_MAX_PORT = 65535
_SWITCH = {"": False, "0": False, "1": True}


def check_base_url(base_url: str | None, *, allow_http: bool | None = None) -> str:
    """Return the origin to send to, without a trailing slash.

    Args:
        base_url: An origin such as `"https://api.batch.com"`. Default: BATCH_BASE_URL, else Batch's own.
        allow_http: Whether plain http to another machine is allowed, as to a sandbox in a container. Default:
            whether BATCH_ALLOW_HTTP is 1. Batch's own hosts are never allowed.

    Raises:
        InvalidInputError: The value is not an http(s) origin, or it is plain http to another machine, which
            would send keys unencrypted.
    """
    place = "BATCH_BASE_URL" if base_url is None else "base_url"
    url = os.environ.get("BATCH_BASE_URL") or DEFAULT_BASE_URL if base_url is None else base_url
    origin = _ORIGIN.fullmatch(url) if isinstance(url, str) else None
    if origin is None or not _is_address(origin):
        msg = f"{place} must be an origin such as 'https://api.batch.com', without user, path or query."
        raise InvalidInputError(msg)
    is_allowed = _is_http_allowed(allow_http)
    origin_url = url.rstrip("/").lower()
    if not is_unencrypted(origin_url):
        return origin_url
    if _is_batchs((origin["host"] or "").lower()):
        msg = f"{place} must use https. Plain http to Batch sends keys unencrypted and is never allowed."
        raise InvalidInputError(msg)
    if not is_allowed:
        msg = (
            f"{place} must use https. Plain http sends keys unencrypted and is only for a loopback address. "
            "For a sandbox in another container, pass allow_http=True or set BATCH_ALLOW_HTTP=1."
        )
        raise InvalidInputError(msg)
    return origin_url


def is_unencrypted(origin: str) -> bool:
    """Return whether requests to *origin*, in lower case, leave this machine without encryption."""
    parts = urlsplit(origin)
    return parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def _is_http_allowed(allow_http: object) -> bool:
    """Return whether plain http is allowed, by the argument or else by the environment."""
    if isinstance(allow_http, bool):
        return allow_http
    if allow_http is not None:
        msg = f"allow_http must be True, False or None, not {type(allow_http).__name__}."
        raise InvalidInputError(msg)
    value = os.environ.get("BATCH_ALLOW_HTTP", "")
    if value not in _SWITCH:
        msg = "BATCH_ALLOW_HTTP must be 1 or 0."
        raise InvalidInputError(msg)
    return _SWITCH[value]


def _is_batchs(host: str) -> bool:
    """Return whether *host* is Batch's domain or below it."""
    return host.rstrip(".") == _OWN_DOMAIN or host.rstrip(".").endswith(f".{_OWN_DOMAIN}")


def _is_address(origin: re.Match[str]) -> bool:
    """Return whether an origin's port and IPv6 address are in range."""
    if int(origin["port"] or 0) > _MAX_PORT:
        return False
    try:
        ipaddress.IPv6Address(origin["ipv6"] or "::")
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    """Return whether *host* is this machine, without a DNS lookup."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
