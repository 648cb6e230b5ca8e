"""All scenarios."""
