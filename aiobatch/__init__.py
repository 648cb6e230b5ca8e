"""An asyncio client for Batch's audience APIs, with an indexing poller.

::

    async with AudienceClient(App.from_env()) as client:
        token = await client.update("vip", add=["u1", "u2"])
        audience = await client.await_applied(token)

A name is imported when it is first used, so that the pytest plugin and small commands load no HTTP client.
"""

from __future__ import annotations

import importlib
import typing

from ._version import __version__

# The modules that define the names, the light ones first.
_MODULES = ("errors", "events", "interfaces", "lint", "models", "options", "_client")

if typing.TYPE_CHECKING:
    from ._client import AudienceClient
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
        SyncFinished,
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
else:  # a type checker would accept every name

    def __getattr__(name: str) -> object:
        """Import a public name, or one of the modules that define them."""
        if name in _MODULES:
            return importlib.import_module(f".{name}", __name__)
        for module in _MODULES if name in __all__ else ():
            found = getattr(importlib.import_module(f".{module}", __name__), name, None)
            if found is not None:
                return globals().setdefault(name, found)
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg, name=name)

    def __dir__() -> list[str]:
        """Return the public names too, for completion and for suggestions in errors."""
        return sorted({*globals(), *__all__})


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
    "SyncFinished",
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
