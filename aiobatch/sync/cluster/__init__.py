"""The parts of a comparison that a cluster computes: each task stages or compares a part of the IDs."""
