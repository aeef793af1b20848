"""The stand-in for Slicer behaves as the rules say that Slicer does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


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
