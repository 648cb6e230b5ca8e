"""Triggers of Batch.com."""
