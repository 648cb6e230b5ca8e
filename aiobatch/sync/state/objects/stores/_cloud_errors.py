"""Errors of obstore as errors of a state.

Obstore's texts contain URLs and answers of the store, and these may contain credentials. No text of this
module repeats them.
"""

from __future__ import annotations

import re
from typing import Final

from obstore import exceptions

from ...._errors import StateError
from ....sources._object_stores import SCHEMES

_STATUS: Final = re.compile(r"status code: ([0-9]{3})")
_TRANSIENT: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_DENIED: Final = (
    exceptions.PermissionDeniedError,
    exceptions.UnauthenticatedError,
)
_CONFLICTS: Final = (
    exceptions.AlreadyExistsError,
    exceptions.PreconditionError,
    exceptions.NotModifiedError,
)
_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist", "ResourceNotFound")
# Signs of a failed search for credentials: the metadata service of a cloud, and words of obstore.
_NO_CREDENTIALS: Final = ("169.254.169.254", "TokenRequest", "redential", "MissingAccount")

_TEXTS: Final = {
    "missing": "the bucket does not exist. Create it, or check its name and the region in the environment.",
    "denied": (
        "the store denied access. Check its credentials in the environment. They must permit to read, write, "
        "list and delete objects."
    ),
    "unreachable": (
        "the store does not answer. Nothing that was recorded is lost. Check the network and the endpoint in "
        "the environment, then run again."
    ),
    "insecure": "the endpoint in the environment is plain http. Use https, or set {prefix}_ALLOW_HTTP=true.",
    "unconditional": (
        "the store does not support conditional writes, which keep two runs apart. Use another store."
    ),
    "failed": "the store rejected a request. Check its settings in the environment, such as the region.",
}


def is_conflict(exc: Exception) -> bool:
    """Return whether the condition of a write failed."""
    return isinstance(exc, _CONFLICTS)


def is_absent(exc: Exception) -> bool:
    """Return whether there is no such object in a bucket that exists."""
    return isinstance(exc, FileNotFoundError) and not any(sign in str(exc) for sign in _NO_BUCKET)


def is_transient(exc: Exception) -> bool:
    """Return whether the same request may succeed later: a cut connection, a timeout, a 429 or a 5xx."""
    return _reason(exc) == "unreachable"


def store_error(exc: Exception, url: str, *, is_sent: bool = True) -> StateError:
    """Return the error of a state for one of obstore, with advice.

    Args:
        exc: What was raised.
        url: The root of the store.
        is_sent: Whether a request was sent. Otherwise the settings are wrong.
    """
    reason = _reason(exc)
    if not is_sent and reason == "unreachable":
        reason = "failed"
    status = _status(exc)
    prefix = SCHEMES[url.partition(":")[0]]
    text = _TEXTS[reason].format(prefix=prefix)
    code = "" if status is None else f" [{status}]"
    return StateError(f"{text}{code}", path=url, reason="failed" if reason == "insecure" else reason)


def _status(exc: Exception) -> int | None:
    match = _STATUS.search(str(exc))
    return None if match is None else int(match[1])


def _reason(exc: Exception) -> str:
    text = str(exc)
    if any(sign in text for sign in _NO_BUCKET) or isinstance(exc, FileNotFoundError):
        return "missing"
    if isinstance(exc, _DENIED) or any(sign in text for sign in _NO_CREDENTIALS):
        return "denied"
    status = _status(exc)
    if isinstance(exc, NotImplementedError) or status == 501:  # noqa: PLR2004 - Not Implemented
        return "unconditional"
    if "BadScheme" in text:
        return "insecure"
    if is_conflict(exc) or status in _TRANSIENT or "RequestTimeout" in text:
        return "unreachable"
    # Without a status the connection failed. Errors of the settings are raised when a store is opened.
    return "failed" if status is not None or "BareRedirect" in text else "unreachable"
