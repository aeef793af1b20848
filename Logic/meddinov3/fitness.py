"""Does a scan suit a model? Checked before anything is computed."""

from __future__ import annotations

import numpy as np

from meddinov3.description import ModelDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import INDEX_AXES
from meddinov3.region import IndexBox, Region, index_box
from meddinov3.volume import Volume

LARGEST = 1.5  # times the training extent
ROUNDING = 1.01
AIR = -500.0  # Hounsfield units; MR has no values like that


def check_fitness(
    volume: Volume, description: ModelDescription, region: Region | None
) -> list[str]:
    """Compare channels, modality and extent with what the model was trained on.

    Returns:
        Warnings in words.

    Raises:
        MedDINOv3Error: wrong number of channels, or a scan much larger than the boxes that
            the model was trained on.
    """
    expected = [channel.name for channel in description.channels]
    if len(volume.channels) != len(expected):
        raise MedDINOv3Error(
            "wrong-channels",
            f"The model '{description.id}' takes {len(expected)} channel(s) "
            f"({', '.join(expected)}); {len(volume.channels)} given.",
            "Give one --channel NAME=FILE for each.",
        )
    box = index_box(region, volume.grid, description.sampling.orientation)
    unknown = (
        ["the model saw its training images as they were stored: if this scan is stored another "
         "way round, the result is worth nothing (models import --orientation mends it)"]
        if description.sampling.orientation.as_stored
        else []
    )  # fmt: skip
    return [
        *unknown,
        *_check_extent(volume, description, box, region is not None),
        *_check_modality(volume, description),
    ]


def _check_extent(
    volume: Volume, description: ModelDescription, box: IndexBox, has_region: bool
) -> list[str]:
    purpose, orientation = description.purpose, description.sampling.orientation
    if purpose.extent is None:
        return []
    spacing = orientation.spacing(volume.grid)
    extent = [(part.stop - part.start) * mm for part, mm in zip(box, spacing, strict=True)]
    pairs = list(zip(extent, purpose.extent, strict=True))
    if all(here <= LARGEST * there * ROUNDING for here, there in pairs):
        return []
    here, there = (_by_patient_axis(e, orientation.letters) for e in (extent, purpose.extent))
    if purpose.trained_on == "boxes":
        raise MedDINOv3Error(
            "region-needed",
            f"The model '{description.id}' was trained on boxes of about {there} around its "
            f"structure; this {'region' if has_region else 'scan'} measures {here}, more than "
            f"{LARGEST} times that.",
            "Make the region smaller, or turn it to the scan's axes: what counts is the box "
            "around it along those axes."
            if has_region
            else "Give a box around the structure with --roi.",
        )
    return [
        f"the scan measures {here}, the model was trained on about {there}: "
        "results outside the trained body part are not to be trusted"
    ]


def _by_patient_axis(extent: list[float] | tuple[float, ...], letters: tuple[str, ...]) -> str:
    """Left-right x front-back x head-foot, in mm; as stored where the patient is not known."""
    if set(letters) == set(INDEX_AXES):
        return " x ".join(f"{mm:.0f}" for mm in extent) + " mm"
    order = [
        next(n for n, letter in enumerate(letters) if letter in pair) for pair in ("LR", "PA", "SI")
    ]
    return " x ".join(f"{extent[n]:.0f}" for n in order) + " mm"


def _check_modality(volume: Volume, description: ModelDescription) -> list[str]:
    wanted = description.purpose.modality
    if volume.modality and wanted and volume.modality != wanted:
        return [f"the scan is {volume.modality}, the model was trained on {wanted}"]
    if volume.modality:
        return []
    lowest = float(np.nanmin(volume.channels[0]))
    if wanted == "CT" and lowest >= 0:
        return ["no voxel is below 0: this does not look like CT in Hounsfield units"]
    if wanted == "MR" and lowest <= AIR:
        return [f"voxels as low as {lowest:.0f} look like CT; the model was trained on MR"]
    return []
