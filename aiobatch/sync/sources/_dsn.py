"""Addresses of databases and web servers: their environment variables, and masking of their passwords."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, unquote

from ...errors import InvalidInputError
from ._object_stores import is_public

_MASK = "***"
_VARIABLE = re.compile(r"\$\{(\w+)\}")
# Up to the last "@": an unquoted "/" or "@" in a password, or a user such as me@corp.example, must not end
# the masking early.
_USERINFO = re.compile(
    r"\A[\s\x00-\x1f]*(?P<scheme>[a-z0-9+.-]+://)(?P<user>[^:/?]*)(?::(?P<password>.*))?@",
    re.DOTALL | re.IGNORECASE,
)
_WEB = re.compile(r"[\s\x00-\x1f]*https?://", re.IGNORECASE)
# Drivers of warehouses take keys and tokens as parameters.
_SECRET_NAME = re.compile(r"passw|passcode|pwd|secret|token|credential|private_?key|api_?key", re.IGNORECASE)
# Shorter pieces of a password occur in any text, and do not help to guess it.
_SHORTEST_PIECE = 3


def expand(text: str, env: Mapping[str, str] | None = None) -> str:
    """Replace each `${NAME}` by an environment variable. Percent-encode it in a user or a password.

    Args:
        text: An address of a database, or one variable that contains the whole address.
        env: The variables. None for the process's environment.

    Raises:
        InvalidInputError: A variable is not set, has no valid name, or is empty outside a user or a password.
    """
    known = os.environ if env is None else env
    userinfo_ends = text.rfind("@") if "://" in text else 0
    if "${" in _VARIABLE.sub("", text):
        msg = "source: '${' starts the name of an environment variable. Write ${NAME}: letters, digits, '_'."
        raise InvalidInputError(msg)

    def value(match: re.Match[str]) -> str:
        if match[1] not in known:
            msg = (
                f"source: the environment variable {match[1]} is not set. Set it, or remove ${{{match[1]}}}."
            )
            raise InvalidInputError(msg)
        found = known[match[1]]
        if not found and match.start() >= userinfo_ends:  # it would name another place
            msg = f"source: the environment variable {match[1]} is empty. Set it, or remove ${{{match[1]}}}."
            raise InvalidInputError(msg)
        return quote(found, safe="") if match.start() < userinfo_ends else found

    return _VARIABLE.sub(value, text)


def variables_of(text: str) -> list[str]:
    """Return the names of the variables in an address."""
    return _VARIABLE.findall(text)


def redact(dsn: str) -> str:
    """Return *dsn* for display: scheme, user, host and database, without password and parameters."""
    if is_public(dsn):
        return dsn  # "?" and "#" are characters of keys and patterns
    userinfo = _USERINFO.match(dsn)
    if userinfo and "?" in (userinfo["password"] or ""):
        # The last "@" may end a password or be in a parameter, so the text after it may be secret.
        return f"{userinfo['scheme']}{_MASK}"
    bare = _USERINFO.sub(lambda match: match["scheme"] + (f"{match['user']}@" if match["user"] else ""), dsn)
    return re.split(r"[?#]", bare, maxsplit=1)[0]


def scrub(text: str, dsn: str) -> str:
    """Return a driver's *text* without any trace of the passwords in *dsn*."""
    clean = text.replace(dsn, redact(dsn))
    for secret in sorted(set(_secrets(dsn)), key=len, reverse=True):
        clean = clean.replace(secret, _MASK)
    return clean


def _secrets(dsn: str) -> Iterator[str]:
    """Yield the secrets of *dsn*, as written and decoded, and the pieces that parsers may cut off."""
    userinfo = _USERINFO.match(dsn)
    given = [userinfo["password"] or ""] if userinfo else []
    parameters = [part.partition("=") for part in dsn.partition("?")[2].split("&")]
    if _WEB.match(dsn):
        # Any parameter may be the signature of an address that is signed in advance.
        given += [value if separator else key for key, separator, value in parameters]
    given += [value for key, _, value in parameters if _SECRET_NAME.search(unquote(key))]
    for password in given:
        pieces = [piece for piece in re.split(r"[/?#@:&=]", password) if len(piece) >= _SHORTEST_PIECE]
        yield from (form for part in (password, *pieces) for form in (part, unquote(part)) if form)


def has_literal_password(text: str) -> bool:
    """Return whether *text* contains a password itself, not only `${NAME}`."""
    return any(_secrets(_VARIABLE.sub("", text)))
