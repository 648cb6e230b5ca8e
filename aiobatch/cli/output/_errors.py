"""What an error is on the command line: an exit code, and a line or two that say what to do next."""

from __future__ import annotations

import re
import shlex
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cyclopts import CycloptsError, UnusedCliTokensError

from ...errors import (
    AiobatchError,
    AudienceNotFoundError,
    ConnectError,
    IndexingTimeoutError,
    InvalidInputError,
    SyncError,
    TokenReplacedError,
    UploadError,
    ViewManyError,
)
from .._exit_codes import ExitCode, Explanation
from ._command_hints import command
from ._messages import print_error

__all__ = ["explain", "report_error", "text_of"]

_SHOWN = 20
_NO_MEMORY = "no more memory: give it more"
# What Python says, in words alone, where the system refuses it something: none of it is a defect.
_REFUSED = {
    "can't start new thread": "no further thread: raise the limit of them (`ulimit -u`, a container's pids)",
    "failed to map segment": _NO_MEMORY,
}
# The user and the password of a database's address.
_SECRET = re.compile(r"(?<=://)\S*@")
_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (InvalidInputError, ExitCode.USAGE),
    (AudienceNotFoundError, ExitCode.NOT_FOUND),
    (TokenReplacedError, ExitCode.REPLACED),
)


def explain(error: BaseException) -> Explanation:
    """Return what to say of *error* and how to exit."""
    for kind, explain_kind in _EXPLAIN.items():
        if isinstance(error, kind):
            return explain_kind(error)
    return Explanation(ExitCode.FAILED, (_describe_bug(error),))


def text_of(error: BaseException) -> str:
    """Return in one line what is said of *error*, for a report."""
    return "; ".join(line.rstrip(".") for line in explain(error).lines)


def report_error(error: BaseException, label: str = "") -> ExitCode:
    """Write what is to be said of *error* to stderr; return how to exit.

    Args:
        error: What was raised.
        label: What its lines begin with.
    """
    explanation = explain(error)
    for line in explanation.lines:
        print_error(f"{label}{line}", error)
    return explanation.code


def _code(error: BaseException | None) -> ExitCode:
    """Return the exit code of an error of ours."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def _explain_one(error: AiobatchError) -> Explanation:
    """Repeat an error of ours: it says what to do next."""
    return Explanation(_code(error), (str(error),))


def _explain_connection(error: ConnectError) -> Explanation:
    """Say what to look at, unless the error knows better."""
    hint = () if error.lasting else ("look at the network, and at BATCH_BASE_URL where it is set",)
    return Explanation(ExitCode.FAILED, (str(error), *hint))


def _explain_input(error: InvalidInputError) -> Explanation:
    """Repeat what is wrong with an input: a config says each of its problems in a line."""
    return Explanation(ExitCode.USAGE, tuple(str(error).split("\n")))


def _explain_group(error: BaseExceptionGroup[BaseException]) -> Explanation:
    """Explain the first of several: the others were cancelled for it, or failed alike."""
    return explain(error.exceptions[0])


def _explain_sync(error: SyncError) -> Explanation:
    """Say what the engine says; it is loaded where it failed, and nowhere else."""
    from ._sync_errors import explain_sync  # noqa: PLC0415 - the commands of the client alone do not load it

    return explain_sync(error)


def _explain_usage(error: CycloptsError) -> Explanation:
    """Say what the parser refuses, and where to look; words that are too many may be ids or a password."""
    text = f"{error}"
    if isinstance(error, UnusedCliTokensError):
        count = len(error.unused_tokens or ())
        text = f"{count} argument{'s are' if count > 1 else ' is'} too many; quote those that hold spaces"
    see = shlex.join(("aiobatch", *(error.command_chain or ()), "--help"))
    return Explanation(ExitCode.USAGE, (_SECRET.sub("***@", text), f"see: {see}"))


def _explain_system(error: OSError) -> Explanation:
    """Say what the system says of a file."""
    text = error.strerror or type(error).__name__
    if error.filename is None:
        return Explanation(ExitCode.FAILED, (text,))
    return Explanation(ExitCode.USAGE, (f"{error.filename}: {text}",))


def _explain_many(error: ViewManyError) -> Explanation:
    """Say of each audience why it could not be had."""
    codes = {_code(one) for one in error.errors.values()}
    lines = [str(one) for one in error.errors.values()]
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"… and {len(lines) - _SHOWN} more audiences could not be viewed"]
    return Explanation(codes.pop() if len(codes) == 1 else ExitCode.FAILED, tuple(lines))


def _explain_upload(error: UploadError) -> Explanation:
    """Say how far an upload came, and why not further."""
    sent = sum(len(span) for _, span in error.sent)
    cause = _explain_one(error) if error.__cause__ is None else explain(error.__cause__)
    if not sent:
        return cause
    return Explanation(
        ExitCode.FAILED,
        (
            f"audience {error.audience!r}: the upload stopped after {sent:,} ids: {cause.lines[0]}",
            "run the same command again: ids that are sent twice change nothing",
        ),
    )


def _explain_timeout(error: IndexingTimeoutError) -> Explanation:
    """Say how to go on waiting."""
    text = (
        f"audience {error.audience!r}: not APPLIED after {error.waited:.1f} s (last seen: "
        f"{error.last_state or 'nothing'}); the update goes on at Batch, "
        f"and this goes on waiting: {command('wait', error.token)}"
    )
    return Explanation(ExitCode.NOT_APPLIED, (text,))


def _explain_memory(_: MemoryError) -> Explanation:
    """Say what is lacking."""
    return Explanation(ExitCode.FAILED, (_describe_shortage(_NO_MEMORY),))


def _explain_refused(error: ImportError | RuntimeError) -> Explanation:
    """Tell what the system refused from a defect."""
    texts = f"{error}\n{error.__cause__}"
    said = next((what for words, what in _REFUSED.items() if words in texts), None)
    return Explanation(ExitCode.FAILED, (_describe_bug(error) if said is None else _describe_shortage(said),))


def _describe_shortage(what: str) -> str:
    return f"the system gives this process {what}, and run the same command again"


def _describe_bug(error: BaseException) -> str:
    """Name a defect by its type and place: its text may hold anything."""
    place = next(_places(error), "an unknown place")
    return (
        f"a defect of aiobatch: {type(error).__name__} at {place}; "
        "run again with --log-level debug for the traceback, and please report it"
    )


def _places(error: BaseException) -> Iterator[str]:
    """Yield where *error* was raised, innermost first."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        yield f"{path.parent.name}/{path.name}:{frame.lineno}"


# The first kind that fits; ours before the foreign ones that some of them are as well.
_EXPLAIN: dict[type[BaseException], Callable[[Any], Explanation]] = {
    ViewManyError: _explain_many,
    UploadError: _explain_upload,
    IndexingTimeoutError: _explain_timeout,
    SyncError: _explain_sync,
    InvalidInputError: _explain_input,
    ConnectError: _explain_connection,
    AiobatchError: _explain_one,
    CycloptsError: _explain_usage,
    BaseExceptionGroup: _explain_group,
    OSError: _explain_system,
    MemoryError: _explain_memory,
    ImportError: _explain_refused,
    RuntimeError: _explain_refused,
}
