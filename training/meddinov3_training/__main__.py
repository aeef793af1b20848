"""``python -m meddinov3_training``, or this file by its path, is the ``meddinov3`` command."""

from __future__ import annotations

import sys
from pathlib import Path


def find_packages() -> None:
    """Make both packages importable when this file is run by its path.

    They are installed side by side; in a checkout the engine lies in ``Logic``.
    """
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]
    if __package__ in (None, ""):
        beside = [here.parent, here.parents[1] / "Logic"]
        sys.path += [str(folder) for folder in beside if folder.is_dir()]


# Processes that prepare batches import this file too, under another name, on Windows.
if __name__ == "__main__":
    find_packages()
    from meddinov3_training.cli import main

    main()
