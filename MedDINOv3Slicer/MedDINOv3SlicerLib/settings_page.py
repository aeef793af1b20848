"""The module's page in Slicer's settings: joins its panel with the parts it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from MedDINOv3SlicerLib.install import folders
from MedDINOv3SlicerLib.install.folders import Folder
from MedDINOv3SlicerLib.panels.settings_panel import SettingsPanel
from MedDINOv3SlicerLib.problem import Problem

if TYPE_CHECKING:
    from MedDINOv3SlicerLib.module_logic import ModuleLogic


class SettingsLogic:
    """What :class:`SettingsPanel` asks for."""

    def __init__(self, parts: ModuleLogic) -> None:
        self._parts = parts

    def folders(self) -> tuple[Folder, ...] | Problem:
        return folders.userFolders()

    def sizeOf(self, folder: Folder) -> tuple[int, bool]:
        return folders.sizeOf(folder)

    def clear(self, folder: Folder) -> Problem | None:
        running = {t.folder.resolve() for t in self._parts.trainings.list() if t.status().running}

        def inUse(entry: Path) -> bool:
            return entry.resolve() in running

        return folders.clear(folder, inUse)

    def versions(self) -> Mapping[str, str]:
        return self._parts.installer.versions()

    def update(self) -> Problem | None:
        return self._parts.installer.update()


def makeSettingsPage(
    parts: ModuleLogic, ask: Callable[[str], bool], changed: Callable[[], object]
) -> SettingsPanel:
    """Add the page to Slicer's settings.

    Args:
        parts: of the module.
        ask: shows a question and returns whether a person agreed.
        changed: called when a folder, the device, the Python or a package is another.
    """
    panel = SettingsPanel(SettingsLogic(parts), parts.preferences, ask)

    def onChanged() -> None:
        parts.worker.close()  # it was started with what was set before
        changed()

    panel.changed.connect(onChanged)
    panel.install()
    return panel
