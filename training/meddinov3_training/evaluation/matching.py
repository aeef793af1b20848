"""Which prediction belongs to which reference, and what their values stand for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from meddinov3.dataset_labels import DatasetLabels, read_labels
from meddinov3.description import ModelDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.reading import READABLE, read_label_map, stem
from meddinov3.terminology import named_label

from meddinov3_training.evaluation.scores import value_boxes

SEGMENTATION = ".seg.nrrd"
LISTED = 10  # names in a message


@dataclass(frozen=True)
class Pair:
    """A case: its reference, and its prediction if there is one."""

    case: str
    reference: Path
    prediction: Path | None


@dataclass(frozen=True)
class Cases:
    """Matched cases.

    Attributes:
        pairs: sorted by case.
        segmentations: ``.seg.nrrd`` files of both folders, which name their values.
        notes: what was left out.
    """

    pairs: tuple[Pair, ...]
    segmentations: tuple[Path, ...]
    notes: tuple[str, ...]


def match_cases(predictions: Path, references: Path, missing_as_empty: bool = False) -> Cases:
    """Match the label maps of two folders by their names without ending.

    A ``.seg.nrrd`` beside a label map of the same name (``meddinov3 segment`` writes both) only
    lends its names.

    Raises:
        MedDINOv3Error: a folder is missing or holds no label maps, two of one name, no case
            matches, or predictions are missing (all listed) and may not count as empty.
    """
    predicted, named = _label_maps(predictions)
    known, named_references = _label_maps(references)
    missing = sorted(set(known) - set(predicted))
    if len(missing) == len(known):
        raise MedDINOv3Error(
            "no-cases-match",
            f"No file in '{predictions.name}' is called like one in '{references.name}': "
            f"for example {sorted(predicted)[0]} and {sorted(known)[0]}.",
            "Name each prediction like its reference, without nnU-Net's _0000.",
        )
    if missing and not missing_as_empty:
        raise MedDINOv3Error(
            "predictions-missing",
            f"{len(missing)} of {len(known)} cases have no prediction: {', '.join(missing)}.",
            "Predict them, or count them as empty with --missing empty.",
        )
    notes = []
    if missing:
        notes.append(f"{_counted(missing, 'case')} without a prediction counted as empty: "
                     f"{_shortened(missing)}.")  # fmt: skip
    spare = sorted(set(predicted) - set(known))
    if spare:
        notes.append(f"{_counted(spare, 'prediction')} without a reference left out: "
                     f"{_shortened(spare)}.")  # fmt: skip
    pairs = tuple(Pair(case, known[case], predicted.get(case)) for case in sorted(known))
    return Cases(pairs, (*named, *named_references), tuple(notes))


def find_structures(
    cases: Cases,
    predictions: Path,
    references: Path,
    dataset: Path | None = None,
    model: ModelDescription | None = None,
) -> tuple[DatasetLabels, str]:
    """What the values of the label maps stand for, and where that is from.

    Looked for in `dataset`, in `model`, in a ``dataset.json`` that lies in the predictions'
    folder (nnU-Net leaves one), in the references' or above it (a dataset's own), in the names
    of ``.seg.nrrd`` files; else every value of the references is a label.

    Raises:
        MedDINOv3Error: a dataset.json is unreadable, segmentations contradict each other, or the
            model is region-based.
    """
    if dataset is not None:
        path = dataset / "dataset.json" if dataset.is_dir() else dataset
        return _from_dataset(path), f"'{path.parent.resolve().name}/{path.name}'"
    if model is not None:
        return _from_model(model), f"model '{model.id}'"
    for folder in (predictions, references, references.resolve().parent):
        if (folder / "dataset.json").is_file():
            found = _from_dataset(folder / "dataset.json")
            return found, f"'{folder.resolve().name}/dataset.json'"
    if cases.segmentations:
        return _from_segmentations(cases.segmentations), "the .seg.nrrd files"
    return _from_values(cases), "the references' values, as nothing names them"


def image_files(folder: Path) -> dict[str, Path]:
    """Scans by case: the first channel of each, with or without nnU-Net's ``_0000``.

    Raises:
        MedDINOv3Error: there is no such folder.
    """
    files = {stem(path): path for path in _readable(folder)}
    return {name.removesuffix("_0000"): path for name, path in sorted(files.items())}


def _label_maps(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Label maps by name, and the segmentations among and beside them."""
    files = _readable(folder)
    segmentations = [path for path in files if path.name.lower().endswith(SEGMENTATION)]
    found: dict[str, Path] = {}
    for path in files:
        other = found.get(stem(path))
        if other is None or other in segmentations:
            found[stem(path)] = path
        elif path not in segmentations:
            raise MedDINOv3Error(
                "same-names",
                f"'{folder.name}' holds '{other.name}' and '{path.name}' for one case.",
                "Keep one label map a case.",
            )
    if not found:
        raise MedDINOv3Error(
            "no-label-maps",
            f"'{folder.name}' holds no label maps.",
            f"Give a folder with {', '.join((*READABLE, SEGMENTATION))} files.",
        )
    return found, segmentations


def _readable(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise MedDINOv3Error("no-folder", f"There is no folder '{folder}'.", "Check the path.")
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(READABLE) and path.is_file() and path.name[0] != "."
    )


def _from_dataset(path: Path) -> DatasetLabels:
    try:
        return read_labels(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise MedDINOv3Error(
            "bad-dataset",
            f"'{path.name}' of '{path.resolve().parent.name}' is missing, or names no labels: "
            f"{error}.",
            "Give nnU-Net's dataset.json, or the folder that holds it.",
        ) from error


def _from_model(model: ModelDescription) -> DatasetLabels:
    if model.regions:
        raise MedDINOv3Error(
            "regions-need-dataset",
            f"The regions of '{model.id}' overlap, and the model does not hold their members.",
            "Give --dataset, the dataset.json that it was trained with.",
        )
    members = tuple((label.value,) for label in model.labels)
    return DatasetLabels(model.labels, members, False, model.ignore_label)


def _from_segmentations(paths: tuple[Path, ...]) -> DatasetLabels:
    names: dict[int, str] = {}
    for path in paths:
        for name, value in _segments(path).items():
            if names.setdefault(value, name) != name or list(names.values()).count(name) > 1:
                raise MedDINOv3Error(
                    "names-differ",
                    f"'{path.name}' gives the name '{name}' or the value {value} to another "
                    "segment than the files before it.",
                    "Give --dataset, and label maps with its values.",
                )
    values = tuple(sorted(names))
    labels = tuple(named_label(names[value], value, n) for n, value in enumerate(values))
    return DatasetLabels(labels, tuple((value,) for value in values), False, None)


def _segments(path: Path) -> dict[str, int]:
    """Names and values in the header of a ``.seg.nrrd``."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise MedDINOv3Error(
            "unreadable", f"'{path.name}' cannot be read as a segmentation.", "Export it again."
        ) from error
    tags: dict[str, Any] = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    return {
        tags[key]: int(tags.get(key.replace("_Name", "_LabelValue"), 1))
        for key in sorted(tags)
        if key.startswith("Segment") and key.endswith("_Name")
    }


def _from_values(cases: Cases) -> DatasetLabels:
    values: set[int] = set()
    for pair in cases.pairs:
        label_map, _ = read_label_map(pair.reference)
        boxes = value_boxes(label_map, pair.case)
        values.update(value for value, box in enumerate(boxes, start=1) if box is not None)
    shown = sorted(values)
    if not shown:
        raise MedDINOv3Error(
            "references-empty", "All references are empty.", "Give references with structures."
        )
    labels = tuple(named_label(f"label {value}", value, n) for n, value in enumerate(shown))
    return DatasetLabels(labels, tuple((value,) for value in shown), False, None)


def _counted(names: list[str], word: str) -> str:
    return f"{len(names)} {word}" + ("s" if len(names) > 1 else "")


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
