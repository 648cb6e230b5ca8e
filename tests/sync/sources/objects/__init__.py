"""Tests of objects as sources."""
