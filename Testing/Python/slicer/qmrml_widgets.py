"""Widgets that show MRML nodes: selectors on the real scene, a drawn plot, placing markups.

Names of properties and signals are those that slicer-core's big brother has; order and timing of
signals are not claimed, except where seen there.
"""

from __future__ import annotations

import weakref
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets
from qt_widgets import box, stand_in, stored, tool_button
from vtk.util.numpy_support import vtk_to_numpy

Signal = QtCore.Signal
CREATE = "Create new {kind}"


class Watch:
    """Observers that are removed together."""

    def __init__(self) -> None:
        self._observed: list[tuple[Any, int]] = []

    def on(self, what: Any, event: Any, call: Any) -> None:
        weak = weakref.WeakMethod(call)  # observing does not keep a widget alive

        def hear(caller: Any, event: str) -> None:
            alive = weak()
            if alive is not None and shiboken6.isValid(alive.__self__):
                alive()

        self._observed.append((what, what.AddObserver(event, hear)))

    def off(self) -> None:
        for what, tag in self._observed:
            what.RemoveObserver(tag)
        self._observed.clear()


class SceneWidget:
    """``setMRMLScene`` and the signal ``mrmlSceneChanged``."""

    SIGNALS = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    _scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._scene = scene
        self._scene_set()
        self.mrmlSceneChanged.emit(scene)

    def _scene_set(self) -> None:
        pass


@stand_in
class qMRMLWidget(SceneWidget, QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)


@stand_in
class qMRMLNodeComboBox(SceneWidget, QtWidgets.QWidget):
    """Lists the scene's nodes of its types; only what people see of them, no rename or edit."""

    mrmlSceneChanged = Signal(object)
    _node, _flag = Signal(object), Signal(object)
    _activated, _added = Signal(object), Signal(object)
    currentNodeIDChanged = Signal(str)
    SIGNALS = {
        **SceneWidget.SIGNALS,
        "currentNodeChanged(vtkMRMLNode*)": "_node",
        "currentNodeChanged(bool)": "_flag",
        "nodeActivated(vtkMRMLNode*)": "_activated",
        "nodeAddedByUser(vtkMRMLNode*)": "_added",
    }
    nodeTypes = stored("QStringList", [], "_fill")
    hideChildNodeTypes = stored("QStringList", [], "_fill")
    showChildNodeTypes = stored(bool, True, "_fill")
    showHidden = stored(bool, False, "_fill")
    noneEnabled = stored(bool, False, "_fill")
    noneDisplay = stored(str, "None", "_fill")
    addEnabled = stored(bool, True, "_fill")
    removeEnabled = stored(bool, True)
    editEnabled = stored(bool, False)
    renameEnabled = stored(bool, False)
    selectNodeUponCreation = stored(bool, False)
    baseName = stored(str, "")
    interactionNodeSingletonTag = stored(str, "")

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._watch, self._shown, self._filling = Watch(), None, False
        self._filters: list[tuple[str, str, str]] = []
        self._combo = QtWidgets.QComboBox()
        self._combo.setMinimumContentsLength(8)
        box(self, self._combo)
        QtCore.QObject.connect(self._combo, QtCore.SIGNAL("currentIndexChanged(int)"), self._chosen)
        QtCore.QObject.connect(self._combo, QtCore.SIGNAL("activated(int)"), self._user_chose)

    def _scene_set(self) -> None:
        self._watch.off()
        if self._scene is not None:
            for event in ("NodeAddedEvent", "NodeRemovedEvent", "EndCloseEvent", "EndImportEvent"):
                self._watch.on(self._scene, getattr(type(self._scene), event), self._fill)
        self._fill()

    def addAttribute(self, kind: str, name: str, value: Any = None) -> None:
        self._filters.append((kind, name, "" if value is None else str(value)))
        self._fill()

    def _fits(self, node: Any) -> bool:
        kind = node.GetClassName()
        if not any(node.IsA(wanted) for wanted in self.nodeTypes):
            return False
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        if kind not in self.nodeTypes and (
            not self.showChildNodeTypes or any(node.IsA(h) for h in self.hideChildNodeTypes)
        ):
            return False
        return all(
            (node.GetAttribute(name) or "") == value if value else node.GetAttribute(name)
            for of, name, value in self._filters
            if node.IsA(of)
        )

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        every = [self._scene.GetNthNode(n) for n in range(self._scene.GetNumberOfNodes())]
        return [node for node in every if self._fits(node)]

    def _fill(self) -> None:
        if not hasattr(self, "_combo"):
            return
        nodes, before = self._nodes(), self._shown
        self._filling = True
        self._combo.clear()
        if self.noneEnabled:
            self._combo.addItem(self.noneDisplay, "")
        for node in nodes:
            self._combo.addItem(node.GetName(), node.GetID())
        if self.addEnabled:
            for kind in self.nodeTypes:
                title = kind.removeprefix("vtkMRML").removesuffix("Node")
                self._combo.addItem(CREATE.format(kind=title), "+" + kind)
        self._filling = False
        ids = [node.GetID() for node in nodes]
        if before in ids:
            self._show(before)
        elif self.noneEnabled or not ids:
            self._show("")
        else:
            self._show(ids[0])  # there a combo without None takes the first node

    def _show(self, identity: str) -> None:
        self._filling = True
        self._combo.setCurrentIndex(self._combo.findData(identity))
        self._filling = False
        self._tell(identity)

    def _tell(self, identity: str) -> None:
        if (self._shown or "") == identity:
            return
        self._shown = identity
        node = self.currentNode()
        self._node.emit(node)  # seen: the node first, then the flag
        self._flag.emit(node is not None)
        self.currentNodeIDChanged.emit(identity)

    def _chosen(self, index: int) -> None:
        chosen = self._combo.itemData(index) if index >= 0 else ""
        if self._filling:
            return
        if chosen.startswith("+"):
            self.addNode(chosen[1:])
        else:
            self._tell(chosen)

    def _user_chose(self, index: int) -> None:
        self._activated.emit(self.currentNode())

    def addNode(self, kind: str = "") -> Any:
        kind = kind or self.nodeTypes[0]
        plain = kind.removeprefix("vtkMRML").removesuffix("Node")
        name = self._scene.GenerateUniqueName(self.baseName or plain)
        node = self._scene.AddNewNodeByClass(kind, name)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self._added.emit(node)
        return node

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._shown) if self._scene and self._shown else None

    def setCurrentNode(self, node: Any) -> None:
        identity = "" if node is None else node if isinstance(node, str) else node.GetID()
        if identity and self._combo.findData(identity) < 0:
            self._fill()
        self._show(identity if self._combo.findData(identity) >= 0 else "")

    def _set_id(self, identity: str) -> None:
        self.setCurrentNode(identity)

    currentNodeID = QtCore.Property(str, lambda self: self._shown or "", _set_id)

    def nodeCount(self) -> int:
        return len(self._nodes())


@stand_in
class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    checkedNodesChanged = Signal()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._checked: set[str] = set()

    def checkedNodes(self) -> tuple[Any, ...]:
        return tuple(node for node in self._nodes() if node.GetID() in self._checked)

    def setCheckState(self, node: Any, state: int) -> None:
        (self._checked.add if int(state) else self._checked.discard)(node.GetID())
        self.checkedNodesChanged.emit()

    def checkState(self, node: Any) -> int:
        return 2 if node.GetID() in self._checked else 0


@stand_in
class qMRMLPlotView(SceneWidget, QtWidgets.QWidget):
    """Draws the chart's table with its fixed ranges; without them the axes do not follow."""

    mrmlSceneChanged = Signal(object)
    _view: Any = None

    def setMRMLPlotViewNode(self, node: Any) -> None:
        self._view = node
        self.update()

    def mrmlPlotViewNode(self) -> Any:
        return self._view

    def fitToContent(self) -> None:
        self.update()

    def sizeHint(self) -> Any:
        return QtCore.QSize(300, 220)

    def paintEvent(self, event: Any) -> None:
        painter = QtGui.QPainter(self)
        painter.fillRect(self.rect(), QtGui.QColor("white"))
        chart = self._view.GetPlotChartNode() if self._view else None
        if chart is not None:
            self._draw(painter, chart)
        painter.end()

    def _draw(self, painter: Any, chart: Any) -> None:
        lines = []
        for n in range(chart.GetNumberOfPlotSeriesNodes()):
            series = chart.GetNthPlotSeriesNode(n)
            table = series.GetTableNode().GetTable()
            columns = (series.GetXColumnName(), series.GetYColumnName())
            found = [vtk_to_numpy(table.GetColumnByName(c)) for c in columns]
            lines.append((series, *found))
        spans = []
        for axis, get in ((1, chart.GetXAxisRange), (2, chart.GetYAxisRange)):
            auto = chart.GetXAxisRangeAuto() if axis == 1 else chart.GetYAxisRangeAuto()
            values = [v for line in lines for v in line[axis]] or [0.0, 1.0]
            spans.append((min(values), max(values)) if auto else get())
        frame = self.rect().adjusted(40, 22, -12, -34)
        painter.drawRect(frame)
        painter.drawText(frame.left(), 16, chart.GetTitle() or chart.GetName())
        painter.drawText(frame.center().x() - 20, self.height() - 4, chart.GetXAxisTitle() or "")
        for (low, high), at_low, at_high in (
            (
                spans[0],
                (frame.left(), frame.bottom() + 14),
                (frame.right() - 20, frame.bottom() + 14),
            ),
            (spans[1], (4, frame.bottom()), (4, frame.top() + 10)),
        ):
            painter.drawText(*at_low, f"{low:.3g}")
            painter.drawText(*at_high, f"{high:.3g}")
        for series, xs, ys in lines:
            painter.setPen(QtGui.QPen(QtGui.QColor.fromRgbF(*series.GetColor()), 2))
            (x0, x1), (y0, y1) = spans
            points = [
                QtCore.QPointF(
                    frame.left() + (x - x0) / ((x1 - x0) or 1) * frame.width(),
                    frame.bottom() - (y - y0) / ((y1 - y0) or 1) * frame.height(),
                )
                for x, y in zip(xs, ys, strict=True)
            ]
            painter.drawPolyline(points)


@stand_in
class qMRMLPlotWidget(SceneWidget, QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._plot = qMRMLPlotView()
        bar = QtWidgets.QLabel("1")
        bar.setStyleSheet("background: #8ce0e0")  # the view's own bar, which there is cyan
        bar.setMaximumHeight(18)
        box(self, bar, self._plot, across=False)

    def _scene_set(self) -> None:
        self._plot.setMRMLScene(self._scene)

    def setMRMLPlotViewNode(self, node: Any) -> None:
        self._plot.setMRMLPlotViewNode(node)

    def mrmlPlotViewNode(self) -> Any:
        return self._plot.mrmlPlotViewNode()

    def plotView(self) -> Any:
        return self._plot


@stand_in
class qSlicerMarkupsPlaceWidget(SceneWidget, QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)
    activeMarkupsPlaceModeChanged = Signal(bool)
    buttonsVisible = stored(bool, True)
    deleteAllControlPointsOptionVisible = stored(bool, True)
    placeMultipleMarkups = stored(int, 0)
    placeModeEnabled = stored(bool, False, "_placing")
    _current: Any = None

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._button = tool_button("+", self._press)
        box(self, self._button)

    def _press(self) -> None:
        self.setProperty("placeModeEnabled", not self.property("placeModeEnabled"))

    def _placing(self) -> None:
        self.activeMarkupsPlaceModeChanged.emit(self.property("placeModeEnabled"))

    def placeButton(self) -> Any:
        return self._button

    def setCurrentNode(self, node: Any) -> None:
        self._current = node

    def currentNode(self) -> Any:
        return self._current


@stand_in
class qMRMLMarkupsROIWidget(SceneWidget, QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)
    _current: Any = None

    def setMRMLMarkupsNode(self, node: Any) -> None:
        self._current = node

    def mrmlMarkupsNode(self) -> Any:
        return self._current
