"""Versions of Delta Lake and Iceberg tables, read by their own libraries."""
