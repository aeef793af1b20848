"""All defects of a dataset at once, before anybody waits for a training that cannot work."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from meddinov3.cases.records import is_library
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import nearest_axes
from meddinov3.progress import ProgressCallback, Steps, StopQuestion

from meddinov3_training.check_case import ERROR, WARNING, CaseFacts, Defect, inspect_case
from meddinov3_training.dataset import Case, Dataset, read_dataset
from meddinov3_training.in_threads import in_threads

MANY = 30  # errors that one message lists
NAMED = 5  # cases that one warning names
WILD = 3.0  # times between the finest and the coarsest spacing
CLEARLY = 1.5  # times by which the slice axis is coarser than the next
READERS = 2  # files read at a time; a case is in memory for each


def check_folder(folder: Path, report: ProgressCallback | None = None) -> list[Defect]:
    """Read ``dataset.json`` and find every defect of the cases; nothing is changed.

    Raises:
        MedDINOv3Error: there is no dataset, or its ``dataset.json`` is garbled.
    """
    return check_dataset(read_dataset(folder, complete=False), report)


def check_dataset(
    dataset: Dataset,
    report: ProgressCallback | None = None,
    stop: StopQuestion | None = None,
) -> list[Defect]:
    """Find every defect of a dataset; files may be missing, nothing is changed.

    Args:
        dataset: read with ``complete=False`` if missing files are to be among the defects.
        report: told after every case.
        stop: asked between cases.

    Returns:
        Errors first, then warnings; those of the whole dataset before those of its cases.

    Raises:
        Cancelled: `stop` said so.
    """
    steps = Steps("checking cases", len(dataset.cases), report, stop)

    def inspect(case: Case) -> CaseFacts:
        return inspect_case(case, dataset)

    steps.check()
    facts = []
    for one in in_threads(inspect, dataset.cases, READERS):
        facts.append(one)
        steps.advance()
        steps.check()
    defects = _of_folder(dataset)
    for look in (_number, _absent_labels, _duplicates, _spacings, _slice_axes, _hounsfield):
        defects += look(dataset, facts)
    defects += [defect for one in facts for defect in one.defects]
    return sorted(defects, key=lambda defect: defect.severity != ERROR)  # stable


def require_sound(defects: Sequence[Defect]) -> None:
    """Refuse a dataset with errors; warnings pass.

    Raises:
        MedDINOv3Error: lists all errors, at most 30 in words.
    """
    errors = [defect for defect in defects if defect.severity == ERROR]
    if not errors:
        return
    lines = [f"- {error}" for error in errors[:MANY]]
    if len(errors) > MANY:
        lines.append(f"and {len(errors) - MANY} more.")
    count = "One defect" if len(errors) == 1 else f"{len(errors)} defects"
    remedies = {error.remedy for error in errors}
    raise MedDINOv3Error(
        "dataset-defects",
        f"{count} must be mended before this dataset can be trained on:\n" + "\n".join(lines),
        remedies.pop()
        if len(remedies) == 1
        else "'meddinov3 dataset check' lists what to do about each.",
    )


def _whole(severity: str, code: str, message: str, remedy: str) -> list[Defect]:
    return [Defect(severity, code, "", message, remedy)]


def _listed(ids: Sequence[str], most: int = NAMED) -> str:
    shown = ", ".join(ids[:most])
    return f"{shown} and {len(ids) - most} more" if len(ids) > most else shown


def _of_folder(dataset: Dataset) -> list[Defect]:
    """What the folder and dataset.json say of each other."""
    folder = dataset.folder
    if folder is None or is_library(folder):
        return []
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    found = []
    stated = content.get("numTraining")
    if isinstance(stated, int) and stated != len(dataset.cases):
        found += _whole(
            WARNING,
            "case-count",
            f"dataset.json states {stated} training cases; {len(dataset.cases)} are there.",
            "Correct numTraining, or find the missing cases.",
        )
    ending = content.get("file_ending")
    if not isinstance(ending, str) or isinstance(content.get("dataset"), dict):
        return found  # lists name what belongs to the dataset
    used = {path.name for case in dataset.cases for path in case.images}
    images = (folder / "imagesTr").glob(f"*{ending}")
    unused = sorted(p.name for p in images if p.name not in used and not p.name.startswith("."))
    if unused:
        found += _whole(
            WARNING,
            "unused-images",
            f"{len(unused)} image(s) in imagesTr belong to no label map: {_listed(unused)}.",
            "Add the label maps, or correct the files' names (NAME_0000 for the first channel).",
        )
    return found


def _number(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[Defect]:
    found = []
    if not dataset.labels:
        found += _whole(ERROR, "no-labels", "The dataset has no structures.", "Define one.")
    if not facts:
        found += _whole(
            ERROR, "no-cases", "There is no case to train on.", "Add annotated cases first."
        )
    elif len(facts) == 1:
        found += _whole(
            WARNING,
            "one-case",
            "There is one case only: no case can be held out, so no score will be known.",
            "Add at least one more case.",
        )
    return found


def _absent_labels(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[Defect]:
    maps = [one.counts for one in facts if one.counts is not None]
    found = []
    for label, members in zip(dataset.labels, dataset.members, strict=True):
        if maps and not any(counts.get(value) for counts in maps for value in members):
            found += _whole(
                ERROR,
                "label-absent",
                f"'{label.name}' (value {', '.join(map(str, members))}) occurs in none of the "
                f"{len(maps)} label maps: it cannot be learned.",
                "Add a case that has it, or remove it from the labels (of a case library with "
                "'meddinov3 dataset undefine').",
            )
    return found


def _duplicates(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[Defect]:
    found = []
    scans = _groups(facts, lambda one: "" if "" in one.images else " ".join(one.images))
    for ids in scans:
        found += _whole(
            ERROR,
            "same-scan",
            f"The cases {_listed(ids)} hold the same scan: the score would be dishonest where one "
            "is trained on and the other held out.",
            "Keep one of them.",
        )
    for ids in _groups(facts, lambda one: one.label):
        if not any(set(ids) <= set(same) for same in scans):
            found += _whole(
                WARNING,
                "same-labels",
                f"The cases {_listed(ids)} have the same label map although their scans differ.",
                "Check whether one was saved under the wrong name.",
            )
    return found


def _groups(facts: Sequence[CaseFacts], key: Callable[[CaseFacts], str]) -> list[list[str]]:
    """Ids of cases that share a key which is not empty."""
    groups: dict[str, list[str]] = {}
    for one in facts:
        if key(one):
            groups.setdefault(key(one), []).append(one.id)
    return [ids for ids in groups.values() if len(ids) > 1]


def _by_patient_axis(one: CaseFacts) -> list[float]:
    """Spacing in mm along left-right, front-back, head-foot."""
    assert one.grid is not None
    nearest = [axis for axis, _ in nearest_axes(one.grid.direction)]
    return [one.grid.spacing[nearest.index(axis)] for axis in range(3)]


def _spacings(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[Defect]:
    spacings = np.array([_by_patient_axis(one) for one in facts if one.grid is not None])
    if not len(spacings):
        return []
    low, high, median = spacings.min(axis=0), spacings.max(axis=0), np.median(spacings, axis=0)
    wild = [
        f"{name} {median[n]:.3g} mm (from {low[n]:.3g} to {high[n]:.3g})"
        for n, name in enumerate(("left-right", "front-back", "head-foot"))
        if high[n] > WILD * low[n]
    ]
    if not wild:
        return []
    return _whole(
        WARNING,
        "wild-spacing",
        f"Voxel spacings differ more than {WILD:g} times between cases; the median is "
        f"{', '.join(wild)}.",
        "Check the headers of the extreme cases; if they are right, consider separate models.",
    )


def _slice_axes(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[Defect]:
    names = ("sagittal", "coronal", "axial")
    cases: dict[str, list[str]] = {}
    for one in facts:
        if one.grid is not None:
            spacing = _by_patient_axis(one)
            _, second, coarsest = sorted(spacing)
            if coarsest > CLEARLY * second:
                cases.setdefault(names[spacing.index(coarsest)], []).append(one.id)
    if len(cases) < 2:
        return []
    counts = "; ".join(f"{len(ids)} {name} ({_listed(ids, 3)})" for name, ids in cases.items())
    return _whole(
        WARNING,
        "mixed-slices",
        f"The scans' slices run different ways: {counts}. A model sees one of them only.",
        "Consider one model for each way.",
    )


def _hounsfield(dataset: Dataset, facts: Sequence[CaseFacts]) -> list[Defect]:
    found = []
    for n, name in enumerate(dataset.channels):
        if name.strip().lower() != "ct":
            continue
        known = {one.id: one.lowest[n] for one in facts if one.lowest[n] is not None}
        ids = [case for case, low in known.items() if low is not None and low >= 0]
        if ids:
            found += _whole(
                WARNING,
                "not-hounsfield",
                f"In {len(ids)} of {len(known)} cases ({_listed(ids)}) the channel '{name}' has no "
                "value below 0: these are no Hounsfield units.",
                "Export the scans with their rescaling, or give the channel another name than CT.",
            )
    return found
