"""Sensors of Batch.com."""
