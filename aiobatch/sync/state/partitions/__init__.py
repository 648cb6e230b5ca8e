"""Hash partitions of IDs, so that the memory limit bounds the process at any number of them."""
