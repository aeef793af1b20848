"""Which structures a person has looked at: Slicer's own segment status, shown in its editor."""

from __future__ import annotations

import slicer

from MedDINOv3SlicerLib.scene.geometry import Node


def isReviewed(segmentationNode: Node, segmentId: str) -> bool:
    """Whether a segment is marked as completed; False if there is no such segment."""
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    return segment is not None and logic.GetSegmentStatus(segment) == logic.Completed


def setReviewed(segmentationNode: Node, segmentId: str, reviewed: bool) -> None:
    """Mark a segment as completed, or as in progress again; nothing if there is none."""
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    if segment is not None:
        logic.SetSegmentStatus(segment, logic.Completed if reviewed else logic.InProgress)


def markInProgress(segment: Node) -> None:
    """Mark a new segment as one that a person still has to look at."""
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(segment, logic.InProgress)
