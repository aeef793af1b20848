"""Fine-tuning, evaluation and the ``meddinov3`` command; built on the engine ``meddinov3``."""
