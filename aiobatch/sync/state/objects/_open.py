"""Opening of the store that a URL names."""

from __future__ import annotations

from ....errors import InvalidInputError
from ._store import ObjectStore
from .stores._url import SCHEMES, StoreUrl, scheme_of


def is_store_url(text: str) -> bool:
    """Return whether a state is a URL of a store, not a path of a file.

    Args:
        text: The state: a path or a URL.

    Raises:
        InvalidInputError: It is a URL of another scheme.
    """
    scheme = scheme_of(text)
    if scheme is None or scheme in SCHEMES:
        return scheme is not None
    msg = (
        f"A state cannot be at {scheme}://. Name a file, or a URL that starts with s3://, gs://, az:// or "
        "file:///."
    )
    raise InvalidInputError(msg)


def open_store(url: str) -> ObjectStore:
    """Return the store that a URL names. Its credentials are the environment's.

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///directory`.

    Raises:
        InvalidInputError: The URL is invalid, or the extra `cloud` is not installed.
        StateError: The store's settings in the environment are invalid, or the directory does not exist.
    """
    parts = StoreUrl.parse(url)
    if parts.scheme == "file":
        from .stores._files import FileStore  # noqa: PLC0415 - only the store that is used

        return FileStore.open(parts)
    try:
        from .stores._cloud import CloudStore  # noqa: PLC0415 - obstore is an extra
    except ImportError:
        msg = (
            f"A state at {parts.scheme}:// needs the extra `cloud`. Install it: pip install "
            "'aiobatch-client[cloud]'."
        )
        raise InvalidInputError(msg) from None
    return CloudStore.open(parts)
