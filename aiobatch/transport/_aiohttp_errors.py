"""The translation of aiohttp's errors, whose texts may contain keys, into aiobatch's."""

from __future__ import annotations

import errno
import ssl
import traceback
from urllib.parse import urlsplit

import aiohttp

from ..errors import (
    AiobatchError,
    ConnectError,
    InvalidInputError,
    MalformedResponseError,
    RequestTimeoutError,
    TransportError,
)
from ..interfaces import Request
from ._response_errors import causes, describe_response

__all__ = ["FOREIGN_ERRORS", "memory_error", "translate"]

# The error that each of aiohttp's errors becomes. A class that is not listed counts as its nearest base.
FOREIGN_ERRORS: dict[type[Exception], type[AiobatchError]] = {
    aiohttp.ClientError: TransportError,
    OSError: TransportError,
    TimeoutError: RequestTimeoutError,
    aiohttp.ServerTimeoutError: RequestTimeoutError,
    # No connection was made, so nothing was sent.
    aiohttp.ClientConnectorError: ConnectError,
    aiohttp.ClientHttpProxyError: ConnectError,
    aiohttp.ConnectionTimeoutError: ConnectError,
    aiohttp.ServerFingerprintMismatch: ConnectError,
    # The request cannot be sent: aiohttp rejects the base_url, a header or the session.
    ValueError: InvalidInputError,
    aiohttp.InvalidURL: InvalidInputError,
    aiohttp.NonHttpUrlClientError: InvalidInputError,
}
_REFUSALS = range(400, 500)
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})


def memory_error(request: Request) -> MemoryError:
    return MemoryError(f"{request.subject} failed: no memory is left. The request may have taken effect.")


def translate(error: Exception, request: Request, base_url: str) -> AiobatchError | MemoryError:
    """Return aiobatch's error for a foreign one, without its text, which may contain the URL and so a key."""
    if isinstance(error.__cause__, MemoryError):
        return memory_error(request)  # aiohttp reports a lost connection, which would be retried
    kind = next(FOREIGN_ERRORS[base] for base in type(error).__mro__ if base in FOREIGN_ERRORS)
    host, name = urlsplit(base_url).netloc, _name(error)
    if (alert := _refusal_of_certificate(error)) is not None:
        sent = "Nothing was sent." if kind is ConnectError else "The server did not read the request."
        text = f"{request.subject} failed: no connection to {host}. {sent} {_CLIENT_CERTIFICATE}"
        return ConnectError(f"{text} [{type(error).__name__}, {alert}]", lasting=True)
    if kind is ConnectError or (kind is TransportError and _was_connecting(error)):
        text = (
            f"{request.subject} failed: {_REASONS[ConnectError].format(host=host)}{_remedy(error)} [{name}]"
        )
        return ConnectError(text, lasting=_is_lasting(error))
    kind, reason = describe_response(error) or (kind, _REASONS[kind])
    text = f"{request.subject} failed: {reason} [{name}]"
    if kind is MalformedResponseError:
        return MalformedResponseError(text, method=request.method, path=request.path)
    return kind(text)


def _was_connecting(error: Exception) -> bool:
    """Return whether the connector raised *error*, so that nothing was sent: a proxy refused or hung up."""
    code = aiohttp.BaseConnector.connect.__code__
    return any(
        frame.f_code is code for cause in causes(error) for frame, _ in traceback.walk_tb(cause.__traceback__)
    )


_REASONS: dict[type[AiobatchError], str] = {
    ConnectError: "no connection to {host}. Nothing was sent.",
    RequestTimeoutError: "no complete response in time. The request may have taken effect.",
    TransportError: "no readable response. The request may have taken effect.",
    InvalidInputError: "it cannot be sent. Check base_url and the session that was passed in.",
}


_PROXY = "The proxy is set by HTTPS_PROXY, by ALL_PROXY or by the session"
_OWN_CONTEXT = "pass a session whose connector has its own ssl context"
_REMEDIES: dict[type[Exception], str] = {
    aiohttp.ClientConnectorCertificateError: (
        "Its TLS certificate is not trusted. Set SSL_CERT_FILE to a file with its authority, or "
        f"{_OWN_CONTEXT}."
    ),
    aiohttp.ClientHttpProxyError: f"{_PROXY}. Check its URL and credentials.",
    aiohttp.ClientProxyConnectionError: f"{_PROXY}.",
    aiohttp.ConnectionTimeoutError: (
        "It took too long. Check that DNS resolves the name, that a firewall lets the connection pass, and "
        "the proxy if one is set."
    ),
    aiohttp.ClientConnectorDNSError: "Its name cannot be resolved. Check its spelling and the DNS servers.",
    aiohttp.ClientConnectorSSLError: (
        "The TLS handshake failed. Check the port of base_url, and any proxy or firewall between this "
        "machine and the host."
    ),
    aiohttp.ServerDisconnectedError: f"The proxy closed the connection. {_PROXY}.",
    aiohttp.ClientResponseError: f"The proxy's response is unreadable. {_PROXY}.",
}
# https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/ has the numbers.
_CERTIFICATE_REMEDIES = {
    9: "Its TLS certificate is not valid yet. Check the clock of this machine.",
    10: "Its TLS certificate has expired. Check the clock of this machine, or ask its owner to renew it.",
    62: "Its TLS certificate is for another host. Check base_url, and what answers under that name.",
    64: "Its TLS certificate is for another host. Use the name of the host in base_url, not its address.",
}
# https://www.rfc-editor.org/rfc/rfc8446#section-6.2: alerts about the certificate of the peer, here the
# client. Before TLS 1.3 a server that got none answers the first of them. TLS 1.3 ends the client's handshake
# before the server's check, so the alert arrives with the first read.
_REFUSED_CERTIFICATES = (
    "ALERT_HANDSHAKE_FAILURE",
    "ALERT_CERTIFICATE_REQUIRED",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_CERTIFICATE_REVOKED",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_NO_CERTIFICATE",
    "ALERT_UNKNOWN_CA",
    "ALERT_ACCESS_DENIED",
)
_CLIENT_CERTIFICATE = (
    "The server refused the TLS handshake. It may require a client certificate, or refuse the one it got. To "
    f"send one, {_OWN_CONTEXT} with it."
)


def _remedy(error: Exception) -> str:
    """Return what to do about a connection that was not made, or nothing if that is unknown."""
    if getattr(error, "errno", None) in _EXHAUSTED:
        return " No file descriptor is left in this process. Raise `ulimit -n`, or lower Limits.in_flight."
    code = getattr(getattr(error, "certificate_error", None), "verify_code", None)
    if code in _CERTIFICATE_REMEDIES:
        return f" {_CERTIFICATE_REMEDIES[code]}"
    return next((f" {remedy}" for kind, remedy in _REMEDIES.items() if isinstance(error, kind)), "")


def _is_lasting(error: Exception) -> bool:
    """Return whether waiting cannot help: a certificate is wrong or lacking, or the proxy refuses."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return error.status in _REFUSALS
    return isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ServerFingerprintMismatch)


def _refusal_of_certificate(error: Exception) -> str | None:
    """Return the alert of a server that refused the TLS handshake for lack of a client certificate."""
    for cause in (getattr(error, "os_error", None), *causes(error)):
        reason = getattr(cause, "reason", None) if isinstance(cause, ssl.SSLError) else None
        if isinstance(reason, str) and reason.endswith(_REFUSED_CERTIFICATES):
            return reason
    return None


def _name(error: Exception) -> str:
    """Return an error's class and, if there is one, the reason of the system or of TLS."""
    reason = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    name = type(error).__name__
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"{name}, {error.status}"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"{name}: {reason.verify_message}"
    if isinstance(reason, ssl.SSLError) and isinstance(reason.reason, str):
        return f"{name}: {reason.reason}"
    if isinstance(reason, OSError) and reason.errno is not None:
        return f"{name}, errno {reason.errno}"
    return name
