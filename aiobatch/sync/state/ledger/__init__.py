"""Where the facts of an audience are durable: in the state file alone, or in objects as well."""
