"""What a model proposed is remembered with the scene, and what was changed since is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from meddinov3.grid import Grid
from meddinov3.labels import Label
from scene_stage import Stage, grid_of, rigid

pytest_plugins = ("scene_fixtures",)
LABELS = (Label("one", 1, (255, 0, 0)), Label("two", 4, (0, 255, 0)), Label("none", 5, (0, 0, 9)))


def proposed(grid: Grid) -> np.ndarray:
    return np.random.default_rng(7).choice(np.array([0, 0, 1, 4], np.uint8), grid.shape)


def corrected(grid: Grid) -> np.ndarray:
    """Segment 'one' with five voxels more and three less."""
    mask = proposed(grid) == 1
    free, taken = np.argwhere(~mask), np.argwhere(mask)
    mask[tuple(free[:5].T)] = True
    mask[tuple(taken[:3].T)] = False
    return mask


def correct(stage: Stage, node: object, segment: str, mask: np.ndarray, grid: Grid) -> None:
    from MedDINOv3SlicerLib.scene.geometry import imageOf

    logic = stage.slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(
        imageOf(mask.astype(np.uint8), grid), node, segment, logic.MODE_REPLACE
    )


def test_nothing_changed(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.proposal import changedIds, changesSince, proposedBy
    from MedDINOv3SlicerLib.scene.segmentations import placeResult

    grid = grid_of("LPS")
    volume = stage.volume(grid)
    node = placeResult(
        stage.scene, volume, proposed(grid), LABELS, proposedBy="liver-ct", weightsSha256="ab12"
    )
    found = changesSince(node, volume)
    assert found is not None and list(found) == ["one", "two", "none"]
    assert all((c.added, c.removed, c.dice) == (0, 0, 1.0) for c in found.values())
    assert changedIds(node, volume) == set()
    assert proposedBy(node) == ("liver-ct", "ab12")


def test_drawn_by_hand(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.proposal import changesSince, proposedBy

    grid = grid_of("LPS")
    volume = stage.volume(grid)
    node = stage.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    stage.paint(node, "tumour", np.ones(grid.shape), grid)
    assert changesSince(node, volume) is None
    assert proposedBy(node) == ("", "")


@pytest.mark.parametrize("code", ["LPS", "LAS", "RAS"])
@pytest.mark.parametrize("saved", ["", "mrb", "mrml"])
def test_corrections_are_counted_also_in_a_scene_loaded_again(
    stage: Stage, tmp_path: Path, code: str, saved: str
) -> None:
    from MedDINOv3SlicerLib.scene.proposal import changedIds, changesSince, proposedBy
    from MedDINOv3SlicerLib.scene.segmentations import placeResult

    grid = grid_of(code, oblique=True)
    volume = stage.volume(grid)
    volume.SetAndObserveTransformNodeID(stage.transform(rigid(1)).GetID())
    node = placeResult(
        stage.scene, volume, proposed(grid), LABELS, proposedBy="liver-ct", weightsSha256="ab12"
    )
    one = node.GetSegmentation().GetNthSegmentID(0)
    node.GetSegmentation().GetSegment(one).SetName("renamed")
    correct(stage, node, one, corrected(grid), grid)
    if saved:
        loaded = stage.save_and_load(tmp_path / "saved", saved == "mrb")
        node = loaded.node("vtkMRMLSegmentationNode")
        volume = loaded.node("vtkMRMLScalarVolumeNode")
    found = changesSince(node, volume)
    assert found is not None
    change = found["renamed"]
    assert (change.added, change.removed) == (5, 3)
    was = int((proposed(grid) == 1).sum())
    assert change.dice == pytest.approx(2 * (was - 3) / (2 * was + 2))
    assert change.added_ml == pytest.approx(5 * 0.7 * 0.9 * 3.1 / 1000)
    assert (found["two"].added, found["two"].removed) == (0, 0)
    assert changedIds(node, volume) == {node.GetSegmentation().GetNthSegmentID(0)}
    assert proposedBy(node) == ("liver-ct", "ab12")


def test_a_segment_that_covers_another_does_not_change_it(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.proposal import changesSince
    from MedDINOv3SlicerLib.scene.segmentations import placeResult

    grid = grid_of("LPS")
    volume = stage.volume(grid)
    node = placeResult(stage.scene, volume, proposed(grid), LABELS, proposedBy="m")
    stage.paint(node, "over all", np.ones(grid.shape), grid)
    found = changesSince(node, volume)
    assert found is not None and "over all" not in found
    assert all((c.added, c.removed) == (0, 0) for c in found.values())


def test_an_emptied_segment_has_lost_all_its_voxels(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.proposal import changesSince
    from MedDINOv3SlicerLib.scene.segmentations import placeResult

    grid = grid_of("LPS")
    volume = stage.volume(grid)
    node = placeResult(stage.scene, volume, proposed(grid), LABELS, proposedBy="m")
    node.GetSegmentation().ClearSegment(node.GetSegmentation().GetNthSegmentID(0))
    found = changesSince(node, volume)
    assert found is not None
    assert (found["one"].added, found["one"].removed) == (0, (proposed(grid) == 1).sum())
    assert found["one"].dice == 0.0


def test_hardened_transforms_change_nothing(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.proposal import changesSince
    from MedDINOv3SlicerLib.scene.segmentations import placeResult

    grid = grid_of("LPS")
    volume = stage.volume(grid)
    volume.SetAndObserveTransformNodeID(stage.transform(rigid(1)).GetID())
    node = placeResult(stage.scene, volume, proposed(grid), LABELS, proposedBy="m")
    volume.HardenTransform()
    node.HardenTransform()
    found = changesSince(node, volume)
    assert found is not None
    assert all((c.added, c.removed) == (0, 0) for c in found.values())


def test_another_scan_knows_nothing_of_it(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.proposal import changesSince
    from MedDINOv3SlicerLib.scene.segmentations import placeResult

    grid = grid_of("LPS")
    node = placeResult(stage.scene, stage.volume(grid), proposed(grid), LABELS, proposedBy="m")
    assert changesSince(node, stage.volume(grid_of("LPS", size=(6, 5, 4)))) is None


def test_proposals_nobody_names_are_forgotten(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.segmentations import placeResult

    grid = grid_of("LPS")
    volume = stage.volume(grid)
    node = placeResult(stage.scene, volume, proposed(grid), LABELS, proposedBy="m")
    placeResult(stage.scene, volume, proposed(grid), LABELS[:1], into=node, proposedBy="m")
    assert stage.scene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode") == 2
    placeResult(stage.scene, volume, proposed(grid), LABELS, into=node, proposedBy="m")
    assert stage.scene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode") == 1
