"""In which line of a TOML text each key stands: tomllib reads values and keeps no places.

The text has been through tomllib, so nothing here checks it; https://toml.io/en/v1.0.0 has the grammar.
"""

from __future__ import annotations

import bisect
import re
import tomllib
from collections import Counter
from collections.abc import Mapping

import attrs

#: Keys and, in arrays, numbers that lead to a value.
Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_INLINE_BLANK = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' + r"|'''.*?'{3,5}" + r'|"(?:[^"\\]|\\.)*"' + r"|'[^']*'", re.DOTALL
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# A number, a boolean or a time: whatever ends before what may follow a value.
_BARE_VALUE = re.compile(r"[^,\]}#\r\n]+")


def find_lines(text: str) -> Mapping[Path, int]:
    """Return the line, from 1, of the first mention of every key and every element of an array.

    Args:
        text: TOML that tomllib reads.
    """
    scanner = _Scanner(text)
    scanner.scan()
    return scanner.lines


@attrs.define(eq=False)
class _Scanner:
    """Walks through a text once.

    Attributes:
        text: The text.
        at: Where in it we are.
        lines: What was found.
    """

    text: str
    at: int = 0
    lines: dict[Path, int] = attrs.field(factory=dict)
    _newlines: list[int] = attrs.field(init=False)
    _elements: Counter[Path] = attrs.field(init=False, factory=Counter)

    def __attrs_post_init__(self) -> None:
        self._newlines = [match.start() for match in re.finditer("\n", self.text)]

    def scan(self) -> None:
        """Walk to the end."""
        table: Path = ()
        while True:
            self._take(_BLANK)
            if self.at == len(self.text):
                return
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _take(self, *patterns: re.Pattern[str]) -> str:
        """Step over what fits the first pattern that fits, and return it."""
        match = next(filter(None, (pattern.match(self.text, self.at) for pattern in patterns)))
        self.at = match.end()
        return match[0]

    def _note(self, path: Path) -> Path:
        """Keep the current line for *path* and whatever leads to it."""
        line = bisect.bisect_left(self._newlines, self.at) + 1
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)
        return path

    def _header(self) -> Path:
        """Read `[table]` or `[[array of tables]]`."""
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        path: Path = ()
        for key in self._keys():
            path = (*path, key)
            if self._elements[path]:  # of an array of tables, the last one is meant
                path = (*path, self._elements[path] - 1)
        if is_array:
            path = path if isinstance(path[-1], str) else path[:-1]
            self._elements[path] += 1
            path = (*path, self._elements[path] - 1)
        self._note(path)
        self._take(_INLINE_BLANK)
        self.at += 2 if is_array else 1
        return path

    def _pair(self, table: Path) -> None:
        """Read `key = value`."""
        path = self._note((*table, *self._keys()))
        self.at += 1  # the equals sign
        self._take(_INLINE_BLANK)
        self._value(path)

    def _keys(self) -> Path:
        """Read a dotted key, and the blanks after it."""
        keys: list[str] = []
        while True:
            self._take(_INLINE_BLANK)
            keys.append(self._key())
            self._take(_INLINE_BLANK)
            if self.text[self.at] != ".":
                return tuple(keys)
            self.at += 1

    def _key(self) -> str:
        """Read one key, bare or quoted."""
        word = self._take(_BARE_KEY, _STRING)
        return str(tomllib.loads(f"key = {word}")["key"]) if word[0] in "\"'" else word

    def _value(self, path: Path) -> None:
        """Read a value."""
        if self.text[self.at] == "[":
            self._array(path)
        elif self.text[self.at] == "{":
            self._inline_table(path)
        else:
            self._take(_STRING, _BARE_VALUE)

    def _array(self, path: Path) -> None:
        """Read `[value, …]`."""
        number = 0
        while self._next("]"):
            self._value(self._note((*path, number)))
            number += 1

    def _inline_table(self, path: Path) -> None:
        """Read `{key = value, …}`."""
        while self._next("}"):
            self._pair(path)

    def _next(self, closing: str) -> bool:
        """Step over the opening bracket, or a comma; tell whether anything comes before the closing one."""
        if self.text[self.at] in "[{,":
            self.at += 1
        self._take(_BLANK)
        if self.text[self.at] == ",":
            self.at += 1
            self._take(_BLANK)
        if self.text[self.at] != closing:
            return True
        self.at += 1
        return False
