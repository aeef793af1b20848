"""Training cases from the scene, and cases of a library back into it.

A case is voxels, geometry and names of structures. No node name, file name or DICOM entry is
part of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from meddinov3.cases.label_matching import renumber
from meddinov3.cases.records import Provenance, changed
from meddinov3.grid import Grid
from meddinov3.labels import Label, default_colour
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.scene.geometry import Node
from MedDINOv3SlicerLib.scene.proposal import changesSince, proposedBy
from MedDINOv3SlicerLib.scene.review import isReviewed
from MedDINOv3SlicerLib.scene.segmentations import labelMapOn, placeResult
from MedDINOv3SlicerLib.scene.volumes import addVolume, arrayOf, checkChannels

if TYPE_CHECKING:
    from meddinov3.cases.library import Library

VALUE_NAME = re.compile(r"label[ _-]([0-9]{1,5})", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class SceneCase:
    """What ``meddinov3.cases.library.Library.add`` wants.

    Attributes:
        channels: (k, j, i) each; views of the scene's own voxels.
        grid: of all of them, and of `labelMap`.
        labelMap: (k, j, i).
        labels: what its values stand for.
        provenance: which model proposed it and how much was changed; None if it was drawn by
            hand.
        status: ``reviewed`` if all structures are marked as completed, else ``annotated``.
        notes: what the user should know, e.g. overlaps.
    """

    channels: tuple[np.ndarray, ...]
    grid: Grid
    labelMap: np.ndarray
    labels: tuple[Label, ...]
    provenance: Provenance | None
    status: str
    notes: tuple[str, ...]


def caseFrom(
    volumeNodes: Sequence[Node], segmentationNode: Node, segmentIds: Sequence[str] | None = None
) -> SceneCase:
    """Read a training case from the scene.

    Args:
        volumeNodes: one scan for each channel, in the library's order.
        segmentationNode: the corrected segmentation.
        segmentIds: only these structures; all for None.

    Raises:
        MedDINOv3Error: the scans do not lie voxel on voxel, or the segmentation cannot be made
            into voxels.
    """
    grid = checkChannels(volumeNodes)
    first = volumeNodes[0]
    labelMap, labels, notes = labelMapOn(segmentationNode, first, segmentIds)
    labelMap, labels = _byValue(labelMap, labels)
    model, weights = proposedBy(segmentationNode, segmentIds)
    provenance = None
    if model:
        found = changesSince(segmentationNode, first, segmentIds) or {}
        provenance = Provenance(model, weights, changed(found))
    ids = segmentationNode.GetSegmentation().GetSegmentIDs()
    chosen = [name for name in ids if segmentIds is None or name in segmentIds]
    reviewed = bool(chosen) and all(isReviewed(segmentationNode, name) for name in chosen)
    return SceneCase(
        tuple(arrayOf(node) for node in volumeNodes),
        grid,
        labelMap,
        labels,
        provenance,
        "reviewed" if reviewed else "annotated",
        notes,
    )


def openCase(scene: Node, library: Library, caseId: str) -> tuple[tuple[Node, ...], Node]:
    """Show a library's case, to be corrected and replaced.

    All structures of the library become segments, so that missing ones can be drawn. Regions,
    which overlap, are shown by the values that make them up.

    Args:
        scene: the MRML scene.
        library: the case library.
        caseId: of the case.

    Returns:
        A volume for each channel, and the segmentation.

    Raises:
        MedDINOv3Error: there is no such case, or a file is missing or damaged.
    """
    volume, labelMap = library.read(caseId)
    names = [caseId]
    if len(volume.channels) > 1:
        names = [f"{caseId} {channel}" for channel in library.record.channels]
    nodes = tuple(
        addVolume(scene, channel, volume.grid, name)
        for channel, name in zip(volume.channels, names, strict=True)
    )
    labels = _labelsOfLibrary(library)
    title = _("{case} segmentation").format(case=caseId)
    return nodes, placeResult(scene, nodes[0], labelMap, labels, name=title)


def _labelsOfLibrary(library: Library) -> list[Label]:
    ours = library.labels
    labels = [] if ours.regions else list(ours.labels)
    values = {value for members in ours.members for value in members} | {ours.ignore or 0}
    for value in sorted(values - {0} - {label.value for label in labels}):
        labels.append(Label(f"label {value}", value, default_colour(value)))
    return labels


def _byValue(
    labelMap: np.ndarray, labels: tuple[Label, ...]
) -> tuple[np.ndarray, tuple[Label, ...]]:
    """Give structures called ``label 3`` the value 3, by which the library knows them."""
    stated = {}
    for label in labels:
        named = VALUE_NAME.fullmatch(label.name.strip())
        if named and int(named[1]) and int(named[1]) not in stated.values():
            stated[label.value] = int(named[1])
    if not stated:
        return labelMap, labels
    taken = set(stated.values())
    free = (value for value in range(1, len(labels) + len(taken) + 1) if value not in taken)
    values = {label.value: stated.get(label.value) or next(free) for label in labels}
    return renumber(labelMap, values), tuple(
        replace(label, value=values[label.value]) for label in labels
    )
