"""Named settings of a plan, what it warns of, and plans of real data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cached_cases import dataset_of
from meddinov3.errors import MedDINOv3Error
from meddinov3_training.dataset import read_dataset
from meddinov3_training.fingerprint import read_fingerprint
from meddinov3_training.plan import Plan, make_plan, nnunet_patch
from meddinov3_training.presets import PRESETS
from planned_cases import discs, plan_for, planned, volume

# Presets.


@pytest.mark.parametrize(
    ("size", "patch"),
    # nnU-Net's own plans: 512 and 640 as they are; hippocampus 50 x 35 becomes 56 x 40.
    [(512, 512), (640, 640), (50, 56), (35, 40), (500, 512), (7, 7), (8, 8)],
)
def test_patch_of_nnunet(size: int, patch: int) -> None:
    assert nnunet_patch(size) == patch


def test_paper_preset_keeps_nnunets_field_of_view() -> None:
    """The readme's example: 512 pixels of 0.78125 mm become 896 of 0.4464."""
    labels = np.zeros((3, 512, 512), np.uint8)
    labels[1, 100:160, 100:160] = 1
    made = plan_for([labels], (0.78125, 0.78125, 5.0), preset="paper-896")
    assert made.sampling.patch == (896, 896)
    assert made.sampling.spacing == (pytest.approx(0.4464, abs=5e-5),) * 2
    assert made.preset == "paper-896"
    assert any("512 x 512" in reason for reason in made.reasons)


def test_paper_preset_on_an_oblong_slice_keeps_both_extents() -> None:
    made = plan_for([discs(20, size=(384, 512))], (0.8, 1.0, 5.0), preset="paper-896")
    assert made.sampling.patch == (896, 896)
    # nnU-Net pads neither 384 nor 512.
    assert made.sampling.spacing == pytest.approx((1.0 * 384 / 896, 0.8 * 512 / 896), abs=1e-6)


def test_small_preset_asks_for_less() -> None:
    labels = np.zeros((3, 512, 512), np.uint8)
    labels[1, 100:112, 100:112] = 1
    auto, small = (plan_for([labels], (0.9, 0.9, 3.0), preset=name) for name in ("auto", "small"))
    assert auto.sampling.patch == (512, 512)
    assert small.sampling.patch == (256, 256)
    tokens = [
        (512 * 0.9 / made.sampling.spacing[0] / 16) ** 2  # type: ignore[index]
        for made in (auto, small)
    ]
    assert tokens == pytest.approx([56 * 56, 28 * 28], rel=0.01)


def test_a_given_patch_or_spacing_beats_the_preset() -> None:
    made = plan_for([discs(20, size=(400, 400))], largest_patch=128, preset="small")
    assert made.sampling.patch == (128, 128)
    given = plan_for([discs(20)], spacing=(0.5, 0.5), preset="paper-896")
    assert given.sampling.spacing == (0.5, 0.5)


def test_unknown_presets_are_refused_with_the_known_ones() -> None:
    with pytest.raises(MedDINOv3Error) as caught:
        plan_for([discs(20)], preset="big")
    assert caught.value.code == "no-preset"
    assert all(name in caught.value.remedy for name in PRESETS)


# Warnings, and the file.


def test_even_spacings_and_shown_labels_need_no_warning() -> None:
    assert plan_for([discs(20), discs(24)]).warnings == ()


def test_wildly_different_spacings_are_named_with_figures() -> None:
    labels = [discs(20)] * 3
    spacings = [(0.5, 0.5, 3.0), (1.0, 1.0, 3.0), (2.0, 2.0, 3.0)]
    volumes = [volume(m.astype(np.float32), s) for m, s in zip(labels, spacings, strict=True)]
    (warning,) = planned(dataset_of("a"), volumes, labels).warnings
    for part in ("4.0 times", "0.50 mm in 'case_0'", "2.00 mm in 'case_2'", "median 1.00 mm"):
        assert part in warning


def test_scans_of_another_plane_are_named() -> None:
    labels = [discs(20)] * 3
    spacings = [(1.0, 1.0, 5.0), (1.0, 1.0, 5.0), (5.0, 1.0, 1.0)]
    volumes = [volume(m.astype(np.float32), s) for m, s in zip(labels, spacings, strict=True)]
    warnings = planned(dataset_of("a"), volumes, labels).warnings
    assert any("case_2" in text and "another plane" in text for text in warnings)


def test_labels_that_never_occur_are_named() -> None:
    labels = discs(20)
    made = planned(dataset_of("a", "ghost"), [volume(labels.astype(np.float32))], [labels])
    assert any("ghost" in text for text in made.warnings)


def test_a_plan_is_read_back_as_it_was() -> None:
    plan = plan_for([discs(20)], slice_offsets=(-3.0, 0.0, 3.0), preset="small")
    assert Plan.from_json(plan.to_json()) == plan


def test_plans_of_the_larger_data_sets(shared: Path) -> None:
    hippocampus = read_dataset(shared / "msd_hippocampus_mr")
    plan = make_plan(hippocampus, read_fingerprint(hippocampus, hippocampus.cases[:8]))
    assert plan.sampling.orientation.slice_axis == "S"
    assert plan.trained_on == "boxes"
    assert plan.warnings == ()
    assert plan.sampling.mirror_axes == (1,)
    headneck = read_dataset(shared / "openkbp_headneck_ct")
    plan = make_plan(headneck, read_fingerprint(headneck, headneck.cases[:4]))
    assert plan.channels[0].intensity.kind == "ct"
    assert plan.sampling.mirror_axes == (), "parotids are left and right"


def test_a_smaller_patch_of_the_paper_preset_keeps_its_spacing() -> None:
    made = plan_for(
        [discs(20, size=(512, 512))], (0.8, 0.8, 5.0), preset="paper-896", largest_patch=600
    )
    assert made.sampling.patch == (592, 592)
    assert made.sampling.spacing == pytest.approx((0.8 * 512 / 896,) * 2, abs=1e-6)
