"""The curve of a training in the scene: what it shows, and that it leaves nothing behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scene_stage import Stage, grid_of

pytest_plugins = ("scene_fixtures",)


@dataclass(frozen=True)
class CurvePoint:
    step: int
    loss: float | None = None
    dice: float | None = None


def column(stage: Stage, chart: object, name: str) -> list[float]:
    series = chart.GetNthPlotSeriesNode(0)  # type: ignore[attr-defined]
    table = series.GetTableNode().GetTable()
    names = {"x": series.GetXColumnName(), "y": series.GetYColumnName()}
    array = table.GetColumnByName(names[name])
    return [round(array.GetValue(n), 5) for n in range(array.GetNumberOfTuples())]


def test_points_become_two_plots_with_axes_that_hold_them(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.curves import TrainingChart

    chart = TrainingChart(stage.scene)
    chart.update([])
    assert column(stage, chart.lossChart, "y") == []
    chart.update([CurvePoint(0, 2.0), CurvePoint(10, 1.0, 0.25), CurvePoint(20, float("nan"))])
    assert column(stage, chart.lossChart, "x") == [0, 10]
    assert column(stage, chart.lossChart, "y") == [2.0, 1.0]
    assert column(stage, chart.scoreChart, "x") == [10]
    assert column(stage, chart.scoreChart, "y") == [0.25]
    for plot in (chart.lossChart, chart.scoreChart):
        assert plot.GetXAxisRange() == (0, 20)
        assert not plot.GetXAxisRangeAuto() and not plot.GetYAxisRangeAuto()
    low, high = chart.lossChart.GetYAxisRange()
    assert low == 0 and 2.0 < high < 2.2
    assert chart.scoreChart.GetYAxisRange() == (0, 1)
    chart.update([CurvePoint(0, -0.5), CurvePoint(400, -0.9)])
    assert chart.lossChart.GetXAxisRange() == (0, 400)
    low, high = chart.lossChart.GetYAxisRange()
    assert -1 < low < -0.9 and -0.5 < high < -0.4


def test_a_growing_table_is_seen_by_those_who_watch_it(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.curves import TrainingChart

    chart, seen = TrainingChart(stage.scene), []
    table = chart.lossChart.GetNthPlotSeriesNode(0).GetTableNode()
    table.AddObserver("ModifiedEvent", lambda *_: seen.append(1))
    chart.update([CurvePoint(1, 1.0)])
    assert seen


def test_nothing_is_left_in_the_scene_or_saved_with_it(stage: Stage, tmp_path: Path) -> None:
    from MedDINOv3SlicerLib.scene.curves import TrainingChart

    stage.volume(grid_of("LPS")).AddDefaultStorageNode()
    before = stage.scene.GetNumberOfNodes()
    chart = TrainingChart(stage.scene)
    chart.update([CurvePoint(1, 1.0)])
    loaded = stage.save_and_load(tmp_path / "saved", bundle=True)
    assert loaded.scene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 0
    assert loaded.scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
    chart.remove()
    assert stage.scene.GetNumberOfNodes() == before


def test_a_closed_scene_is_no_problem(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.curves import TrainingChart

    chart = TrainingChart(stage.scene)
    stage.scene.Clear(0)
    chart.update([CurvePoint(1, 1.0)])
    assert chart.nodes == ()
    chart.remove()
