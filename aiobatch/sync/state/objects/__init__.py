"""State on object storage: a lease, a head, members and runs as objects of a store."""
