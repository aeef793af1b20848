"""Which Python computes, and the environment it gets."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import slicer
from meddinov3.errors import MedDINOv3Error
from slicer.i18n import tr as _

# What a person sets inside Slicer, or a test, must reach the process as well.
OURS = ("MEDDINOV3_HOME", "OMP_NUM_THREADS")
CHOSEN_ELSEWHERE = "PYTHONPATH", "PYTHONHOME"


def findPython(chosen: str = "") -> str:
    """The Python that computes.

    Args:
        chosen: a program or an environment's folder from the settings; "" for Slicer's own.

    Raises:
        MedDINOv3Error: it is not there.
    """
    if chosen:
        found = _inEnvironment(Path(chosen).expanduser())
        if found is None:
            raise MedDINOv3Error(
                "no-python",
                _("There is no Python at '{place}'.").format(place=chosen),
                _("Choose another environment in the settings, or leave the field empty."),
            )
        return found
    own = _slicersOwn()
    if own is None:
        raise MedDINOv3Error(
            "no-python",
            _("Slicer's own Python (PythonSlicer) was not found."),
            _("Install Slicer again, or choose an environment in the settings."),
        )
    return own


def childEnvironment() -> dict[str, str]:
    """Slicer's environment as it was before Slicer, with what a person set for us since.

    Slicer's own variables would make another Python fail at its start; PythonSlicer sets them
    itself.
    """
    before: Mapping[str, str] = slicer.util.startupEnvironment()
    environment = {name: value for name, value in before.items() if name not in CHOSEN_ELSEWHERE}
    environment |= {name: os.environ[name] for name in OURS if name in os.environ}
    # Whatever the system's language, logs are read as UTF-8, and as soon as they are written.
    environment |= {"PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
    return environment


def _inEnvironment(place: Path) -> str | None:
    if place.is_file():
        return str(place)
    for program in ("Scripts/python.exe", "python.exe", "bin/python3", "bin/python"):
        if (place / program).is_file():
            return str(place / program)
    return None


def _slicersOwn() -> str | None:
    found = shutil.which("PythonSlicer")
    if found:
        return found
    name = "PythonSlicer.exe" if sys.platform == "win32" else "PythonSlicer"
    folders = []
    home = getattr(slicer.app, "slicerHome", None)
    if home:
        folders.append(Path(str(home)) / "bin")
    folder = getattr(slicer.app, "applicationDirPath", None)
    if folder is not None:
        folders.append(Path(str(folder() if callable(folder) else folder)))
    for path in (folder / name for folder in folders):
        if path.is_file():
            return str(path)
    # In a build without launcher Slicer's interpreter is an ordinary one; never Slicer itself,
    # which would open a second window.
    if sys.executable and Path(sys.executable).stem.lower().startswith("python"):
        return sys.executable
    return None
