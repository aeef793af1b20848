"""What follows from the data: intensities, spacing, patch, slice axis, mirroring."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import permutations, product
from math import pi, sqrt
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cached_cases import dataset_of
from meddinov3.errors import MedDINOv3Error
from meddinov3.volume import join_channels, volume_of
from planned_cases import discs, plan_for, planned, volume

CODES = [
    "".join(letters)
    for axes in permutations(["LR", "PA", "SI"])
    for letters in product(*axes)
]  # fmt: skip


# Intensities.


def test_ct_takes_percentiles_and_unclipped_moments_of_the_foreground() -> None:
    """998 voxels of 40 or 60 HU and two of 5040 inside; bone-like values outside.

    Mean 50 + 0.002 * 4990 = 59.98; variance 0.998 * 100 + 0.002 * 4990^2 - 9.98^2 = 49800.
    """
    labels = np.zeros((10, 40, 40), dtype=np.uint8)
    labels[2, :25, :40] = 1
    scan = np.full(labels.shape, 900, dtype=np.int16)
    scan[labels == 1] = np.concatenate([np.repeat([40, 60], 499), [5040, 5040]])
    scan[scan == 900] += np.random.default_rng(0).integers(
        -900, 900, (scan == 900).sum(), dtype=np.int16
    )
    plan = planned(dataset_of(channels=("CT",)), [volume(scan)], [labels])
    scheme = plan.channels[0].intensity
    assert scheme.kind == "ct"
    assert scheme.clip == (40, 60)
    # 20,000 draws hold 40 of the two outliers, give or take 6.3.
    assert scheme.mean == pytest.approx(59.98, abs=4 * 1.6)
    assert scheme.std == pytest.approx(sqrt(49800), rel=0.3)
    assert scheme.mask == "none"


def test_ct_percentiles_are_half_a_per_cent_from_the_ends() -> None:
    scan = np.arange(100_000, dtype=np.float32).reshape(10, 100, 100) / 100  # 0 to 1000
    labels = np.ones(scan.shape, dtype=np.uint8)
    scheme = planned(dataset_of(channels=("ct",)), [volume(scan)], [labels]).channels[0].intensity
    assert scheme.clip is not None
    assert scheme.clip[0] == pytest.approx(5, abs=2)
    assert scheme.clip[1] == pytest.approx(995, abs=2)
    assert scheme.mean == pytest.approx(500, abs=4 * 289 / sqrt(20_000))
    assert scheme.std == pytest.approx(1000 / sqrt(12), rel=0.02)


def test_cases_weigh_the_same_whatever_their_size() -> None:
    small, large = np.zeros((4, 50, 50), np.uint8), np.ones((4, 50, 50), np.uint8)
    small[0, :5, :5] = 1
    scans = [volume(np.full(large.shape, value, np.int16)) for value in (100, 200)]
    scheme = planned(dataset_of(channels=("CT",)), scans, [small, large]).channels[0].intensity
    assert (scheme.clip, scheme.mean, scheme.std) == ((100, 200), 150, 50)


def test_each_channel_has_the_figures_of_its_own_voxels() -> None:
    labels = np.zeros((4, 50, 50), np.uint8)
    labels[1, :10, :10] = 1
    first, second = np.full(labels.shape, -7, np.int16), np.full(labels.shape, 30, np.int16)
    scan = join_channels([volume(first), volume(second)])
    channels = planned(dataset_of(channels=("CT", "CT")), [scan], [labels]).channels
    assert [channel.intensity.mean for channel in channels] == [-7, 30]
    assert [channel.intensity.std for channel in channels] == [1e-3, 1e-3]  # never zero


@pytest.mark.parametrize(
    ("name", "kind", "std"),
    [("MR", "zscore", 1), ("T1w", "zscore", 1), ("noNorm", "fixed", 1),
     ("rescale_to_0_1", "range", 1), ("rgb_to_0_1", "fixed", 255)],
)  # fmt: skip
def test_other_schemes_follow_the_channel_name(name: str, kind: str, std: float) -> None:
    scan = volume(np.arange(6400, dtype=np.float32).reshape(4, 40, 40))
    (channel,) = planned(dataset_of(channels=(name,)), [scan], [discs(5, size=(40, 40))]).channels
    assert channel.name == name
    scheme = channel.intensity
    assert (scheme.kind, scheme.clip, scheme.mean, scheme.std) == (kind, None, 0, std)


def test_ct_without_any_annotated_voxel_is_refused_in_words() -> None:
    empty = np.zeros((4, 40, 40), np.uint8)
    with pytest.raises(MedDINOv3Error):
        planned(dataset_of(channels=("CT",)), [volume(empty.astype(np.int16))], [empty])


# Spacing: 3.5 tokens of 16 pixels, 56 pixels, across the smallest structure.


def test_spacing_follows_from_the_smallest_structure() -> None:
    plan = plan_for([discs(40, 20)])
    expected = 2 * sqrt(20 * 20 / pi) / 56  # 22.57 mm over 56 pixels: 0.403 mm
    assert plan.sampling.spacing == (pytest.approx(expected, abs=6e-4),) * 2
    assert any("22.6 mm" in reason for reason in plan.reasons)


def test_the_median_case_decides() -> None:
    plan = plan_for([discs(20), discs(12), discs(40)])
    assert plan.sampling.spacing is not None
    assert plan.sampling.spacing[0] == pytest.approx(2 * sqrt(400 / pi) / 56, abs=6e-4)


def test_cases_without_a_structure_do_not_count_for_it() -> None:
    plan = plan_for([discs(20), np.zeros((4, 96, 96), np.uint8), np.zeros((4, 96, 96), np.uint8)])
    assert plan.sampling.spacing is not None
    assert plan.sampling.spacing[0] == pytest.approx(2 * sqrt(400 / pi) / 56, abs=6e-4)


def test_unequal_pixels_are_counted_as_millimetres() -> None:
    plan = plan_for([discs(20)], (0.3, 1.2, 4.0))  # 400 pixels of 0.36 mm2: 13.54 mm
    # Wanted are 0.242 mm along both.
    assert plan.sampling.spacing == (pytest.approx(2 * sqrt(144 / pi) / 56, abs=6e-4),) * 2


def test_spacing_is_never_coarser_than_the_scan() -> None:
    plan = plan_for([discs(80)], (0.5, 2.0, 4.0))  # 80 pixels are 90.3 mm across: 1.61 mm
    assert plan.sampling.spacing == (pytest.approx(2 * sqrt(6400 / pi) / 56, abs=6e-4), 0.5)


def test_spacing_is_at_most_eight_times_finer_than_the_scan() -> None:
    assert plan_for([discs(2)], (0.8, 1.6, 4.0)).sampling.spacing == (0.2, 0.1)


def test_a_region_is_measured_with_all_its_members() -> None:
    labels = np.zeros((3, 96, 96), np.uint8)
    labels[1, :10, :20], labels[1, 10:20, :20] = 1, 2
    whole = dataset_of("whole", members=((1, 2),), regions=True)
    plan = planned(whole, [volume(labels.astype(np.float32))], [labels])
    assert plan.sampling.spacing is not None
    assert plan.sampling.spacing[0] == pytest.approx(2 * sqrt(400 / pi) / 56, abs=6e-4)


def test_a_chosen_spacing_is_taken() -> None:
    assert plan_for([discs(20)], spacing=(0.25, 0.75)).sampling.spacing == (0.25, 0.75)


# Patch.


@pytest.mark.parametrize(
    ("size", "spacing", "largest", "patch"),
    [
        ((96, 64), (1.0, 1.0), 512, (96, 64)),
        ((97, 50), (1.0, 1.0), 512, (112, 64)),
        ((96, 64), (0.5, 0.25), 512, (192, 256)),
        ((96, 64), (0.5, 0.25), 200, (192, 192)),
        ((96, 64), (0.5, 0.25), 100, (96, 96)),
        ((10, 10), (1.0, 1.0), 512, (16, 16)),
    ],
)
def test_patch_covers_the_scan_in_whole_tokens(
    size: tuple[int, int], spacing: tuple[float, float], largest: int, patch: tuple[int, int]
) -> None:
    plan = plan_for([discs(4, size=size)], spacing=spacing, largest_patch=largest)
    assert plan.sampling.patch == patch


def test_patch_covers_the_median_scan() -> None:
    scans = [discs(4, size=size) for size in ((48, 40), (80, 64), (64, 400))]
    assert plan_for(scans, spacing=(1.0, 1.0)).sampling.patch == (64, 64)


@pytest.mark.parametrize("spacing", [0.7421875, 0.9765625, 0.6640625, 0.3333333])
def test_patch_at_the_spacing_of_the_scan_is_the_scan(spacing: float) -> None:
    """The third decimal of the spacing must not cost a row of tokens."""
    labels = [discs(96, size=(352, 320))]
    plan = plan_for(labels, (spacing, spacing, 5.0), spacing=(round(spacing, 3),) * 2)
    assert plan.sampling.patch == (352, 320)


# Slice axis.


@pytest.mark.parametrize(
    ("spacing", "letters"),
    [
        ((1.0, 1.0, 3.0), ("S", "P", "L")),
        ((1.0, 3.0, 1.0), ("P", "S", "L")),
        ((3.0, 1.0, 1.0), ("L", "S", "P")),
        ((1.0, 1.0, 1.0), ("S", "P", "L")),  # equal: standard axial slices
        ((2.0, 1.0, 2.0), ("S", "P", "L")),
    ],
)
def test_slices_run_along_the_coarsest_axis(
    spacing: tuple[float, float, float], letters: tuple[str, str, str]
) -> None:
    plan = plan_for([discs(8, size=(24, 24))], spacing)
    assert plan.sampling.orientation.letters == letters


def test_the_median_scan_decides_the_slice_axis() -> None:
    labels = [discs(8, size=(24, 24))] * 3
    spacings = [(1.0, 5.0, 1.0), (1.0, 1.0, 3.0), (1.0, 1.0, 3.0)]
    volumes = [volume(m.astype(np.float32), s) for m, s in zip(labels, spacings, strict=True)]
    assert planned(dataset_of(), volumes, labels).sampling.orientation.slice_axis == "S"


def test_plan_is_the_same_however_scans_are_stored() -> None:
    labels = discs(20, 12, size=(70, 50))
    scan, label_map = (
        sitk.GetImageFromArray(labels.astype(np.float32)),
        sitk.GetImageFromArray(labels),
    )
    for image in (scan, label_map):
        image.SetSpacing((0.9, 4.0, 1.1))  # coronal slices
    plans = []
    for code in CODES:
        stored = volume_of(sitk.DICOMOrient(scan, code))
        assert stored.grid.orientation == code
        array = sitk.GetArrayFromImage(sitk.DICOMOrient(label_map, code))
        plans.append(planned(dataset_of("a", "b"), [stored], [array]))
    assert len(CODES) == 48
    first = plans[0]
    assert first.sampling.orientation.letters == ("P", "S", "L")
    assert first.extent == pytest.approx((70 * 4.0, 4 * 1.1, 50 * 0.9))
    for plan in plans:
        assert plan.sampling == first.sampling
        assert plan.extent == pytest.approx(first.extent)


# Boxes or scans, mirroring, context, record.


@pytest.mark.parametrize(
    ("spacing", "guess"),
    [((1.0, 1.0, 3.0), "boxes"), ((1.0, 1.0, 30.0), "scans"), ((1.1, 1.0, 3.0), "scans")],
)
def test_small_images_are_taken_for_boxes(spacing: tuple[float, float, float], guess: str) -> None:
    labels = [discs(8, slices=4, size=(96, 96))]  # 96 x 96 x 4 voxels against 100 mm
    assert plan_for(labels, spacing).trained_on == guess
    assert plan_for(labels, spacing, trained_on="scans").trained_on == "scans"
    assert plan_for(labels, spacing, trained_on="boxes").trained_on == "boxes"


@pytest.mark.parametrize(
    ("spacing", "names", "axes"),
    [
        ((1.0, 1.0, 3.0), ("liver",), (1,)),
        ((1.0, 3.0, 1.0), ("liver",), (1,)),
        ((3.0, 1.0, 1.0), ("liver",), ()),  # sagittal slices have no left and right
        ((1.0, 1.0, 3.0), ("liver", "Kidney, LEFT"), ()),
        ((1.0, 1.0, 3.0), ("right_lung", "heart"), ()),
    ],
)
def test_mirroring_is_left_right_and_only_without_sides(
    spacing: tuple[float, float, float], names: tuple[str, ...], axes: tuple[int, ...]
) -> None:
    labels = discs(8, size=(24, 24))
    plan = planned(dataset_of(*names), [volume(labels.astype(np.float32), spacing)], [labels])
    assert plan.sampling.mirror_axes == axes


def test_context_is_kept() -> None:
    plan = plan_for([discs(8)], slice_offsets=(-3.0, 0.0, 3.0))
    assert plan.sampling.slice_offsets == (-3.0, 0.0, 3.0)


def test_plan_is_plain_numbers() -> None:
    plan = plan_for([discs(20)])
    assert json.loads(json.dumps(asdict(plan)))["sampling"]["patch"] == [240, 240]


# What a scan of full size asks for.


def test_a_whole_slice_stays_within_reach(tmp_path: Path) -> None:
    """A 6 mm structure in a 460 mm slice would ask for 65,536 tokens."""
    labels = np.zeros((3, 512, 512), np.uint8)
    labels[1, 100:106, 100:106] = 1
    made = plan_for([labels], (0.9, 0.9, 3.0))
    assert made.sampling.spacing is not None
    rows, columns = (512 * 0.9 / mm / 16 for mm in made.sampling.spacing)
    assert rows * columns <= 56 * 56 * 1.01
    assert any("tokens" in reason and "--spacing" in reason for reason in made.reasons)


SIDED = [
    "kidney_left", "Right lung", "Parotid_L", "Parotid_R", "kidney l", "LtParotid", "RtKidney",
    "Niere links", "poumon droit_R",
]  # fmt: skip
PLAIN = ["liver", "L5", "vertebra_L1", "hippocampus", "core", "Lung", "rectum", "LV"]


@pytest.mark.parametrize("name", [*SIDED, *PLAIN])
def test_sides_are_told_by_word_or_letter(name: str) -> None:
    labels = discs(20)
    scan = volume(labels.astype(np.float32))
    made = planned(dataset_of(name), [scan], [labels])
    assert (made.sampling.mirror_axes == ()) == (name in SIDED)
    word = "kept apart" if name in SIDED else "mirrored"
    assert any(word in reason for reason in made.reasons)
    for mirror in (True, False):
        told = planned(dataset_of(name), [scan], [labels], mirror=mirror).sampling.mirror_axes
        assert told == ((1,) if mirror else ())


def test_channels_of_one_name_are_numbered() -> None:
    scan = join_channels([volume(np.ones((4, 50, 50), np.float32))] * 2)
    made = planned(dataset_of(channels=("T1", "T1")), [scan], [discs(9, size=(50, 50))])
    assert [channel.name for channel in made.channels] == ["T1 1", "T1 2"]


@pytest.mark.parametrize(
    ("names", "apart"),
    [
        (("Lung_L", "Lung_R"), True),
        (("lungl", "lungr"), True),
        (("LV", "RV", "Myo"), True),
        (("L5", "R5"), True),
        (("L4", "L5"), False),  # lumbar vertebrae
        (("liver", "spleen"), False),
        (("lung", "rung x"), False),
    ],
)
def test_names_that_differ_in_the_side_alone_are_a_pair(
    names: tuple[str, ...], apart: bool
) -> None:
    labels = discs(20, 20, 20)
    made = planned(dataset_of(*names), [volume(labels.astype(np.float32))], [labels])
    assert (made.sampling.mirror_axes == ()) == apart
