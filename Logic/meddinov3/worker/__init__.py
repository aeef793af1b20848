"""A warm process that segments for others, and how to talk to it (the client needs no torch)."""
