"""Object stores: their addresses, how they are opened, and what their errors mean.

obstore takes the credentials from the store's own environment. Its texts contain addresses, so they
are never shown.
"""

from __future__ import annotations

import datetime as dt
import importlib
import os
import re
from collections.abc import Mapping
from typing import Any, Final, Self
from urllib.parse import urlsplit

import attrs

from ...errors import InvalidInputError

#: The schemes of object stores, and the start of the names of their environment variables.
SCHEMES: Final[Mapping[str, str]] = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
#: Other names of these stores.
ALIASES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("s3a", "s3n", "r2", "minio"), "s3"),
    **dict.fromkeys(("gcs",), "gs"),
    **dict.fromkeys(("azure", "abfs", "abfss", "adl", "wasb", "wasbs"), "az"),
}
MISSING: Final = "obstore is not installed. Run pip install 'aiobatch-client[cloud]'"
LOOPBACK: Final = re.compile(r"localhost|127(\.\d+){3}|::1")
_ADDRESS: Final = re.compile(r"(?P<scheme>\w+)://(?P<bucket>[^/?#]*)/?(?P<key>.*)", re.DOTALL)
_BUCKET: Final = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{1,254}")
# `?` is also a character of patterns. A parameter has a name and a value.
_PARAMETER: Final = re.compile(r"\?[\w.-]+=")
_ENDPOINTS: Final = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
# Options given here replace those of the environment as a whole.
_CLIENT: Final = ("allow_http", "allow_invalid_certificates", "proxy_url", "proxy_excludes")
_TRUE: Final = frozenset(("1", "true", "on", "yes", "y"))
_CREDENTIALS: Final = {
    "s3": (
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use the role of the machine. Profiles are not "
        "read: run 'aws configure export-credentials --format env'"
    ),
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS to a service account's file, or use the machine's role",
    "az": "Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or a managed identity",
}
_METADATA_SERVERS: Final = (
    "169.254.",
    "metadata.google.internal",
    "TokenRequest",
    "Account must be specified",
)
_STATUS: Final = re.compile(r"status code: (\d{3})")


@attrs.frozen(kw_only=True)
class ObjectAddress:
    """The address of objects in a store.

    Attributes:
        scheme: `s3`, `gs` or `az`.
        bucket: The bucket or container.
        key: The key, directory or pattern in it. It may be empty.
    """

    scheme: str
    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str, what: str) -> Self:
        """Return the address of `s3://bucket/key` and so on.

        Args:
            text: The address.
            what: What it is the address of, for errors.

        Raises:
            InvalidInputError: If it names no bucket, or contains credentials or parameters.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None or (scheme := match["scheme"].lower()) not in SCHEMES:
            msg = f"{what}: an object store is {', '.join(f'{one}://' for one in SCHEMES)}."
            raise InvalidInputError(msg)
        if "@" in match["bucket"] or _PARAMETER.search(text):
            msg = (
                f"{what}: an address of {scheme}:// contains no credentials or parameters. Remove them. Set "
                "the environment variables of the store."
            )
            raise InvalidInputError(msg)
        if not _BUCKET.fullmatch(match["bucket"]):
            msg = f"{what}: {scheme}:// needs a bucket: {scheme}://bucket/path."
            raise InvalidInputError(msg)
        return cls(scheme=scheme, bucket=match["bucket"], key=match["key"])

    @property
    def root(self) -> str:
        """The address of the bucket."""
        return f"{self.scheme}://{self.bucket}"

    def url(self, key: str) -> str:
        """Return the address of an object of the bucket."""
        return f"{self.root}/{key}"


def is_public(text: str) -> bool:
    """Return whether *text* is an address of an object store, which contains no secret."""
    try:
        ObjectAddress.parse(text, "")
    except InvalidInputError:
        return False
    return True


def open_store(address: ObjectAddress, timeout: float) -> Any:
    """Open the store of an address. It connects when it is used.

    Args:
        address: The address.
        timeout: The longest wait for an answer, with all attempts, in seconds.

    Raises:
        ImportError: obstore is not installed.
        Exception: The environment is incomplete. See `problem_of`.
    """
    stores = importlib.import_module("obstore.store")
    return stores.from_url(
        address.root,
        client_options=client_options(address.scheme, timeout),
        retry_config=retry_config(timeout),
    )


def client_options(scheme: str, timeout: float) -> dict[str, Any]:
    """Return the options of obstore's HTTP client: those of the environment, with limits of time.

    Args:
        scheme: The scheme of the store.
        timeout: The longest wait for the next bytes, in seconds.
    """
    prefix = SCHEMES.get(scheme)
    known = {name: os.environ.get(f"{prefix}_{name.upper()}", "") for name in _CLIENT} if prefix else {}
    options: dict[str, Any] = {name: value for name, value in known.items() if value}
    for name in ("allow_http", "allow_invalid_certificates"):
        if name in options:
            options[name] = options[name].lower() in _TRUE
    endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS.get(scheme, ()))), "")
    if is_loopback(endpoint):
        options["allow_http"] = True
    limit = dt.timedelta(seconds=timeout)
    # A large object may take long, as long as bytes arrive.
    # The caller ends the wait. The limit of a read comes later, and is for a caller that has gone.
    return {**options, "connect_timeout": limit, "read_timeout": 2 * limit, "timeout": dt.timedelta(days=1)}


def retry_config(timeout: float) -> dict[str, Any]:
    """Return the retrying of a request, which ends before *timeout* seconds."""
    return {
        "max_retries": 10,
        "retry_timeout": dt.timedelta(seconds=timeout * 0.6),
        "backoff": {"max_backoff": dt.timedelta(seconds=timeout / 8)},
    }


def is_loopback(url: str) -> bool:
    """Return whether a URL names this machine."""
    try:
        return LOOPBACK.fullmatch(urlsplit(url).hostname or "") is not None
    except ValueError:
        return False


def problem_of(exc: BaseException, scheme: str) -> str:
    """Return what an error of obstore means and what to do, without addresses and credentials.

    Args:
        exc: The error.
        scheme: The scheme of the store: `s3`, `gs`, `az` or `https`.
    """
    text, name = str(exc), type(exc).__name__
    status = match[1] if (match := _STATUS.search(text)) else None
    end = f" [{status or name}]"
    if any(sign in text for sign in _METADATA_SERVERS) and scheme in _CREDENTIALS:
        return f"no credentials were found. {_CREDENTIALS[scheme]}{end}"
    if "NoSuchBucket" in text or "ContainerNotFound" in text or "bucket does not exist" in text:
        return f"the bucket does not exist. Check its name, the region and the endpoint{end}"
    if name in {"PermissionDeniedError", "UnauthenticatedError"} or status in {"401", "403"}:
        return _denied(scheme) + end
    if isinstance(exc, FileNotFoundError) or status in {"404", "410"}:
        return f"it does not exist. Check its name{end}"
    if name == "PreconditionError":
        return f"it changed while being read. Write it elsewhere, and copy it here when it is complete{end}"
    return _other(text, scheme) + end


def _denied(scheme: str) -> str:
    if scheme not in SCHEMES:
        return "the server denies access. Check the credentials, and whether the address has expired"
    return (
        "access is denied. Allow the credentials to list and read it. Without the right to list, a missing "
        "object is denied too"
    )


def _other(text: str, scheme: str) -> str:
    if "BadScheme" in text:
        how = f", or set {SCHEMES[scheme]}_ALLOW_HTTP=true" if scheme in SCHEMES else ""
        return f"the connection would not be encrypted. Use https://{how}"
    if "Content-Length" in text:
        return "the server sends no length, so a truncated file would not be noticed. Download it first"
    if "UnexpectedEof" in text or "IncompleteBody" in text:
        return "the connection ended before all bytes arrived. Run it again"
    if "Connect" in text or "TimedOut" in text:
        return "the store does not answer. Check the network, the region and the endpoint"
    return "the store failed. Check the address and the settings of the store, and run it again"
