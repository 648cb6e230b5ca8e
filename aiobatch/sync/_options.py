"""What a run is told; every default of the engine lives here, once."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs

from ..errors import InvalidInputError
from ..models import MAX_IDS, IdType
from ..options import RetryPolicy, check_instance, check_timeout
from ._guard import GuardPolicy, Overrides, check_flag
from .sources._id_rules import IdRules

# An amount of memory, as DuckDB reads it.
SIZE: Final = r"^[0-9]+(\.[0-9]+)? ?([KMGT]i?)?B$"

# For the client of a run that nobody watches: half an hour of maintenance is no reason to fail, as what was
# sent stands and `SyncOptions.timeout` bounds all of it. Meanwhile one probe goes out every 15 seconds or so.
BULK_RETRY: Final = RetryPolicy(attempts=1000, timeout=1800.0, retry_after_max=900.0, budget=5000)


# Enough to compare 10 million IDs with 10 million without touching the disk. More spill to it.
DEFAULT_MEMORY_LIMIT: Final = "512MB"


class Mode(enum.StrEnum):
    """What a run does with its source."""

    MIRROR = "mirror"
    ADD = "add"
    REMOVE = "remove"
    REPLACE = "replace"
    RESYNC = "resync"
    ROLLBACK = "rollback"
    ADOPT = "adopt"


# Modes that state all members again. They repair what another writer replaced, and may change the ID rules.
RESTATING_MODES: Final = (Mode.REPLACE, Mode.RESYNC, Mode.ADOPT)


def _seconds(_self: object, field: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        msg = f"{field.name} must be 0 or more seconds, not {value!r}"
        raise InvalidInputError(msg)


def _whole(minimum: int) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Return a check for whole numbers from *minimum* on."""

    def check(_self: object, field: attrs.Attribute[Any], value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            msg = f"{field.name} must be a whole number of at least {minimum}, not {value!r}"
            raise InvalidInputError(msg)

    return check


def _chunk_size(self: object, field: attrs.Attribute[Any], value: object) -> None:
    _whole(1)(self, field, value)
    if isinstance(value, int) and value > MAX_IDS:
        msg = f"{field.name} must be at most {MAX_IDS}, Batch takes no more in one call; not {value!r}"
        raise InvalidInputError(msg)


def _timeout(_self: object, field: attrs.Attribute[Any], value: Any) -> None:
    check_timeout(value, field.name)


def _of(kind: type) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Return a check for values of *kind*."""

    def check(_self: object, field: attrs.Attribute[Any], value: object) -> None:
        check_instance(value, kind, field.name)

    return check


def _to_mode(value: Mode | str) -> Mode:
    """Read a mode's name."""
    try:
        return Mode(value)
    except ValueError:
        msg = f"mode must be one of {', '.join(Mode)}"
        raise InvalidInputError(msg) from None


def _size(_self: object, field: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or re.fullmatch(SIZE, value) is None:
        msg = f"{field.name} must be an amount of memory such as '512MB' or '2GB', not {value!r}"
        raise InvalidInputError(msg)


@attrs.frozen(kw_only=True)
class SyncOptions:
    """How a source is brought to an audience.

    Attributes:
        mode: What is made of the source: `MIRROR`, `ADD`, `REMOVE`, `REPLACE` or `RESYNC`.
        id_type: What the ids are; None for the API version's default.
        trim: Whether whitespace around ids is taken away.
        create: Whether an audience that does not exist is made.
        description: The description of an audience that is made.
        guard: What the guard allows always.
        overrides: What it allows this once.
        timeout: Seconds from the first chunk sent to the last one applied; None for ever.
        grace: Seconds that chunks under way get when the run is asked to stop, or fails.
        wait: Whether to wait until all is APPLIED; otherwise tokens are journaled, and a later run waits.
        drift: Ids by which Batch's own count may differ from ours.
        drift_patience: Seconds in which that count may catch up.
        strict: Whether a count that differs fails the run.
        max_refused: Ids that Batch may refuse one by one; with more the fault is in no id, and the run stops.
        rejects: File for the rejected rows; None to only count them.
        memory_limit: What DuckDB may take; the rest spills to disk.
        chunk_size: Ids of a call at most; fewer than Batch takes make sense in tests alone.
    """

    mode: Mode = attrs.field(default=Mode.MIRROR, converter=_to_mode)
    id_type: IdType | None = None
    trim: bool = attrs.field(default=True, validator=check_flag)
    create: bool = attrs.field(default=False, validator=check_flag)
    description: str | None = None
    guard: GuardPolicy = attrs.field(factory=GuardPolicy, validator=_of(GuardPolicy))
    overrides: Overrides = attrs.field(factory=Overrides, validator=_of(Overrides))
    timeout: float | None = attrs.field(default=3600.0, validator=_timeout)
    grace: float = attrs.field(default=30.0, validator=_seconds)
    wait: bool = attrs.field(default=True, validator=check_flag)
    drift: int = attrs.field(default=0, validator=_whole(0))
    drift_patience: float = attrs.field(default=10.0, validator=_seconds)
    strict: bool = attrs.field(default=False, validator=check_flag)
    max_refused: int = attrs.field(default=100, validator=_whole(0))
    rejects: Path | None = None
    memory_limit: str = attrs.field(default=DEFAULT_MEMORY_LIMIT, validator=_size)
    chunk_size: int = attrs.field(default=MAX_IDS, validator=_chunk_size)

    def rules(self, default: IdType) -> IdRules:
        """Return the contract of the ids.

        Args:
            default: The API version's own type.
        """
        return IdRules(id_type=self.id_type or default, trim=self.trim)


DEFAULTS: Final = SyncOptions()
