"""The config `aiobatch.toml`, and JSON Schemas of attrs classes."""

from __future__ import annotations

from ._json_schema import DRAFT, config_schema, object_schema

__all__ = ["DRAFT", "config_schema", "object_schema"]
