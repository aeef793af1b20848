"""What is gathered from the cases: sizes, intensities, structures, one case at a time."""

from __future__ import annotations

import threading
import tracemalloc
from itertools import permutations, product
from math import pi, sqrt
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cached_cases import dataset_of, fingerprint_of, straight
from meddinov3.errors import Cancelled, MedDINOv3Error
from meddinov3.progress import Progress
from meddinov3.volume import Volume, volume_of
from meddinov3_training.dataset import read_dataset
from meddinov3_training.fingerprint import Fingerprint, examine_case, read_fingerprint
from synthetic_dataset import SHAPE, draw_case, save, write_dataset

CODES = [
    "".join(letters)
    for axes in permutations(["LR", "PA", "SI"])
    for letters in product(*axes)
]  # fmt: skip


def blocks() -> np.ndarray:
    """A box of 2 x 6 x 5 voxels (k, j, i) labelled 1, and a voxel labelled 2."""
    labels = np.zeros((8, 20, 30), np.uint8)
    labels[3:5, 4:10, 7:12] = 1
    labels[6, 15, 20] = 2
    return labels


def test_structures_are_measured_along_every_axis_of_the_patient() -> None:
    labels = blocks()
    grid = straight(labels.shape, (0.5, 1.0, 3.0))
    volume = Volume((labels.astype(np.float32),), grid)
    case, _ = examine_case("a", volume, labels, dataset_of("box", "dot", "absent"))
    assert (case.orientation, case.size, case.spacing) == ("LPS", (30, 20, 8), (0.5, 1.0, 3.0))
    assert case.voxels == {"box": 60, "dot": 1}
    # Areas in mm2: across left 6 x 1 * 2 x 3, posterior 5 x 0.5 * 2 x 3, superior 5 x 0.5 * 6 x 1.
    assert case.diameters["box"] == pytest.approx([2 * sqrt(a / pi) for a in (36, 15, 15)])
    assert case.diameters["dot"] == pytest.approx([2 * sqrt(a / pi) for a in (3, 1.5, 0.5)])


def test_the_largest_slice_counts() -> None:
    labels = np.zeros((4, 10, 10), np.uint8)
    labels[0, :2, :2], labels[1, :4, :5], labels[2, 9, 9] = 1, 1, 1
    volume = Volume((labels.astype(np.float32),), straight(labels.shape, (1.0, 1.0, 1.0)))
    case, _ = examine_case("a", volume, labels, dataset_of("a"))
    assert case.diameters["a"][2] == pytest.approx(2 * sqrt(20 / pi))


def test_regions_are_measured_with_all_their_members() -> None:
    labels = blocks()
    labels[3:5, 10:13, 7:12] = 2  # below the box
    volume = Volume((labels.astype(np.float32),), straight(labels.shape))
    dataset = dataset_of("both", "dot", members=((1, 2), (2,)), regions=True)
    case, _ = examine_case("a", volume, labels, dataset)
    assert case.voxels == {"both": 60 + 1 + 30, "dot": 31}
    assert case.diameters["both"][2] == pytest.approx(2 * sqrt(45 / pi))


def test_a_case_reads_the_same_however_it_is_stored() -> None:
    labels = blocks()
    image, scan = (sitk.GetImageFromArray(a) for a in (labels, labels.astype(np.float32)))
    for stored in (image, scan):
        stored.SetSpacing((0.5, 1.0, 3.0))
    assert len(CODES) == 48
    for code in CODES:
        volume = volume_of(sitk.DICOMOrient(scan, code))
        array = sitk.GetArrayFromImage(sitk.DICOMOrient(image, code))
        case, _ = examine_case("a", volume, array, dataset_of("box", "dot"))
        assert case.orientation == code
        assert (case.size, case.spacing) == ((30, 20, 8), (0.5, 1.0, 3.0))
        assert case.voxels == {"box": 60, "dot": 1}
        assert case.diameters["box"] == pytest.approx([2 * sqrt(a / pi) for a in (36, 15, 15)])


def test_the_share_that_is_not_zero_is_that_of_nnunets_crop() -> None:
    scan = np.zeros((10, 10, 10), np.float32)
    scan[2:6, 1:9, 5], scan[3, 3, 3] = 1, 1  # the box 4 x 8 x 3 around both
    case, _ = examine_case(
        "a", Volume((scan,), straight(scan.shape)), np.zeros(scan.shape, np.uint8), dataset_of("a")
    )
    assert case.nonzero_share == pytest.approx(4 * 8 * 3 / 1000)


def test_foreground_figures_weigh_every_case_the_same() -> None:
    small, large = np.zeros((4, 50, 50), np.uint8), np.ones((4, 50, 50), np.uint8)
    small[0, :5, :5] = 1
    scans = [
        Volume((np.full(large.shape, value, np.int16),), straight(large.shape))
        for value in (100, 200)
    ]
    (figures,) = fingerprint_of(dataset_of("a"), scans, [small, large]).foreground
    assert figures is not None
    assert (figures.mean, figures.std, figures.median) == (150, 50, 150)
    assert (figures.minimum, figures.maximum, figures.low, figures.high) == (100, 200, 100, 200)


def test_voxels_that_are_no_numbers_do_not_count() -> None:
    scan = np.full((4, 10, 10), 7, np.float32)
    scan[0, 0, :3] = np.nan, np.inf, -np.inf
    labels = np.ones(scan.shape, np.uint8)
    (figures,) = fingerprint_of(
        dataset_of("a"), [Volume((scan,), straight(scan.shape))], [labels]
    ).foreground
    assert figures is not None
    assert (figures.mean, figures.std, figures.maximum) == (7, 0, 7)


# From files.


def test_files_are_read_one_by_one(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path, 4, channels=("T1", "T2")))
    pairs = [draw_case(n, 2) for n in range(4)]
    found = read_fingerprint(dataset, dataset.cases)
    assert [case.id for case in found.cases] == [case.id for case in dataset.cases]
    for case, (_, labels) in zip(found.cases, pairs, strict=True):
        assert case.voxels == {"ball": (labels == 1).sum(), "box": (labels == 2).sum()}
        assert case.size == SHAPE[::-1]
    inside = np.concatenate([images[1][labels > 0] for images, labels in pairs])
    assert found.foreground[1] is not None
    assert found.foreground[1].mean == pytest.approx(inside.mean(), abs=3)


def test_cases_are_not_kept_in_memory(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, 1)
    for number in range(8):
        save(folder / "imagesTr" / f"case_{number}_0000.nrrd", np.ones((40, 160, 160), np.float32))
        save(folder / "labelsTr" / f"case_{number}.nrrd", np.ones((40, 160, 160), np.uint8))
    dataset = read_dataset(folder)
    peaks = []
    for count in (1, 8):
        tracemalloc.start()  # numpy's arrays; SimpleITK's belong to one case at a time
        read_fingerprint(dataset, dataset.cases[:count])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 3 * 2**20


def test_threads_find_the_same(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path, 5))
    one = read_fingerprint(dataset, dataset.cases)
    assert read_fingerprint(dataset, dataset.cases, workers=3) == one


def test_progress_is_told_and_stopping_is_asked(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path, 3))
    told: list[Progress] = []
    read_fingerprint(dataset, dataset.cases, told.append)
    assert [(p.done, p.total) for p in told] == [(1, 3), (2, 3), (3, 3)]
    stop = threading.Event()

    def after_one(progress: Progress) -> None:
        stop.set()

    with pytest.raises(Cancelled):
        read_fingerprint(dataset, dataset.cases, after_one, stop=stop.is_set)


def test_a_defective_case_is_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, 3)
    save(folder / "labelsTr" / "case_1.nrrd", np.full(SHAPE, 7, np.uint8))
    dataset = read_dataset(folder)
    for workers in (0, 2):
        with pytest.raises(MedDINOv3Error, match="case_1") as caught:
            read_fingerprint(dataset, dataset.cases, workers=workers)
        assert caught.value.code == "unknown-values"


def test_a_fingerprint_is_read_back_as_it_was(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path, 2))
    found = read_fingerprint(dataset, dataset.cases)
    assert Fingerprint.from_json(found.to_json()) == found
    with pytest.raises(MedDINOv3Error) as caught:
        Fingerprint.from_json("{}")
    assert "made again" in caught.value.remedy


def test_structures_of_real_cases(shared: Path) -> None:
    """The README of the data: 18,952 voxels of brainstem in 40 cases, 41,125 of mandible."""
    dataset = read_dataset(shared / "openkbp_headneck_ct")
    found = read_fingerprint(dataset, dataset.cases[:6], workers=2)
    for case in found.cases:
        assert set(case.voxels) == {label.name for label in dataset.labels}
        assert 18_952 / 40 / 3 < case.voxels["brainstem"] < 18_952 / 40 * 3
        assert 10 < case.diameters["brainstem"][2] < 50
