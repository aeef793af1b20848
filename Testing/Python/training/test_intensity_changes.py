"""nnU-Net's intensity changes: what each does, how often, and that nothing else is touched."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from cached_cases import STILL
from meddinov3.errors import MedDINOv3Error
from meddinov3_training import intensity_changes
from meddinov3_training.augmentation import NNUNET, Augmentation
from meddinov3_training.intensity_changes import change_intensities
from scipy import ndimage
from torch import Tensor

KINDS = {
    "noise_p": 0.1,
    "blur_p": 0.2,
    "brightness_p": 0.15,
    "contrast_p": 0.15,
    "low_resolution_p": 0.25,
    "gamma_inverted_p": 0.1,
    "gamma_p": 0.3,
}
ALWAYS = replace(STILL, **dict.fromkeys(KINDS, 1.0))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def changed(patch: Tensor, augmentation: Augmentation, seed: int, slices: int = 1) -> Tensor:
    return change_intensities(patch.clone(), augmentation, seed, slices)


def only(kind: str) -> Augmentation:
    return replace(STILL, **{kind: 1.0})


@pytest.mark.parametrize(("kind", "chance"), KINDS.items())
def test_chances_are_those_of_nnunet(kind: str, chance: float) -> None:
    assert getattr(NNUNET, kind) == chance
    patch, count = noise(4, 16, 16).exp(), 600
    alone = replace(STILL, **{kind: chance})
    found = sum(not torch.equal(changed(patch, alone, n), patch) for n in range(count))
    # Blur and low resolution then choose channels, each with a chance of a half.
    expected = chance * (1 - 0.5**4 if kind in ("blur_p", "low_resolution_p") else 1)
    spread = math.sqrt(count * expected * (1 - expected))
    assert found == pytest.approx(count * expected, abs=4.5 * spread)


def test_without_chances_nothing_changes() -> None:
    patch = noise(2, 32, 32)
    assert torch.equal(changed(patch, STILL, 0), patch)


def test_noise_has_a_deviation_of_at_most_a_tenth() -> None:
    deviations = []
    for seed in range(40):
        added = changed(torch.zeros(2, 64, 64), only("noise_p"), seed)
        deviations.append(added.std().item())
        assert abs(added.mean().item()) < 5 * 0.1 / 90
        assert not torch.equal(added[0], added[1])
    assert max(deviations) <= 0.1 * 1.05
    assert np.mean(deviations) == pytest.approx(0.05, abs=5 * 0.029 / math.sqrt(40))


@pytest.mark.parametrize("seed", range(6))
def test_blur_is_a_gaussian_of_half_a_pixel_to_one_along_each_axis(seed: int) -> None:
    point = torch.zeros(2, 15, 15)
    point[:, 7, 7] = 1
    for channel in changed(point, only("blur_p"), seed).numpy():
        if channel[7, 7] == 1:
            continue  # this channel was not chosen
        # Neighbours fall off by exp(-1 / (2 sigma^2)).
        sigmas = [
            math.sqrt(-0.5 / math.log(channel[place] / channel[7, 7])) for place in ((8, 7), (7, 8))
        ]
        assert all(0.5 <= sigma <= 1 for sigma in sigmas)
        expected = ndimage.gaussian_filter(point[0].double().numpy(), sigmas, radius=6)
        np.testing.assert_allclose(channel, expected, atol=3e-3)  # kernels end after 3 sigmas


def test_brightness_multiplies_by_three_quarters_to_five_quarters() -> None:
    patch, factors = noise(1, 16, 16), []
    for seed in range(40):
        result = changed(patch, only("brightness_p"), seed)
        factors.append((result / patch).median().item())
        assert torch.allclose(result, patch * factors[-1], atol=1e-5)
    assert 0.75 <= min(factors) < 0.85
    assert 1.15 < max(factors) <= 1.25


def test_contrast_keeps_the_mean_and_the_range() -> None:
    # Two steps from the mean are reached by few pixels, so that clipping hardly moves the mean.
    patch = torch.tensor([[-2.0, 2.0] + [-1.0, 0.0, 1.0] * 20]).reshape(1, 1, -1)
    spreads = []
    for seed in range(30):
        result = changed(patch, only("contrast_p"), seed)
        assert result.mean().item() == pytest.approx(0, abs=1e-5)
        assert result.abs().max() <= 2
        spreads.append(result[0, 0, 4].item())  # was 1
    assert 0.75 <= min(spreads) < 0.85
    assert 1.15 < max(spreads) <= 1.25


def test_low_resolution_loses_detail_only() -> None:
    fine, even = noise(1, 48, 48), torch.full((1, 48, 48), 1.7)
    kept = []
    for seed in range(40):
        assert torch.allclose(changed(even, only("low_resolution_p"), seed), even, atol=1e-5)
        result = changed(fine, only("low_resolution_p"), seed)
        if not torch.equal(result, fine):  # the channel was chosen
            both = torch.stack([result.flatten(), fine.flatten()])
            kept.append(torch.corrcoef(both)[0, 1].item())
    assert 10 <= len(kept) <= 30
    assert min(kept) < 0.7 < 0.8 < max(kept)


@pytest.mark.parametrize("kind", ["gamma_p", "gamma_inverted_p"])
def test_gamma_keeps_mean_spread_and_order(kind: str) -> None:
    patch = noise(1, 40, 40).exp() - 3  # skewed, so that gamma matters
    skews = []
    for seed in range(8):
        result = changed(patch, only(kind), seed)
        assert result.mean().item() == pytest.approx(patch.mean().item(), abs=1e-4)
        assert result.std().item() == pytest.approx(patch.std().item(), rel=1e-4)
        along = result.flatten()[patch.flatten().argsort()]
        assert (along.diff() >= -1e-5).all()
        skews.append(((result - result.mean()) ** 3).mean().item())
    assert max(skews) - min(skews) > 0.1


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_an_even_patch_survives_every_change(value: float) -> None:
    always = replace(ALWAYS, noise_p=0)
    result = changed(torch.full((1, 20, 20), value), always, 0)
    assert torch.isfinite(result).all()
    assert result.std() < 1e-3


def test_neighbouring_slices_change_alike_but_for_noise() -> None:
    """Three times one slice with two channels: what is no noise must change them the same."""
    pair = noise(2, 24, 24)
    always = replace(ALWAYS, noise_p=0)
    for seed in range(6):
        first, second, third = changed(pair.repeat(3, 1, 1), always, seed, slices=3).chunk(3)
        assert torch.equal(first, second)
        assert torch.equal(first, third)
        assert not torch.equal(first, pair)
    first, second, _ = changed(pair.repeat(3, 1, 1), only("noise_p"), 0, slices=3).chunk(3)
    assert not torch.equal(first, second)


# Seeds.


def test_changes_follow_from_the_seed_alone() -> None:
    patch = noise(2, 24, 24)
    first = changed(patch, ALWAYS, 4)
    torch.manual_seed(99)
    np.random.seed(98)
    assert torch.equal(first, changed(patch, ALWAYS, 4))
    assert not torch.allclose(first, changed(patch, ALWAYS, 5), atol=0.01)


IN_ANOTHER_PROCESS = """
import numpy, torch
from meddinov3_training.augmentation import Augmentation
from meddinov3_training.intensity_changes import change_intensities
torch.set_num_threads(1)
patch = torch.randn(2, 48, 48, generator=torch.Generator().manual_seed(0))
always = Augmentation(noise_p=1, blur_p=1, brightness_p=1, contrast_p=1, low_resolution_p=1,
                      gamma_inverted_p=1, gamma_p=1)
print(change_intensities(patch, always, 7).numpy().tobytes().hex())
"""


def test_changes_are_the_same_to_the_bit_in_another_process() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    here = changed(noise(2, 48, 48), ALWAYS, 7)
    torch.set_num_threads(threads)
    there = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == here.numpy().tobytes().hex()


def test_the_callers_generators_and_settings_are_left_alone() -> None:
    torch.manual_seed(5)
    np.random.seed(6)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()
    fast = torch.backends.mkldnn.enabled
    changed(noise(1, 16, 16), ALWAYS, 0)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before[1])
    assert np.random.get_state()[2:] == numpy_before[2:]
    assert torch.backends.mkldnn.enabled == fast


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    intensity_changes.load_changes.cache_clear()
    monkeypatch.setitem(sys.modules, "batchgeneratorsv2.transforms.intensity.gamma", None)
    with pytest.raises(MedDINOv3Error, match="batchgeneratorsv2") as caught:
        changed(noise(1, 16, 16), NNUNET, 0)
    assert caught.value.code == "not-set-up"
    assert "pip install" in caught.value.remedy
    intensity_changes.load_changes.cache_clear()
