"""Benchmarks of aiobatch beside what a user would choose instead: `make bench`."""
