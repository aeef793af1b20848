"""What is wrong with one annotated case, found in one pass over its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from meddinov3.cases.content import value_counts, values_sha256
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.reading import read_grid, read_label_map, read_volume

from meddinov3_training.dataset import Case, Dataset
from meddinov3_training.sides import pairs

ERROR, WARNING = "error", "warning"
SAME_GRID = 0.1  # mm: NIfTI rounds, and other programs too
APART = 5.0  # mm between left and right that cannot be chance


@dataclass(frozen=True)
class Defect:
    """Something wrong with a dataset.

    Attributes:
        severity: ``error`` if training on it makes no sense, else ``warning``.
        code: stable name of the kind.
        case: id, or "" where it concerns the whole dataset.
        message: one sentence: what is wrong.
        remedy: one sentence: what to do.
    """

    severity: str
    code: str
    case: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.case}: {self.message}" if self.case else self.message


@dataclass
class CaseFacts:
    """What one case shows.

    Attributes:
        id: of the case.
        defects: found so far.
        grid: of the first channel, None if it cannot be read.
        images: SHA-256 of each channel's values; "" if it cannot be read.
        label: SHA-256 of the label map's values; "" if it cannot be read or is empty.
        counts: voxels by value; None if the label map cannot be read.
        lowest: smallest value of each channel; None if there is none.
    """

    id: str
    defects: list[Defect] = field(default_factory=list)
    grid: Grid | None = None
    images: tuple[str, ...] = ()
    label: str = ""
    counts: dict[int, int] | None = None
    lowest: tuple[float | None, ...] = ()

    def found(self, severity: str, code: str, message: str, remedy: str) -> None:
        """Note a defect."""
        self.defects.append(Defect(severity, code, self.id, message, remedy))


def inspect_case(case: Case, dataset: Dataset) -> CaseFacts:
    """Look at headers first, then at one file's voxels after the other.

    A file whose header is unreadable is not opened again; all else is looked at, so that one
    defect does not hide the next.
    """
    facts = CaseFacts(case.id)
    grids = {path: _grid(path, facts) for path in (*case.images, case.label)}
    facts.grid = grids[case.images[0]]
    _compare_grids(case, dataset, grids, facts)
    shown = [_look_at_image(path, facts) if grids[path] else ("", None) for path in case.images]
    facts.images = tuple(sha for sha, _ in shown)
    facts.lowest = tuple(low for _, low in shown)
    for n, sha in enumerate(facts.images):
        if sha and sha in facts.images[:n]:
            facts.found(
                WARNING,
                "same-channels",
                f"Channels {facts.images.index(sha) + 1} and {n + 1} are the same image.",
                "Check that each channel's file holds its own scan.",
            )
    if grids[case.label]:
        _look_at_labels(case, dataset, facts)
    return facts


def _grid(path: Path, facts: CaseFacts) -> Grid | None:
    if not path.is_file():
        facts.found(
            ERROR,
            "file-missing",
            f"The file '{path.name}' is missing.",
            "Complete the folder, or correct dataset.json.",
        )
        return None
    try:
        return read_grid(path)
    except MedDINOv3Error as error:
        facts.found(ERROR, error.code, error.message, error.remedy)
        return None


def _compare_grids(
    case: Case, dataset: Dataset, grids: dict[Path, Grid | None], facts: CaseFacts
) -> None:
    first, label = facts.grid, grids[case.label]
    if first is None:
        return
    for name, path in zip(dataset.channels[1:], case.images[1:], strict=True):
        grid = grids[path]
        if grid is None or grid.same_as(first):
            continue
        if grid.overlaps(first):
            facts.found(
                WARNING,
                "channel-grid",
                f"The channel '{name}' ({grid.in_figures()}) lies on another grid than the first "
                f"({first.in_figures()}) and will be resampled.",
                "Nothing, if the scans are registered to each other.",
            )
        else:
            facts.found(
                ERROR,
                "channels-apart",
                f"The channel '{name}' ({grid.in_figures()}) does not overlap the first "
                f"({first.in_figures()}).",
                "Give scans of the same patient and session, registered to each other.",
            )
    if label is not None and not label.same_as(first, SAME_GRID):
        facts.found(
            ERROR,
            "label-grid",
            f"The label map ({label.in_figures()}) is not on its scan's grid "
            f"({first.in_figures()}).",
            "Resample it to the scan (nearest neighbour), or find the scan it was drawn on.",
        )


def _look_at_image(path: Path, facts: CaseFacts) -> tuple[str, float | None]:
    """Hash and smallest value of a channel."""
    try:
        array = read_volume(path).channels[0]
    except MedDINOv3Error as error:
        facts.found(ERROR, error.code, error.message, error.remedy)
        return "", None
    low, high, bad = np.inf, -np.inf, 0
    for plane in array:
        finite = plane if plane.dtype.kind != "f" else plane[np.isfinite(plane)]
        bad += plane.size - finite.size
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if bad:
        most = 2 * bad > array.size  # as when segmenting: a few gaps are filled, most are not
        told = f"{100 * bad / array.size:.3g} % of the voxels of '{path.name}' are no numbers"
        facts.found(
            ERROR if most else WARNING,
            "not-finite",
            f"{told}." if most else f"{told}; they are taken as its lowest value.",
            "Export the scan again, or fill these voxels with the value of air.",
        )
    if low == high:
        facts.found(
            WARNING,
            "constant-image",
            f"All voxels of '{path.name}' have the value {low:g}.",
            "Check whether this is the scan, or remove the case.",
        )
    return values_sha256(array), float(low) if np.isfinite(low) else None


def _look_at_labels(case: Case, dataset: Dataset, facts: CaseFacts) -> None:
    try:
        labels, grid = read_label_map(case.label)
    except MedDINOv3Error as error:
        facts.found(ERROR, error.code, error.message, error.remedy)
        return
    facts.counts = value_counts(labels)
    structures = {value for members in dataset.members for value in members}
    unknown = sorted(set(facts.counts) - structures - {0, dataset.ignore})
    if unknown:
        shown = ", ".join(map(str, unknown[:10])) + (" ..." if len(unknown) > 10 else "")
        facts.found(
            ERROR,
            "unknown-values",
            f"The label map holds {shown}, which dataset.json does not name.",
            "Name the structure in dataset.json, or remove the value from the label map.",
        )
    if not any(facts.counts.get(value) for value in structures):
        if not unknown:
            facts.found(
                WARNING,
                "empty-labels",
                "Nothing is annotated in this case.",
                "Exclude it, unless the scan really has none of the structures.",
            )
        return
    facts.label = values_sha256(labels)
    for left, right in pairs(dataset.labels):
        places = [_centre(labels, grid, dataset.members[n]) for n in (left, right)]
        if places[0] is None or places[1] is None:
            continue
        apart = float(places[0][0] - places[1][0])  # to the patient's left
        if apart < -APART:
            names = dataset.labels[left].name, dataset.labels[right].name
            facts.found(
                WARNING,
                "sides-swapped",
                f"Left and right seem swapped: '{names[0]}' lies {-apart:.0f} mm to the patient's "
                f"right of '{names[1]}'.",
                "Look at the case in a viewer: either the names or the header's orientation is "
                "wrong.",
            )


def _centre(labels: np.ndarray, grid: Grid, members: tuple[int, ...]) -> np.ndarray | None:
    """Centre of a structure in LPS mm, or None if it is not there."""
    mask = np.isin(labels, members)
    total = int(np.count_nonzero(mask))
    if not total:
        return None
    index = []
    for axis in (2, 1, 0):  # i, j, k
        others = tuple(n for n in range(3) if n != axis)
        along = mask.sum(axis=others)
        index.append(float((along * np.arange(len(along))).sum()) / total)
    return grid.to_patient(np.array(index))
