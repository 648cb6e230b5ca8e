"""Hooks of Batch.com."""
