"""Measurements of processes, and control of the server."""
