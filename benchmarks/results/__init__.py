"""Results of scenarios and their targets."""
