"""Tests with a real Spark, in local mode. `make test-spark` installs it."""
