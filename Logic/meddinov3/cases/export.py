"""A case library as a dataset for nnU-Net, with nothing in it that is only ours."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

from meddinov3.atomic import whole_folder
from meddinov3.cases.label_matching import known_values, renumber
from meddinov3.cases.library import Library
from meddinov3.cases.records import ENDING, dataset_content
from meddinov3.cases.storage import check_space
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.progress import ProgressCallback, Steps

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def export_dataset(
    library: Library,
    target: Path,
    number: int,
    name: str,
    report: ProgressCallback | None = None,
) -> Path:
    """Write ``Dataset501_Name`` as nnU-Net's raw layout asks for it.

    Excluded cases stay behind. nnU-Net wants label values without gaps and the ignore label
    last, so they are renumbered where they are not so.

    Args:
        library: read only.
        target: folder that gets it, e.g. ``nnUNet_raw``; made if needed.
        number: 1 to 999.
        name: letters, digits, dashes and underscores.
        report: told after every case.

    Returns:
        The dataset's folder.

    Raises:
        MedDINOv3Error: the name or number cannot be, the folder exists, there is nothing to
            export, or the disk is full. Nothing is left behind.
    """
    if NAME.fullmatch(name) is None or not 0 < number < 1000:
        raise MedDINOv3Error(
            "bad-name",
            f"'{name}' with number {number} is no name for an nnU-Net dataset.",
            "Use letters, digits, dashes and underscores, and a number from 1 to 999.",
        )
    library.refresh()
    cases = library.record.training_cases
    if not cases or not library.labels.labels:
        raise MedDINOv3Error(
            "nothing-to-export",
            "The library has no structures, or no cases that are not excluded.",
            "Add cases first.",
        )
    labels, values = consecutive(library.labels)
    kept = all(old == new for old, new in values.items())
    files = [library.folder / file for case in cases for file in (*case.images, case.label)]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise MedDINOv3Error(
            "file-missing",
            f"{len(missing)} file(s) of the library are missing: {', '.join(missing[:10])}.",
            "Restore them from a backup, or remove their cases.",
        )
    target.mkdir(parents=True, exist_ok=True)
    check_space(target, sum(path.stat().st_size for path in files))
    steps = Steps("exporting cases", len(cases), report)
    folder = target / f"Dataset{number:03d}_{name}"
    with whole_folder(folder) as temporary:
        for part in ("imagesTr", "labelsTr"):
            (temporary / part).mkdir()
        for case in cases:
            for n, image in enumerate(case.images):
                shutil.copyfile(
                    library.folder / image, temporary / "imagesTr" / f"{case.id}_{n:04d}{ENDING}"
                )
            label, copy = library.folder / case.label, temporary / "labelsTr" / (case.id + ENDING)
            if kept:
                shutil.copyfile(label, copy)
            else:
                _write_renumbered(label, copy, values)
            steps.advance()
        content = dataset_content(library.record.name, library.record.channels, labels, len(cases))
        content |= {"licence": library.record.licence, "reference": library.record.reference}
        (temporary / "dataset.json").write_text(
            json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return folder


def consecutive(labels: DatasetLabels) -> tuple[DatasetLabels, dict[int, int]]:
    """Labels with the values 1, 2, ... in the old order and the ignore label last.

    Returns:
        The labels, and the new value for each old one.
    """
    structures = sorted(known_values(labels) - {labels.ignore})
    values = {old: new for new, old in enumerate(structures, start=1)}
    ignore = None if labels.ignore is None else len(values) + 1
    # A region's value is the one it is written with; any will do as long as they differ.
    own = [label.value for label in labels.labels]
    new = (
        [values[value] for value in own]
        if all(value in values for value in own)
        else list(range(1, len(own) + 1))
    )
    renumbered = DatasetLabels(
        tuple(replace(x, value=value) for x, value in zip(labels.labels, new, strict=True)),
        tuple(tuple(values[value] for value in members) for members in labels.members),
        labels.regions,
        ignore,
    )
    if labels.ignore is not None and ignore is not None:
        values[labels.ignore] = ignore
    return renumbered, values


def _write_renumbered(source: Path, copy: Path, values: dict[int, int]) -> None:
    from meddinov3.reading import read_label_map
    from meddinov3.writing import write_label_map

    label_map, grid = read_label_map(source)
    write_label_map(copy, renumber(label_map, values), grid)
