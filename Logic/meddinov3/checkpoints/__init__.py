"""Other people's weight files: read safely, renamed to ours, one module for each origin."""
