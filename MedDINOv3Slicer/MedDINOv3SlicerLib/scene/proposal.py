"""What a model proposed, remembered in the scene, and what people changed since.

The label map is kept packed in a hidden parameter node: it is saved with the scene whichever
way that is saved, needs no file of its own, and takes little memory. Segments name it in their
tags, so it is found again after a segment was renamed or moved to another segmentation.
"""

from __future__ import annotations

import base64
import json
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import vtk
from meddinov3.cases.change import Change, changes
from meddinov3.grid import Grid
from meddinov3.label_map import IndexBox, on_lattice
from meddinov3.labels import Label, default_colour

from MedDINOv3SlicerLib.scene.geometry import Node
from MedDINOv3SlicerLib.scene.segmentation_reading import labelsOf, layersOn
from MedDINOv3SlicerLib.scene.volumes import gridOf

MODULE = "MedDINOv3Proposal"
MODEL_TAG, WEIGHTS_TAG = "MedDINOv3.Model", "MedDINOv3.Weights"
KEY_TAG, VALUE_TAG = "MedDINOv3.Proposal", "MedDINOv3.Value"
LEVEL = 1  # of compression: label maps shrink to a hundredth at any


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a model proposed for a scan.

    Attributes:
        box: of the scan's grid, (k, j, i).
        voxels: (k, j, i) in the box; outside it nothing was proposed.
        grid: the scan's, in its own coordinates.
    """

    box: IndexBox
    voxels: np.ndarray
    grid: Grid

    def on(self, grid: Grid) -> np.ndarray | None:
        """The label map (k, j, i) on the scan's grid as it is now; None if it is another scan.

        Slicer turns the slices of left-handed scans round when it loads them, and hardening a
        transform moves the grid but leaves the voxels.
        """
        whole = np.zeros(self.grid.shape, self.voxels.dtype)
        whole[self.box] = self.voxels
        shared = on_lattice(whole, self.grid, grid)
        if shared is not None and shared[1] == tuple(slice(0, n) for n in grid.shape):
            return shared[0]
        turned = np.linalg.det(grid.direction) * np.linalg.det(self.grid.direction) < 0
        return None if turned or self.grid.size != grid.size else whole


def remember(scene: Node, proposal: Proposal) -> str:
    """Keep a proposal in the scene.

    Returns:
        The key by which segments name it, see :func:`markSegment`.
    """
    node = scene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
    node.UnRegister(None)
    node.SetModuleName(MODULE)
    node.SetName("MedDINOv3 proposal")
    key = uuid.uuid4().hex
    facts = {
        "size": list(proposal.grid.size),
        "spacing": list(proposal.grid.spacing),
        "origin": list(proposal.grid.origin),
        "direction": proposal.grid.direction.tolist(),
        "box": [[part.start, part.stop] for part in proposal.box],
        "type": proposal.voxels.dtype.str,
    }
    packed = zlib.compress(np.ascontiguousarray(proposal.voxels), LEVEL)
    node.SetParameter("key", key)
    node.SetParameter("facts", json.dumps(facts))
    node.SetParameter("voxels", base64.b64encode(packed).decode("ascii"))
    scene.AddNode(node)
    return key


def markSegment(segment: Node, key: str, value: int, model: str, weightsSha256: str) -> None:
    """Write into a segment's tags which model proposed it, and where that is remembered."""
    segment.SetTag(MODEL_TAG, model)
    segment.SetTag(WEIGHTS_TAG, weightsSha256)
    segment.SetTag(KEY_TAG, key)
    segment.SetTag(VALUE_TAG, str(value))


def tagOf(segment: Node, name: str) -> str:
    """A segment's tag; "" if it has none of that name."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def isProposal(segment: Node) -> bool:
    """Whether a model proposed the segment, whatever was done to it since."""
    return bool(tagOf(segment, MODEL_TAG))


def proposedBy(segmentationNode: Node, segmentIds: Sequence[str] | None = None) -> tuple[str, str]:
    """Which model proposed a segmentation.

    Args:
        segmentationNode: the segmentation.
        segmentIds: look at these segments only; at all for None.

    Returns:
        The model's id and its weights' SHA-256, of the last segment that a model proposed; two
        empty strings if all were drawn by hand.
    """
    segmentation = segmentationNode.GetSegmentation()
    for name in reversed(segmentation.GetSegmentIDs()):
        segment = segmentation.GetSegment(name)
        if isProposal(segment) and (segmentIds is None or name in segmentIds):
            return tagOf(segment, MODEL_TAG), tagOf(segment, WEIGHTS_TAG)
    return "", ""


def changesSince(
    segmentationNode: Node, volumeNode: Node, segmentIds: Sequence[str] | None = None
) -> dict[str, Change] | None:
    """What was changed since a model proposed the segments.

    Args:
        segmentationNode: the segmentation.
        volumeNode: the scan it was proposed for.
        segmentIds: look at these segments only; at all for None.

    Returns:
        The change of each proposed segment by its name (as :func:`labelsOf` makes them unique);
        None if nothing is known of a proposal for this scan.

    Raises:
        MedDINOv3Error: the segmentation cannot be made into voxels.
    """
    byId = changesById(segmentationNode, volumeNode, segmentIds)
    names = namesById(segmentationNode)
    return {names[name]: change for name, change in byId.items()} or None


def changesById(
    segmentationNode: Node, volumeNode: Node, segmentIds: Sequence[str] | None = None
) -> dict[str, Change]:
    """As :func:`changesSince`, by the segments' ids; empty if nothing is known."""
    grid = gridOf(volumeNode)
    found: dict[str, Change] = {}
    for values, before, after in _compared(segmentationNode, volumeNode, segmentIds):
        labels = [Label(name, value, default_colour(0)) for name, value in values.items()]
        found |= changes(before, after, labels, grid)
    ids = segmentationNode.GetSegmentation().GetSegmentIDs()
    return {name: found[name] for name in ids if name in found}


def changedIds(
    segmentationNode: Node, volumeNode: Node, segmentIds: Sequence[str] | None = None
) -> set[str]:
    """Ids of the segments of which any voxel was changed; quicker than how much."""
    found: set[str] = set()
    for values, before, after in _compared(segmentationNode, volumeNode, segmentIds):
        differ: set[int] = set()
        for old, new in zip(before, after, strict=True):
            if not np.array_equal(old, new):
                where = old != new
                differ |= {*np.unique(old[where]).tolist(), *np.unique(new[where]).tolist()}
        found |= {name for name, value in values.items() if value in differ}
    return found


def namesById(segmentationNode: Node) -> dict[str, str]:
    """The segments' names made unique, by id."""
    ids = segmentationNode.GetSegmentation().GetSegmentIDs()
    return {name: label.name for name, label in zip(ids, labelsOf(segmentationNode), strict=True)}


def forgetUnused(scene: Node) -> None:
    """Remove proposals that no segment of the scene names any more."""
    used = {
        tagOf(node.GetSegmentation().GetNthSegment(number), KEY_TAG)
        for node in _nodes(scene, "vtkMRMLSegmentationNode")
        for number in range(node.GetSegmentation().GetNumberOfSegments())
    }
    for key, node in _records(scene).items():
        if key not in used:
            scene.RemoveNode(node)


def _compared(
    segmentationNode: Node, volumeNode: Node, segmentIds: Sequence[str] | None
) -> Iterator[tuple[dict[str, int], np.ndarray, np.ndarray]]:
    """Values by segment id with the label maps before and after, layer by layer.

    Segments of different layers may overlap, so one label map would not do for all.
    """
    segmentation = segmentationNode.GetSegmentation()
    grid = gridOf(volumeNode)
    byKey: dict[str, dict[str, int]] = {}
    for name in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(name)
        key = tagOf(segment, KEY_TAG)
        if key and (segmentIds is None or name in segmentIds):
            byKey.setdefault(key, {})[name] = int(tagOf(segment, VALUE_TAG))
    for key, values in byKey.items():
        proposal = _recall(segmentationNode.GetScene(), key)
        before = proposal.on(grid) if proposal is not None else None
        if before is None:
            continue
        rest = dict(values)
        for layer in layersOn(segmentationNode, volumeNode, list(values)):
            here = {name: rest.pop(name) for name in layer.values}
            after = np.zeros(grid.shape, before.dtype)
            planes = layer.renumbered(here, after.dtype)
            for place, plane in zip(after[layer.box], planes, strict=True):
                place[...] = plane
            yield here, before, after
        if rest:  # emptied altogether
            yield rest, before, np.zeros_like(before)


def _recall(scene: Node, key: str) -> Proposal | None:
    node = _records(scene).get(key)
    if node is None:
        return None
    try:
        facts = json.loads(node.GetParameter("facts"))
        box = tuple(slice(start, stop) for start, stop in facts["box"])
        packed = base64.b64decode(node.GetParameter("voxels"), validate=True)
        voxels = np.frombuffer(zlib.decompress(packed), np.dtype(facts["type"]))
        shape = tuple(part.stop - part.start for part in box)
        direction = np.array(facts["direction"], np.float64)
        grid = Grid(
            tuple(facts["size"]), tuple(facts["spacing"]), tuple(facts["origin"]), direction
        )
        return Proposal(box, voxels.reshape(shape), grid)
    except (ValueError, KeyError, TypeError, zlib.error):
        return None  # a scene that was edited by hand: nothing is known then


def _records(scene: Node) -> dict[str, Node]:
    nodes = _nodes(scene, "vtkMRMLScriptedModuleNode")
    return {node.GetParameter("key"): node for node in nodes if node.GetModuleName() == MODULE}


def _nodes(scene: Node, kind: str) -> list[Node]:
    if scene is None:
        return []
    found = scene.GetNodesByClass(kind)
    found.UnRegister(None)
    return [found.GetItemAsObject(number) for number in range(found.GetNumberOfItems())]
