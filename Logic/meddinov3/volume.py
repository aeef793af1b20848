"""A scan in memory: one array a channel, as stored, on one grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid


@dataclass
class Volume:
    """A scan.

    Attributes:
        channels: arrays (k, j, i), in the type they were stored in.
        grid: where the voxels lie.
        modality: DICOM modality (``CT``, ``MR``) or "" if the file does not say.
        source: DICOM slice files in the order of k or the one multi-frame file, else empty.
        notes: what the user should know about how it was read.
        inputs: the files and DICOM folders it was read from, which no result may overwrite.
    """

    channels: tuple[np.ndarray, ...]
    grid: Grid
    modality: str = ""
    source: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for channel in self.channels:
            if channel.shape != self.grid.shape:
                raise ValueError(f"array {channel.shape} does not fit the grid {self.grid.shape}")


def grid_of(image: sitk.Image | sitk.ImageFileReader) -> Grid:
    """The grid of a three-dimensional SimpleITK image, or of a header that was read."""
    columns, rows, slices = image.GetSize()
    return Grid(
        (columns, rows, slices),
        tuple(image.GetSpacing()),
        tuple(image.GetOrigin()),
        np.array(image.GetDirection(), dtype=np.float64).reshape(3, 3),
    )


class _Voxels:
    """Lends an image's memory to numpy; the array keeps this, and this keeps the image."""

    def __init__(self, image: sitk.Image) -> None:
        self._image = image
        self.__array_interface__ = sitk.GetArrayViewFromImage(image).__array_interface__


def array_of(image: sitk.Image) -> np.ndarray:
    """A read-only (k, j, i) view of an image's voxels that keeps the image alive."""
    return np.asarray(_Voxels(image))


def volume_of(image: sitk.Image, modality: str = "", source: tuple[str, ...] = ()) -> Volume:
    """View a scalar three-dimensional SimpleITK image as a volume, without a copy."""
    return Volume((array_of(image),), grid_of(image), modality, source)


def image_of(array: np.ndarray, grid: Grid) -> sitk.Image:
    """Copy a (k, j, i) array into a SimpleITK image on `grid`."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def join_channels(volumes: list[Volume]) -> Volume:
    """Put scans of one patient together; later ones are resampled linearly to the first.

    Raises:
        MedDINOv3Error: a later scan does not overlap the first at all.
    """
    first, *others = volumes
    channels = list(first.channels)
    for other in others:
        if not other.grid.same_as(first.grid):
            other = _resample(other, first.grid)
        channels.extend(other.channels)
    notes = tuple(dict.fromkeys(note for volume in volumes for note in volume.notes))
    inputs = tuple(path for volume in volumes for path in (*volume.inputs, *volume.source))
    return Volume(tuple(channels), first.grid, first.modality, first.source, notes, inputs)


def _resample(volume: Volume, grid: Grid) -> Volume:
    if not volume.grid.overlaps(grid):
        raise MedDINOv3Error(
            "channels-apart",
            "Two channels do not overlap in patient space.",
            "Give scans of the same patient and session, registered to each other.",
        )
    images = []
    for channel in volume.channels:
        moving = image_of(channel.astype(np.float32), volume.grid)
        reference = sitk.Image(grid.size, sitk.sitkUInt8)
        reference.SetSpacing(grid.spacing)
        reference.SetOrigin(grid.origin)
        reference.SetDirection(grid.direction.ravel().tolist())
        lowest = float(channel.min())
        resampled = sitk.Resample(
            moving, reference, sitk.Transform(), sitk.sitkLinear, lowest, sitk.sitkFloat32
        )
        images.append(resampled)
    return replace(volume, channels=tuple(map(array_of, images)), grid=grid)
