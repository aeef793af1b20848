"""Step 2: Slicer's Segment Editor on the result, with marks for what was looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import slicer
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.panels.choices import enable
from MedDINOv3SlicerLib.panels.editor import Editor
from MedDINOv3SlicerLib.panels.problem_box import ProblemBox
from MedDINOv3SlicerLib.panels.review_table import Change, ReviewTable
from MedDINOv3SlicerLib.panels.shortcuts import Shortcuts
from MedDINOv3SlicerLib.problem import problemOf
from MedDINOv3SlicerLib.resources import resourcePath
from MedDINOv3SlicerLib.signal import Signal

NEXT_KEY, CHANGES_KEY = "Ctrl+Shift+R", "Ctrl+Shift+U"
NEXT_TIP = _("Mark the selected structure as reviewed and go to the next one.")


class CorrectLogic(Protocol):
    """What the panel needs of the scene. Each may raise MedDINOv3Error."""

    def isReviewed(self, segmentation: Any, segmentId: str) -> bool:
        """Whether somebody said that this segment is right."""

    def setReviewed(self, segmentation: Any, segmentId: str, reviewed: bool) -> None:
        """Say so, or take it back."""

    def changesById(self, segmentation: Any, volume: Any) -> Mapping[str, Change]:
        """What was changed since the proposal; takes a moment."""

    def proposedBy(self, segmentation: Any) -> tuple[str, str]:
        """The model's id and the hash of its weights; "" if no model proposed it."""

    def exportSegments(
        self, segmentation: Any, volume: Any, folder: Path, kind: str
    ) -> Sequence[Path]:
        """Write ``stl`` or ``nifti`` files."""


class ExportPreferences(Protocol):
    """Remembers the folder."""

    def exportFolder(self) -> str: ...

    def setExportFolder(self, folder: str) -> None: ...


class CorrectPanel:
    """The editor, the review list and the export.

    Attributes:
        corrected: emitted with the segmentation node when a review mark changes.
        chosen: emitted with the segmentation and the scan when either changes.
    """

    def __init__(self, logic: CorrectLogic, preferences: ExportPreferences) -> None:
        self._logic, self._preferences = logic, preferences
        self._observed: tuple[Any, list[int]] | None = None
        self._changes: Mapping[str, Change] | None = None
        self._ticking, self._nextTip = False, NEXT_TIP
        self.corrected, self.chosen = Signal(), Signal()
        self.widget = slicer.util.loadUI(resourcePath("UI/Correct.ui"))
        self.ui = ui = slicer.util.childWidgetVariables(self.widget)
        self.problems = ProblemBox()
        self.widget.layout().addWidget(self.problems.widget)
        self.editor = Editor()
        ui.editorPlace.layout().addWidget(self.editor.widget)
        self.table = ReviewTable(ui.reviewTable, self._tick)
        ui.exportFolderEdit.currentPath = preferences.exportFolder()
        ui.segmentationCombo.connect(
            "currentNodeChanged(vtkMRMLNode*)", lambda node: self._newSegmentation()
        )
        ui.scanCombo.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._newScan())
        ui.exportFolderEdit.connect("currentPathChanged(QString)", lambda path: self._enable())
        ui.reviewTable.connect("itemSelectionChanged()", self._showSelected)
        ui.nextButton.connect("clicked(bool)", lambda: self.reviewNext())
        ui.refreshButton.connect("clicked(bool)", lambda: self.refreshChanges())
        ui.stlButton.connect("clicked(bool)", lambda: self._export("stl"))
        ui.niftiButton.connect("clicked(bool)", lambda: self._export("nifti"))
        self.shortcuts = Shortcuts()
        self.shortcuts.add(NEXT_KEY, self.reviewNext)
        self.shortcuts.add(CHANGES_KEY, self.refreshChanges)
        self._fill()

    @property
    def segmentation(self) -> Any:
        """The segmentation that is corrected, or None."""
        return self.ui.segmentationCombo.currentNode()

    @property
    def scan(self) -> Any:
        """The scan it belongs to, or None."""
        return self.ui.scanCombo.currentNode()

    def setScene(self, scene: Any) -> None:
        """Work on this scene."""
        self.widget.setMRMLScene(scene)
        self.editor.setScene(scene)
        self._newSegmentation()

    def sceneClosed(self) -> None:
        """Everything is gone; the editor keeps its own node."""
        self._watch(None)
        self.problems.clear()
        self.editor.sceneClosed()
        self._newSegmentation()

    def edit(self, segmentation: Any, scan: Any) -> None:
        """Choose what is corrected, for instance what a model just proposed."""
        self.ui.scanCombo.setCurrentNode(scan)
        self.ui.segmentationCombo.setCurrentNode(segmentation)
        self._newSegmentation()

    def enter(self) -> None:
        """Let the editor work, with its shortcuts and ours."""
        self.editor.enter()
        free = self.shortcuts.install()
        if NEXT_KEY in free:
            self._nextTip = f"{NEXT_TIP} ({NEXT_KEY})"
        self._fill()

    def exit(self) -> None:
        """No effect stays active outside the module."""
        self.shortcuts.remove()
        self.editor.exit()

    def cleanup(self) -> None:
        """Let go of nodes and keys."""
        self.exit()
        self._watch(None)

    def reviewNext(self) -> None:
        """Mark the selected segment as reviewed and select the next that is not."""
        segmentation, ids = self.segmentation, self.table.ids
        if segmentation is None or not ids:
            return
        current = self.table.current() or self.editor.currentSegment() or ids[0]
        start = ids.index(current) if current in ids else 0
        self._mark(ids[start], True)
        for identity in (*ids[start + 1 :], *ids[:start]):
            if not self._logic.isReviewed(segmentation, identity):
                self.table.select(identity)
                self._showSelected()
                return

    def refreshChanges(self) -> None:
        """Compare with what the model proposed."""
        self.problems.clear()
        if self.segmentation is None or self.scan is None:
            return
        try:
            with slicer.util.WaitCursor():
                self._changes = self._logic.changesById(self.segmentation, self.scan)
        except Exception as error:  # shown in the panel, not in the console only
            self._changes = None
            self.problems.show(problemOf(error))
        self._fill()

    def _newSegmentation(self) -> None:
        segmentation = self.segmentation
        self._watch(segmentation)
        self._changes = None
        if segmentation is not None:
            reference = segmentation.GetNodeReference(
                segmentation.GetReferenceImageGeometryReferenceRole()
            )
            if reference is not None and reference.IsA("vtkMRMLScalarVolumeNode"):
                self.ui.scanCombo.setCurrentNode(reference)
        self.editor.edit(segmentation, self.scan)
        self._fill()
        self.chosen.emit(segmentation, self.scan)

    def _newScan(self) -> None:
        self._changes = None
        self.editor.edit(self.segmentation, self.scan)
        self._fill()
        self.chosen.emit(self.segmentation, self.scan)

    def _watch(self, segmentation: Any) -> None:
        if self._observed is not None:
            before, tags = self._observed
            for tag in tags:
                before.RemoveObserver(tag)
            self._observed = None
        if segmentation is None:
            return
        watched = segmentation.GetSegmentation()
        events = (
            slicer.vtkSegmentation.SegmentAdded,
            slicer.vtkSegmentation.SegmentRemoved,
            slicer.vtkSegmentation.SegmentModified,
        )
        tags = [watched.AddObserver(event, lambda *_what: self._heard()) for event in events]
        self._observed = (watched, tags)

    def _heard(self) -> None:
        if not self._ticking:
            self._fill()

    def _tick(self, identity: str, reviewed: bool) -> None:
        self._mark(identity, reviewed)

    def _mark(self, identity: str, reviewed: bool) -> None:
        # The mark modifies the segment, which fills the table: once, afterwards.
        self._ticking = True
        try:
            self._logic.setReviewed(self.segmentation, identity, reviewed)
        finally:
            self._ticking = False
        self._fill()
        self.corrected.emit(self.segmentation)

    def _showSelected(self) -> None:
        identity = self.table.current()
        if identity and self.segmentation is not None:
            self.editor.select(identity)

    def _fill(self) -> None:
        found: dict[str, tuple[str, tuple[float, ...], bool]] = {}
        segmentation = self.segmentation
        if segmentation is not None:
            inside = segmentation.GetSegmentation()
            for identity in inside.GetSegmentIDs():
                segment = inside.GetSegment(identity)
                reviewed = self._logic.isReviewed(segmentation, identity)
                found[identity] = (segment.GetName(), segment.GetColor(), reviewed)
        self.table.fill(found, self._changes)
        self.ui.reviewLabel.text = self._reviewText(found)
        self._enable()

    def _reviewText(self, found: Mapping[str, tuple[str, tuple[float, ...], bool]]) -> str:
        if self.segmentation is None:
            return _("Choose a segmentation, or segment a scan first.")
        model, _sha = self._logic.proposedBy(self.segmentation)
        who = _("Proposed by {model}.").format(model=model) if model else _("Drawn by hand.")
        count = sum(1 for _name, _colour, reviewed in found.values() if reviewed)
        return who + " " + _("{n} of {all} reviewed.").format(n=count, all=len(found))

    def _enable(self) -> None:
        ui, nothing = self.ui, ""
        if self.segmentation is None:
            nothing = _("Choose a segmentation.")
        elif not self.table.ids:
            nothing = _("The segmentation is empty.")
        unscanned = nothing or ("" if self.scan is not None else _("Choose the scan."))
        proposed = self.segmentation is not None and self._logic.proposedBy(self.segmentation)[0]
        unproposed = unscanned or ("" if proposed else _("No model proposed this segmentation."))
        unplaced = unscanned or (
            "" if (ui.exportFolderEdit.currentPath or "").strip() else _("Choose a folder first.")
        )
        enable(ui.nextButton, nothing, self._nextTip)
        enable(ui.refreshButton, unproposed, _("Compare with what the model proposed."))
        enable(ui.stlButton, unplaced, _("Write each structure as a surface."))
        enable(ui.niftiButton, unplaced, _("Write a label map on the scan's grid, with names."))

    def _export(self, kind: str) -> None:
        self.problems.clear()
        folder = Path(str(self.ui.exportFolderEdit.currentPath)).expanduser()
        try:
            with slicer.util.WaitCursor():
                folder.mkdir(parents=True, exist_ok=True)
                files = self._logic.exportSegments(self.segmentation, self.scan, folder, kind)
        except Exception as error:  # shown in the panel, not in the console only
            self.ui.exportLabel.text = ""
            self.problems.show(problemOf(error))
            return
        self._preferences.setExportFolder(str(folder))
        self.ui.exportLabel.text = _("{n} files written to {folder}.").format(
            n=len(files), folder=folder
        )
