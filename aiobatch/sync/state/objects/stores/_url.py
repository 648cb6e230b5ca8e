"""URLs of object stores."""

from __future__ import annotations

import re
from typing import Final, NoReturn, Self
from urllib.parse import unquote, urlsplit

import attrs

from .....errors import InvalidInputError

SCHEMES: Final = ("s3", "gs", "az", "file")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET: Final = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]*")


@attrs.frozen
class StoreUrl:
    """The parts of a store's URL.

    Attributes:
        scheme: One of `SCHEMES`.
        bucket: The bucket or container. Empty for `file`.
        path: The path below the bucket, without slashes around it. For `file` the absolute path.
    """

    scheme: str
    bucket: str
    path: str

    def __str__(self) -> str:
        if self.scheme == "file":
            return f"file://{self.path}"
        return f"{self.scheme}://{self.bucket}" + (f"/{self.path}" if self.path else "")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the parts of a URL.

        Args:
            text: `s3://bucket/prefix`, `gs://…`, `az://container/prefix` or `file:///directory`.

        Raises:
            InvalidInputError: It is none of them, or contains credentials. The message does not repeat them.
        """
        scheme = scheme_of(text)
        if scheme not in SCHEMES:
            _fail("it is no URL of a store. Write s3://, gs://, az:// or file:///")
        try:
            parts = urlsplit(text)
        except ValueError:
            _fail("it cannot be read")
        if "@" in parts.netloc:
            _fail("it contains a user or a password. Put credentials into the environment")
        if "?" in text or "#" in text:
            _fail("it contains a query or a fragment. Put credentials and options into the environment")
        names = [part for part in parts.path.split("/") if part]
        if ".." in names or "." in names or not text.isprintable():
            _fail("its path contains '.', '..' or a control character")
        if scheme == "file":
            if parts.netloc not in {"", "localhost"} or not names:
                _fail("it names no absolute directory. Write file:///directory, with three slashes")
            return cls(scheme, "", "/" + unquote("/".join(names)))
        if not _BUCKET.fullmatch(parts.netloc):
            _fail(f"it names no bucket. Write {scheme}://bucket/prefix")
        return cls(scheme, parts.netloc, "/".join(names))


def scheme_of(text: str) -> str | None:
    """Return the scheme of a URL in lower case. None for a path."""
    match = _SCHEME.match(text)
    return None if match is None else match[1].lower()


def _fail(reason: str) -> NoReturn:
    msg = f"The URL of the state is invalid: {reason}."
    raise InvalidInputError(msg)
