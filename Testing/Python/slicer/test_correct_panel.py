"""The Correct step: the editor's manners, review marks, changes, export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from meddinov3.errors import MedDINOv3Error


class Preferences:
    folder = ""

    def exportFolder(self) -> str:
        return self.folder

    def setExportFolder(self, folder: str) -> None:
        self.folder = folder


@pytest.fixture
def panel(slicer_app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The panel, entered, on a fake of the scene's functions."""
    from segment_fakes import FakeReview, module_library

    with module_library(monkeypatch):
        from MedDINOv3SlicerLib.panels.correct_panel import CorrectPanel

        logic, preferences = FakeReview(), Preferences()
        made = CorrectPanel(logic, preferences)
        made.logic, made.preferences = logic, preferences
        made.setScene(slicer_app.scene)
        made.enter()
        yield made
        made.cleanup()


def proposal(slicer_app: Any, *names: str) -> tuple[Any, Any]:
    from segment_fakes import scan, segmentation

    volume = scan(slicer_app)
    return segmentation(slicer_app, volume, *names), volume


def test_editor_has_its_own_node_and_hides_what_the_panel_chooses(
    panel: Any, slicer_app: Any
) -> None:
    widget = panel.editor.widget
    node = widget.mrmlSegmentEditorNode()
    assert node.GetSingletonTag() == "MedDINOv3SegmentEditor"
    assert widget.maximumNumberOfUndoStates == 10
    assert not widget.segmentationNodeSelectorVisible
    assert not widget.sourceVolumeNodeSelectorVisible
    assert not widget.switchToSegmentationsButtonVisible


def test_result_is_presented_for_correction(panel: Any, slicer_app: Any) -> None:
    result, volume = proposal(slicer_app, "liver", "spleen")
    panel.edit(result, volume)
    assert panel.editor.widget.segmentationNode() is result
    assert panel.editor.widget.sourceVolumeNode() is volume
    assert panel.table.ids == ("liver", "spleen")
    assert panel.ui.reviewLabel.text == "Proposed by abdomen-ct. 0 of 2 reviewed."


def test_choosing_a_segmentation_chooses_its_scan(panel: Any, slicer_app: Any) -> None:
    from segment_fakes import scan

    result, volume = proposal(slicer_app, "liver")
    panel.ui.scanCombo.setCurrentNode(scan(slicer_app, "other"))
    panel.ui.segmentationCombo.setCurrentNode(None)
    panel.ui.segmentationCombo.setCurrentNode(result)
    assert panel.scan is volume


def test_no_effect_stays_active_outside_the_module(panel: Any, slicer_app: Any) -> None:
    result, volume = proposal(slicer_app, "liver")
    panel.edit(result, volume)
    widget = panel.editor.widget
    widget.setActiveEffectByName("Paint")
    calls = vars(widget)["_calls"]
    calls.clear()
    panel.exit()
    assert widget.activeEffect() is None
    assert calls == ["uninstallKeyboardShortcuts", "removeViewObservations"]
    panel.exit()
    assert len(calls) == 2, "a second exit does nothing"
    calls.clear()
    panel.enter()
    assert calls == ["setupViewObservations", "installKeyboardShortcuts"]


def test_scene_close_leaves_a_working_editor(panel: Any, slicer_app: Any) -> None:
    result, volume = proposal(slicer_app, "liver")
    panel.edit(result, volume)
    slicer_app.scene.Clear(0)
    panel.sceneClosed()
    assert panel.table.ids == ()
    assert panel.ui.nextButton.toolTip == "Choose a segmentation."
    again, scan = proposal(slicer_app, "spleen")
    panel.edit(again, scan)
    assert panel.editor.widget.segmentationNode() is again
    assert panel.editor.widget.mrmlSegmentEditorNode().GetScene() is slicer_app.scene


def test_tick_marks_a_segment_as_reviewed(panel: Any, slicer_app: Any) -> None:
    heard: list[Any] = []
    panel.corrected.connect(heard.append)
    result, volume = proposal(slicer_app, "liver", "spleen")
    panel.edit(result, volume)
    item = panel.ui.reviewTable.item(1, 0)
    item.setCheckState(slicer_app.qt.Qt.Checked)
    assert panel.logic.reviewed == {"spleen"}
    assert heard == [result]
    assert "1 of 2 reviewed" in panel.ui.reviewLabel.text
    panel.ui.reviewTable.item(1, 0).setCheckState(slicer_app.qt.Qt.Unchecked)
    assert panel.logic.reviewed == set()


def test_reviewed_next_walks_through_what_is_left(panel: Any, slicer_app: Any) -> None:
    result, volume = proposal(slicer_app, "liver", "spleen", "kidney")
    panel.edit(result, volume)
    panel.logic.reviewed.add("spleen")
    panel.ui.reviewTable.setCurrentCell(0, 0)
    slicer_app.click(panel.ui.nextButton)
    assert panel.logic.reviewed == {"liver", "spleen"}
    assert panel.table.current() == "kidney"
    assert panel.editor.widget.currentSegmentID() == "kidney"
    slicer_app.click(panel.ui.nextButton)
    assert panel.logic.reviewed == {"liver", "spleen", "kidney"}


def test_list_follows_the_segmentation(panel: Any, slicer_app: Any) -> None:
    result, volume = proposal(slicer_app, "liver")
    panel.edit(result, volume)
    result.GetSegmentation().AddEmptySegment("cyst", "cyst")
    assert panel.table.ids == ("liver", "cyst")
    result.GetSegmentation().GetSegment("cyst").SetName("simple cyst")
    assert panel.ui.reviewTable.item(1, 0).text() == "simple cyst"
    result.GetSegmentation().RemoveSegment("liver")
    assert panel.table.ids == ("cyst",)


def test_changes_since_the_proposal_are_shown_on_request(panel: Any, slicer_app: Any) -> None:
    result, volume = proposal(slicer_app, "liver", "cyst")
    panel.edit(result, volume)
    panel.logic.changes = {"liver": SimpleNamespace(added_ml=1.234, removed_ml=0.5, dice=0.98765)}
    table = panel.ui.reviewTable
    assert table.item(0, 1).text() == ""
    slicer_app.click(panel.ui.refreshButton)
    assert [table.item(0, n).text() for n in (1, 2, 3)] == ["1.23 ml", "0.50 ml", "0.988"]
    assert table.item(1, 3).text() == "", "drawn by hand: nothing to compare with"


def test_hand_drawn_segmentation_has_no_changes_to_show(panel: Any, slicer_app: Any) -> None:
    panel.logic.model = ""
    result, volume = proposal(slicer_app, "liver")
    panel.edit(result, volume)
    assert not panel.ui.refreshButton.enabled
    assert panel.ui.refreshButton.toolTip == "No model proposed this segmentation."
    assert "Drawn by hand" in panel.ui.reviewLabel.text


def test_changes_that_cannot_be_found_are_explained(panel: Any, slicer_app: Any) -> None:
    result, volume = proposal(slicer_app, "liver")
    panel.edit(result, volume)
    panel.logic.fails = MedDINOv3Error("x", "The scan has no voxels.", "Load it again.")
    slicer_app.click(panel.ui.refreshButton)
    assert panel.problems.problem.what == "The scan has no voxels."


def test_export_remembers_its_folder(panel: Any, slicer_app: Any, tmp_path: Path) -> None:
    result, volume = proposal(slicer_app, "liver")
    panel.edit(result, volume)
    panel.ui.exportBox.collapsed = False
    assert panel.ui.stlButton.toolTip == "Choose a folder first."
    panel.ui.exportFolderEdit.currentPath = str(tmp_path / "new")
    slicer_app.click(panel.ui.stlButton)
    slicer_app.click(panel.ui.niftiButton)
    assert [call[3] for call in panel.logic.exported] == ["stl", "nifti"]
    assert panel.preferences.folder == str(tmp_path / "new")
    assert "1 files written" in panel.ui.exportLabel.text
