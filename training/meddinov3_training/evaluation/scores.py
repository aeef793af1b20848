"""Agreement of a prediction with a reference, by label.

Definitions:

- Dice: 2 |P and R| / (|P| + |R|) in voxels.
- NSD (normalised surface Dice, Nikolov et al., arXiv:1809.04430): the share of both surfaces
  that lies within a tolerance of the other. A surface is the voxels of a structure that touch
  voxels outside it by a face, each counted once, as in MONAI's ``compute_surface_dice`` and the
  script behind the paper's tables.
- HD95: the larger of the two directed 95th percentiles of surface distance, as in MONAI's
  ``compute_hausdorff_distance``.

Empty structures follow nnU-Net: if both are empty nothing is scored (None, left out of means);
if one is empty Dice and NSD are 0. HD95 has no value then, and the case is counted as missed or
as a false alarm.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from numpy.typing import NDArray
from scipy import ndimage

from meddinov3_training.metrics import dice

ROUNDING = 1e-4  # mm; NIfTI keeps spacing in float32, and 1.0000001 mm is within 1 mm
LARGEST_VALUE = 65535
FOUND, MISSED, FALSE_ALARM, ABSENT = "found", "missed", "false alarm", "absent"

Spacing = tuple[float, float, float]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class LabelScore:
    """Scores of one label in one case; None where a score has no value.

    Attributes:
        dice, nsd: 0 to 1.
        hd95_mm: 95th percentile of surface distance.
        volume_error_ml: predicted minus reference.
        volume_error_percent: of the reference's volume.
        reference_ml, predicted_ml: volumes.
        outcome: ``found`` (both hold it), ``missed``, ``false alarm`` or ``absent`` (neither).
        true_positive, false_positive, false_negative: voxels.
    """

    dice: float | None
    nsd: float | None
    hd95_mm: float | None
    volume_error_ml: float | None
    volume_error_percent: float | None
    reference_ml: float
    predicted_ml: float
    outcome: str
    true_positive: int
    false_positive: int
    false_negative: int


@dataclass(frozen=True)
class CaseScore:
    """Scores of one case.

    Attributes:
        case: its id.
        labels: by label name, in the dataset's order.
        predicted: whether there was a prediction; an absent one counts as empty.
    """

    case: str
    labels: dict[str, LabelScore]
    predicted: bool = True

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice of the labels that have one."""
        known = [score.dice for score in self.labels.values() if score.dice is not None]
        return sum(known) / len(known) if known else None


def score_case(
    case: str,
    prediction: np.ndarray | None,
    reference: np.ndarray,
    spacing: Spacing,
    structures: DatasetLabels,
    tolerances: dict[str, float],
) -> CaseScore:
    """Score every label of a case; voxels of the ignore label are left out.

    Args:
        case: id.
        prediction: label map (k, j, i), or None to count it as empty.
        reference: label map of the same shape. Of a region-based dataset both hold the values
            of its label maps: a region is all of its members.
        spacing: mm along (k, j, i).
        structures: names, values, regions, ignore label.
        tolerances: of NSD by label name, mm.

    Raises:
        MedDINOv3Error: values above 65535, which no label map has.
    """
    if prediction is None:
        prediction = np.zeros((1, 1, 1), np.uint8)  # memory for one voxel, shape of all
        prediction = np.broadcast_to(prediction, reference.shape)
        boxes_of_prediction: list[Box | None] = []
        predicted = False
    else:
        boxes_of_prediction, predicted = value_boxes(prediction, case), True
    boxes = boxes_of_prediction, value_boxes(reference, case)
    labels = {}
    for label, members in zip(structures.labels, structures.members, strict=True):
        box = _joint(boxes, members)
        inside = prediction[box], reference[box]
        valid = inside[1] != structures.ignore if structures.ignore is not None else np.True_
        labels[label.name] = score_masks(
            np.isin(inside[0], members) & valid,
            np.isin(inside[1], members) & valid,
            spacing,
            tolerances[label.name],
        )
    return CaseScore(case, labels, predicted)


def score_masks(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing: Spacing,
    tolerance: float = 1.0,
) -> LabelScore:
    """Score two boolean masks (k, j, i).

    Args:
        prediction, reference: of one shape.
        spacing: mm along (k, j, i).
        tolerance: of NSD, mm.
    """
    voxel_ml = float(np.prod(spacing)) / 1000
    counts = int(prediction.sum()), int(reference.sum())
    shared = int((prediction & reference).sum())
    volumes = counts[0] * voxel_ml, counts[1] * voxel_ml
    nsd, hd95 = None, None
    if all(counts):
        nsd, hd95 = _surface_scores(prediction, reference, spacing, tolerance)
    elif any(counts):
        nsd = 0.0
    outcome = {(True, True): FOUND, (False, True): MISSED, (True, False): FALSE_ALARM}
    return LabelScore(
        dice=dice(prediction, reference),
        nsd=nsd,
        hd95_mm=hd95,
        volume_error_ml=volumes[0] - volumes[1] if any(counts) else None,
        volume_error_percent=100 * (counts[0] / counts[1] - 1) if counts[1] else None,
        reference_ml=volumes[1],
        predicted_ml=volumes[0],
        outcome=outcome.get((counts[0] > 0, counts[1] > 0), ABSENT),
        true_positive=shared,
        false_positive=counts[0] - shared,
        false_negative=counts[1] - shared,
    )


def _surface_scores(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Spacing, tolerance: float
) -> tuple[float, float]:
    """NSD and HD95 in mm of two masks that are not empty, from one search for distances."""
    import torch
    from monai.metrics.utils import get_edge_surface_distance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI announces changes to arguments nobody gave
        _, distances, _ = get_edge_surface_distance(
            torch.from_numpy(np.ascontiguousarray(prediction)),
            torch.from_numpy(np.ascontiguousarray(reference)),
            spacing=list(spacing),
            symmetric=True,
        )
    there, back = (d.numpy().astype(np.float64) for d in distances)
    within = sum(int((d <= tolerance + ROUNDING).sum()) for d in (there, back))
    hd95 = max(float(np.percentile(d, 95)) for d in (there, back))
    return within / (len(there) + len(back)), hd95


def value_boxes(label_map: np.ndarray, case: str) -> list[Box | None]:
    """The bounding box of each value from 1 on (None if absent), found in one pass.

    Raises:
        MedDINOv3Error: values below 0 or above 65535, which no label map has.
    """
    highest, lowest = int(label_map.max(initial=0)), int(label_map.min(initial=0))
    if highest > LARGEST_VALUE or lowest < 0:
        raise MedDINOv3Error(
            "not-labels",
            f"A label map of case '{case}' holds values from {lowest} to {highest}.",
            "Give label maps (0 to 65535), not scans.",
        )
    found = ndimage.find_objects(label_map) if highest else []
    return [None if box is None else (box[0], box[1], box[2]) for box in found]


def _joint(boxes: Sequence[list[Box | None]], members: tuple[int, ...]) -> Box:
    """The box around all `members` in both label maps; an empty one if there are none."""
    found = [
        box
        for of_map in boxes
        for value in members
        if 0 < value <= len(of_map) and (box := of_map[value - 1]) is not None
    ]
    if not found:
        return (slice(0, 0), slice(0, 0), slice(0, 0))
    sides = [
        slice(min(box[axis].start for box in found), max(box[axis].stop for box in found))
        for axis in range(3)
    ]
    return (sides[0], sides[1], sides[2])
