"""Training of click models: a simulated user asks, the model answers."""
