"""Objects in a cloud store, or on a web server: found, pinned, copied and read like files."""
