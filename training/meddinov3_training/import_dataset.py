"""An nnU-Net or Decathlon dataset copied into a case library of ours."""

from __future__ import annotations

from pathlib import Path

from meddinov3.atomic import make_way, whole_folder
from meddinov3.cases.library import Library
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.progress import ProgressCallback, Steps

from meddinov3_training.check import check_dataset, require_sound
from meddinov3_training.check_case import Defect
from meddinov3_training.dataset import read_case_label, read_dataset


def import_dataset(
    folder: Path, target: Path, report: ProgressCallback | None = None
) -> tuple[dict[str, str], list[Defect]]:
    """Copy every training case; whole or not at all, and the dataset stays as it is.

    Cases are numbered anew, because their old names may tell whose they are. Values, regions
    and an ignore label are kept. Channels on other grids are resampled to the first.

    Args:
        folder: the dataset.
        target: the library, new or empty.
        report: told after every case, first of the check, then of the copy.

    Returns:
        Each old id with its new one, which is written nowhere, and the dataset's warnings.

    Raises:
        MedDINOv3Error: the target is not empty, or the dataset has defects (all listed).
    """
    dataset = read_dataset(folder, complete=False)
    make_way(target)  # said before the long part
    # A structure without a case yet is no fault of a library.
    defects = [d for d in check_dataset(dataset, report) if d.code != "label-absent"]
    require_sound(defects)
    labels = DatasetLabels(dataset.labels, dataset.members, dataset.regions, dataset.ignore)
    steps = Steps("copying cases", len(dataset.cases), report)
    ids = {}
    with whole_folder(target) as temporary:
        library = Library.create(
            temporary, dataset.name, dataset.channels, labels,
            licence=dataset.licence, reference=dataset.reference,
        )  # fmt: skip
        for case in dataset.cases:
            volume = case.read()
            label_map = read_case_label(case, volume, dataset)
            ids[case.id] = library.add(volume.channels, volume.grid, label_map, allow_empty=True)
            steps.advance()
    return ids, defects
