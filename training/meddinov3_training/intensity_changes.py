"""nnU-Net's random changes of intensities, by its own library.

Kinds, order, chances and ranges are those of nnU-Net's trainer (Isensee et al. 2021, version
2); the transforms are batchgeneratorsv2's. They draw from numpy's and torch's global
generators, which are therefore seeded for each sample and put back as they were.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from meddinov3.errors import MedDINOv3Error
from torch import Tensor

from meddinov3_training.augmentation import Augmentation


def change_intensities(
    patch: Tensor, augmentation: Augmentation, seed: int, slices: int = 1
) -> Tensor:
    """Change the intensities of one normalised patch.

    Args:
        patch: (slices * channels, rows, columns) float32; changed in place where that is quicker.
        augmentation: chances.
        seed: 64 bits; the result is a function of them and the patch.
        slices: neighbouring slices among the channels. Their noise is their own; else they are
            one picture and change alike, where channels change independently.

    Raises:
        MedDINOv3Error: batchgeneratorsv2 is not installed.
    """
    noise, rest = load_changes(augmentation)
    first, second = (int(part) for part in np.random.SeedSequence(seed).generate_state(2))
    with _seeded(first):
        patch = noise(image=patch)["image"]
    parts = []
    for part in patch.chunk(slices):
        with _seeded(second), _plain_convolution():
            parts.append(rest(image=part)["image"])
    return torch.cat(parts)


@contextmanager
def _plain_convolution() -> Iterator[None]:
    """Without oneDNN: for one channel and a short kernel it takes six times as long."""
    kept = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = kept


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generators of numpy and torch, on the processor, at `seed` for a while."""
    kept, kept_torch = np.random.get_state(), torch.get_rng_state()
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the GPUs
    try:
        yield
    finally:
        np.random.set_state(kept)
        torch.set_rng_state(kept_torch)


@functools.cache
def load_changes(augmentation: Augmentation) -> tuple[Any, Any]:
    """batchgeneratorsv2's noise, and everything after it, which is nnU-Net's order.

    Raises:
        MedDINOv3Error: batchgeneratorsv2 is not installed.
    """
    try:
        from batchgeneratorsv2.transforms.intensity.brightness import (
            MultiplicativeBrightnessTransform,
        )
        from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
        from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
        from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
        from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
        from batchgeneratorsv2.transforms.spatial.low_resolution import (
            SimulateLowResolutionTransform,
        )
        from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
        from batchgeneratorsv2.transforms.utils.random import RandomTransform
    except ImportError as error:
        raise MedDINOv3Error(
            "not-set-up",
            f"Training needs a package that is not here: {error.name}.",
            "Install batchgeneratorsv2 and scikit-image (pip install batchgeneratorsv2).",
        ) from error
    # Called a variance there, it is the standard deviation.
    noise = GaussianNoiseTransform((0, 0.1), p_per_channel=1, synchronize_channels=True)
    # Its benchmark of two convolutions would let the clock decide about the last bits.
    blur = GaussianBlurTransform(
        (0.5, 1.0), synchronize_channels=False, synchronize_axes=False, p_per_channel=0.5,
        benchmark=False,
    )  # fmt: skip
    brightness = MultiplicativeBrightnessTransform(
        BGContrast((0.75, 1.25)), synchronize_channels=False, p_per_channel=1
    )
    contrast = ContrastTransform(
        BGContrast((0.75, 1.25)), preserve_range=True, synchronize_channels=False, p_per_channel=1
    )
    coarse = SimulateLowResolutionTransform(
        (0.5, 1), synchronize_channels=False, synchronize_axes=True, ignore_axes=None,
        p_per_channel=0.5,
    )  # fmt: skip
    gamma = [
        GammaTransform(
            BGContrast((0.7, 1.5)), p_invert_image=inverted, synchronize_channels=False,
            p_per_channel=1, p_retain_stats=1,
        )
        for inverted in (1, 0)
    ]  # fmt: skip
    chances = (
        (blur, augmentation.blur_p),
        (brightness, augmentation.brightness_p),
        (contrast, augmentation.contrast_p),
        (coarse, augmentation.low_resolution_p),
        (gamma[0], augmentation.gamma_inverted_p),
        (gamma[1], augmentation.gamma_p),
    )
    rest = ComposeTransforms([RandomTransform(kind, chance) for kind, chance in chances])
    return RandomTransform(noise, augmentation.noise_p), rest
