"""Work on a whole state: copies of it, and what an open run of it waits for."""
