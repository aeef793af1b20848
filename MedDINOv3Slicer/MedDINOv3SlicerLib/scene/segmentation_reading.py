"""Segmentations of the scene read onto a scan's voxels, whatever they are kept as."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.label_map import IndexBox, inside, on_lattice, unique_names
from meddinov3.labels import TISSUE, Label, codes_of
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.scene.geometry import (
    Image,
    Node,
    emptyImage,
    moved,
    transformBetween,
    voxelsOf,
    vtkTransform,
)
from MedDINOv3SlicerLib.scene.volumes import gridOf

BINARY = "Binary labelmap"


@dataclass(frozen=True, eq=False)
class Layer:
    """Segments that share one image, on a scan's grid.

    Attributes:
        voxels: (k, j, i) of the box; a view where the grids share their voxels.
        box: of the scan's grid that `voxels` fill.
        values: what each segment's voxels are, by segment id.
        resampled: whether the image lay on another grid.
        cut: whether the image reaches beyond the scan.
    """

    voxels: np.ndarray
    box: IndexBox
    values: dict[str, int]
    resampled: bool
    cut: bool

    def renumbered(self, values: Mapping[str, int], dtype: Any) -> Iterator[np.ndarray]:
        """The planes of `voxels` with another value for each segment; 0 for those not named."""
        table = np.zeros(max(self.values.values(), default=0) + 2, dtype)
        for name, value in values.items():
            table[self.values[name]] = value
        for plane in self.voxels:
            index = plane if plane.dtype.kind in "iu" else plane.astype(np.int32)
            yield np.take(table, index, mode="clip")  # the last entry is background


def labelsOf(segmentationNode: Node, segmentIds: Sequence[str] | None = None) -> tuple[Label, ...]:
    """The segments as labels with the values 1, 2, ... in their order.

    Args:
        segmentationNode: the segmentation.
        segmentIds: only these; all for None.

    Raises:
        MedDINOv3Error: there is none of an id.
    """
    segmentation = segmentationNode.GetSegmentation()
    segments = [segmentation.GetSegment(name) for name in chosenIds(segmentationNode, segmentIds)]
    names = unique_names(
        [segment.GetName().strip() or _("structure") for segment in segments if segment]
    )
    labels = []
    for value, (segment, name) in enumerate(zip(segments, names, strict=True), start=1):
        red, green, blue = (min(255, max(0, round(255 * part))) for part in segment.GetColor())
        category, kind, modifier = codes_of(segment.GetTerminology() or "")
        labels.append(
            Label(name, value, (red, green, blue), category or TISSUE, kind or TISSUE, modifier)
        )
    return tuple(labels)


def labelMapOn(
    segmentationNode: Node, volumeNode: Node, segmentIds: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[Label, ...], tuple[str, ...]]:
    """A segmentation on a scan's voxels; exact where it is kept on them.

    Surfaces and contours are converted on the scan's own grid, transforms above either node
    are taken into account, and neither node is changed.

    Args:
        segmentationNode: the segmentation.
        volumeNode: the scan.
        segmentIds: only these segments; all for None.

    Returns:
        The label map (k, j, i), what its values stand for (see :func:`labelsOf`), and what the
        user should know: overlaps (the later segment wins), voxels left out, resampling.

    Raises:
        MedDINOv3Error: no such segment, or it cannot be converted to voxels.
    """
    ids = chosenIds(segmentationNode, segmentIds)
    labels = labelsOf(segmentationNode, ids)
    grid = gridOf(volumeNode)
    result = np.zeros(grid.shape, np.min_scalar_type(len(ids)))
    hidden = np.zeros((len(ids) + 1) ** 2, np.int64)
    layers = layersOn(segmentationNode, volumeNode, ids)
    values = {name: value for value, name in enumerate(ids, start=1)}
    for layer in layers:
        wanted = {name: values[name] for name in layer.values}
        for place, new in zip(result[layer.box], layer.renumbered(wanted, result.dtype),
                              strict=True):  # fmt: skip
            both = (place != 0) & (new != 0)
            if both.any():
                low, high = np.minimum(place, new)[both], np.maximum(place, new)[both]
                pairs = low.astype(np.int64) * (len(ids) + 1) + high
                hidden += np.bincount(pairs, minlength=len(hidden))
            np.maximum(place, new, out=place)  # values follow the order: the later wins
    return result, labels, tuple(_notes(layers, hidden.reshape(len(ids) + 1, -1), labels))


def layersOn(
    segmentationNode: Node, volumeNode: Node, segmentIds: Sequence[str]
) -> tuple[Layer, ...]:
    """The images that hold these segments, on the scan's grid; empty ones are left out.

    Raises:
        MedDINOv3Error: they cannot be converted to voxels.
    """
    grid = gridOf(volumeNode)
    segmentation = segmentationNode.GetSegmentation()
    transform = transformBetween(segmentationNode, volumeNode)
    if segmentIds and segmentation.GetSourceRepresentationName() != BINARY:
        segmentation = _converted(segmentationNode, segmentIds, grid, transform)
        transform = np.eye(4)
    images: dict[Image, dict[str, int]] = {}
    for name in segmentIds:
        segment = segmentation.GetSegment(name)
        image = segment.GetRepresentation(BINARY)
        if image is not None and voxelsOf(image) is not None:
            images.setdefault(image, {})[name] = segment.GetLabelValue()
    return tuple(_layer(image, values, grid, transform) for image, values in images.items())


def chosenIds(segmentationNode: Node, segmentIds: Sequence[str] | None) -> tuple[str, ...]:
    """The ids in the segmentation's order; all for None.

    Raises:
        MedDINOv3Error: there is none of an id.
    """
    known = tuple(segmentationNode.GetSegmentation().GetSegmentIDs())
    if segmentIds is None:
        return known
    if set(segmentIds) - set(known):
        raise MedDINOv3Error(
            "no-segment",
            _("A chosen structure is no longer in '{name}'.").format(
                name=segmentationNode.GetName()
            ),
            _("Choose the structures again."),
        )
    return tuple(name for name in known if name in segmentIds)


def _layer(image: Image, values: dict[str, int], grid: Grid, transform: Any) -> Layer:
    found = voxelsOf(image)
    assert found is not None  # empty ones were left out
    array, place = found
    there = moved(place, transform) if isinstance(transform, np.ndarray) else None
    shared = on_lattice(array, there, grid) if there is not None else None
    if shared is not None:
        view, box = inside(*shared, grid.shape)
        return Layer(view, box, values, False, view.shape != shared[0].shape)
    output = slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        image, emptyImage(grid), output, False, False, vtkTransform(transform)
    )
    whole = tuple(slice(0, length) for length in grid.shape)
    resampled = voxelsOf(output)
    if resampled is None or resampled[0].shape != grid.shape:
        resampled = (np.zeros(grid.shape, np.uint8), grid)
    return Layer(resampled[0], whole, values, True, False)


def _converted(
    segmentationNode: Node, segmentIds: Sequence[str], grid: Grid, transform: Any
) -> Any:
    """A copy of the segments as voxels of a grid, already in the scan's coordinates."""
    segmentation = segmentationNode.GetSegmentation()
    copy = slicer.vtkSegmentation()
    copy.SetSourceRepresentationName(segmentation.GetSourceRepresentationName())
    for name in segmentIds:
        copy.CopySegmentFromSegmentation(segmentation, name)
    copy.RemoveRepresentation(BINARY)  # it may be out of date, and is on another grid
    if not isinstance(transform, np.ndarray):
        copy.ApplyNonLinearTransform(transform)
    elif not np.array_equal(transform, np.eye(4)):
        copy.ApplyLinearTransform(vtkTransform(transform))
    converter = slicer.vtkSegmentationConverter
    geometry = converter.SerializeImageGeometry(emptyImage(grid))
    copy.SetConversionParameter(converter.GetReferenceImageGeometryParameterName(), geometry)
    if not copy.CreateRepresentation(BINARY):
        raise MedDINOv3Error(
            "cannot-convert",
            _("'{name}' is kept as {kind}, which cannot be made into voxels here.").format(
                name=segmentationNode.GetName(), kind=copy.GetSourceRepresentationName()
            ),
            _(
                "Create the binary labelmap in the module Segmentations and make it the source"
                " there; contours from radiotherapy need the extension SlicerRT."
            ),
        )
    return copy


def _notes(layers: Sequence[Layer], hidden: np.ndarray, labels: Sequence[Label]) -> Iterator[str]:
    pairs = [
        _("'{later}' covers {count} voxels of '{earlier}'").format(
            later=labels[high - 1].name, count=hidden[low, high], earlier=labels[low - 1].name
        )
        for low, high in np.argwhere(hidden)
    ]
    if pairs:
        yield _("Structures overlap, and a voxel can have one only: {pairs}.").format(
            pairs="; ".join(pairs)
        )
    if any(layer.resampled for layer in layers):
        yield _(
            "The segmentation lies on another grid than the scan: each voxel of the scan took"
            " the nearest one."
        )
    if any(layer.cut for layer in layers):
        yield _("The segmentation reaches beyond the scan: what lies outside was left out.")
