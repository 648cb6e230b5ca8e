"""In which line each key of a TOML text stands."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aiobatch.sync.config._line_numbers import Path, find_lines

_KEYS = st.text("abcxyz_-019", min_size=1, max_size=4) | st.text(min_size=0, max_size=4).filter(
    lambda text: text.isprintable()
)
_TEXTS = st.text("ab\"'#[]{}=,.\\\n ", max_size=8)
_SCALARS = st.one_of(
    _TEXTS,
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False, width=16),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(_KEYS, values, max_size=3),
    max_leaves=8,
)
_SPACES = st.sampled_from(["", " ", "\t "])
_BREAKS = st.sampled_from(["", " ", "\n", " # a ] } = \" ' comment\n  "])


class _Writer:
    """Writes values as TOML, each time in another of the ways that TOML has."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw

    def key(self, key: str) -> str:
        """Write a key, bare where that can be."""
        is_bare = re.fullmatch("[A-Za-z0-9_-]+", key) is not None
        return key if is_bare and self.draw(st.booleans()) else self.quoted(key)

    def quoted(self, text: str) -> str:
        """Write a string in one line."""
        if "'" not in text and "\n" not in text and self.draw(st.booleans()):
            return f"'{text}'"
        return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

    def text(self, text: str) -> str:
        """Write a string, also over many lines."""
        if self.draw(st.booleans()):
            return self.quoted(text)
        if "'" not in text and "\\" not in text and self.draw(st.booleans()):
            return f"'''\n{text}'''"
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"""\n{escaped}"""'

    def value(self, value: Any) -> str:
        """Write a value where a table has to be inline."""
        space = str(self.draw(_SPACES))
        if isinstance(value, dict):
            pairs = (f"{space}{self.key(key)} ={space}{self.value(one)}" for key, one in value.items())
            return "{" + ",".join(pairs) + space + "}"
        if isinstance(value, list):
            broken = self.draw(_BREAKS)
            trailing = "," if value and self.draw(st.booleans()) else ""
            values = f"{broken},{broken}".join(map(self.value, value))
            return f"[{broken}{values}{trailing}{broken}]"
        return self.text(value) if isinstance(value, str) else json.dumps(value)

    def table(self, path: list[str], table: dict[str, Any]) -> Iterator[str]:
        """Write a table: pairs first, then what gets headers of its own."""
        headed = {key: one for key, one in table.items() if one and _is_headed(one)}
        headed = {key: one for key, one in headed.items() if self.draw(st.booleans())}
        for key, value in table.items():
            if key not in headed:
                yield from self.pair(key, value)
        for key, value in headed.items():
            inner = [*path, self.key(key)]
            is_array = isinstance(value, list)
            for one in value if is_array else [value]:
                header = self.draw(_SPACES) + " . ".join(inner) + self.draw(_SPACES)
                yield (f"[[{header}]]" if is_array else f"[{header}]") + self.draw(_SPACES)
                yield from self.table(inner, one)

    def pair(self, key: str, value: Any) -> Iterator[str]:
        """Write a key and its value, or dotted keys."""
        if isinstance(value, dict) and value and self.draw(st.booleans()):
            for inner, one in value.items():
                yield f"{self.key(key)}.{self.key(inner)} = {self.value(one)}"
        else:
            yield f"{self.draw(_SPACES)}{self.key(key)} = {self.value(value)} # a comment"


def _is_headed(value: Any) -> bool:
    """Tell whether a value can have a header: a table, or an array of tables."""
    return isinstance(value, dict) or (
        isinstance(value, list) and all(isinstance(one, dict) for one in value)
    )


@st.composite
def _documents(draw: st.DrawFn) -> str:
    """Draw a TOML document."""
    document = draw(st.dictionaries(_KEYS, _VALUES, max_size=4))
    return "\n".join(_Writer(draw).table([], document)) + draw(_BREAKS)


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of everything in a value."""
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
    )
    for key, one in items:
        yield (*path, key)
        yield from _paths(one, (*path, key))


@given(_documents())
def test_every_key_of_any_document_is_found(text: str) -> None:
    """Whatever tomllib reads, exactly its keys and elements have a line, and that line is in the text."""
    lines = find_lines(text)
    assert set(lines) == set(_paths(tomllib.loads(text)))
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


@given(st.lists(st.tuples(_TEXTS, st.integers(0, 3)), max_size=6), st.data())
def test_a_key_stands_in_its_own_line(values: list[tuple[str, int]], data: st.DataObject) -> None:
    """Whatever values stand before it, a key's line is the one that it was written to."""
    writer, text, expected = _Writer(data.draw), "", {}
    for number, (value, empty) in enumerate(values):
        text += "\n" * empty
        expected[f"key{number}",] = text.count("\n") + 1
        text += f"key{number} = {writer.text(value)}\n"
    assert find_lines(text) == expected


def test_a_table_stands_where_it_is_first_named() -> None:
    """A header, a dotted key and an inline table are all mentions of what they lead to."""
    text = '# first\n[a.b]\nc.d = 1\ne = [\n  {f = "]"},\n  2,\n]\n[[g]]\n[[g]]\nh = 1\n[g.i]\n'
    assert find_lines(text) == {
        ("a",): 2,
        ("a", "b"): 2,
        ("a", "b", "c"): 3,
        ("a", "b", "c", "d"): 3,
        ("a", "b", "e"): 4,
        ("a", "b", "e", 0): 5,
        ("a", "b", "e", 0, "f"): 5,
        ("a", "b", "e", 1): 6,
        ("g",): 8,
        ("g", 0): 8,
        ("g", 1): 9,
        ("g", 1, "h"): 10,
        ("g", 1, "i"): 11,
    }
