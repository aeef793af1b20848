"""The loss and the score of a training as plots of the scene, which are not saved with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeGuard

import numpy as np
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk

from MedDINOv3SlicerLib.scene.geometry import Node

LOSS_COLOUR, SCORE_COLOUR = (0.85, 0.33, 0.1), (0.1, 0.5, 0.75)
MARGIN = 0.05  # of the values' range, above and below


class CurvePoint(Protocol):
    """One measurement."""

    @property
    def step(self) -> float:
        """Training steps done."""

    @property
    def loss(self) -> float | None:
        """Training loss, or None."""

    @property
    def dice(self) -> float | None:
        """Mean Dice on held-out slices or cases, 0 to 1, or None."""


class TrainingChart:
    """Two plots that grow: show ``lossChart`` and ``scoreChart`` in plot views.

    Attributes:
        lossChart, scoreChart: ``vtkMRMLPlotChartNode``.
    """

    def __init__(self, scene: Node) -> None:
        self._scene = scene
        self._nodes: list[Node] = []
        self._lossTable, self.lossChart = self._plot(_("loss"), LOSS_COLOUR, markers=False)
        self._scoreTable, self.scoreChart = self._plot(_("mean Dice"), SCORE_COLOUR, markers=True)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes that this made and that are still in the scene."""
        return tuple(node for node in self._nodes if self._scene.IsNodePresent(node))

    def update(self, points: Sequence[CurvePoint]) -> None:
        """Show these points instead of those before; nothing if the scene was closed.

        The axes are set here: they do not follow growing data by themselves.
        """
        if len(self.nodes) != len(self._nodes):
            return
        last = max((point.step for point in points), default=0.0)
        losses = [(p.step, p.loss) for p in points if _isNumber(p.loss)]
        scores = [(p.step, p.dice) for p in points if _isNumber(p.dice)]
        _fill(self._lossTable, losses)
        _fill(self._scoreTable, scores)
        low, high = _range([loss for _step, loss in losses])
        for chart, bottom, top in ((self.lossChart, low, high), (self.scoreChart, 0.0, 1.0)):
            wasModifying = chart.StartModify()
            chart.SetXAxisRange(0.0, max(last, 1.0))
            chart.SetYAxisRange(bottom, top)
            chart.EndModify(wasModifying)

    def remove(self) -> None:
        """Take everything out of the scene again."""
        for node in reversed(self.nodes):
            self._scene.RemoveNode(node)
        self._nodes.clear()

    def _plot(
        self, name: str, colour: tuple[float, float, float], markers: bool
    ) -> tuple[Node, Node]:
        table = self._add("vtkMRMLTableNode", name)
        _fill(table, [])
        series = self._add("vtkMRMLPlotSeriesNode", name)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName("step")
        series.SetYColumnName("value")
        series.SetPlotType(series.PlotTypeScatter)  # with lines between the points
        series.SetMarkerStyle(series.MarkerStyleCircle if markers else series.MarkerStyleNone)
        series.SetColor(*colour)
        chart = self._add("vtkMRMLPlotChartNode", name)
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
        chart.SetTitle("")
        chart.SetXAxisTitle(_("step"))
        chart.SetYAxisTitle(name)
        chart.SetLegendVisibility(False)
        chart.SetXAxisRangeAuto(False)
        chart.SetYAxisRangeAuto(False)
        chart.SetXAxisRange(0.0, 1.0)
        chart.SetYAxisRange(0.0, 1.0)
        return table, chart

    def _add(self, kind: str, name: str) -> Node:
        node = self._scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        node.SetName(f"MedDINOv3 {name}")
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
        node = self._scene.AddNode(node)
        self._nodes.append(node)
        return node


def _isNumber(value: float | None) -> TypeGuard[float]:
    return value is not None and bool(np.isfinite(value))


def _fill(tableNode: Node, rows: Sequence[tuple[float, float]]) -> None:
    """Put all rows in at once: one redraw, however many there are."""
    values = np.array(rows, dtype=np.float32).reshape(-1, 2)
    table = vtk.vtkTable()
    for number, name in enumerate(("step", "value")):
        column = numpy_to_vtk(np.ascontiguousarray(values[:, number]), deep=True)
        column.SetName(name)
        table.AddColumn(column)
    tableNode.SetAndObserveTable(table)


def _range(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    margin = MARGIN * (high - low) or 0.1
    # A loss is shown from zero unless it is negative, as nnU-Net's Dice loss is.
    return (0.0 if low >= 0 else low - margin), high + margin
