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
        self.parts = parts

    def folders(self) -> tuple[Folder, ...] | Problem:
        return folders.userFolders()

    def sizeOf(self, folder: Folder) -> tuple[int, bool]:
        return folders.sizeOf(folder)

    def clear(self, folder: Folder) -> Problem | None:
        running = {t.folder.resolve() for t in self.parts.trainings.list() if t.status().running}

        def inUse(entry: Path) -> bool:
            return entry.resolve() in running

        return folders.clear(folder, inUse)

    def versions(self) -> Mapping[str, str]:
        return self.parts.installer.versions()

    def update(self) -> Problem | None:
        return self.parts.installer.update()


class SettingsPage:
    """The page in Slicer's settings dialogue; stays there when the module is reloaded."""

    def __init__(self, parts: ModuleLogic, ask: Callable[[str], bool]) -> None:
        self._parts: ModuleLogic | None = None
        self._changed: Callable[[], object] = _nothing
        self._logic = SettingsLogic(parts)
        self.panel = SettingsPanel(self._logic, parts.preferences, ask)
        self.panel.changed.connect(lambda: self._changed())
        self.panel.outdated.connect(self._onOutdated)
        self.panel.install()

    def serve(self, parts: ModuleLogic, changed: Callable[[], object]) -> None:
        """Change these parts from now on."""
        self._parts, self._changed = parts, changed
        self._logic.parts = parts

    def leave(self) -> None:
        """The module is reloaded, or Slicer quits: tell nobody any more."""
        self._parts, self._changed = None, _nothing

    def _onOutdated(self) -> None:
        if self._parts is not None:
            self._parts.worker.retire()


_page: SettingsPage | None = None  # a page cannot be taken out of the dialogue again


def settingsPage(
    parts: ModuleLogic, ask: Callable[[str], bool], changed: Callable[[], object]
) -> SettingsPage:
    """The module's page in Slicer's settings, made the first time.

    Args:
        parts: of the module.
        ask: shows a question and returns whether a person agreed.
        changed: called when a folder, the device, the Python or a package is another.
    """
    global _page
    if _page is None:
        _page = SettingsPage(parts, ask)
    _page.serve(parts, changed)
    return _page


def _nothing() -> None:
    pass
