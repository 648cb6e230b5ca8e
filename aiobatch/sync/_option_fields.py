"""Declaration of an option: its help, unit, check and place, all in the metadata of one attrs field."""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import attrs

from .._validation import DURATION, to_seconds
from ..errors import InvalidInputError

#: Tables of `aiobatch.toml`: the one for all audiences, and the one of a single audience.
Table = Literal["defaults", "audience"]
EVERY_TABLE: Final[tuple[Table, ...]] = ("defaults", "audience")
#: Sets of options. Each command of the command line takes some of them.
Group = Literal["source", "changes", "guard", "overrides", "run", "check", "state"]

# An amount of memory, as DuckDB reads it.
_SIZE: Final = r"^[0-9]+(\.[0-9]+)? ?([KMGT]i?)?B$"
# With less, DuckDB has no room for the blocks that it reads and writes at the same time.
LEAST_MEMORY: Final = "100MB"
_FACTORS: Final = {prefix: power for power, prefix in enumerate("KMGT", 1)}
_T = TypeVar("_T", bound=type[attrs.AttrsInstance])


@attrs.frozen(kw_only=True)
class Check:
    """A rule for the values of an option, and an attrs validator.

    Attributes:
        text: What a value must be.
        accepts: Return whether a value keeps the rule.
        schema: The rule in the words of JSON Schema.
        choices: The words that a person may write. Empty if any value may be written.
        examples: Words that a person may write, among others. Empty if the value is no such word.
        nullable: Whether None is a value as well.
        parse: Returns the value of a text. None if a text is no value.
        pattern: The pattern of such a text, for the JSON Schema.
    """

    text: str
    accepts: Callable[[Any], bool]
    schema: Mapping[str, Any] = attrs.field(factory=dict)
    choices: Sequence[str] = ()
    examples: Sequence[str] = ()
    nullable: bool = False
    parse: Callable[[str], Any] | None = None
    pattern: str = ""

    def keeps(self, value: object) -> bool:
        """Return whether *value* keeps the rule."""
        return (value is None and self.nullable) or self.accepts(value)

    def __call__(self, _instance: object, field: attrs.Attribute[Any], value: object) -> None:
        """Raise InvalidInputError if *value* breaks the rule."""
        if self.keeps(value):
            return
        # The type alone of anything else: its text may hold what no error may show.
        shown = repr(value) if isinstance(value, int | float) else type(value).__name__
        msg = f"{field.name} must be {self.text}{', or None' if self.nullable else ''}, not {shown}."
        raise InvalidInputError(msg)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object, minimum: int, maximum: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum


def parse_size(text: str) -> int:
    """Return the bytes of an amount of memory, such as 512MB or 1.5 GiB.

    Args:
        text: The amount, which `SIZE` accepts.
    """
    number = text.rstrip("KMGTiB ")
    unit = text.removeprefix(number).strip()
    base = 1024 if "i" in unit else 1000
    return int(float(number) * base ** _FACTORS.get(unit[0], 0))


def instance_of(kind: type, *, text: str | None = None) -> Check:
    """Return a check for instances of *kind*, named by *text* in an error."""
    return Check(text=text or f"of type {kind.__name__}", accepts=lambda value: isinstance(value, kind))


def one_of(kind: type, *words: str) -> Check:
    """Return a check for members of the enum *kind*, of which a person may write *words*."""
    return attrs.evolve(
        instance_of(kind, text=f"one of {', '.join(words)}"), choices=[str(word) for word in words]
    )


def word_such_as(*words: str) -> Check:
    """Return a check for any word, of which *words* are examples."""
    examples = [str(word) for word in words]
    check = instance_of(str, text=f"a word such as {', '.join(examples)}")
    return attrs.evolve(check, examples=examples, schema={"examples": examples})


def whole_number(minimum: int, maximum: int | None = None) -> Check:
    """Return a check for whole numbers from *minimum* to *maximum*."""
    bounds = {"minimum": minimum} | ({} if maximum is None else {"maximum": maximum})
    return Check(
        text=f"a whole number of at least {minimum}" + (f" and at most {maximum}" if maximum else ""),
        accepts=lambda value: _is_count(value, minimum, math.inf if maximum is None else maximum),
        schema=bounds,
    )


def optional(check: Check) -> Check:
    """Return *check* for values that may be None."""
    return attrs.evolve(check, nullable=True)


FLAG: Final = instance_of(bool, text="true or false")
SECONDS: Final = Check(
    text="0 or more seconds",
    accepts=lambda value: _is_number(value) and value >= 0,
    schema={"minimum": 0},
    parse=to_seconds,
    pattern=DURATION,
)
TIMEOUT: Final = Check(
    text="a finite number of seconds above 0",
    accepts=lambda value: _is_number(value) and value > 0,
    schema={"exclusiveMinimum": 0},
    parse=to_seconds,
    pattern=DURATION,
)
PERCENT: Final = Check(
    text="a number from 0 to 100",
    accepts=lambda value: _is_number(value) and 0 <= value <= 100,  # noqa: PLR2004  # per cent
    schema={"minimum": 0, "maximum": 100},
)
SHARE: Final = Check(
    text="a percentage of at least 0",
    accepts=lambda value: _is_number(value) and value >= 0,
    schema={"minimum": 0},
)
RATE: Final = Check(
    text="a number of requests per second above 0",
    accepts=lambda value: _is_number(value) and value > 0,
    schema={"exclusiveMinimum": 0},
)
_SHARED_RATE: Final = r"^(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,9})?/s$"
SHARED_RATE: Final = Check(
    text='a rate in quotes, such as "2/s"',
    accepts=lambda value: isinstance(value, str) and re.fullmatch(_SHARED_RATE, value) is not None,
    schema={"pattern": _SHARED_RATE},
)
SIZE: Final = Check(
    text=f"an amount of memory of at least {LEAST_MEMORY}, such as 512MB or 2GB",
    accepts=lambda value: (
        isinstance(value, str)
        and re.fullmatch(_SIZE, value) is not None
        and parse_size(value) >= parse_size(LEAST_MEMORY)
    ),
    schema={"pattern": _SIZE},
)


def metadata(
    help: str,  # noqa: A002  # the key that the command line's parser reads
    *,
    unit: str | None = None,
    check: Check | None = None,
    group: Group | None = None,
    tables: tuple[Table, ...] = EVERY_TABLE,
) -> dict[str, Any]:
    """Return the metadata of an option, for a field that `option` cannot make.

    Args:
        help: What the option does: one imperative line of at most 72 characters.
        unit: What the value counts or names, such as seconds or a file.
        check: The rule for its values. None if the type is enough.
        group: The set of options that it belongs to. None if the command line has no such option.
        tables: The tables of `aiobatch.toml` that take it.
    """
    return {"help": help, "unit": unit, "check": check, "group": group, "tables": tables if group else ()}


def option(
    help: str,  # noqa: A002  # as for `metadata`
    *,
    default: Any,
    check: Check,
    converter: Callable[[Any], Any] | None = None,
    **about: Any,
) -> Any:
    """Declare an option as an attrs field.

    Args:
        help: What the option does: one imperative line of at most 72 characters.
        default: Its default.
        check: The rule for its values.
        converter: Return the value for another way of writing it. None if there is only one.
        **about: `unit`, `group` and `tables`, as for `metadata`.
    """
    about = metadata(help, check=check, **about)
    return attrs.field(default=default, converter=converter, validator=check, metadata=about)


def key(help: str, check: Check | None = None) -> Any:  # noqa: A002  # as for `metadata`
    """Declare a key of `aiobatch.toml` that is no option of the engine and may be missing."""
    return attrs.field(default=None, metadata=metadata(help, check=check))


def options_of(cls: type[attrs.AttrsInstance]) -> Mapping[str, attrs.Attribute[Any]]:
    """Return the fields of *cls* that are options, by name, their types resolved."""
    return {field.name: field for field in attrs.fields(attrs.resolve_types(cls)) if "help" in field.metadata}


def documented(cls: _T) -> _T:
    """Add the help of each option to the docstring of *cls*, so that `help()` shows it."""
    lines = [
        f"    {field.name}: {field.metadata['help']}"
        for field in attrs.fields(cls)
        if "help" in field.metadata
    ]
    doc = inspect.getdoc(cls) or ""
    cls.__doc__ = textwrap.dedent(doc) + "\n\nAttributes:\n" + "\n".join(lines)
    return cls
