"""Segments to files for other programs."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import slicer
import vtk
from meddinov3.atomic import whole_file
from meddinov3.errors import MedDINOv3Error
from meddinov3.label_map import unique_names
from meddinov3.labels import Label
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.scene.geometry import Node, transformBetween, vtkTransform
from MedDINOv3SlicerLib.scene.segmentation_reading import chosenIds, labelMapOn, labelsOf
from MedDINOv3SlicerLib.scene.volumes import gridOf

KINDS = ("stl", "nifti", "nrrd")
LABEL_MAP_NAMES = {"nifti": "segmentation.nii.gz", "nrrd": "segmentation.nrrd"}
TABLE_NAME = "segmentation_labels.tsv"
RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)[1-9]", re.IGNORECASE)  # on Windows


def exportSegments(
    segmentationNode: Node,
    volumeNode: Node,
    folder: Path,
    kind: str,
    segmentIds: Sequence[str] | None = None,
) -> tuple[Path, ...]:
    """Write segments in the coordinates of the scan's own file.

    A transform above the scan is left out, as it is when Slicer saves the scan. Files are named
    after the structures, never after nodes, and earlier ones of the same name are replaced.

    Args:
        segmentationNode: the segmentation.
        volumeNode: its scan.
        folder: made if it is not there.
        kind: ``stl``: a surface for each segment that has voxels, mm in LPS; ``nifti`` or
            ``nrrd``: one label map on the scan's voxels with a table of its values.
        segmentIds: only these; all for None.

    Returns:
        The files.

    Raises:
        MedDINOv3Error: nothing is drawn, or a file cannot be written.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind} is none of {', '.join(KINDS)}")
    if kind == "stl":
        return _surfaces(segmentationNode, volumeNode, folder, segmentIds)
    return _labelMap(segmentationNode, volumeNode, folder, kind, segmentIds)


def _labelMap(
    segmentationNode: Node,
    volumeNode: Node,
    folder: Path,
    kind: str,
    segmentIds: Sequence[str] | None,
) -> tuple[Path, ...]:
    from meddinov3.writing import check_not_read, write_label_map  # needs SimpleITK

    labelMap, labels, _notes = labelMapOn(segmentationNode, volumeNode, segmentIds)
    if not labelMap.any():
        raise _nothing()
    path, table = folder / LABEL_MAP_NAMES[kind], folder / TABLE_NAME
    storage = volumeNode.GetStorageNode()
    if storage is not None and storage.GetFileName():
        check_not_read(path, [storage.GetFileName()])
    write_label_map(path, labelMap, gridOf(volumeNode))
    _writeTable(table, labels)
    return path, table


def _writeTable(path: Path, labels: Sequence[Label]) -> None:
    with (
        whole_file(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(["index", "name", "color", "scheme", "code", "meaning", "side"])
        for label in labels:
            colour = "#{:02x}{:02x}{:02x}".format(*label.colour)
            side = label.modifier.meaning if label.modifier else ""
            code = label.type
            writer.writerow(
                [label.value, label.name, colour, code.scheme, code.value, code.meaning, side]
            )


def _surfaces(
    segmentationNode: Node, volumeNode: Node, folder: Path, segmentIds: Sequence[str] | None
) -> tuple[Path, ...]:
    toScan = vtk.vtkGeneralTransform()
    toScan.Concatenate(vtkTransform(transformBetween(segmentationNode, volumeNode)))
    toScan.PostMultiply()
    toScan.Scale(-1, -1, 1)  # RAS to LPS
    ids = chosenIds(segmentationNode, segmentIds)
    names = _fileNames([label.name for label in labelsOf(segmentationNode, ids)])
    written = []
    for segmentId, name in zip(ids, names, strict=True):
        surface = vtk.vtkPolyData()
        made = slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentClosedSurfaceRepresentation(
            segmentationNode, segmentId, surface, False
        )
        if not made or surface.GetNumberOfPoints() == 0:
            continue
        path = folder / f"{name}.stl"
        _writeSurface(path, surface, toScan)
        written.append(path)
    if not written:
        raise _nothing()
    return tuple(written)


def _writeSurface(path: Path, surface: vtk.vtkPolyData, transform: vtk.vtkGeneralTransform) -> None:
    moved = vtk.vtkTransformPolyDataFilter()
    moved.SetInputData(surface)
    moved.SetTransform(transform)
    triangles = vtk.vtkTriangleFilter()
    triangles.SetInputConnection(moved.GetOutputPort())
    writer = vtk.vtkSTLWriter()
    writer.SetInputConnection(triangles.GetOutputPort())
    writer.SetFileTypeToBinary()
    writer.SetHeader("MedDINOv3. SPACE=LPS")  # Slicer reads the space from here
    with whole_file(path) as temporary:
        writer.SetFileName(str(temporary))
        if writer.Write() != 1 or not temporary.is_file():
            raise OSError(_("the surface could not be written"))


def _fileNames(names: Sequence[str]) -> list[str]:
    """Names that files can have on any system, each once."""
    clean = []
    for name in names:
        plain = re.sub(r'[<>:"/\\|?*\x00-\x1f]+', "_", name).strip(" .")[:80] or "structure"
        clean.append(f"{plain}_" if RESERVED.fullmatch(plain) else plain)
    folded = [name.casefold() for name in unique_names([name.casefold() for name in clean])]
    return [
        name + different[len(name.casefold()) :]
        for name, different in zip(clean, folded, strict=True)
    ]


def _nothing() -> MedDINOv3Error:
    return MedDINOv3Error(
        "empty-segmentation",
        _("There is nothing to write: the chosen structures have no voxels in the scan."),
        _("Draw or segment them first, or choose others."),
    )
