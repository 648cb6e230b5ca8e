"""Tests of the parts of a comparison that a cluster computes."""
