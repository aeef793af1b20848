"""Intensity schemes against nnU-Net's formulas, and the statistics behind them.

The formulas are those of nnunetv2's ``default_normalization_schemes.py``, written out here.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from meddinov3.errors import MedDINOv3Error
from meddinov3.intensity import IntensityScheme, NonzeroBody
from scipy import ndimage

SHAPE = (7, 20, 18)


def nnunet_zscore(image: np.ndarray) -> np.ndarray:
    image = image.astype(np.float64)
    return (image - image.mean()) / max(image.std(), 1e-8)


def nnunet_zscore_in_mask(image: np.ndarray) -> np.ndarray:
    """``use_mask_for_norm``: only the non-zero region with its holes filled is touched."""
    image = image.astype(np.float64)
    mask = ndimage.binary_fill_holes(image != 0)
    image[mask] = (image[mask] - image[mask].mean()) / max(image[mask].std(), 1e-8)
    return image


def nnunet_ct(image: np.ndarray, low: float, high: float, mean: float, std: float) -> np.ndarray:
    return (np.clip(image.astype(np.float64), low, high) - mean) / max(std, 1e-8)


def nnunet_rescale_to_01(image: np.ndarray) -> np.ndarray:
    image = image.astype(np.float64)
    image = image - image.min()
    return image / max(image.max(), 1e-8)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 300, SHAPE).astype(np.float32)


def body_with_a_hole() -> np.ndarray:
    """Intensities in a box that touches no border, with a zero hole inside and zeros around."""
    scan = np.zeros(SHAPE, np.float32)
    scan[2:6, 4:15, 3:13] = np.random.default_rng(1).uniform(50, 400, (4, 11, 10))
    scan[3:5, 8:10, 6:9] = 0
    return scan


def normalise(scheme: IntensityScheme, scan: np.ndarray) -> np.ndarray:
    return scheme.fit(scan).apply(scan.astype(np.float32))


class TestSchemes:
    def test_ct_clips_and_uses_fixed_figures(self) -> None:
        scan = noise()
        result = normalise(IntensityScheme("ct", (-160.0, 240.0), 40.0, 95.0), scan)
        np.testing.assert_allclose(result, nnunet_ct(scan, -160, 240, 40, 95), atol=1e-5)
        assert result.min() == pytest.approx(-200 / 95, abs=1e-6)

    def test_released_ct_figures(self) -> None:
        scheme = IntensityScheme.meddinov3_ct()
        values = scheme.fit(np.zeros((1, 1, 1))).apply(
            np.array([-3000, 65.10842, 3000], np.float32)
        )
        expected = [(-1000 - 65.10842) / 178.016632, 0, (1000 - 65.10842) / 178.016632]
        np.testing.assert_allclose(values, expected, atol=1e-5)

    def test_ct_does_not_look_at_the_scan(self) -> None:
        scheme = IntensityScheme("ct", (-160.0, 240.0), 40.0, 95.0)
        assert scheme.fit(noise(1)) == scheme.fit(noise(2))

    def test_zscore_uses_the_whole_scan(self) -> None:
        scan = body_with_a_hole()
        result = normalise(IntensityScheme("zscore"), scan)
        np.testing.assert_allclose(result, nnunet_zscore(scan), atol=1e-5)

    def test_zscore_in_the_nonzero_box_is_that_of_the_cropped_scan(self) -> None:
        """nnU-Net crops to the non-zero box first and then standardises what is left."""
        scan = body_with_a_hole()
        result = normalise(IntensityScheme("zscore", mask="nonzero_box"), scan)
        box = np.s_[2:6, 4:15, 3:13]
        np.testing.assert_allclose(result[box], nnunet_zscore(scan[box]), atol=1e-5)

    def test_zscore_in_the_nonzero_region_fills_holes(self) -> None:
        scan = body_with_a_hole()
        transform = IntensityScheme("zscore", mask="nonzero").fit(scan)
        assert transform.region is not None
        result = transform.apply(scan) * transform.region
        np.testing.assert_allclose(result, nnunet_zscore_in_mask(scan), atol=1e-5)
        assert transform.region[3, 8, 6]  # the hole belongs to the body
        assert not transform.region[0].any()

    def test_range_maps_lowest_and_highest_to_0_and_1(self) -> None:
        scan = noise()
        result = normalise(IntensityScheme("range"), scan)
        np.testing.assert_allclose(result, nnunet_rescale_to_01(scan), atol=1e-6)
        assert (result.min(), result.max()) == (0, 1)

    def test_range_after_a_clip_still_spans_0_to_1(self) -> None:
        """The clip comes before anything else, so before the lowest and highest are looked for."""
        scan = np.linspace(-500, 1000, 7 * 20 * 18).reshape(SHAPE).astype(np.float32)
        result = normalise(IntensityScheme("range", clip=(0.0, 100.0)), scan)
        np.testing.assert_allclose(result, nnunet_rescale_to_01(scan.clip(0, 100)), atol=1e-6)

    def test_fixed_covers_rgb_to_01_and_no_normalisation(self) -> None:
        scan = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
        rgb = normalise(IntensityScheme("fixed", std=255.0), scan)
        np.testing.assert_allclose(rgb, scan.astype(np.float64) / 255, atol=1e-7)
        np.testing.assert_array_equal(normalise(IntensityScheme("fixed"), scan), scan)

    @pytest.mark.parametrize("kind", ["zscore", "range"])
    def test_a_constant_scan_becomes_zero(self, kind: str) -> None:
        scan = np.full(SHAPE, 1234.5, np.float32)
        np.testing.assert_array_equal(normalise(IntensityScheme(kind), scan), 0)

    @pytest.mark.parametrize("mask", ["nonzero", "nonzero_box"])
    def test_an_all_zero_scan_stays_zero(self, mask: str) -> None:
        scan = np.zeros(SHAPE, np.int16)
        np.testing.assert_array_equal(normalise(IntensityScheme("zscore", mask=mask), scan), 0)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"kind": "histogram"},
            {"mask": "brain"},
            {"std": 0.0},
            {"std": -1.0},
            {"std": float("nan")},
        ],
    )
    def test_an_unknown_scheme_is_refused(self, wrong: dict) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            IntensityScheme(**wrong)
        assert caught.value.code == "bad-intensity-scheme"
        assert caught.value.remedy


def large_scale(random: np.random.Generator) -> np.ndarray:
    """Around 1.5 million with a spread of 40: sums of squares in float32 would lose all of it."""
    return (1.5e6 + random.normal(0, 40, SHAPE)).astype(np.float32)


def drifting(random: np.random.Generator) -> np.ndarray:
    """Slices whose means lie far apart."""
    levels = np.array([-1000, 0, 3, 1e5, -7, 50, 2e4]).reshape(-1, 1, 1)
    return (random.normal(0, 1, SHAPE) + levels).astype(np.float32)


AWKWARD: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "float32 around 1.5e6": large_scale,
    "drifting slices": drifting,
    "uint8": lambda random: random.integers(0, 256, SHAPE).astype(np.uint8),
    "int16": lambda random: random.integers(-32768, 32768, SHAPE).astype(np.int16),
    "uint16 at the top": lambda random: random.integers(65000, 65536, SHAPE).astype(np.uint16),
    "int32": lambda random: random.integers(-(2**31), 2**31 - 1, SHAPE).astype(np.int32),
    "float64": lambda random: random.normal(-3, 1e-3, SHAPE),
    "one slice": lambda random: random.normal(5, 2, (1, 30, 30)).astype(np.float32),
}


class TestMoments:
    @pytest.mark.parametrize("kind", AWKWARD)
    def test_equal_numpy_in_float64(self, kind: str) -> None:
        scan = AWKWARD[kind](np.random.default_rng(3))
        transform = IntensityScheme("zscore").fit(scan)
        wide = scan.astype(np.float64)
        assert transform.mean == pytest.approx(wide.mean(), rel=1e-12, abs=1e-12)
        assert transform.std == pytest.approx(wide.std(), rel=1e-9)

    @pytest.mark.parametrize("kind", AWKWARD)
    def test_equal_numpy_in_float64_after_a_clip(self, kind: str) -> None:
        scan = AWKWARD[kind](np.random.default_rng(4))
        low, high = (float(v) for v in np.percentile(scan.astype(np.float64), (20, 70)))
        transform = IntensityScheme("zscore", clip=(low, high)).fit(scan)
        wide = scan.astype(np.float64).clip(low, high)
        assert transform.mean == pytest.approx(wide.mean(), rel=1e-12, abs=1e-12)
        assert transform.std == pytest.approx(wide.std(), rel=1e-9)

    def test_of_the_region_alone(self) -> None:
        scan = body_with_a_hole()
        scan[5] = 0  # a slice of the box without a voxel of the region
        transform = IntensityScheme("zscore", mask="nonzero").fit(scan)
        inside = scan[ndimage.binary_fill_holes(scan != 0)].astype(np.float64)
        assert transform.mean == pytest.approx(inside.mean(), rel=1e-12)
        assert transform.std == pytest.approx(inside.std(), rel=1e-12)

    def test_of_a_view_that_is_turned_and_flipped(self) -> None:
        scan = noise(6)
        plain = IntensityScheme("zscore").fit(scan)
        turned = IntensityScheme("zscore").fit(scan.transpose(2, 0, 1)[::-1, :, ::-1])
        assert turned.mean == pytest.approx(plain.mean, rel=1e-12)
        assert turned.std == pytest.approx(plain.std, rel=1e-12)


class TestApply:
    SCHEMES = (
        IntensityScheme.meddinov3_ct(),
        IntensityScheme("zscore"),
        IntensityScheme("zscore", clip=(-50.0, 333.3)),
        IntensityScheme("range"),
        IntensityScheme("fixed", mean=1.7, std=255.0),
    )

    @pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: f"{scheme.kind} {scheme.clip}")
    def test_numpy_and_torch_agree_to_the_last_bit(self, scheme: IntensityScheme) -> None:
        scan = noise(5)
        transform = scheme.fit(scan)
        by_torch = transform.apply(torch.from_numpy(scan))
        by_numpy = transform.apply(scan)
        assert by_numpy.dtype == np.float32
        assert by_torch.dtype == torch.float32
        np.testing.assert_array_equal(by_torch.numpy(), by_numpy)

    def test_the_scan_is_left_as_it_was(self) -> None:
        scan = noise(7)
        before = scan.copy()
        IntensityScheme("zscore", clip=(0.0, 1.0)).fit(scan).apply(scan)
        np.testing.assert_array_equal(scan, before)

    def test_slices_get_what_the_whole_scan_gets(self) -> None:
        scan = noise(8)
        transform = IntensityScheme("zscore").fit(scan)
        whole = transform.apply(scan)
        np.testing.assert_array_equal(np.stack([transform.apply(s) for s in scan]), whole)


class TestMemory:
    @pytest.mark.parametrize(
        "scheme",
        [
            IntensityScheme("zscore"),
            IntensityScheme("zscore", clip=(0.0, 100.0)),
            IntensityScheme("range"),
            IntensityScheme.meddinov3_ct(),
        ],
        ids=lambda scheme: f"{scheme.kind} {scheme.clip}",
    )
    def test_fitting_holds_a_few_slices_not_the_scan(
        self, scheme: IntensityScheme, tmp_path: Path
    ) -> None:
        """A scan that lies in a file: 256 slices, of which at most 3 in float64 are held."""
        scan = np.memmap(tmp_path / "scan", np.float32, "w+", shape=(256, 96, 96))
        scan[::5] = 17
        tracemalloc.start()
        try:
            scheme.fit(scan)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 3 * 96 * 96 * 8 + 20_000


def test_channels_share_the_part_that_is_not_empty() -> None:
    """nnU-Net crops to, and masks by, what is non-zero in any channel."""
    first, second = np.zeros((2, 4, 6, 6), np.float32)
    first[1:3, 1:4, 1:4], second[1:3, 2:5, 2:5] = 10, 20
    body = NonzeroBody([first, second])
    union = (first != 0) | (second != 0)
    assert body.box == (slice(1, 3), slice(1, 5), slice(1, 5))
    np.testing.assert_array_equal(body.region, union)
    for channel in (first, second):
        masked = IntensityScheme("zscore", mask="nonzero").fit(channel, body)
        assert masked.mean == pytest.approx(channel[union].mean())
        assert masked.std == pytest.approx(channel[union].std())
        boxed = IntensityScheme("zscore", mask="nonzero_box").fit(channel, body)
        assert boxed.mean == pytest.approx(channel[1:3, 1:5, 1:5].mean())


def test_range_looks_at_the_box_only() -> None:
    scan = np.zeros((4, 6, 6), np.float32)
    scan[1:3, 1:4, 1:4] = np.arange(18).reshape(2, 3, 3) + 5
    fitted = IntensityScheme("range", mask="nonzero_box").fit(scan)
    assert (fitted.mean, fitted.std) == (5, 17)


@pytest.mark.parametrize(
    "wrong",
    [{"std": float("inf")}, {"std": 0}, {"mean": float("nan")}, {"clip": (3.0, -3.0)},
     {"clip": (float("nan"), 1.0)}],
    ids=str,
)  # fmt: skip
def test_figures_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(MedDINOv3Error):
        IntensityScheme("ct", **wrong)  # type: ignore[arg-type]
