"""The module's page in Slicer's application settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.install.folders import Folder
from MedDINOv3SlicerLib.panels.choices import chooseDevice, chosenDevice, enable, sizeText
from MedDINOv3SlicerLib.panels.problem_box import ProblemBox
from MedDINOv3SlicerLib.preferences import Preferences
from MedDINOv3SlicerLib.problem import Problem
from MedDINOv3SlicerLib.resources import resourcePath
from MedDINOv3SlicerLib.signal import Signal

TITLE = "MedDINOv3"
TYPING = 800  # ms without a key


class SettingsLogic(Protocol):
    """What the page shows and does."""

    def folders(self) -> tuple[Folder, ...] | Problem:
        """The user's folders."""

    def sizeOf(self, folder: Folder) -> tuple[int, bool]:
        """Bytes, and whether all was counted."""

    def clear(self, folder: Folder) -> Problem | None:
        """Empty a folder; what stayed and why."""

    def versions(self) -> Mapping[str, str]:
        """Installed versions by package, "" for none."""

    def update(self) -> Problem | None:
        """Ask, and bring the packages up to date."""


class SettingsPanel:
    """Folders, device, Python, versions.

    Attributes:
        widget: a ``ctkSettingsPanel``.
        outdated: emitted when processes that run know another Python, folder or packages.
        changed: emitted when another Python, device or home folder is chosen, and when a folder
            was emptied or packages were updated.

    Args:
        logic: does the work.
        preferences: where choices are kept.
        ask: shows a question and returns whether a person agreed.
        openFolder: shows a folder in the system's file manager.
    """

    def __init__(
        self,
        logic: SettingsLogic,
        preferences: Preferences,
        ask: Callable[[str], bool],
        openFolder: Callable[[Path], Any] | None = None,
    ) -> None:
        self._logic, self._preferences, self._ask = logic, preferences, ask
        self._open = openFolder or _openFolder
        self.changed, self.outdated = Signal(), Signal()
        self.widget = ctk.ctkSettingsPanel()
        self.page = slicer.util.loadUI(resourcePath("UI/Settings.ui"))
        self.ui = ui = slicer.util.childWidgetVariables(self.page)
        self.problems = ProblemBox()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self._shown = _Shown(self.page, self.refresh)
        layout.addWidget(self._shown)
        self.page.layout().insertWidget(0, self.problems.widget)
        self._rows: list[Any] = []
        chooseDevice(ui.defaultDeviceCombo, preferences.device())
        ui.pythonEdit.currentPath = preferences.python()
        ui.homeEdit.currentPath = preferences.home()
        # A path changes with every key that is typed; registerProperty would keep each of them.
        self._typing = qt.QTimer()
        self._typing.setSingleShot(True)
        self._typing.timeout.connect(self._takePaths)
        for edit in (ui.pythonEdit, ui.homeEdit):
            edit.connect("currentPathChanged(QString)", lambda path: self._typing.start(TYPING))
        ui.defaultDeviceCombo.connect("currentIndexChanged(int)", lambda index: self._newDevice())
        ui.updateButton.connect("clicked(bool)", lambda: self._update())

    def install(self) -> None:
        """Add the page to Slicer's settings dialogue; keep this object."""
        slicer.app.settingsDialog().addPanel(TITLE, self.widget)

    def refresh(self) -> None:
        """Look again at folders and versions."""
        self._showFolders()
        self._showVersions()

    def _takePaths(self) -> None:
        """Take the paths that are whole: empty, or there."""
        self.problems.clear()
        python, home = self.ui.pythonEdit.currentPath, self.ui.homeEdit.currentPath
        newPython = python != self._preferences.python() and self._isThere(python)
        newHome = home != self._preferences.home() and self._isThere(home, folder=True)
        if newPython:
            self._preferences.setPython(python)
        if newHome:
            self._preferences.setHome(home)
        if newPython or newHome:
            self.refresh()
            self.outdated.emit()
            self.changed.emit()

    def _isThere(self, path: str, folder: bool = False) -> bool:
        """Whether a path can be taken; if not, the page says that it is not in force."""
        place = Path(path).expanduser()
        if not path or (place.is_dir() if folder else place.exists()):
            return True
        self.problems.show(
            Problem(
                _("There is nothing at '{path}'.").format(path=path),
                _("Choose it with the button beside it; until then the last choice counts."),
            )
        )
        return False

    def _newDevice(self) -> None:
        self._preferences.setDevice(chosenDevice(self.ui.defaultDeviceCombo))
        self.changed.emit()

    def _showFolders(self) -> None:
        grid = self.ui.folders.layout()
        for widget in self._rows:
            grid.removeWidget(widget)
            widget.setParent(None)
            widget.deleteLater()
        self._rows = []
        found = self._logic.folders()
        if isinstance(found, Problem):
            self._put(grid, _label(f"{found.what} {found.remedy}"), 0, 0)
            return
        for row, folder in enumerate(found):
            self._addFolder(grid, row, folder)

    def _addFolder(self, grid: Any, row: int, folder: Folder) -> None:
        size, complete = self._logic.sizeOf(folder)
        text = sizeText(size) if complete else _("more than {size}").format(size=sizeText(size))
        label = _label(f"{folder.title} ({text})")
        label.toolTip = str(folder.place)
        browse, empty = qt.QPushButton(_("Browse")), qt.QPushButton(_("Clear..."))
        there = folder.place.is_dir()
        browse.connect("clicked(bool)", lambda: self._open(folder.place))
        empty.connect("clicked(bool)", lambda: self._clear(folder))
        missing = "" if there else _("There is nothing yet; the folder is made when needed.")
        enable(browse, missing, _("Show {folder}.").format(folder=folder.place))
        nothing = "" if size or not complete else _("It is empty.")
        enable(empty, nothing, _("Asks first. {loss}").format(loss=folder.loss))
        for column, widget in enumerate((label, browse, empty)):
            self._put(grid, widget, row, column)

    def _put(self, grid: Any, widget: Any, row: int, column: int) -> None:
        grid.addWidget(widget, row, column)
        self._rows.append(widget)

    def _clear(self, folder: Folder) -> None:
        self.problems.clear()
        question = _("Empty {folder}?\n\n{loss}").format(folder=folder.place, loss=folder.loss)
        if not self._ask(question):
            return
        problem = self._logic.clear(folder)
        if problem is not None:
            self.problems.show(problem)
        # Later: the button that was pressed belongs to the rows that are made anew.
        qt.QTimer.singleShot(0, self._showFolders)
        self.changed.emit()

    def _showVersions(self) -> None:
        found = self._logic.versions()
        here = [f"{name} {version}" for name, version in found.items() if version]
        absent = [name for name, version in found.items() if not version]
        parts = [", ".join(here) or _("Nothing is installed yet.")]
        if here and absent:
            parts.append(_("Not installed: {names}").format(names=", ".join(absent)))
        self.ui.versionsLabel.text = "\n".join(parts)
        other = self._preferences.python()
        reason = _("Another Python is chosen; nothing is installed into it.") if other else ""
        enable(self.ui.updateButton, reason, _("Bring the packages up to date; asks first."))

    def _update(self) -> None:
        self.problems.clear()
        problem = self._logic.update()
        if problem is not None:
            self.problems.show(problem)
        self._showVersions()
        self.outdated.emit()
        self.changed.emit()


class _Shown(qt.QWidget):
    """Says when it is shown: what a page lists may have changed since."""

    def __init__(self, page: Any, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look
        layout = qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(page)

    def showEvent(self, event: Any) -> None:
        qt.QTimer.singleShot(0, self._look)


def _label(text: str) -> Any:
    label = qt.QLabel(text)
    label.wordWrap = True
    return label


def _openFolder(folder: Path) -> None:
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder)))
