"""The config `aiobatch.toml`, and JSON Schemas of attrs classes."""

from __future__ import annotations

from .._strict_converter import suggest
from ._json_schema import DRAFT, config_schema, object_schema
from ._load import matches
from ._outline import configured_notify, configured_state
from ._template import config_template

__all__ = [
    "DRAFT",
    "config_schema",
    "config_template",
    "configured_notify",
    "configured_state",
    "matches",
    "object_schema",
    "suggest",
]
