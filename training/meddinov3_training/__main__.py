"""``python -m meddinov3_training`` is the ``meddinov3`` command."""

from meddinov3_training.cli import main

main()
