"""From the scene into a case library and back, without a voxel or a name going astray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from meddinov3.cases.library import Library
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.labels import Label
from meddinov3.terminology import named_label
from scene_stage import Stage, grid_of, rigid

pytest_plugins = ("scene_fixtures",)
LIVER, TUMOUR = named_label("liver", 1, 0), named_label("tumour", 2, 1)


def scan(grid: Grid) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 2000, grid.shape).astype(np.int16)


def proposed(grid: Grid) -> np.ndarray:
    return np.random.default_rng(3).choice(np.array([0, 1, 2], np.uint8), grid.shape)


def make_library(folder: Path, *channels: str) -> Library:
    return Library.create(folder, "Livers", channels or ("CT",), (LIVER, TUMOUR))


@pytest.mark.parametrize("code", ["LPS", "LAS", "RAS", "SAR"])
@pytest.mark.parametrize("oblique", [False, True], ids=["", "oblique"])
def test_a_corrected_proposal_becomes_a_case_and_is_opened_again(
    stage: Stage, tmp_path: Path, code: str, oblique: bool
) -> None:
    from MedDINOv3SlicerLib.scene.case import caseFrom, openCase
    from MedDINOv3SlicerLib.scene.segmentations import labelMapOn, placeResult
    from MedDINOv3SlicerLib.scene.volumes import arrayOf, gridOf

    grid = grid_of(code, oblique=oblique)
    volume = stage.volume(grid, scan(grid), name="Doe^Jane 1970-01-01")
    volume.SetAndObserveTransformNodeID(stage.transform(rigid(1)).GetID())
    node = placeResult(
        stage.scene, volume, proposed(grid), (TUMOUR, LIVER)[::-1], proposedBy="tiny",
        weightsSha256="ab" * 32, name="Doe^Jane result",
    )  # fmt: skip
    case = caseFrom([volume], node)
    library = make_library(tmp_path / "library")
    name = library.add(
        case.channels, case.grid, case.labelMap, case.labels,
        provenance=case.provenance, status=case.status,
    )  # fmt: skip
    record = library.case(name)
    assert record.provenance.model == "tiny" and record.provenance.model_sha256 == "ab" * 32
    assert {n: c.dice for n, c in record.provenance.changed.items()} == {"liver": 1, "tumour": 1}
    for path in (tmp_path / "library").rglob("*"):
        assert b"Doe" not in (path.read_bytes() if path.is_file() else b"") and "Doe" not in str(
            path
        )

    (opened,), segmentation = openCase(stage.scene, library, name)
    assert gridOf(opened).same_as(grid, 1e-9)
    np.testing.assert_array_equal(arrayOf(opened), scan(grid))
    found, labels, _ = labelMapOn(segmentation, opened)
    np.testing.assert_array_equal(found, proposed(grid))
    assert [(x.name, x.colour, x.type) for x in labels] == [
        (x.name, x.colour, x.type) for x in (LIVER, TUMOUR)
    ]
    again = caseFrom([opened], segmentation)
    assert again.provenance is None  # so the library keeps what it knows
    library.replace(name, again.channels, again.grid, again.labelMap, again.labels)
    assert library.case(name).provenance == record.provenance


def test_structures_are_matched_by_terminology_too(stage: Stage, tmp_path: Path) -> None:
    from MedDINOv3SlicerLib.scene.case import caseFrom

    grid = grid_of("LPS")
    volume = stage.volume(grid, scan(grid))
    node = stage.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    drawn = stage.paint(node, "Segment_1", proposed(grid) == 2, grid)
    node.GetSegmentation().GetSegment(drawn).SetTerminology(LIVER.terminology)
    case = caseFrom([volume], node)
    assert case.provenance is None and case.status == "annotated"
    library = make_library(tmp_path / "library")
    name = library.add(case.channels, case.grid, case.labelMap, case.labels)
    np.testing.assert_array_equal(library.read(name)[1], proposed(grid) == 2)


def test_a_case_whose_structures_are_all_completed_is_reviewed(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.case import caseFrom
    from MedDINOv3SlicerLib.scene.review import setReviewed
    from MedDINOv3SlicerLib.scene.segmentations import placeResult

    grid = grid_of("LPS")
    volume = stage.volume(grid, scan(grid))
    node = placeResult(stage.scene, volume, proposed(grid), (LIVER, TUMOUR), proposedBy="m")
    liver, tumour = node.GetSegmentation().GetSegmentIDs()
    setReviewed(node, liver, True)
    assert caseFrom([volume], node).status == "annotated"
    only = caseFrom([volume], node, [liver])
    assert only.status == "reviewed"
    assert only.provenance is not None and list(only.provenance.changed) == ["liver"]
    np.testing.assert_array_equal(only.labelMap, proposed(grid) == 1)
    setReviewed(node, tumour, True)
    assert caseFrom([volume], node).status == "reviewed"


def test_regions_are_opened_and_added_by_their_values(stage: Stage, tmp_path: Path) -> None:
    from MedDINOv3SlicerLib.scene.case import caseFrom, openCase

    grid = grid_of("LPS")
    regions = DatasetLabels(
        (Label("whole", 1, (1, 2, 3)), Label("core", 5, (4, 5, 6))), ((2, 5), (5,)), True, 9
    )
    library = Library.create(tmp_path / "library", "Tumours", ("MR",), regions)
    label_map = np.random.default_rng(1).choice(np.array([0, 2, 5, 9], np.uint8), grid.shape)
    name = library.add([scan(grid)], grid, label_map)
    (volume,), node = openCase(stage.scene, library, name)
    case = caseFrom([volume], node)
    np.testing.assert_array_equal(case.labelMap, label_map)
    library.replace(name, case.channels, case.grid, case.labelMap, case.labels)
    np.testing.assert_array_equal(library.read(name)[1], label_map)


def test_channels_lie_voxel_on_voxel_or_are_refused(stage: Stage, tmp_path: Path) -> None:
    from MedDINOv3SlicerLib.scene.case import caseFrom, openCase
    from MedDINOv3SlicerLib.scene.segmentations import placeResult

    grid = grid_of("RAS", oblique=True)
    first, second = stage.volume(grid, scan(grid)), stage.volume(grid, scan(grid) // 2)
    node = placeResult(stage.scene, first, proposed(grid), (LIVER, TUMOUR))
    library = make_library(tmp_path / "library", "CT", "PET")
    case = caseFrom([first, second], node)
    name = library.add(case.channels, case.grid, case.labelMap, case.labels)
    volumes, _ = openCase(stage.scene, library, name)
    assert [volume.GetName() for volume in volumes] == [f"{name} CT", f"{name} PET"]

    with pytest.raises(MedDINOv3Error, match="voxel on voxel"):
        caseFrom([first, stage.volume(grid_of("RAS"))], node)
    second.SetAndObserveTransformNodeID(stage.transform(rigid(1)).GetID())
    with pytest.raises(MedDINOv3Error, match="voxel on voxel"):
        caseFrom([first, second], node)
    with pytest.raises(MedDINOv3Error, match="No scan"):
        caseFrom([None], node)
