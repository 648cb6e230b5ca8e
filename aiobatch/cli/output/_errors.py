"""Explanations of errors: an exit code, and a line or two with the reason and the fix."""

from __future__ import annotations

import re
import shlex
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import attrs
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
from ...errors._base import without_claim
from .._exit_codes import ExitCode, Explanation
from ._command_hints import command, context_option
from ._messages import mask_passwords, print_error

__all__ = ["explain", "report_error", "text_of"]

_SHOWN_ERRORS = 20
# What the library's advice calls a wrong key.
_KEY = "rest_api_key (BATCH_REST_API_KEY)"
_OUT_OF_MEMORY = "Out of memory. Raise the memory limit of this process"
# Python reports a lack of resources in words alone. These are no bugs.
_SHORTAGES = {
    "can't start new thread": (
        "Cannot start a new thread. Raise the limit (`ulimit -u`, or the pids limit of a container)"
    ),
    "failed to map segment": _OUT_OF_MEMORY,
}
_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (InvalidInputError, ExitCode.USAGE),
    (AudienceNotFoundError, ExitCode.NOT_FOUND),
    (TokenReplacedError, ExitCode.REPLACED),
)


def explain(error: BaseException) -> Explanation:
    """Return how to report *error*, and the exit code."""
    for kind, explain_kind in _EXPLAIN.items():
        if isinstance(error, kind):
            explanation = explain_kind(error)
            return attrs.evolve(explanation, lines=tuple(map(_name_variables, explanation.lines)))
    return Explanation(ExitCode.FAILED, (_describe_bug(error),))


def _name_variables(text: str) -> str:
    """Return *text* with the variables of a config's keys, which the library does not know."""
    names = context_option("key_variables")
    return text.replace(_KEY, " and ".join(dict.fromkeys(names))) if names else text


def text_of(error: BaseException) -> str:
    """Return the explanation of *error* as one line, for a report."""
    return " ".join(explain(error).lines)


def report_error(error: BaseException, label: str = "") -> ExitCode:
    """Print the explanation of *error* and return the exit code.

    Args:
        error: The error.
        label: A prefix for its lines.
    """
    explanation = explain(error)
    for line in explanation.lines:
        print_error(f"{label}{line}", error)
    return explanation.code


def _code(error: BaseException | None) -> ExitCode:
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def _explain_one(error: AiobatchError) -> Explanation:
    return Explanation(_code(error), (str(error),))


def _explain_not_found(error: AudienceNotFoundError) -> Explanation:
    """Explain a missing audience. A command that can create it names its option."""
    text, how = str(error), context_option("create_with")
    if how is None and not context_option("create", default=True):
        how = "Pass --create"
    if how is not None and "does not exist" in error.problem:
        advice = f"{how} to create it, or check the spelling: names are case-sensitive."
        text = text.replace(error.advice, advice, 1)
    return Explanation(ExitCode.NOT_FOUND, (text,))


def _explain_connection(error: ConnectError) -> Explanation:
    hint = () if error.lasting else ("Check the network, and BATCH_BASE_URL if it is set.",)
    return Explanation(ExitCode.FAILED, (str(error), *hint))


def _explain_input(error: InvalidInputError) -> Explanation:
    """Explain an invalid input. A config has a line for each of its problems."""
    return Explanation(ExitCode.USAGE, tuple(str(error).split("\n")))


def _explain_group(error: BaseExceptionGroup[BaseException]) -> Explanation:
    """Explain the first of several errors. The others were cancelled because of it, or failed alike."""
    return explain(error.exceptions[0])


def _explain_sync(error: SyncError) -> Explanation:
    from ._sync_errors import explain_sync  # noqa: PLC0415 - most commands do not load the engine

    return explain_sync(error)


def _explain_usage(error: CycloptsError) -> Explanation:
    """Explain an error of the parser."""
    chain = error.command_chain or ()
    text = f"{error}"
    if isinstance(error, UnusedCliTokensError):
        words = error.unused_tokens or [""]
        # Digits are a sign of an ID or a key, which no message shows.
        is_shown = Path(words[0]).exists() or re.search(r"[0-9@]|://", words[0]) is None
        more = f", and {len(words) - 1} more. Quote values that contain spaces"
        text = f"Unexpected argument{f' {words[0]!r}' if is_shown else ''}{more if len(words) > 1 else ''}."
    see = f"See `{shlex.join(('aiobatch', *chain, '--help'))}`."
    return Explanation(ExitCode.USAGE, (mask_passwords(text), see))


def _explain_system(error: OSError) -> Explanation:
    """Explain an error of the operating system. One with a file name is invalid input."""
    text = error.strerror or type(error).__name__
    if error.filename is None:
        return Explanation(ExitCode.FAILED, (f"{text}.",))
    return Explanation(ExitCode.USAGE, (f"{error.filename}: {text}.",))


def _explain_many(error: ViewManyError) -> Explanation:
    """Explain the error of each audience."""
    codes = {_code(one) for one in error.errors.values()}
    lines = [str(one) for one in error.errors.values()]
    if len(lines) > _SHOWN_ERRORS:
        lines[_SHOWN_ERRORS:] = [f"{len(lines) - _SHOWN_ERRORS} more audiences could not be viewed."]
    return Explanation(codes.pop() if len(codes) == 1 else ExitCode.FAILED, tuple(lines))


def _explain_upload(error: UploadError) -> Explanation:
    """Explain how far an upload came, and why it stopped."""
    sent = sum(len(span) for _, span in error.sent)
    cause = _explain_one(error) if error.__cause__ is None else explain(error.__cause__)
    if not sent and not error.not_sent:
        return cause
    reason, *more = map(without_claim, cause.lines)  # the cause is about one chunk of several
    if not sent:
        return Explanation(cause.code, (reason, *more))
    return Explanation(
        ExitCode.FAILED,
        (
            f"Audience {error.audience!r}: the upload stopped after {sent:,} IDs. {reason}",
            "Run the same command again. Sending an ID twice changes nothing.",
        ),
    )


def _explain_timeout(error: IndexingTimeoutError) -> Explanation:
    text = (
        f"Audience {error.audience!r}: the update was not APPLIED after {error.waited:.1f} s (last seen: "
        f"{error.last_state or 'nothing'}). Indexing continues at Batch. Run {command('wait', error.token)} "
        "to wait again."
    )
    return Explanation(ExitCode.NOT_APPLIED, (text,))


def _explain_memory(_: MemoryError) -> Explanation:
    return Explanation(ExitCode.FAILED, (f"{_OUT_OF_MEMORY} and run the command again.",))


def _explain_shortage(error: ImportError | RuntimeError) -> Explanation:
    """Explain a lack of resources or of a package, or else a bug."""
    texts = f"{error}\n{error.__cause__}"
    shortage = next((text for words, text in _SHORTAGES.items() if words in texts), None)
    if shortage is not None:
        line = f"{shortage} and run the command again."
    else:
        line = _describe_missing(error.__cause__ or error) or _describe_bug(error)
    return Explanation(ExitCode.FAILED, (line,))


def _describe_missing(error: BaseException) -> str | None:
    """Return what to do about a package that is missing. None for another error, or a module of aiobatch."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    if name is None or name.partition(".")[0] == "aiobatch":
        return None
    if isinstance(error, PackageNotFoundError):
        return (
            f"The metadata of the package {name!r} is missing. If this is a frozen program, include them, as "
            f"PyInstaller does with --copy-metadata {name}."
        )
    return f"The package {name!r} is missing. Install it: pip install 'aiobatch-client[cli]'"


def _describe_bug(error: BaseException) -> str:
    """Return the type and the place of an unexpected error. Its text may contain anything."""
    frames = traceback.extract_tb(error.__traceback__)
    place = "an unknown place"
    if frames:
        path = Path(frames[-1].filename)
        place = f"{path.parent.name}/{path.name}:{frames[-1].lineno}"
    return (
        f"Internal error ({type(error).__name__} at {place}). This is a bug in aiobatch. Please report it "
        "with the traceback that --log-level debug prints."
    )


# The first type that fits. Subclasses come first.
_EXPLAIN: dict[type[BaseException], Callable[[Any], Explanation]] = {
    ViewManyError: _explain_many,
    UploadError: _explain_upload,
    IndexingTimeoutError: _explain_timeout,
    SyncError: _explain_sync,
    InvalidInputError: _explain_input,
    ConnectError: _explain_connection,
    AudienceNotFoundError: _explain_not_found,
    AiobatchError: _explain_one,
    CycloptsError: _explain_usage,
    BaseExceptionGroup: _explain_group,
    OSError: _explain_system,
    MemoryError: _explain_memory,
    ImportError: _explain_shortage,
    RuntimeError: _explain_shortage,
}
