"""What a person set once for all scenes: kept among Slicer's settings. Knows no widgets."""

from __future__ import annotations

import os
from pathlib import Path

import slicer

GROUP = "MedDINOv3"
PYTHON_KEY = f"{GROUP}/Python"
HOME_KEY = f"{GROUP}/Folder"
DEVICE_KEY = f"{GROUP}/Device"
EXPORT_KEY = f"{GROUP}/ExportFolder"
BATCH_KEY = f"{GROUP}/BatchFolder"
HOME_VARIABLE = "MEDDINOV3_HOME"
# A folder named in the environment before Slicer started comes back when ours is cleared. Read
# once: later the variable holds what we put there.
GIVEN = os.environ.get(HOME_VARIABLE, "")


class Preferences:
    """Typed access to the settings. Each is "" until somebody chose."""

    def python(self) -> str:
        """Program or environment that computes; "" for Slicer's own Python."""
        return _read(PYTHON_KEY)

    def setPython(self, place: str) -> None:
        _write(PYTHON_KEY, place)

    def device(self) -> str:
        """``auto``, ``cpu``, ``cuda`` ...; ``auto`` until somebody chose."""
        return _read(DEVICE_KEY) or "auto"

    def setDevice(self, device: str) -> None:
        _write(DEVICE_KEY, device)

    def exportFolder(self) -> str:
        """Where segments were last exported to."""
        return _read(EXPORT_KEY)

    def setExportFolder(self, folder: str) -> None:
        _write(EXPORT_KEY, folder)

    def batchFolder(self) -> str:
        """Whose scans were last segmented together."""
        return _read(BATCH_KEY)

    def setBatchFolder(self, folder: str) -> None:
        _write(BATCH_KEY, folder)

    def home(self) -> str:
        """Folder of models, libraries, runs and logs; "" for the system's place for them."""
        return _read(HOME_KEY)

    def setHome(self, folder: str) -> None:
        """Keep models, libraries and runs there from now on; nothing is moved."""
        _write(HOME_KEY, folder)
        self.apply()

    def apply(self) -> None:
        """Let the engine, and the processes started from now on, use the chosen folder."""
        home = self.home() or GIVEN
        if home:
            os.environ[HOME_VARIABLE] = str(Path(home).expanduser())
        else:
            os.environ.pop(HOME_VARIABLE, None)


def _read(key: str) -> str:
    return str(slicer.util.settingsValue(key, "") or "")


def _write(key: str, value: str) -> None:
    settings = slicer.app.settings()
    if value:
        settings.setValue(key, value)
    else:
        settings.remove(key)
