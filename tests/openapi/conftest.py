"""Each API with its document."""

from __future__ import annotations

import functools

import pytest

from .document import DOCUMENTS, Document


@pytest.fixture(params=list(DOCUMENTS))
def label(request: pytest.FixtureRequest) -> str:
    """The API."""
    return str(request.param)


_load = functools.cache(Document.load)


@pytest.fixture
def document(label: str) -> Document:
    """Its document."""
    return _load(label)
