"""Frames of a sequence are segmented one by one and played together with the scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import Label
from scene_stage import Stage, grid_of, rigid

pytest_plugins = ("scene_fixtures",)
HEART = Label("heart", 1, (200, 10, 10))
GRID = grid_of("RAS", oblique=True)


def recorded(stage: Stage) -> tuple[Any, Any]:
    """A browser of three frames with the values 0, 1 and 2, at 0, 0.5 and 1 s."""
    sequence = stage.scene.AddNewNodeByClass("vtkMRMLSequenceNode", "beat")
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    for number in range(3):
        volume = stage.volume(GRID, np.full(GRID.shape, number, np.int16))
        sequence.SetDataNodeAtValue(volume, str(number / 2))
        stage.scene.RemoveNode(volume)
    browser = stage.scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    return browser, browser.GetProxyNode(sequence)


def found_in(number: int) -> np.ndarray:
    label_map = np.zeros(GRID.shape, np.uint8)
    label_map[number : number + 2, 1:4, 2:6] = 1
    return label_map


def play(stage: Stage, browser: Any, number: int) -> None:
    browser.SetSelectedItemNumber(number)
    stage.application.GetModuleLogic("Sequences").UpdateProxyNodesFromSequences(browser)


def test_frames_are_scans_in_order(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.sequences import framesOf, sequenceOf
    from MedDINOv3SlicerLib.scene.volumes import arrayOf, gridOf

    browser, volume = recorded(stage)
    found = sequenceOf(volume)
    assert found is not None and found[0] is browser
    frames = framesOf(found[1])
    assert [float(frame.index) for frame in frames] == [0, 0.5, 1]
    assert [int(arrayOf(frame.volume).max()) for frame in frames] == [0, 1, 2]
    assert all(gridOf(frame.volume).same_as(GRID, 1e-9) for frame in frames)


def test_results_are_played_with_the_scan(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.segmentations import labelMapOn
    from MedDINOv3SlicerLib.scene.sequences import ResultSequence, framesOf, sequenceOf

    browser, volume = recorded(stage)
    volume.SetAndObserveTransformNodeID(stage.transform(rigid(1)).GetID())
    results = ResultSequence(stage.scene, browser, volume)
    assert results.segmentationNode is None
    for number, frame in enumerate(framesOf(sequenceOf(volume)[1])):
        results.put(frame, found_in(number), (HEART,))
    node = results.segmentationNode
    assert node is not None and node.GetDisplayNode() is not None
    assert node.GetTransformNodeID() == volume.GetTransformNodeID()
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    for number in (2, 0, 1):
        play(stage, browser, number)
        found, labels, notes = labelMapOn(node, volume)
        np.testing.assert_array_equal(found, found_in(number))
        assert [label.name for label in labels] == ["heart"] and notes == ()
    assert stage.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


def test_results_are_saved_with_the_scene(stage: Stage, tmp_path: Path) -> None:
    from MedDINOv3SlicerLib.scene.segmentations import labelMapOn
    from MedDINOv3SlicerLib.scene.sequences import ResultSequence, framesOf, sequenceOf

    browser, volume = recorded(stage)
    results = ResultSequence(stage.scene, browser, volume)
    for number, frame in enumerate(framesOf(sequenceOf(volume)[1])):
        results.put(frame, found_in(number), (HEART,))
    loaded = stage.save_and_load(tmp_path / "saved", bundle=True)
    browser = loaded.node("vtkMRMLSequenceBrowserNode")
    volume, node = loaded.node("vtkMRMLScalarVolumeNode"), loaded.node("vtkMRMLSegmentationNode")
    for number in (2, 1):
        play(loaded, browser, number)
        np.testing.assert_array_equal(labelMapOn(node, volume)[0], found_in(number))


def test_a_volume_that_nothing_plays_is_no_sequence(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.sequences import framesOf, sequenceOf

    assert sequenceOf(stage.volume(GRID)) is None
    with pytest.raises(MedDINOv3Error, match="no scans"):
        framesOf(stage.scene.AddNewNodeByClass("vtkMRMLSequenceNode", "empty"))
