"""A local server with Batch's audience APIs 1.0, 1.1 and 2.x, their limits, delays and faults.

It is an independent reading of Batch's documentation and shares no code with the client's dialects.
"""

from __future__ import annotations

from ._options import (
    API_KEY,
    API_KEY_ANDROID,
    FAULT_KINDS,
    PROJECT_KEY,
    REST_API_KEY,
    SandboxOptions,
    parse_fault,
    parse_indexing_delay,
    parse_rate,
)
from ._request_handler import SandboxRequest
from ._sandbox import Sandbox, SandboxAudience, Scope
from ._store import SandboxMember

__all__ = [
    "API_KEY",
    "API_KEY_ANDROID",
    "FAULT_KINDS",
    "PROJECT_KEY",
    "REST_API_KEY",
    "Sandbox",
    "SandboxAudience",
    "SandboxMember",
    "SandboxOptions",
    "SandboxRequest",
    "Scope",
    "parse_fault",
    "parse_indexing_delay",
    "parse_rate",
]
