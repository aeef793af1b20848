"""The segment editor and segment lists. Undo is Slicer's own logic; effects are only names."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from qmrml_widgets import SceneWidget, Watch
from qt_widgets import box, stand_in, stored, tool_button

Signal = QtCore.Signal
EFFECTS = (
    *("Threshold", "Paint", "Draw", "Erase", "Level tracing", "Grow from seeds"),
    *("Fill between slices", "Margin", "Hollow", "Smoothing", "Scissors", "Islands"),
    *("Logical operators", "Mask volume"),
)


class Effect:
    """An effect's name and parameters; it changes no voxel."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._parameters: dict[str, str] = {}

    def setParameter(self, name: str, value: Any) -> None:
        self._parameters[name] = str(value)

    def parameter(self, name: str) -> str:
        return self._parameters.get(name, "")


@stand_in
class qMRMLSegmentsTableView(SceneWidget, QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)
    _selection = Signal(object, object)
    segmentsVisibilityChanged = Signal()
    SIGNALS = {
        **SceneWidget.SIGNALS,
        "selectionChanged(QItemSelection,QItemSelection)": "_selection",
    }
    headerVisible = stored(bool, True, "_header")
    visibilityColumnVisible = stored(bool, True)
    colorColumnVisible = stored(bool, True)
    opacityColumnVisible = stored(bool, True)
    statusColumnVisible = stored(bool, False, "_fill")
    filterBarVisible = stored(bool, False)
    readOnly = stored(bool, False)
    _segmentation: Any = None

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._watch, self._ids = Watch(), []
        self._table = QtWidgets.QTableWidget(0, 3)
        self._table.setHorizontalHeaderLabels(["", "Name", "Status"])
        self._table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        self._table.setColumnWidth(0, 24)
        box(self, self._table)
        QtCore.QObject.connect(self._table, QtCore.SIGNAL("itemSelectionChanged()"), self._tell)

    def _tell(self) -> None:
        self._selection.emit(None, None)

    def _header(self) -> None:
        self._table.horizontalHeader().setVisible(self.property("headerVisible"))

    def setSegmentationNode(self, node: Any) -> None:
        self._watch.off()
        self._segmentation = node
        if node is not None:
            for event in ("SegmentAdded", "SegmentRemoved", "SegmentModified"):
                number = getattr(slicer.vtkSegmentation, event)
                self._watch.on(node.GetSegmentation(), number, self._fill)
        self._fill()

    def segmentationNode(self) -> Any:
        return self._segmentation

    def _fill(self) -> None:
        chosen = self.selectedSegmentIDs()
        found = self._segmentation.GetSegmentation() if self._segmentation else None
        self._ids = list(found.GetSegmentIDs()) if found else []
        self._table.setRowCount(len(self._ids))
        self._table.setColumnHidden(2, not self.property("statusColumnVisible"))
        for row, identity in enumerate(self._ids):
            segment = found.GetSegment(identity)
            colour = QtWidgets.QTableWidgetItem()
            colour.setBackground(QtGui.QColor.fromRgbF(*segment.GetColor()))
            self._table.setItem(row, 0, colour)
            self._table.setItem(row, 1, QtWidgets.QTableWidgetItem(segment.GetName()))
            status = slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentStatus(segment)
            self._table.setItem(row, 2, QtWidgets.QTableWidgetItem(str(status)))
        self.setSelectedSegmentIDs([i for i in chosen if i in self._ids])

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        rows = sorted({i.row() for i in self._table.selectedIndexes()})
        return tuple(self._ids[row] for row in rows if row < len(self._ids))

    def setSelectedSegmentIDs(self, ids: Any) -> None:
        self._table.clearSelection()
        for identity in ids:
            self._table.selectRow(self._ids.index(identity))

    def clearSelection(self) -> None:
        self._table.clearSelection()

    def segmentCount(self) -> int:
        return len(self._ids)


@stand_in
class qMRMLSegmentSelectorWidget(SceneWidget, QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)
    _node = Signal(object)
    currentSegmentChanged = Signal(str)
    segmentSelectionChanged = Signal(list)
    SIGNALS = {
        **SceneWidget.SIGNALS,
        "currentNodeChanged(vtkMRMLNode*)": "_node",
        "segmentSelectionChanged(QStringList)": "segmentSelectionChanged",
    }
    noneEnabled = stored(bool, False)
    segmentationNodeSelectorVisible = stored(bool, True)
    multiSelection = stored(bool, False)
    selectNodeUponCreation = stored(bool, True)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._combo = QtWidgets.QComboBox()
        self._current = None
        box(self, self._combo)
        QtCore.QObject.connect(self._combo, QtCore.SIGNAL("currentIndexChanged(int)"), self._tell)

    def _tell(self, index: int) -> None:
        self.currentSegmentChanged.emit(self._combo.itemData(index) or "")

    def setCurrentNode(self, node: Any) -> None:
        self._current = node
        self._combo.clear()
        if self.property("noneEnabled"):
            self._combo.addItem("None", "")
        segmentation = node.GetSegmentation() if node else None
        for identity in segmentation.GetSegmentIDs() if segmentation else ():
            self._combo.addItem(segmentation.GetSegment(identity).GetName(), identity)
        self._node.emit(node)

    def currentNode(self) -> Any:
        return self._current

    def currentSegmentID(self) -> str:
        return self._combo.currentData() or ""

    def setCurrentSegmentID(self, identity: str) -> None:
        self._combo.setCurrentIndex(self._combo.findData(identity))


@stand_in
class qMRMLSegmentEditorWidget(SceneWidget, QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)
    segmentationNodeChanged = Signal(object)
    sourceVolumeNodeChanged = Signal(object)
    currentSegmentIDChanged = Signal(str)
    _effect_changed = Signal(object)
    SIGNALS = {
        **SceneWidget.SIGNALS,
        "segmentationNodeChanged(vtkMRMLSegmentationNode*)": "segmentationNodeChanged",
        "sourceVolumeNodeChanged(vtkMRMLVolumeNode*)": "sourceVolumeNodeChanged",
        "activeEffectChanged(qSlicerSegmentEditorAbstractEffect*)": "_effect_changed",
    }
    NO_SETTER = ("setUnorderedEffectsVisible",)  # seen: the property only
    maximumNumberOfUndoStates = stored(int, 5, "_undo_states")
    undoEnabled = stored(bool, True)
    readOnly = stored(bool, False)
    segmentationNodeSelectorVisible = stored(bool, True)
    sourceVolumeNodeSelectorVisible = stored(bool, True)
    switchToSegmentationsButtonVisible = stored(bool, True)
    show3DButtonVisible = stored(bool, True)
    addRemoveSegmentButtonsVisible = stored(bool, True)
    autoShowSourceVolumeNode = stored(bool, True)
    unorderedEffectsVisible = stored(bool, True, "_effects")
    jumpToSelectedSegmentEnabled = stored(bool, False)
    _editor: Any = None
    _effect: Effect | None = None

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._order: list[str] = []
        self._calls: list[str] = []  # shortcuts and view observations, for tests
        self._segments = qMRMLSegmentsTableView()
        self._bar = QtWidgets.QWidget()
        self._grid = QtWidgets.QGridLayout(self._bar)
        self._grid.setContentsMargins(0, 0, 0, 0)
        undo = QtWidgets.QWidget()
        box(undo, tool_button("Undo", self.undo), tool_button("Redo", self.redo))
        box(self, self._segments, self._bar, undo, across=False)
        self._effects()

    def _effects(self) -> None:
        for old in self._bar.findChildren(QtWidgets.QToolButton):
            old.setParent(None)
        for n, name in enumerate(self.availableEffectNames()):
            button = tool_button(name, lambda name=name: self.setActiveEffectByName(name))
            self._grid.addWidget(button, n // 4, n % 4)

    def _scene_set(self) -> None:
        self._logic.SetMRMLScene(self._scene)

    def _undo_states(self) -> None:
        self._logic.SetMaximumNumberOfUndoStates(self.property("maximumNumberOfUndoStates"))

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self._editor = node
        self._logic.SetSegmentEditorNode(node)
        self.updateWidgetFromMRML()

    def mrmlSegmentEditorNode(self) -> Any:
        return self._editor

    def setSegmentationNode(self, node: Any) -> None:
        self._need_editor()
        self._editor.SetAndObserveSegmentationNode(node)
        if self._logic.GetSegmentationNode() is not node:
            self._logic.SetSegmentationNode(node)
        self._segments.setSegmentationNode(node)
        self.segmentationNodeChanged.emit(node)

    def segmentationNode(self) -> Any:
        return self._editor.GetSegmentationNode() if self._editor else None

    def setSourceVolumeNode(self, node: Any) -> None:
        self._need_editor()
        self._editor.SetAndObserveSourceVolumeNode(node)
        self.sourceVolumeNodeChanged.emit(node)

    def sourceVolumeNode(self) -> Any:
        return self._editor.GetSourceVolumeNode() if self._editor else None

    def _need_editor(self) -> None:
        if self._editor is None or self._editor.GetScene() is None:
            raise RuntimeError("the segment editor widget has no segment editor node in a scene")

    def setCurrentSegmentID(self, identity: str) -> None:
        self._need_editor()
        self._editor.SetSelectedSegmentID(identity)
        self.currentSegmentIDChanged.emit(identity)

    def currentSegmentID(self) -> str:
        return (self._editor.GetSelectedSegmentID() or "") if self._editor else ""

    def setEffectNameOrder(self, names: Any) -> None:
        self._order = list(names)
        self._effects()

    def effectNameOrder(self) -> tuple[str, ...]:
        return tuple(self._order)

    def availableEffectNames(self) -> tuple[str, ...]:
        first = [n for n in self._order if n in EFFECTS]
        others = [n for n in EFFECTS if n not in first]
        return (*first, *(others if self.property("unorderedEffectsVisible") else ()))

    def setActiveEffectByName(self, name: str) -> None:
        self._activate(Effect(name) if name in EFFECTS else None)

    def setActiveEffect(self, effect: Any) -> None:
        self._activate(effect)

    def _activate(self, effect: Effect | None) -> None:
        self._effect = effect
        if self._editor is not None:
            self._editor.SetActiveEffectName(effect.name if effect else "")
        self._effect_changed.emit(effect)

    def activeEffect(self) -> Effect | None:
        return self._effect

    def saveStateForUndo(self) -> None:
        self._logic.SaveStateForUndo()

    def undo(self) -> None:
        self._logic.Undo()

    def redo(self) -> None:
        self._logic.Redo()

    def installKeyboardShortcuts(self, parent: Any = None) -> None:
        self._calls.append("installKeyboardShortcuts")

    def uninstallKeyboardShortcuts(self) -> None:
        self._calls.append("uninstallKeyboardShortcuts")

    def setupViewObservations(self) -> None:
        self._calls.append("setupViewObservations")

    def removeViewObservations(self) -> None:
        self._calls.append("removeViewObservations")

    def updateWidgetFromMRML(self) -> None:
        self._segments.setSegmentationNode(self.segmentationNode())
