"""The sync engine: brings audiences in line with a source, and survives being killed."""
