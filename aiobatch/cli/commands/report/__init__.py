"""The `report` command, its page and its server."""
