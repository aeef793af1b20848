"""A model's label map put into the scene as segments, beside its scan.

All labels share one image, imported once: sixty structures cost no more than one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.label_map import IndexBox
from meddinov3.labels import Label
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from MedDINOv3SlicerLib.scene.geometry import Image, Node, imageOf, moved, transformBetween
from MedDINOv3SlicerLib.scene.hierarchy import putBeside
from MedDINOv3SlicerLib.scene.proposal import (
    Proposal,
    changedIds,
    forgetUnused,
    isProposal,
    markSegment,
    remember,
)
from MedDINOv3SlicerLib.scene.review import isReviewed, markInProgress
from MedDINOv3SlicerLib.scene.segmentation_reading import BINARY, labelMapOn, labelsOf
from MedDINOv3SlicerLib.scene.volumes import gridOf

__all__ = ["labelMapOn", "labelsOf", "placeResult"]


def placeResult(
    scene: Node,
    volumeNode: Node,
    labelMap: np.ndarray,
    labels: Sequence[Label],
    into: Node | None = None,
    name: str = "",
    proposedBy: str = "",
    weightsSha256: str = "",
    keepCorrected: bool = True,
) -> Node:
    """Show a label map as a segmentation.

    Other segments stay as they are. A segment of the same name that a model proposed before is
    replaced, unless a person has corrected or reviewed it; what people drew always stays, and
    the new segment then gets a number behind its name.

    Args:
        scene: the MRML scene.
        volumeNode: the scan.
        labelMap: (k, j, i) whole numbers on the scan's voxels.
        labels: a segment for each, also for those that are empty.
        into: an existing segmentation, or None for a new one.
        name: of a new segmentation.
        proposedBy: id of the model; then the proposal is remembered, see
            :func:`changesSince <MedDINOv3SlicerLib.scene.proposal.changesSince>`.
        weightsSha256: of that model's weights.
        keepCorrected: False also replaces proposals that people have corrected.

    Returns:
        The segmentation node.

    Raises:
        MedDINOv3Error: the label map does not fit the scan, or `into` cannot take voxels.
    """
    grid = gridOf(volumeNode)
    if labelMap.shape != grid.shape or labelMap.dtype.kind not in "iu":
        raise MedDINOv3Error(
            "other-grid",
            _("The result does not fit the scan '{name}': the scan was changed meanwhile.").format(
                name=volumeNode.GetName()
            ),
            _("Segment it again."),
        )
    box = _boxOf(labelMap)
    voxels = _onlyKnown(labelMap[box], labels)
    node = into if into is not None else _new(scene, volumeNode, name)
    _prepare(node, volumeNode)
    image = imageOf(voxels, _gridIn(node, volumeNode, grid), box)
    replaced = _replaceable(node, volumeNode, labels, keepCorrected)
    wasModifying = node.StartModify()
    try:
        _detach(node, list(replaced.values()))
        key = remember(scene, Proposal(box, voxels, grid)) if proposedBy else ""
        for label, segment in _segments(image, labels):
            markInProgress(segment)
            if proposedBy:
                markSegment(segment, key, label.value, proposedBy, weightsSha256)
            segmentName, place = _makeRoom(node, label, replaced.get(label.name, ""))
            segment.SetName(segmentName)
            if not node.GetSegmentation().AddSegment(segment, *place):
                raise _cannotTake(node)
        forgetUnused(scene)
    finally:
        node.EndModify(wasModifying)
    putBeside(scene, node, volumeNode)
    return node


def _boxOf(labelMap: np.ndarray) -> IndexBox:
    """The smallest box (k, j, i) that holds all labels; one voxel if there are none."""
    filled = np.zeros(labelMap.shape[1:], bool)
    planes = np.zeros(labelMap.shape[0], bool)
    for number, plane in enumerate(labelMap):
        planes[number] = plane.any()
        if planes[number]:
            filled |= plane != 0
    box = []
    for line in (planes, filled.any(axis=1), filled.any(axis=0)):
        found = np.flatnonzero(line)
        box.append(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 1))
    return tuple(box)


def _onlyKnown(voxels: np.ndarray, labels: Sequence[Label]) -> np.ndarray:
    """The voxels as small unsigned integers; values that no label has become background."""
    highest = max((label.value for label in labels), default=0)
    table = np.zeros(highest + 2, np.uint8 if highest < 256 else np.uint16)
    for label in labels:
        table[label.value] = label.value
    known = np.empty(voxels.shape, table.dtype)
    for place, plane in zip(known, voxels, strict=True):
        np.take(table, plane, mode="clip", out=place)
    return known


def _new(scene: Node, volumeNode: Node, name: str) -> Node:
    name = name or _("{scan} segmentation").format(scan=volumeNode.GetName())
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(scene.GenerateUniqueName(name))
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    return node


def _prepare(node: Node, volumeNode: Node) -> None:
    """Give an empty segmentation the scan's place; refuse one that cannot take voxels."""
    segmentation = node.GetSegmentation()
    if segmentation.GetNumberOfSegments() == 0:
        node.SetSourceRepresentationToBinaryLabelmap()
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    elif segmentation.GetSourceRepresentationName() != BINARY:
        raise _cannotTake(node)
    elif node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)


def _cannotTake(node: Node) -> MedDINOv3Error:
    return MedDINOv3Error(
        "not-voxels",
        _("'{name}' is kept as {kind}; voxels cannot be added without changing what it holds.")
        .format(name=node.GetName(), kind=node.GetSegmentation().GetSourceRepresentationName()),
        _("Choose a new segmentation, or make 'Binary labelmap' its source in the module"
          " Segmentations."),
    )  # fmt: skip


def _gridIn(node: Node, volumeNode: Node, grid: Grid) -> Grid:
    """The scan's grid in the coordinates of the segmentation."""
    transform = transformBetween(volumeNode, node)
    there = moved(grid, transform) if isinstance(transform, np.ndarray) else None
    if there is None:
        raise MedDINOv3Error(
            "other-transform",
            _("'{name}' is under another transform than the scan, one that bends space.").format(
                name=node.GetName()
            ),
            _("Choose a new segmentation, or put both under the same transform."),
        )
    return there


def _replaceable(
    node: Node, volumeNode: Node, labels: Sequence[Label], keepCorrected: bool
) -> dict[str, str]:
    """Ids of earlier proposals that the new ones take the place of, by name."""
    segmentation = node.GetSegmentation()
    wanted = {label.name for label in labels}
    found: dict[str, str] = {}
    for segmentId in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segmentId)
        if segment.GetName() in wanted and isProposal(segment):
            found.setdefault(segment.GetName(), segmentId)
    if keepCorrected and found:
        changed = changedIds(node, volumeNode, list(found.values()))
        found = {
            name: segmentId
            for name, segmentId in found.items()
            if segmentId not in changed and not isReviewed(node, segmentId)
        }
    return found


def _detach(node: Node, segmentIds: Sequence[str]) -> None:
    """Take segments out of the images they share, all in one pass.

    Removing them one by one would go through the whole image each time.
    """
    segmentation = node.GetSegmentation()
    images: dict[Image, list[int]] = {}
    for segmentId in segmentIds:
        segment = segmentation.GetSegment(segmentId)
        image = segment.GetRepresentation(BINARY)
        if image is not None:
            images.setdefault(image, []).append(segment.GetLabelValue())
    for image, values in images.items():
        _clear(image, values)
    for segmentId in segmentIds:
        segmentation.GetSegment(segmentId).AddRepresentation(BINARY, slicer.vtkOrientedImageData())


def _clear(image: Image, values: Sequence[int]) -> None:
    scalars = image.GetPointData().GetScalars()
    if scalars is None:
        return
    array = vtk_to_numpy(scalars)
    table = np.arange(max(values) + 2, dtype=array.dtype)
    table[list(values)] = 0
    step = 2**22  # voxels at a time, so that no second image is made
    for start in range(0, len(array), step):
        part = array[start : start + step]
        named = (part >= 0) & (part < len(table))
        part[named] = table[part[named]]
    image.Modified()


def _segments(image: Image, labels: Sequence[Label]) -> list[tuple[Label, Node]]:
    """Complete segments, so that adding each one is a single event."""
    made = []
    for label in labels:
        segment = slicer.vtkSegment()
        segment.SetColor(*(part / 255 for part in label.colour))
        segment.SetTerminology(label.terminology)
        segment.SetNameAutoGenerated(False)
        segment.SetColorAutoGenerated(False)
        segment.SetLabelValue(label.value)
        segment.AddRepresentation(BINARY, image)
        made.append((label, segment))
    return made


def _makeRoom(node: Node, label: Label, replaced: str) -> tuple[str, tuple[str, str]]:
    """Name, id and successor of a new segment; the one it replaces is removed."""
    segmentation = node.GetSegmentation()
    ids = list(segmentation.GetSegmentIDs())
    if replaced:
        following = ids[ids.index(replaced) + 1 :]
        segmentation.RemoveSegment(replaced)
        return label.name, (replaced, following[0] if following else "")
    taken = {segmentation.GetSegment(segmentId).GetName() for segmentId in ids}
    name, number = label.name, 1
    while name in taken:
        number += 1
        name = f"{label.name} ({number})"
    segmentId = segmentation.GenerateUniqueSegmentID(f"MedDINOv3_{label.value}")
    return name, (segmentId, "")
