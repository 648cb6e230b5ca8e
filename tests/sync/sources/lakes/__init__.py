"""Tests of tables in a lake as sources."""
