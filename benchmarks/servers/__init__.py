"""Servers that the contenders call."""
