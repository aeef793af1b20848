"""Slicer's own libraries from slicer-core, in a folder that bears their name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest


def real_slicer() -> ModuleType:
    """Import slicer-core, or skip the test where it is not installed.

    The package imports whatever lies in any folder called ``slicer`` on ``sys.path``: in this
    one it would find our tests.
    """
    pytest.importorskip("slicer_core")
    tests = Path(__file__).resolve().parents[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [p for p in sys.path if Path(p).resolve() != tests])
        return importlib.import_module("slicer")
