"""Names and tokens come from arguments and from standard input."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiobatch import InvalidInputError
from aiobatch.cli._arguments import STDIN, decode_stdin_dash, encode_stdin_dash
from aiobatch.cli.inputs import _words
from aiobatch.cli.inputs._words import read_words


@pytest.mark.parametrize("word", ["-", "x", "--", "-x"])
def test_encoded_dashes_are_decoded(word: str) -> None:
    """A dash in a text survives the rewrite for the parser."""
    assert [decode_stdin_dash(hidden) for hidden in encode_stdin_dash([word])] == [word]


async def test_words_keep_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Words of the command line and of standard input are parsed in their order."""
    path = tmp_path / "words"
    path.write_text("2 3\n\n4\n")
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert await read_words(["1", STDIN, "5"], int) == [1, 2, 3, 4, 5]


async def test_closed_standard_input_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without standard input reads no words from it."""
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InvalidInputError, match="is closed"):
        await read_words([STDIN], str)


@pytest.mark.parametrize(("data", "noun"), [(b"\xff\n", "UTF-8"), (b"x" * 100, "characters")])
async def test_binary_standard_input_is_an_error(
    data: bytes, noun: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Standard input that is not text, or has no lines, is rejected."""
    monkeypatch.setattr(_words, "_LONGEST_LINE", 50)
    (tmp_path / "words").write_bytes(data)
    with (tmp_path / "words").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        with pytest.raises(InvalidInputError, match=noun):
            await read_words([STDIN], str)
