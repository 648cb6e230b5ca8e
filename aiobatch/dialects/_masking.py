"""Masking of keys and of members' values in words of a response, which may repeat what was sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from .._secret import Secret
from ..interfaces import Request

__all__ = ["MASK", "clean", "mask_members"]

MASK = "***"
_OF_MEMBERS = frozenset({"update", "replace"})
# Bytes of a body that is searched. A larger one takes too long, so the response's words are left out.
_LONGEST_BODY = 2 * 1024 * 1024
# A value of fewer characters is masked as a word of its own only, because it may be a part of any word.
_SHORT = 4
# Names of the API, which may be in quotes.
_API_WORDS = frozenset({"action", "attributes", "id", "ids", "indexing_token", "name", "tags", "type"})
_QUOTED = re.compile(r"""(?<!\w)(['"`\u2018\u201c\u00ab])(.+?)(['"`\u2019\u201d\u00bb])(?!\w)""")
# E-mails, long numbers, hexadecimal IDs and shortened values. The response may have changed what was sent.
_SUSPECT = re.compile(r"\S*@\S*|\S*[0-9]{7,}\S*|[0-9a-fA-F-]{16,}|\S+(?:\u2026|\.\.\.)")


def clean(value: str, secrets: Sequence[Secret], longest: int, request: Request | None = None) -> str:
    """Return text as one short printable line without keys.

    Args:
        value: The text.
        secrets: Keys to mask.
        longest: Characters after which it is cut.
        request: A request whose members' values are masked as well.
    """
    # The longest first, because one key may contain another.
    for key in sorted((secret.reveal() for secret in secrets), key=len, reverse=True):
        value = value.replace(key, MASK)
    is_cut, start = len(value) > 10 * longest, value[: 10 * longest]  # it may have megabytes
    if request is not None:
        start = mask_members(start, request)
    line = " ".join("".join(char if char.isprintable() else " " for char in start).split())
    if is_cut and len(line) <= longest:
        line = f"{line.rpartition(' ')[0]}\u2026"  # the cut may have halved a value that is masked as a whole
    return line if len(line) <= longest else f"{line[:longest]}\u2026"


def mask_members(text: str, request: Request) -> str:
    """Return *text* without IDs, attribute values and tags of *request*, whatever their case.

    Words that look like an ID are masked too, because a response may shorten or encode what was sent.
    """
    if request.operation not in _OF_MEMBERS:
        return text
    if len(request.body) > _LONGEST_BODY:
        return MASK
    folded = text.casefold()
    found = {value for value in _member_values(request.body) if value.casefold() in folded}
    if found:
        text = re.sub(
            "|".join(map(_pattern, sorted(found, key=len, reverse=True))), MASK, text, flags=re.IGNORECASE
        )
        folded = text.casefold()
        if any(len(value) >= _SHORT and value.casefold() in folded for value in found):
            return MASK  # such as one whose upper case has another length
    text = _QUOTED.sub(lambda match: _mask_quoted(match, request.audience), text)
    return _SUSPECT.sub(MASK, text)


def _pattern(value: str) -> str:
    escaped = re.escape(value)
    return escaped if len(value) >= _SHORT else rf"(?<!\w){escaped}(?!\w)"


def _mask_quoted(match: re.Match[str], audience: str) -> str:
    word = match[2]
    is_known = word in _API_WORDS or word == audience
    return match[0] if is_known else f"{match[1]}{MASK}{match[3]}"


def _member_values(body: bytes) -> Iterator[str]:
    """Yield the texts of a body's members: IDs, values of attributes, and tags."""
    for row in orjson.loads(body)["ids"]:
        yield row["id"]
        yield from _texts(list(row.get("attributes", {}).values()))
        yield from _texts(row.get("tags", []))


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of a value or of a list. An empty one is in every text."""
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
