"""Fixtures: each API with its OpenAPI document."""

from __future__ import annotations

import functools

import pytest

from .document import DOCUMENTS, Document


@pytest.fixture(params=list(DOCUMENTS))
def label(request: pytest.FixtureRequest) -> str:
    """Return the label of each API in turn."""
    return str(request.param)


_load = functools.cache(Document.load)


@pytest.fixture
def document(label: str) -> Document:
    """Return the document of the API."""
    return _load(label)
