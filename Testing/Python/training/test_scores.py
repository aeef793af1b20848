"""Scores of label maps against values worked out by hand, in voxels of unequal edges."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import Label
from meddinov3_training.evaluation.scores import (
    ABSENT,
    FALSE_ALARM,
    FOUND,
    MISSED,
    score_case,
    score_masks,
)
from scipy import ndimage

SPACING = (3.0, 0.5, 0.8)  # (k, j, i) mm
SHAPE = (7, 12, 10)


def structures(ignore: int | None = None, **members: tuple[int, ...]) -> DatasetLabels:
    labels = tuple(Label(name, n + 1, (1, 2, 3)) for n, name in enumerate(members))
    regions = any(len(values) > 1 for values in members.values())
    return DatasetLabels(labels, tuple(members.values()), regions, ignore)


def box(k: slice, j: slice, i: slice, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[k, j, i] = True
    return mask


ONE = box(slice(2, 3), slice(4, 5), slice(4, 5))


@pytest.mark.parametrize(("axis", "distance"), [(0, 3.0), (1, 0.5), (2, 0.8)])
def test_a_shift_by_one_voxel_is_as_far_as_the_voxel_is_long(axis: int, distance: float) -> None:
    shifted = np.roll(ONE, 1, axis)
    score = score_masks(shifted, ONE, SPACING, tolerance=distance)
    assert score.hd95_mm == pytest.approx(distance)
    assert score.nsd == 1
    assert score_masks(shifted, ONE, SPACING, tolerance=0.99 * distance).nsd == 0
    assert score.dice == 0


def test_surfaces_are_counted_by_hand() -> None:
    # A row of 8 voxels along i against its first 5: all are surface. Of the 8 the last three are
    # 0.8, 1.6 and 2.4 mm from the 5; all others and all of the 5 coincide.
    long = box(slice(2, 3), slice(4, 5), slice(0, 8))
    short = box(slice(2, 3), slice(4, 5), slice(0, 5))
    score = score_masks(long, short, SPACING, tolerance=1.0)
    assert score.nsd == pytest.approx((6 + 5) / 13)
    assert score_masks(long, short, SPACING, tolerance=1.6).nsd == pytest.approx((7 + 5) / 13)
    # Distances of the 8: 0 0 0 0 0 0.8 1.6 2.4; the 95th percentile is at place 0.95 * 7 = 6.65.
    assert score.hd95_mm == pytest.approx(1.6 + 0.65 * 0.8)
    assert score.dice == pytest.approx(2 * 5 / 13)
    voxel = 3.0 * 0.5 * 0.8 / 1000
    assert score.predicted_ml == pytest.approx(8 * voxel)
    assert score.volume_error_ml == pytest.approx(3 * voxel)
    assert score.volume_error_percent == pytest.approx(60)
    assert (score.true_positive, score.false_positive, score.false_negative) == (5, 3, 0)


def test_the_inside_is_no_surface() -> None:
    # 5 x 5 x 5 voxels have 125 - 27 on the surface. A hole of one in the middle adds the six
    # that touch it by a face. Those along j lie 0.5 mm from the outer surface, those along i
    # 0.8 mm, and those along k 1 mm: two steps of j are shorter than one of k.
    whole = box(slice(1, 6), slice(1, 6), slice(1, 6))
    holed = whole.copy()
    holed[3, 3, 3] = False
    for tolerance, near in ((0.4, 0), (0.5, 2), (0.8, 4), (1.0, 6)):
        score = score_masks(holed, whole, SPACING, tolerance)
        assert score.nsd == pytest.approx((98 + near + 98) / (104 + 98))


def test_a_structure_at_the_edge_of_the_scan_ends_there() -> None:
    filled = np.ones((3, 3, 3), dtype=bool)
    cored = filled.copy()
    cored[1, 1, 1] = False  # the core is not on the surface, and all else is
    assert score_masks(filled, filled, SPACING).nsd == 1
    assert score_masks(cored, filled, SPACING, tolerance=0).nsd == 1


def test_empty_structures_follow_nnunet() -> None:
    nothing = np.zeros(SHAPE, dtype=bool)
    absent = score_masks(nothing, nothing, SPACING)
    assert absent.outcome == ABSENT
    assert (absent.dice, absent.nsd, absent.hd95_mm, absent.volume_error_ml) == (None,) * 4
    missed = score_masks(nothing, ONE, SPACING)
    assert (missed.outcome, missed.dice, missed.nsd, missed.hd95_mm) == (MISSED, 0, 0, None)
    assert missed.volume_error_percent == pytest.approx(-100)
    invented = score_masks(ONE, nothing, SPACING)
    assert (invented.outcome, invented.dice, invented.nsd) == (FALSE_ALARM, 0, 0)
    assert (invented.hd95_mm, invented.volume_error_percent) == (None, None)
    assert invented.volume_error_ml == pytest.approx(0.0012)
    assert score_masks(ONE, ONE, SPACING).outcome == FOUND


def test_a_spacing_that_was_rounded_in_the_header_is_within_the_tolerance() -> None:
    spacing = (1.0, 1.0, float(np.float32(1.0)) + 1.2e-7)
    assert score_masks(np.roll(ONE, 1, 2), ONE, spacing, tolerance=1.0).nsd == 1


def test_both_equal_monai_and_a_distance_transform() -> None:
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    random = np.random.default_rng(3)
    for _ in range(4):
        smooth = ndimage.gaussian_filter(random.normal(size=(2, 9, 20, 16)), (0, 1, 2, 2))
        a, b = (field > 0.03 for field in smooth)
        score = score_masks(a, b, SPACING, tolerance=1.0)
        batch = [torch.from_numpy(mask[None, None]) for mask in (a, b)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = {"include_background": True, "spacing": list(SPACING)}
            nsd = compute_surface_dice(*batch, [1.0], **options)
            hd95 = compute_hausdorff_distance(*batch, percentile=95, directed=False, **options)
        assert score.nsd == pytest.approx(float(nsd), abs=1e-6)
        assert score.hd95_mm == pytest.approx(float(hd95), abs=1e-5)

        edges = [mask & ~ndimage.binary_erosion(mask) for mask in (a, b)]
        distances = [
            ndimage.distance_transform_edt(~edges[1], sampling=SPACING)[edges[0]],
            ndimage.distance_transform_edt(~edges[0], sampling=SPACING)[edges[1]],
        ]
        within = sum((d <= 1.0).sum() for d in distances) / sum(map(len, distances))
        assert score.nsd == pytest.approx(within)
        assert score.hd95_mm == pytest.approx(max(np.percentile(d, 95) for d in distances))


masks = st.lists(st.booleans(), min_size=60, max_size=60).map(
    lambda bits: np.array(bits).reshape(3, 4, 5)
)


@settings(max_examples=40, deadline=None)
@given(masks, masks, st.floats(0, 5))
def test_scores_are_symmetric_and_bounded(a: np.ndarray, b: np.ndarray, tolerance: float) -> None:
    there, back = score_masks(a, b, SPACING, tolerance), score_masks(b, a, SPACING, tolerance)
    assert (there.dice, there.nsd, there.hd95_mm) == (back.dice, back.nsd, back.hd95_mm)
    assert there.nsd is None or 0 <= there.nsd <= 1
    if there.hd95_mm is not None:
        diagonal = np.linalg.norm([2 * 3.0, 3 * 0.5, 4 * 0.8])
        assert 0 <= there.hd95_mm <= diagonal + 1e-4
    if there.volume_error_ml is not None:
        assert there.volume_error_ml == pytest.approx(-(back.volume_error_ml or 0))


@settings(max_examples=25, deadline=None)
@given(masks, masks, st.sets(st.sampled_from([0, 1, 2])))
def test_flips_and_empty_borders_change_nothing(
    a: np.ndarray, b: np.ndarray, axes: set[int]
) -> None:
    score = score_masks(a, b, SPACING)
    flipped = score_masks(np.flip(a, tuple(axes)), np.flip(b, tuple(axes)), SPACING)
    padded = score_masks(np.pad(a, 3), np.pad(b, 3), SPACING)
    for other in (flipped, padded):
        for name, value in dataclasses.asdict(score).items():
            assert getattr(other, name) == (
                value if value is None or isinstance(value, str) else pytest.approx(value)
            )


def test_a_case_has_a_score_for_each_label() -> None:
    reference = np.zeros(SHAPE, np.uint8)
    reference[2, 3:6, 2:8] = 1
    reference[5, 8, 8] = 7
    prediction = reference.astype(np.int64)
    prediction[2, 3:6, 2] = 0
    found = score_case(
        "a", prediction, reference, SPACING, structures(a=(1,), b=(7,), c=(3,)),
        {"a": 1.0, "b": 1.0, "c": 1.0},
    )  # fmt: skip
    assert list(found.labels) == ["a", "b", "c"]
    assert found.labels["a"].dice == pytest.approx(2 * 15 / 33)
    assert (found.labels["b"].dice, found.labels["c"].dice) == (1, None)
    assert found.mean_dice == pytest.approx((2 * 15 / 33 + 1) / 2)


def test_each_label_has_its_own_tolerance() -> None:
    reference, prediction = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    for value, j in ((1, 2), (2, 8)):
        reference[3, j, 4], prediction[3, j, 5] = value, value
    found = score_case(
        "a", prediction, reference, SPACING, structures(a=(1,), b=(2,)), {"a": 0.5, "b": 1.0}
    )
    assert (found.labels["a"].nsd, found.labels["b"].nsd) == (0, 1)


def test_a_region_is_all_of_its_members_and_ignored_voxels_do_not_count() -> None:
    reference = np.array([[[1, 2, 2, 0, 9, 9]]], np.uint8)
    prediction = np.array([[[2, 2, 0, 0, 1, 0]]], np.uint8)
    found = score_case(
        "a", prediction, reference, (1.0, 1.0, 1.0), structures(9, whole=(1, 2), core=(2,)),
        {"whole": 1.0, "core": 1.0},
    )  # fmt: skip
    assert found.labels["whole"].dice == pytest.approx(2 * 2 / (2 + 3))
    assert found.labels["core"].dice == pytest.approx(2 * 1 / (2 + 2))
    assert found.labels["whole"].false_positive == 0


def test_a_missing_prediction_counts_as_empty() -> None:
    reference = ONE.astype(np.uint8)
    found = score_case("a", None, reference, SPACING, structures(a=(1,), b=(2,)),
                       {"a": 1.0, "b": 1.0})  # fmt: skip
    assert not found.predicted
    assert (found.labels["a"].dice, found.labels["a"].outcome) == (0, MISSED)
    assert found.labels["b"].dice is None


@pytest.mark.parametrize("value", [-1, 70000])
def test_a_scan_is_no_label_map(value: int) -> None:
    wrong = np.full(SHAPE, value, np.int32)
    with pytest.raises(MedDINOv3Error, match="holds values from"):
        score_case("a", wrong, ONE.astype(np.uint8), SPACING, structures(a=(1,)), {"a": 1.0})
