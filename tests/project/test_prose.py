"""The English of the project avoids banned phrases and has few semicolons."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import prose


@pytest.fixture(scope="module")
def texts() -> list[prose.Text]:
    """All prose of the project."""
    return list(prose.read_all())


def test_no_banned_phrase_is_used(texts: list[prose.Text]) -> None:
    """No text has one of the phrases that readers stumbled over. `prose.BANNED` names better ones."""
    assert [each for text in texts for each in text.banned()] == []


@pytest.mark.parametrize(("kind", "limit"), prose.LIMITS.items())
def test_semicolons_are_rare(kind: str, limit: float, texts: list[prose.Text]) -> None:
    """Each kind of text keeps to its limit of semicolons per 1,000 words."""
    assert prose.per_thousand_words([text for text in texts if text.kind == kind], ";") <= limit


@pytest.mark.parametrize(
    "text",
    [
        "Mended.",
        "It was told so.",
        "Nobody can be asked",
        "ours",
        "it STANDS",
        "a defect",
        "Tell whether it is.",
    ],
)
def test_gate_finds_phrases(text: str) -> None:
    """A phrase is found whatever its case."""
    assert len(prose.Text("docstrings", Path("a.py"), 1, text).banned()) >= 1


@pytest.mark.parametrize(
    "text", ["the standard", "we recommend it", "it stands for x", "Return what fits", "essay"]
)
def test_gate_leaves_other_words_alone(text: str) -> None:
    """A word that merely contains a banned one is fine."""
    assert prose.Text("docstrings", Path("a.py"), 1, text).banned() == []
