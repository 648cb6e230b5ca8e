"""Transports: each sends requests and returns responses, and knows no audience."""

from __future__ import annotations

from ._aiohttp import AiohttpTransport, Session
from ._base_url import DEFAULT_BASE_URL, check_base_url, is_unencrypted
from ._pacing import PacingTransport, before_send
from ._retrying import RetryingTransport, on_retry
from ._sharing import SharingScope

__all__ = [
    "DEFAULT_BASE_URL",
    "AiohttpTransport",
    "PacingTransport",
    "RetryingTransport",
    "Session",
    "SharingScope",
    "before_send",
    "check_base_url",
    "is_unencrypted",
    "on_retry",
]
