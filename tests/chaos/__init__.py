"""Under fire: what hostile networks, disks and machines do to the package, and what must hold all the same.

The default suite runs a short form. `make fire` runs all of it, longer, and writes docs/reliability.md.
"""
