"""Training cases from the page: scan and segmentation belong together, and states are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from meddinov3.errors import MedDINOv3Error

pytest_plugins = ("module_bed",)


def drawn(module: Any, name: str, value: int) -> tuple[Any, Any]:
    """A scan, and a segmentation of it with something in it."""
    from segment_fakes import scan, segmentation

    volume = scan(module.app, name)
    voxels = module.slicer.util.arrayFromVolume(volume)
    voxels[:] = value
    found = segmentation(module.app, volume, "liver")
    mask = np.zeros(voxels.shape, np.uint8)
    mask[1:3, 1:3, 1:3] = 1
    identity = found.GetSegmentation().GetNthSegmentID(0)
    module.slicer.util.updateSegmentBinaryLabelmapFromArray(mask, found, identity, volume)
    return volume, found


def test_a_segmentation_is_never_added_with_another_scan(
    module: Any, own_home: Path, tmp_path: Path
) -> None:
    page, logic = module.page(), module.code.MedDINOv3SlicerLogic().parts.cases
    first, of_first = drawn(module, "First", 1)
    second, _of_second = drawn(module, "Second", 2)
    page.segment.choose((second,))
    page.correct.edit(of_first, first)
    assert "belongs to 'First'" in logic.sceneFacts().problem
    assert not page.cases.ui.addButton.enabled
    page.segment.choose((first,))
    facts = logic.sceneFacts()
    assert not facts.problem and facts.scans == ("First",)
    library = logic.createLibrary(tmp_path / "library", "Livers", ["CT"], facts.labels)
    page.segment.choose((second,))
    with pytest.raises(MedDINOv3Error, match="belongs to 'First'"):
        logic.addCase(library, {}, False)
    assert library.cases == ()


def test_a_replaced_case_stays_excluded_and_is_reviewed_anew(
    module: Any, own_home: Path, tmp_path: Path
) -> None:
    page, logic = module.page(), module.code.MedDINOv3SlicerLogic().parts.cases
    volume, found = drawn(module, "First", 1)
    page.segment.choose((volume,))
    page.correct.edit(found, volume)
    labels = logic.sceneFacts().labels
    library = logic.createLibrary(tmp_path / "library", "Livers", ["CT"], labels)
    case = logic.addCase(library, {}, False)
    for before, ticked, after in (
        ("reviewed", False, "annotated"), ("annotated", True, "reviewed"),
        ("excluded", True, "excluded"),
    ):  # fmt: skip
        library.set_status(case, before)
        identity = found.GetSegmentation().GetNthSegmentID(0)
        module.code.MedDINOv3SlicerLogic().parts.correction.setReviewed(found, identity, ticked)
        logic.replaceCase(library, case, {}, False)
        assert library.case(case).status == after
