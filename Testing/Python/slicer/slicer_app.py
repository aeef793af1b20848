"""Slicer without Slicer: slicer-core's real MRML, Qt by PySide, and an application between.

``boot()`` makes ``slicer``, ``qt``, ``ctk`` and ``SampleData`` importable for the whole process.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
import types
from pathlib import Path
from typing import Any

import pyside
import pythonqt
import qt_widgets
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from real_slicer import real_slicer
from slicer_io import CoreIOManager
from slicer_modules import Packaging, python_modules

LOGICS = {
    "Units": "vtkSlicerUnitsLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Models": "vtkSlicerModelsLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
}


class ModuleParent:
    """What a module's object describes itself to; as any Qt object it takes no new attributes."""

    __slots__ = (
        *("path", "title", "categories", "dependencies", "contributors", "helpText", "icon"),
        *("acknowledgementText", "hidden", "index", "associatedNodeTypes"),
    )


class SettingsDialog:
    """Keeps the panels that were added, by title."""

    def __init__(self) -> None:
        self.panels: dict[str, Any] = {}

    def addPanel(self, title: str, panel: Any) -> None:
        self.panels[title] = panel


class LayoutManager:
    """A layout number and nothing to look at; scene_views.py draws."""

    def __init__(self) -> None:
        self.layout = 3

    def setLayout(self, layout: int) -> None:
        self.layout = int(layout)

    def plotWidget(self, index: int) -> None:
        return None

    def threeDWidget(self, index: int) -> None:
        return None

    def sliceWidget(self, name: str) -> None:
        return None

    def resetThreeDViews(self) -> None:
        pass

    def resetSliceViews(self) -> None:
        pass


class Application(QtWidgets.QApplication):
    """``slicer.app``: what the module and ``slicer.util`` ask of it."""

    startupCompleted = QtCore.Signal()
    applicationName = qt_widgets.stored(str, "Slicer")
    temporaryPath = qt_widgets.stored(str, tempfile.gettempdir())
    slicerHome = qt_widgets.stored(str, "")

    def start(self, slicer: Any, folder: Path) -> None:
        self._slicer, self._folder = slicer, folder
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._layout, self._dialog = LayoutManager(), SettingsDialog()
        self._io = CoreIOManager(slicer)
        self._environment = dict(os.environ)
        self._testing = True
        self.opened_urls: list[str] = []

    def applicationLogic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return self._slicer.mrmlScene

    def coreIOManager(self) -> Any:
        return self._io

    def layoutManager(self) -> LayoutManager:
        return self._layout

    def settingsDialog(self) -> SettingsDialog:
        return self._dialog

    def settings(self) -> Any:
        return QtCore.QSettings()

    userSettings = revisionUserSettings = settings

    def startupEnvironment(self) -> Any:
        return QtCore.QProcessEnvironment.systemEnvironment()  # slicer.util makes a dict of it

    def testingEnabled(self) -> bool:
        return self._testing

    def mainWindow(self) -> None:
        return None

    def pauseRender(self) -> None:
        pass

    def resumeRender(self) -> None:
        pass

    def extensionsManagerModel(self) -> None:
        return None

    def aboutToQuitNow(self) -> None:
        """For tests: what the module hears when Slicer ends."""
        self.aboutToQuit.emit()


pyside.remember_meta(Application)


class Booted:
    """What tests work with; ``slicer_app`` in their arguments.

    Attributes:
        slicer, qt, ctk: the modules.
        app: ``slicer.app``.
        packaging: ``slicer.packaging``'s record of calls.
    """

    def __init__(self, slicer: Any, qt: Any, ctk: Any, packaging: Packaging) -> None:
        self.slicer, self.qt, self.ctk, self.packaging = slicer, qt, ctk, packaging

    @property
    def app(self) -> Application:
        return self.slicer.app

    @property
    def scene(self) -> Any:
        return self.slicer.mrmlScene

    def taken_complaints(self) -> list[str]:
        """What PythonQt would have printed since last asked; asking forgives them."""
        taken = list(pyside.complaints)
        pyside.complaints.clear()
        return taken

    def click(self, widget: Any) -> None:
        pythonqt.click(widget)

    def screenshot(self, widget: Any, path: Path | str, width: int = 420) -> Path:
        return screenshot(widget, path, width)

    def wait_until(self, true: Any, seconds: float = 10.0) -> None:
        """Run the event loop until `true()`; AssertionError when it takes too long."""
        timer = QtCore.QElapsedTimer()
        timer.start()
        while not true():
            assert timer.elapsed() < 1000 * seconds, "it did not happen in time"
            # A loop of its own: only there are objects deleted that asked for it later.
            loop = QtCore.QEventLoop()
            QtCore.QTimer.singleShot(10, lambda loop=loop: loop.quit())
            loop.exec()

    def open_module(self, module: Any, file: Path | str) -> tuple[Any, Any]:
        """Find and select a scripted module as Slicer does: its module and widget objects."""
        parent = ModuleParent()
        parent.path = str(file)
        found = getattr(module, module.__name__)(parent)
        area = QtWidgets.QWidget()
        QtWidgets.QVBoxLayout(area)
        self.app.startupCompleted.emit()
        widget = getattr(module, module.__name__ + "Widget")(area)
        widget.setup()
        widget.enter()
        return found, widget

    def fresh(self) -> None:
        """Empty scene, settings and records, for the next test."""
        self.scene.Clear(0)
        for n in reversed(range(self.scene.GetNumberOfNodes())):
            node = self.scene.GetNthNode(n)
            if node is not None and node.GetClassName() == "vtkMRMLScriptedModuleNode":
                self.scene.RemoveNode(node)  # singletons survive Clear
        QtCore.QSettings().clear()
        self.packaging.forget()
        self.app._testing = True
        self.app.processEvents()
        self.app.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)


def screenshot(widget: Any, path: Path | str, width: int = 420) -> Path:
    """Draw `widget` as wide as Slicer's module panel and as high as it wants; saves a PNG."""
    widget.resize(width, max(widget.sizeHint().height(), widget.heightForWidth(width)))
    widget.show()
    QtWidgets.QApplication.processEvents()
    inside = widget.layout()
    if inside is not None:
        height = inside.totalHeightForWidth(width) if inside.hasHeightForWidth() else 0
        widget.resize(width, max(height, inside.totalSizeHint().height()))
    QtWidgets.QApplication.processEvents()
    assert widget.grab().save(str(path)), f"cannot write {path}"
    return Path(path)


_booted: list[Booted] = []


def boot() -> Booted:
    """Start the stand-in application, once in a process."""
    if _booted:
        return _booted[0]
    slicer = real_slicer()
    qt = qt_widgets.qt_module()
    folder = Path(tempfile.mkdtemp(prefix="slicer-stand-in-"))
    settings = QtCore.QSettings
    settings.setDefaultFormat(settings.Format.IniFormat)
    settings.setPath(settings.Format.IniFormat, settings.Scope.UserScope, str(folder))
    app = Application([])
    app.setOrganizationName("stand-in")
    app.setFont(QtGui.QFont("DejaVu Sans", 9))
    sys.modules.update({"qt": qt, "slicer": slicer})
    packaging = Packaging()
    for name, module in python_modules(packaging).items():
        sys.modules[name] = module
        if name.startswith("slicer."):
            setattr(slicer, name.partition(".")[2], module)
    _scene(slicer, app, folder)
    import ctk_widgets
    import qmrml_widgets  # noqa: F401
    import segment_widgets  # noqa: F401

    ctk = sys.modules["ctk"] = ctk_widgets.ctk_module()
    for name, kind in qt_widgets.widget_classes.items():
        if name.startswith("q"):
            setattr(slicer, name, kind)
    # What an overridden event handler raises comes here.
    sys.excepthook = lambda kind, error, trace: pyside.complain(
        "".join(traceback.format_exception(kind, error, trace))
    )
    _booted.append(Booted(slicer, qt, ctk, packaging))
    return _booted[0]


def _scene(slicer: Any, app: Application, folder: Path) -> None:
    """Scene, application logic and module logics, as slicer-core lets one make them."""
    app.start(slicer, folder)
    scene = slicer.vtkMRMLScene()
    # An .mrb is unpacked where remote files would be kept.
    cache, files = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(str(folder))
    files.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(files)
    logic = app.applicationLogic()
    logic.SetMRMLScene(scene)
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    slicer.mrmlScene, slicer.app = scene, app
    slicer.modules = types.ModuleType("slicer.modules")
    sys.modules["slicer.modules"] = slicer.modules

    def add(name: str, kind: str) -> Any:
        made = getattr(slicer, kind)()
        made.SetMRMLApplicationLogic(logic)
        if name != "Terminologies":  # it would look for files that only the application brings
            made.SetMRMLScene(scene)
        logic.SetModuleLogic(name, made)
        described = types.SimpleNamespace(logic=lambda: made, name=name)
        setattr(slicer.modules, name.lower(), described)
        return made

    add("Colors", "vtkMRMLColorLogic").AddDefaultColorNodes()
    for name, kind in LOGICS.items():
        add(name, kind)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
