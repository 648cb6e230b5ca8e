"""The stores: cloud storage, a directory, and memory for tests."""
