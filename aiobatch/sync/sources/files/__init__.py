"""Files and standard input: how they are found, recognised and read."""
