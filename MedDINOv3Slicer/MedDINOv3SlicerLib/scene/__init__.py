"""MRML in, MRML out: what the module reads from the scene and puts into it. No qt."""
