"""The proxy that the environment names."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

from yarl import URL

from ..errors import InvalidInputError


def find_proxy(base_url: str) -> str | None:
    """Return the proxy for an origin from HTTPS_PROXY, else from ALL_PROXY. None for no proxy.

    aiohttp's `trust_env` looks up the proxy and ~/.netrc in two threads for each request. One origin has one
    proxy, and no password of another tool is needed here. Plain http goes to this machine only.

    Raises:
        InvalidInputError: The environment names a proxy that cannot be used.
    """
    parts = urlsplit(base_url)
    if parts.scheme != "https" or urllib.request.proxy_bypass(parts.netloc):
        return None
    proxies = urllib.request.getproxies()
    name = "HTTPS_PROXY" if proxies.get("https") else "ALL_PROXY"
    configured = proxies.get("https") or proxies.get("all")
    if not configured:
        return None
    proxy = configured if "://" in configured else f"http://{configured}"
    url = _parse(proxy)
    if url is None or url.scheme not in {"http", "https"} or not url.host:
        msg = (
            f"The environment variable {name} names no usable proxy. Set HTTPS_PROXY, which is used before "
            "ALL_PROXY, to http://host:port, with user:password@ before the host if the proxy needs "
            "credentials. SOCKS proxies are not supported. For no proxy, add the host to NO_PROXY."
        )
        raise InvalidInputError(msg)
    credentials = f"{url.user or ''}{url.password or ''}"
    # aiohttp encodes what a URL contains in Latin-1.
    check_credentials(lambda: credentials.encode("latin-1"), f"The environment variable {name}")
    return proxy


def check_credentials(encode: Callable[[], object], place: str) -> None:
    """Raise InvalidInputError if the credentials of a proxy cannot be sent.

    Args:
        encode: Encodes them.
        place: Where the proxy is set, as the start of the error.
    """
    try:
        encode()
    except UnicodeEncodeError:
        pass  # the text of this error contains the password, so it must not be the context of the next one
    else:
        return
    msg = (
        f"{place} has a proxy whose user or password contains a character outside Latin-1, such as the euro "
        "sign, so it cannot be sent. Choose another one for the proxy."
    )
    raise InvalidInputError(msg)


def _parse(proxy: str) -> URL | None:
    try:
        return URL(proxy)
    except ValueError:
        return None
