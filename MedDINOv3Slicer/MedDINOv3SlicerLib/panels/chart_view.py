"""Loss and Dice of a training, drawn by Slicer's plot views inside the panel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import qt
import slicer

HEIGHT = 170  # a plot view takes all the height it gets


class TrainingChart(Protocol):
    """The charts' nodes; see scene.curves."""

    lossChart: Any
    scoreChart: Any

    @property
    def nodes(self) -> Sequence[Any]: ...

    def update(self, points: Sequence[Any]) -> None: ...

    def remove(self) -> None: ...


class ChartView:
    """Two plots under each other. Nodes are made when there is something to draw.

    Args:
        makeChart: makes the nodes in the present scene.
    """

    def __init__(self, makeChart: Callable[[], TrainingChart]) -> None:
        self._makeChart = makeChart
        self._chart: TrainingChart | None = None
        self._scene: Any = None
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self._plots = []
        for _number in range(2):
            plot = slicer.qMRMLPlotWidget()
            plot.setMinimumHeight(HEIGHT)
            plot.setMaximumHeight(HEIGHT)
            layout.addWidget(plot)
            self._plots.append(plot)
        self.widget.visible = False

    def setScene(self, scene: Any) -> None:
        """Draw in this scene from now on."""
        if scene is not self._scene:
            self.remove()
        self._scene = scene

    def update(self, points: Sequence[Any]) -> None:
        """Show these points; the plots are hidden while there are none."""
        self.widget.visible = bool(points)
        if not points or self._scene is None:
            return
        if self._chart is None or not self._chart.nodes:  # the first time, or a scene was closed
            self._chart = self._makeChart()
            charts = (self._chart.lossChart, self._chart.scoreChart)
            for plot, chart, tag in zip(self._plots, charts, ("Loss", "Dice"), strict=True):
                plot.setMRMLScene(self._scene)
                plot.setMRMLPlotViewNode(self._view(tag))
                plot.mrmlPlotViewNode().SetPlotChartNodeID(chart.GetID())
        self._chart.update(points)

    def remove(self) -> None:
        """Take the nodes out of the scene."""
        if self._chart is not None:
            self._chart.remove()
        self._chart = None

    def _view(self, tag: str) -> Any:
        name = f"MedDINOv3{tag}"
        node = self._scene.GetSingletonNode(name, "vtkMRMLPlotViewNode")
        if node is None:
            node = slicer.vtkMRMLPlotViewNode()
            node.SetSingletonTag(name)
            node.SetLayoutName(name)
            node = self._scene.AddNode(node)
        return node
