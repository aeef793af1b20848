"""Slicer's segment editor inside the panel, apart from the stock module's."""

from __future__ import annotations

from typing import Any

import slicer

TAG = "MedDINOv3SegmentEditor"
UNDO_STATES = 10


class Editor:
    """The widget with an editor node of its own, which stays when the scene is closed.

    Both editors can have an active effect at once, so ours has none outside the module.
    """

    def __init__(self) -> None:
        self.widget = slicer.qMRMLSegmentEditorWidget()
        self.widget.setMaximumNumberOfUndoStates(UNDO_STATES)
        self.widget.setSegmentationNodeSelectorVisible(False)
        self.widget.setSourceVolumeNodeSelectorVisible(False)
        self.widget.setSwitchToSegmentationsButtonVisible(False)
        self._scene: Any = None
        self._entered = False

    def setScene(self, scene: Any) -> None:
        """Use this scene and the module's node in it."""
        self._scene = scene
        self.widget.setMRMLScene(scene)
        self._useNode()

    def sceneClosed(self) -> None:
        """Make sure of the node; it is a singleton and normally still there."""
        if self._scene is not None:
            self._useNode()

    def edit(self, segmentation: Any, scan: Any) -> None:
        """Show this segmentation on this scan, where they are not shown already."""
        if self._scene is None:
            return
        node = self.widget.mrmlSegmentEditorNode()  # the widget's own selectors lag behind it
        if node.GetSegmentationNode() is not segmentation:
            self.widget.setActiveEffect(None)
            self.widget.setSegmentationNode(segmentation)
        if node.GetSourceVolumeNode() is not scan:
            self.widget.setSourceVolumeNode(scan)

    def select(self, segmentId: str) -> None:
        """Make a segment the one that is edited."""
        if self.widget.segmentationNode() is not None:
            self.widget.setCurrentSegmentID(segmentId)

    def currentSegment(self) -> str:
        """Id of the segment that is edited, or ""."""
        return str(self.widget.currentSegmentID() or "")

    def enter(self) -> None:
        """As the stock module does; a second call does nothing."""
        if self._entered or self._scene is None:
            return
        self._entered = True
        self.widget.setupViewObservations()
        self.widget.installKeyboardShortcuts()
        self.widget.updateWidgetFromMRML()
        # The other editor may have worked on these segments since.
        if self.widget.segmentationNode() is not None:
            self.widget.saveStateForUndo()

    def exit(self) -> None:
        """As the stock module does."""
        if not self._entered:
            return
        self._entered = False
        self.widget.setActiveEffect(None)
        self.widget.uninstallKeyboardShortcuts()
        self.widget.removeViewObservations()

    def _useNode(self) -> None:
        node = self._scene.GetSingletonNode(TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.vtkMRMLSegmentEditorNode()
            node.SetSingletonTag(TAG)
            node = self._scene.AddNode(node)
        self.widget.setMRMLSegmentEditorNode(node)
