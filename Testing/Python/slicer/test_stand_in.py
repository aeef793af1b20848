"""The stand-in for Slicer behaves as the rules say that Slicer does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vtk


def test_properties_are_values(slicer_app: Any) -> None:
    button = slicer_app.qt.QPushButton("Go")
    assert button.text == "Go"
    button.text = None
    assert button.text == "None"
    with pytest.raises(TypeError):
        button.text()


def test_mrml_node_combo_box_lists_nodes_of_the_scene(slicer_app: Any) -> None:
    combo = slicer_app.slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    combo.setMRMLScene(slicer_app.scene)
    heard: list[Any] = []
    assert combo.connect("currentNodeChanged(vtkMRMLNode*)", heard.append)
    node = slicer_app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer_app.scene.AddNewNodeByClass("vtkMRMLModelNode", "other")
    assert combo.currentNode() is node
    slicer_app.scene.RemoveNode(node)
    assert combo.currentNode() is None
    assert heard == [node, None]


UI = """<ui version="4.0"><class>X</class><widget class="qMRMLWidget" name="X">
<layout class="QVBoxLayout" name="all"><item><widget class="ctkCollapsibleButton" name="part">
<property name="text"><string>Segment</string></property>
<layout class="QFormLayout" name="form"><item row="0" column="1">
<widget class="qMRMLNodeComboBox" name="volume"><property name="nodeTypes"><stringlist>
<string>vtkMRMLScalarVolumeNode</string></stringlist></property></widget></item>
<item row="1" column="1"><widget class="QPushButton" name="apply"><property name="text">
<string>Apply</string></property></widget></item>
</layout></widget></item></layout></widget>
<connections><connection><sender>X</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>volume</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections>
</ui>"""


def test_ui_file_loads_connects_and_is_clicked(slicer_app: Any, tmp_path: Path) -> None:
    file = tmp_path / "X.ui"
    file.write_text(UI, encoding="utf-8")
    widget = slicer_app.slicer.util.loadUI(str(file))
    ui = slicer_app.slicer.util.childWidgetVariables(widget)
    widget.setMRMLScene(slicer_app.scene)
    assert ui.volume.mrmlScene() is slicer_app.scene
    pressed: list[bool] = []
    ui.apply.connect("clicked(bool)", lambda: pressed.append(True))
    picture = slicer_app.screenshot(widget, tmp_path / "X.png")
    assert picture.stat().st_size > 1000
    slicer_app.click(ui.apply)
    assert pressed == [True]


def test_unknown_class_property_or_object_in_a_ui_file_is_an_error(
    slicer_app: Any, tmp_path: Path
) -> None:
    file = tmp_path / "X.ui"
    for old, new in (
        ("qMRMLNodeComboBox", "qMRMLNodeCombobox"),
        ('name="nodeTypes"', 'name="nodeType"'),
        ("<receiver>volume", "<receiver>volumes"),
        ("setMRMLScene(", "setMrmlScene("),
    ):
        file.write_text(UI.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(RuntimeError, match=r"\.ui"):
            slicer_app.slicer.util.loadUI(str(file))


def test_collapsing_hides_what_lies_inside(slicer_app: Any) -> None:
    part = slicer_app.ctk.ctkCollapsibleButton()
    slicer_app.qt.QVBoxLayout(part).addWidget(inside := slicer_app.qt.QLabel("x"))
    part.show()
    heard: list[bool] = []
    part.connect("contentsCollapsed(bool)", heard.append)
    part.collapsed = True
    assert not inside.visible
    part.collapsed = False
    assert inside.visible
    assert heard == [True, False]


def test_segment_editor_keeps_node_segment_effect_and_real_undo(slicer_app: Any) -> None:
    slicer, scene = slicer_app.slicer, slicer_app.scene
    volume = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16))
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segmentation.GetSegmentation().AddEmptySegment("liver", "liver")
    editor = slicer.qMRMLSegmentEditorWidget()
    with pytest.raises(RuntimeError, match="no segment editor node"):
        editor.setSegmentationNode(segmentation)
    editor.setMRMLScene(scene)
    editor.setMRMLSegmentEditorNode(scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    editor.setMaximumNumberOfUndoStates(10)
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(volume)
    editor.setCurrentSegmentID("liver")
    assert editor.maximumNumberOfUndoStates == 10
    assert editor.segmentationNode() is segmentation
    assert editor.currentSegmentID() == "liver"
    editor.setActiveEffectByName("Paint")
    assert editor.activeEffect().name == "Paint"
    editor.setActiveEffect(None)
    assert editor.activeEffect() is None

    def voxels() -> int:
        return int(slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "liver", volume).sum())

    box = np.zeros((4, 5, 6), np.uint8)
    box[1:3, 1:3, 1:3] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(box, segmentation, "liver", volume)
    editor.saveStateForUndo()
    slicer.util.updateSegmentBinaryLabelmapFromArray(box * 0, segmentation, "liver", volume)
    assert voxels() == 0
    editor.undo()
    assert voxels() == 8
    editor.redo()
    assert voxels() == 0


def test_packaging_records_and_installs_nothing(slicer_app: Any) -> None:
    from slicer.packaging import pip_check, pip_ensure, pip_install

    slicer_app.packaging.missing.add("timm>=1")
    assert not pip_check("timm>=1")
    pip_ensure(["timm>=1"], requester="MedDINOv3")
    assert pip_check("timm>=1")
    ended: list[int] = []
    slicer_app.packaging.fails = RuntimeError("no network")
    pip_install("timm>=1", blocking=False, completedCallback=ended.append)
    slicer_app.wait_until(lambda: ended)
    assert ended == [1]
    assert [name for name, *_ in slicer_app.packaging.calls] == ["pip_ensure", "pip_install"]
    for refused in ({"no_deps_requirements": ["b"]}, {"blocking": False}):
        with pytest.raises(ValueError, match="skip_packages"):
            pip_install(["timm>=1"], skip_packages=["torch"], **refused)


def test_settings_panel_writes_what_is_changed(slicer_app: Any) -> None:
    edit = slicer_app.ctk.ctkPathLineEdit()

    class Panel(slicer_app.ctk.ctkSettingsPanel):
        def __init__(self) -> None:
            super().__init__()
            signal = str(slicer_app.qt.SIGNAL("currentPathChanged(QString)"))
            self.registerProperty("My/Folder", edit, "currentPath", signal)

    panel = Panel()
    slicer_app.app.settingsDialog().addPanel("My", panel)
    edit.currentPath = "/data"
    assert slicer_app.app.settings().value("My/Folder") == "/data"


def test_volume_and_segmentation_go_through_files_and_scenes(
    slicer_app: Any, tmp_path: Path
) -> None:
    util = slicer_app.slicer.util
    volume = util.addVolumeFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5), name="CT")
    assert util.saveNode(volume, str(tmp_path / "CT.nrrd"))
    loaded = util.loadVolume(str(tmp_path / "CT.nrrd"))
    assert (util.arrayFromVolume(loaded) == util.arrayFromVolume(volume)).all()
    assert util.saveScene(str(tmp_path / "all.mrb"))
    slicer_app.scene.Clear(0)
    util.loadScene(str(tmp_path / "all.mrb"))
    assert slicer_app.scene.GetFirstNodeByName("CT") is not None


def test_plot_is_drawn_with_its_ranges(slicer_app: Any, tmp_path: Path) -> None:
    slicer, scene = slicer_app.slicer, slicer_app.scene
    table = scene.AddNewNodeByClass("vtkMRMLTableNode", "Curve")
    for name, values in (("step", (0, 1, 2)), ("loss", (2, 1, 0.5))):
        column = vtk.vtkFloatArray()
        column.SetName(name)
        for value in values:
            column.InsertNextValue(value)
        table.AddColumn(column)
    series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "loss")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("step")
    series.SetYColumnName("loss")
    series.SetColor(1, 0, 0)
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", "Training")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    view = scene.AddNewNodeByClass("vtkMRMLPlotViewNode")
    view.SetPlotChartNodeID(chart.GetID())
    plot = slicer.qMRMLPlotWidget()
    plot.setMRMLScene(scene)
    plot.setMRMLPlotViewNode(view)

    def red_pixels() -> int:
        picture = slicer_app.qt.QImage(str(slicer_app.screenshot(plot, tmp_path / "p.png", 300)))
        return sum(
            picture.pixelColor(x, y).red() > picture.pixelColor(x, y).green() + 100
            for x in range(picture.width())
            for y in range(picture.height())
        )

    assert red_pixels() > 200
    series.SetColor(0, 0, 0)
    assert red_pixels() == 0
