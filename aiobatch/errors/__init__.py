"""The exceptions that aiobatch raises.

::

    AiobatchError
    ├── InvalidInputError (ValueError)      an invalid argument, nothing was sent
    ├── TransportError                      no readable response
    │   ├── ConnectError                    no connection, nothing was sent
    │   └── RequestTimeoutError (TimeoutError)
    ├── ResponseError                       Batch responded with an error status
    │   ├── AuthenticationError             401
    │   ├── ForbiddenError                  403
    │   ├── AudienceNotFoundError           404, or 400 to a view or delete
    │   ├── InvalidRequestError             400
    │   ├── RateLimitedError                429
    │   └── ServerError                     5xx
    │       └── MaintenanceError            503
    ├── MalformedResponseError              a 2xx response that cannot be read
    ├── TokenReplacedError                  a later replace superseded the update
    ├── IndexingTimeoutError (TimeoutError) not APPLIED in time
    ├── WaitInterruptedError                the client was closed or drained during a wait
    ├── ViewManyError (ExceptionGroup)      audience name -> error of each failed view
    ├── UploadError                         an upload that ended early, with its tokens so far
    └── SyncError                           the base class of the sync engine's errors

Attributes are plain values. No message contains a key or a user ID. Every error can be pickled.

A message gives what failed and why, then what to do. HTTP details come last, in brackets.
"""

from __future__ import annotations

from ._base import AiobatchError, InvalidInputError
from ._many import UploadError, ViewManyError
from ._remedy import Remedy
from ._requests import (
    AudienceNotFoundError,
    AuthenticationError,
    ConnectError,
    ForbiddenError,
    InvalidRequestError,
    MaintenanceError,
    MalformedResponseError,
    RateLimitedError,
    RequestTimeoutError,
    ResponseError,
    ServerError,
    TransportError,
)
from ._sync import SyncError
from ._waits import IndexingTimeoutError, TokenReplacedError, WaitInterruptedError

__all__ = [
    "AiobatchError",
    "AudienceNotFoundError",
    "AuthenticationError",
    "ConnectError",
    "ForbiddenError",
    "IndexingTimeoutError",
    "InvalidInputError",
    "InvalidRequestError",
    "MaintenanceError",
    "MalformedResponseError",
    "RateLimitedError",
    "Remedy",
    "RequestTimeoutError",
    "ResponseError",
    "ServerError",
    "SyncError",
    "TokenReplacedError",
    "TransportError",
    "UploadError",
    "ViewManyError",
    "WaitInterruptedError",
]

# A traceback and a pickle name the public module. `Remedy` keeps its own, which resolves its annotations.
for _name in __all__:
    if issubclass(globals()[_name], Exception):
        globals()[_name].__module__ = __name__
