"""An asyncio client for Batch's audience APIs, with an indexing poller.

::

    async with AudienceClient(App.from_env()) as client:
        token = await client.update("vip", add=["u1", "u2"])
        audience = await client.await_applied(token)
"""

from __future__ import annotations

from ._client import AudienceClient
from ._version import __version__
from .errors import (
    AiobatchError,
    AudienceNotFoundError,
    AuthenticationError,
    ConnectError,
    ForbiddenError,
    IndexingTimeoutError,
    InvalidInputError,
    InvalidRequestError,
    MaintenanceError,
    MalformedResponseError,
    RateLimitedError,
    RequestTimeoutError,
    ResponseError,
    ServerError,
    SyncError,
    TokenReplacedError,
    TransportError,
    UploadError,
    ViewManyError,
    WaitInterruptedError,
)
from .events import (
    Event,
    EventHook,
    PauseEnded,
    PauseStarted,
    RequestFinished,
    RequestSent,
    RetryScheduled,
    Stats,
    TokenPolled,
    TokenSettled,
)
from .interfaces import Clock, Request, Response, Transport
from .lint import (
    AttributeLintKind,
    AttributeLintReport,
    LintFinding,
    LintKind,
    LintReport,
    lint_attributes,
    lint_ids,
)
from .models import Audience, IdType, IndexingState, IndexingToken, Member, Operation, Outcome, Settled
from .options import App, Limits, PollingPolicy, Project, RetryPolicy

__all__ = [
    "AiobatchError",
    "App",
    "AttributeLintKind",
    "AttributeLintReport",
    "Audience",
    "AudienceClient",
    "AudienceNotFoundError",
    "AuthenticationError",
    "Clock",
    "ConnectError",
    "Event",
    "EventHook",
    "ForbiddenError",
    "IdType",
    "IndexingState",
    "IndexingTimeoutError",
    "IndexingToken",
    "InvalidInputError",
    "InvalidRequestError",
    "Limits",
    "LintFinding",
    "LintKind",
    "LintReport",
    "MaintenanceError",
    "MalformedResponseError",
    "Member",
    "Operation",
    "Outcome",
    "PauseEnded",
    "PauseStarted",
    "PollingPolicy",
    "Project",
    "RateLimitedError",
    "Request",
    "RequestFinished",
    "RequestSent",
    "RequestTimeoutError",
    "Response",
    "ResponseError",
    "RetryPolicy",
    "RetryScheduled",
    "ServerError",
    "Settled",
    "Stats",
    "SyncError",
    "TokenPolled",
    "TokenReplacedError",
    "TokenSettled",
    "Transport",
    "TransportError",
    "UploadError",
    "ViewManyError",
    "WaitInterruptedError",
    "__version__",
    "lint_attributes",
    "lint_ids",
]
