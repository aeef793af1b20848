"""Several scans through the module's logic with the real worker: scene, folder, time sequence."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cmake_lists import ROOT

pytest_plugins = ("module_bed",)
SAMPLE = ROOT / "Resources" / "SampleData" / "hippocampus_091.nii.gz"
STARTER = "hippocampus-mr-tiny"
PATIENCE = 300.0


def done(module: Any, batch: Any) -> Any:
    ended: list[Any] = []
    batch.finished.connect(ended.append)
    batch.start()
    module.app.wait_until(lambda: ended, PATIENCE)
    return ended[0]


def segmentations(module: Any) -> list[Any]:
    nodes = module.slicer.mrmlScene.GetNodesByClass("vtkMRMLSegmentationNode")
    return [nodes.GetItemAsObject(number) for number in range(nodes.GetNumberOfItems())]


def test_scans_of_scene_folder_and_sequence_are_segmented_one_after_another(
    module: Any, tmp_path: Path, own_home: Path
) -> None:
    slicer = module.slicer
    parts = module.code.MedDINOv3SlicerLogic().parts
    from MedDINOv3SlicerLib.jobs.orders import SegmentOrder
    from MedDINOv3SlicerLib.scene.volumes import addVolume, gridOf

    first = slicer.util.loadVolume(str(SAMPLE))
    voxels = slicer.util.arrayFromVolume(first)
    second = addVolume(slicer.mrmlScene, voxels[:, :, ::-1].copy(), gridOf(first), "mirrored")
    order = SegmentOrder((first,), STARTER, "cpu")

    outcome = done(module, parts.segmentation.batchOfScans(order, (first, second)))
    assert len(outcome.done) == 2 and not outcome.failures
    assert [node.GetSegmentation().GetNumberOfSegments() for node in segmentations(module)] == [
        2,
        2,
    ]

    folder = tmp_path / "scans"
    folder.mkdir()
    shutil.copy(SAMPLE, folder / "one.nii.gz")
    outcome = done(module, parts.segmentation.batchOfFolder(order, folder, tmp_path))
    assert not outcome.failures and (tmp_path / "one.seg.nrrd").is_file()
    assert len(segmentations(module)) == 2, "the scene is left alone"
    from meddinov3.errors import MedDINOv3Error

    with pytest.raises(MedDINOv3Error, match="have results already"):
        parts.segmentation.batchOfFolder(order, folder, tmp_path)

    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "beat")
    for number, node in enumerate((first, second)):
        sequence.SetDataNodeAtValue(node, str(number))
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    outcome = done(module, parts.segmentation.batchOfSequence(order, browser))
    assert len(outcome.done) == 2 and not outcome.failures
    (results,) = _results(slicer, sequence)
    assert results.GetNumberOfDataNodes() == 2
    frames = [results.GetNthDataNode(number).GetSegmentation() for number in range(2)]
    counts = [_voxels(frame) for frame in frames]
    assert all(count.min() > 100 for count in counts)
    assert not np.array_equal(*counts), "each frame has its own result"
    assert len(segmentations(module)) == 3, (
        "what shows the frame that is played, and the two before"
    )


def test_a_frame_is_cancelled_once(module: Any) -> None:
    for source in ("batch", "scene"):
        player, found = _player(module)
        job, heard = player.start(None), []
        job.cancelled.connect(lambda heard=heard: heard.append(1))
        (job if source == "batch" else found).cancel()
        assert heard == [1] and not found.open and not job.open


def _player(module: Any) -> tuple[Any, Any]:
    """A player of one frame, the job it starts, and what that finds."""
    from MedDINOv3SlicerLib import segment_logic
    from MedDINOv3SlicerLib.jobs.segment_job import SegmentJob

    slicer = module.slicer
    volume = slicer.util.loadVolume(str(SAMPLE))
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "beat")
    sequence.SetDataNodeAtValue(volume, "0")
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    found = SegmentJob("beat", lambda _job: None)
    frames = segment_logic.framesOf(sequence)
    single = SimpleNamespace(start=lambda _order: found)
    player = segment_logic._FramePlayer(slicer.mrmlScene, single, browser, volume, frames)
    return player, found


def _results(slicer: Any, scan: Any) -> list[Any]:
    nodes = slicer.mrmlScene.GetNodesByClass("vtkMRMLSequenceNode")
    found = [nodes.GetItemAsObject(number) for number in range(nodes.GetNumberOfItems())]
    return [node for node in found if node is not scan]


def _voxels(segmentation: Any) -> np.ndarray:
    from vtkmodules.util.numpy_support import vtk_to_numpy

    image = segmentation.GetNthSegment(0).GetRepresentation("Binary labelmap")
    values = vtk_to_numpy(image.GetPointData().GetScalars())
    return np.bincount(values, minlength=3)[1:3]


def test_a_frame_whose_result_is_lost_is_a_failure(
    module: Any, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slicer = module.slicer
    parts = module.code.MedDINOv3SlicerLogic().parts
    from MedDINOv3SlicerLib import segment_logic
    from MedDINOv3SlicerLib.jobs.orders import SegmentOrder

    scan = slicer.util.loadVolume(str(SAMPLE))
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "beat")
    sequence.SetDataNodeAtValue(scan, "0")
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())

    def fail(*_: Any) -> None:
        raise RuntimeError("no voxels")

    monkeypatch.setattr(segment_logic, "labelMapOn", fail)
    order = SegmentOrder((scan,), STARTER, "cpu")
    outcome = done(module, parts.segmentation.batchOfSequence(order, browser))
    assert not outcome.done and "no voxels" in outcome.failures[0][1].what
    assert segmentations(module) == []
    nodes = slicer.mrmlScene.GetNodesByClass("vtkMRMLScriptedModuleNode")
    names = [nodes.GetItemAsObject(n).GetModuleName() for n in range(nodes.GetNumberOfItems())]
    assert "MedDINOv3Proposal" not in names
