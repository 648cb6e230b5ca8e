"""Operators of Batch.com."""
