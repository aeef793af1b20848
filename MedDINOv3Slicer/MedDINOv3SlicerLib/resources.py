"""Where the module's icon and lists lie, installed and in a source checkout."""

from __future__ import annotations

from pathlib import Path

import qt

MODULE_FOLDER = Path(__file__).resolve().parents[1]


def resourcePath(filename: str) -> str:
    """Give the absolute path of `filename` below ``Resources``, whether or not it exists.

    Installed, ``Resources`` lies beside the module; in a checkout, one folder further up.
    """
    beside = MODULE_FOLDER / "Resources" / filename
    above = MODULE_FOLDER.parent / "Resources" / filename
    return str(above if above.exists() and not beside.exists() else beside)


def moduleIcon() -> qt.QIcon:
    """Load the module's icon, which Slicer itself finds only when installed."""
    return qt.QIcon(resourcePath("Icons/MedDINOv3Slicer.png"))
