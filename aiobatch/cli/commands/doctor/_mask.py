"""A mask for output that is pasted into a bug report: no key, no host, no user and no home directory."""

from __future__ import annotations

import contextlib
import getpass
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs

__all__ = ["Mask", "is_public"]

_SECRET_NAME: Final = re.compile(r"KEY|TOKEN|SECRET|PASS|PWD|URL|DSN|CREDENTIAL|AUTH", re.IGNORECASE)
# Variables that match and hold no secret.
_PLAIN: Final = frozenset({"BATCH_BASE_URL", "PWD", "OLDPWD"})
_SHORTEST: Final = 4
_SHORTEST_USER: Final = 2
# The name is no part of another word, and no option.
_BEFORE: Final = r"(?<![A-Za-z0-9])(?<!--)"
_ENDS_WORD: Final = re.compile(r"(?:^|[\s`(])$")
_STARTS_WORD: Final = re.compile(r"[.,:;]?(?:$|[\s`)])")
_URL: Final = re.compile(r"\b([a-z][a-z0-9+.-]*)://([^\s`'\",]+)", re.IGNORECASE)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_KNOWN_USERS: Final = frozenset({"root", "nobody", "app", "user"})


def is_public(host: str) -> bool:
    """Return whether the name of a host may be shown: Batch's own, or this machine's loopback address."""
    return host in _LOOPBACK or host == "batch.com" or host.endswith(".batch.com")


@attrs.frozen(kw_only=True)
class Mask:
    """Replaces what identifies a person, a company or a machine.

    Attributes:
        secrets: Texts that are replaced by `***`.
        hosts: Names of hosts.
        homes: Paths of the home directory.
        user: The user's name. None if it need not be hidden.
    """

    secrets: tuple[str, ...] = attrs.field(repr=False)
    hosts: tuple[str, ...]
    homes: tuple[str, ...]
    user: str | None

    @classmethod
    def of(cls, envs: Iterable[Mapping[str, str]], hosts: Iterable[str]) -> Mask:
        """Return a mask for the secrets of some environments.

        Args:
            envs: Environment variables.
            hosts: Names of hosts that the checks may name. Public ones are shown.
        """
        secrets: set[str] = set()
        homes: set[str] = set()
        for env in envs:
            secrets |= {
                value
                for name, value in env.items()
                if _SECRET_NAME.search(name) and name not in _PLAIN and len(value) >= _SHORTEST
            }
            homes.add(env.get("HOME", ""))
        with contextlib.suppress(RuntimeError):  # a user without a home
            homes.add(str(Path.home()))
        user = None
        with contextlib.suppress(KeyError, OSError):  # a container may run as a user without a name
            user = getpass.getuser()
        names = {*hosts, socket.gethostname()}
        return cls(
            secrets=tuple(sorted(secrets, key=len, reverse=True)),
            hosts=tuple(one for one in names if len(one) >= _SHORTEST and not is_public(one)),
            homes=tuple(sorted((one for one in homes if len(one.rstrip("/")) > 1), key=len, reverse=True)),
            user=None if user in _KNOWN_USERS or len(user or "") < _SHORTEST_USER else user,
        )

    def __call__(self, text: str) -> str:
        """Return *text* without them. A path below the home directory still works in a shell."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        text = _URL.sub(_shown, text)
        for home in self.homes:
            bare = re.escape(home.rstrip("/"))
            # A quoted path would not be expanded.
            text = re.sub(rf"'{bare}/", "~/'", text)
            text = re.sub(rf"{bare}(?![\w.-])", "~", text)
        for host in self.hosts:
            text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "HOST", text)
        if self.user is not None:
            text = re.sub(rf"{_BEFORE}{re.escape(self.user)}(?![A-Za-z0-9])", _masked_user, text)
        return text


def _masked_user(match: re.Match[str]) -> str:
    """Return the mask of a user's name in a path, an address or quotes, and a plain word as it is."""
    before, after = match.string[: match.start()], match.string[match.end() :]
    is_word = _ENDS_WORD.search(before) is not None and _STARTS_WORD.match(after) is not None
    return match[0] if is_word else "${USER}"


def _shown(match: re.Match[str]) -> str:
    """Return a URL, or only its scheme if it names a host of the user's."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(match[0])
        if parts.username is None and is_public(parts.hostname or ""):
            return match[0]
    return f"{match[1]}://…"
