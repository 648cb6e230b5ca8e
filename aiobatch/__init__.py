"""aiobatch."""
