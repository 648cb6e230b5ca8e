"""The proxy that the environment names."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit

from yarl import URL

from ..errors import InvalidInputError


def find_proxy(base_url: str) -> str | None:
    """Return the proxy for an origin from the environment, or None.

    aiohttp's `trust_env` looks up the proxy and ~/.netrc in two threads for each request. One origin has one
    proxy, and no password of another tool is needed here. Plain http goes to this machine only.

    Raises:
        InvalidInputError: The environment names a proxy that cannot be used.
    """
    parts = urlsplit(base_url)
    if parts.scheme != "https" or urllib.request.proxy_bypass(parts.netloc):
        return None
    configured = urllib.request.getproxies().get("https")
    if not configured:
        return None
    proxy = configured if "://" in configured else f"http://{configured}"
    if not _is_usable(proxy):
        msg = (
            "The environment variable HTTPS_PROXY names no usable proxy. Set it to http://host:port, with "
            "user:password@ before the host if the proxy needs credentials. SOCKS proxies are not supported."
        )
        raise InvalidInputError(msg)
    return proxy


def _is_usable(proxy: str) -> bool:
    """Return whether a URL has a host, and a scheme that aiohttp supports for proxies."""
    try:
        url = URL(proxy)
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and bool(url.host)
