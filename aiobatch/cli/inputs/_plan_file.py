"""A plan in a file: what it does, and what is needed to read its source again; no secret is in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Final, Self

import attrs
import cattrs
import orjson

from ...errors import InvalidInputError
from ...models import IdType
from ...sync import GuardPolicy, Overrides, Plan, SyncOptions
from ...sync._strict_converter import strict_converter
from ...sync.sources._dsn import has_literal_password
from ..options._sync import SourceWords

__all__ = ["SavedPlan", "check_savable"]

_FORMAT: Final = 1
_converter = strict_converter()


@attrs.frozen(kw_only=True)
class SavedOptions:
    """Options of the engine that are a plan's own: `apply` cannot change them.

    Attributes:
        id_type: What the ids are; None for the API version's own.
        trim: Whether whitespace around ids is taken away.
        create: Whether an audience that does not exist is made.
        description: The description of an audience that is made.
        guard: What the guard allows always.
        overrides: What it allows this plan.
    """

    id_type: IdType | None
    trim: bool
    create: bool
    description: str | None
    guard: GuardPolicy
    overrides: Overrides

    @classmethod
    def of(cls, options: SyncOptions) -> Self:
        """Pick them out of all options."""
        return cls(**{field.name: getattr(options, field.name) for field in attrs.fields(cls)})

    def values(self) -> dict[str, Any]:
        """Return them for `SyncOptions`."""
        return attrs.asdict(self, recurse=False)


@attrs.frozen(kw_only=True)
class SavedPlan:
    """A plan as it stands in a file.

    Attributes:
        plan: What it does.
        source: Where its members come from.
        options: How it was made.
        state: The state that it was made with; absolute in the file.
    """

    plan: Plan
    source: SourceWords
    options: SavedOptions
    state: str

    def to_json(self) -> bytes:
        """Write it as JSON."""
        values = {
            "format": _FORMAT,
            "plan": orjson.loads(self.plan.to_json()),
            "source": _converter.unstructure(self.source),
            "options": _converter.unstructure(self.options),
            "state": str(Path(self.state).absolute()),
        }
        return orjson.dumps(values, option=orjson.OPT_INDENT_2)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InvalidInputError: It is something else, or another version's.
            OSError: It cannot be read.
        """
        msg = f"{path}: not a plan: make it with `aiobatch plan … --out {path}`"
        try:
            document = orjson.loads(path.read_bytes())
            if not isinstance(document, dict):
                raise InvalidInputError(msg)
            if (found := document.pop("format", _FORMAT)) != _FORMAT:
                msg = f"{path}: a plan of format {found!r:.20}, and this aiobatch reads {_FORMAT}: plan again"
                raise InvalidInputError(msg)
            return cls(
                plan=Plan.from_json(orjson.dumps(document["plan"])),
                source=_converter.structure(document["source"], SourceWords),
                options=_converter.structure(document["options"], SavedOptions),
                state=_converter.structure(document["state"], str),
            )
        # AttributeError: where cattrs is given a text in the place of an object.
        except (cattrs.BaseValidationError, AttributeError, ValueError, TypeError, KeyError):
            raise InvalidInputError(msg) from None

    def save(self, path: Path) -> None:
        """Write it to a file, mode 0600: a few ids are in it.

        Args:
            path: The file; one that exists is overwritten.

        Raises:
            InvalidInputError: It cannot be written; half a plan is not left behind.
        """
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)  # a pipe or a device stays as it is
            try:
                with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor
                    if is_file:
                        os.fchmod(descriptor, 0o600)
                    file.write(self.to_json())
            except OSError:
                if is_file:
                    path.unlink()
                raise
        except OSError as error:
            msg = f"{path}: the plan cannot be written ({error.strerror}); nothing was sent"
            raise InvalidInputError(msg) from None


def check_savable(words: SourceWords, path: Path) -> SourceWords:
    """Return a source as a plan can keep it: to be read again, from any directory, and without a secret.

    Args:
        words: The source.
        path: Where the plan goes.

    Raises:
        InvalidInputError: It holds a password, can be read only once, or no file can be written there.
    """
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        msg = f"{path}: no plan can be written there: name a file in a directory that is there and yours"
        raise InvalidInputError(msg)
    if words.text == "-":
        msg = "a saved plan reads its source again, and standard input is gone by then: write it to a file"
        raise InvalidInputError(msg)
    if has_literal_password(words.text):
        msg = (
            "a saved plan holds no password: put it into an environment variable, and give '${NAME}' in its "
            "place, such as 'postgresql://me:${PGPASSWORD}@host/db'"
        )
        raise InvalidInputError(msg)
    if "://" in words.text or words.text.startswith("${"):
        return words
    return attrs.evolve(words, text=str(Path(words.text).absolute()))
