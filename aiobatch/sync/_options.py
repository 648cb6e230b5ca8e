"""Options of a run, each declared once, with every default of the engine."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Final

import attrs

from ..errors import InvalidInputError
from ..models import MAX_IDS, IdType
from ..options import RetryPolicy
from ._guard import GuardPolicy, Overrides
from ._option_fields import (
    FLAG,
    SECONDS,
    SIZE,
    TIMEOUT,
    documented,
    instance_of,
    metadata,
    one_of,
    option,
    optional,
    whole_number,
    word_such_as,
)
from .sources._id_rules import IdRules

# For a client of unattended runs. Half an hour of maintenance at Batch must not fail a run: the journal keeps
# what was sent, and `SyncOptions.timeout` bounds the run. Meanwhile a probe goes out about every 15 seconds.
BULK_RETRY: Final = RetryPolicy(attempts=1000, timeout=1800.0, retry_after_max=900.0, budget=5000)


# Enough to compare some million IDs without touching the disk. More are compared in partitions.
DEFAULT_MEMORY_LIMIT: Final = "512MB"


class Lint(enum.StrEnum):
    """What a run does with IDs that match no user."""

    OFF = "off"
    WARN = "warn"
    REJECT = "reject"


class Mode(enum.StrEnum):
    """What a run does with its source."""

    MIRROR = "mirror"
    ADD = "add"
    REMOVE = "remove"
    REPLACE = "replace"
    RESYNC = "resync"
    ROLLBACK = "rollback"
    ADOPT = "adopt"


# Modes whose source lists a part of the members, or IDs that must be none.
DELTA_MODES: Final = (Mode.ADD, Mode.REMOVE)
# Modes that state all members again. They repair what another writer replaced, and may change the ID rules.
RESTATING_MODES: Final = (Mode.REPLACE, Mode.RESYNC, Mode.ADOPT)


# Batch documents few types for 2.x, so any name is accepted, and the client checks it against its version.
_ID_TYPE: Final = optional(word_such_as(*IdType))


def _to_mode(value: Mode | str) -> Mode:
    try:
        return Mode(value)
    except ValueError:
        msg = f"mode must be one of {', '.join(Mode)}."
        raise InvalidInputError(msg) from None


def _to_lint(value: Lint | str) -> Lint:
    try:
        return Lint(value)
    except ValueError:
        msg = f"lint must be one of {', '.join(Lint)}."
        raise InvalidInputError(msg) from None


def _to_id_type(value: IdType | str | None) -> IdType | None:
    return IdType(value) if isinstance(value, str) else value


@documented
@attrs.frozen(kw_only=True)
class SyncOptions:
    """Options of a run.

    Each option is declared here and nowhere else. `aiobatch.toml`, the command line, the JSON Schema and
    saved plans derive from these fields.
    """

    mode: Mode = attrs.field(
        default=Mode.MIRROR,
        converter=_to_mode,
        metadata=metadata(
            "Mirror the source, only add, only remove, or replace in one call.",
            check=one_of(Mode, Mode.MIRROR, Mode.ADD, Mode.REMOVE, Mode.REPLACE),
            group="changes",
        ),
    )
    id_type: IdType | None = attrs.field(
        default=None,
        converter=_to_id_type,
        validator=_ID_TYPE,
        metadata=metadata(
            "Treat IDs as this type. Default: the type of the API version.",
            check=_ID_TYPE,
            unit="type",
            group="source",
        ),
    )
    trim: bool = option("Remove whitespace around IDs.", default=True, check=FLAG, group="source")
    lint: Lint = attrs.field(
        default=Lint.WARN,
        converter=_to_lint,
        metadata=metadata(
            "Warn of unusable IDs and attributes, such as NULL, or reject them.",
            check=one_of(Lint, *Lint),
            group="source",
        ),
    )
    create: bool = option(
        "Create the audience if it does not exist.", default=False, check=FLAG, group="changes"
    )
    description: str | None = option(
        "Describe the audience if the run creates it.",
        default=None,
        check=optional(instance_of(str)),
        unit="text",
        group="changes",
        tables=("audience",),
    )
    guard: GuardPolicy = option(
        "Limit what a run may remove.", default=GuardPolicy(), check=instance_of(GuardPolicy), group="guard"
    )
    overrides: Overrides = option(
        "Allow one run to exceed the limits of the guard.",
        default=Overrides(),
        check=instance_of(Overrides),
        group="overrides",
        tables=(),
    )
    timeout: float | None = option(
        "Limit the wait for the source, and the time from first to last chunk.",
        default=3600.0,
        check=optional(TIMEOUT),
        unit="seconds",
        group="run",
    )
    grace: float = option(
        "Give chunks in flight this long when the run is stopped or fails.",
        default=30.0,
        check=SECONDS,
        unit="seconds",
        group="run",
    )
    wait: bool = option(
        "Wait until all is APPLIED. Otherwise a later run waits.", default=True, check=FLAG, group="run"
    )
    max_refused: int = option(
        "Stop the run if Batch refuses more IDs than this, one by one.",
        default=100,
        check=whole_number(0),
        unit="IDs",
        group="run",
    )
    drift: int = option(
        "Accept a count at Batch that differs by this many.",
        default=0,
        check=whole_number(0),
        unit="IDs",
        group="check",
    )
    drift_patience: float = option(
        "Give the count at Batch this long to catch up.",
        default=10.0,
        check=SECONDS,
        unit="seconds",
        group="check",
    )
    strict: bool = option(
        "Fail if the count differs by more. Otherwise warn.", default=False, check=FLAG, group="check"
    )
    rejects: Path | None = option(
        "Write rejected rows to this file, with row number and reason.",
        default=None,
        check=optional(instance_of(Path)),
        unit="file",
        group="source",
        tables=("audience",),
    )
    memory_limit: str = option(
        "Limit DuckDB's memory, at least 100MB. Larger work spills to disk.",
        default=DEFAULT_MEMORY_LIMIT,
        check=SIZE,
        unit="size",
        group="state",
        tables=("defaults",),
    )
    max_spill: str | None = option(
        "Limit what DuckDB spills to disk. Default: half of the free space.",
        default=None,
        check=optional(SIZE),
        unit="size",
        group="source",
        tables=("defaults",),
    )
    chunk_size: int = option(
        "Send at most this many IDs in a call, for tests.",
        default=MAX_IDS,
        check=whole_number(1, MAX_IDS),
        unit="IDs",
    )

    def rules(self, default: IdType) -> IdRules:
        """Return the contract of the ids.

        Args:
            default: The API version's own type.
        """
        return IdRules(id_type=self.id_type or default, trim=self.trim, lints=self.lint is Lint.REJECT)


DEFAULTS: Final = SyncOptions()
