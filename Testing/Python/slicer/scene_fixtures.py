"""The stage as a fixture: ``pytest_plugins = ("scene_fixtures",)`` in a test file."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_slicer import real_slicer
from scene_stage import Stage

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def slicer_library() -> Iterator[Any]:
    """slicer-core, with the one module of the application that the scene layer imports."""
    slicer = real_slicer()
    with pytest.MonkeyPatch.context() as patch:
        if "slicer.i18n" not in sys.modules:
            i18n = types.ModuleType("slicer.i18n")
            i18n.tr = lambda text: text  # type: ignore[attr-defined]
            patch.setitem(sys.modules, "slicer.i18n", i18n)
        patch.syspath_prepend(str(ROOT / "MedDINOv3Slicer"))
        yield slicer


@pytest.fixture
def stage(slicer_library: Any) -> Stage:
    return Stage(slicer_library)
