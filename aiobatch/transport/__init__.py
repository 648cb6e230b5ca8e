"""Transports: each sends requests and returns responses, and knows no audience."""

from __future__ import annotations

from ._aiohttp import AiohttpTransport, Session
from ._pacing import PacingTransport
from ._retrying import RetryingTransport, on_retry

__all__ = [
    "AiohttpTransport",
    "PacingTransport",
    "RetryingTransport",
    "Session",
    "on_retry",
]
