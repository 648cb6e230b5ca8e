"""Audiences and IDs of the scenarios."""
