"""Chaos tests: hostile networks, disks and machines, and the guarantees that must hold.

`make test` runs a short form. `make chaos` runs all of it, longer, and writes docs/reliability.md.
"""
