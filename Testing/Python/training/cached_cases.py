"""Cases made up by the tests, written as files and cached."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from conftest import describe, sitk_image
from meddinov3.description import ModelDescription, Sampling
from meddinov3.grid import Grid, SliceOrientation
from meddinov3.intensity import IntensityScheme
from meddinov3.labels import Label, default_colour
from meddinov3.volume import Volume
from meddinov3_training.augmentation import Augmentation
from meddinov3_training.cache import CachedCase, build_cache
from meddinov3_training.dataset import Case, Dataset
from meddinov3_training.fingerprint import Fingerprint, examine_case, join

STILL = Augmentation(
    rotation_p=0, scaling_p=0, noise_p=0, blur_p=0, brightness_p=0, contrast_p=0,
    low_resolution_p=0, gamma_inverted_p=0, gamma_p=0,
)  # fmt: skip


def straight(shape: tuple[int, ...], spacing: tuple[float, float, float] = (1.0, 1.0, 3.0)) -> Grid:
    """A grid in LPS order; `shape` (k, j, i), `spacing` (i, j, k)."""
    return Grid(shape[::-1], spacing, (0.0, 0.0, 0.0), np.eye(3))  # type: ignore[arg-type]


def dataset_of(*names: str, channels: tuple[str, ...] = ("MR",), **changes: object) -> Dataset:
    """Labels `names` with the values 1, 2, ...; no cases."""
    labels = tuple(Label(n, v, default_colour(v)) for v, n in enumerate(names or ("a",), start=1))
    members = tuple((label.value,) for label in labels)
    made = Dataset("test", channels, labels, members, False, None, ())
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def write_case(
    folder: Path, name: str, channels: Sequence[np.ndarray], labels: np.ndarray, grid: Grid
) -> Case:
    """Arrays (k, j, i) as NRRD files."""
    folder.mkdir(parents=True, exist_ok=True)
    images = tuple(folder / f"{name}_{n:04d}.nrrd" for n in range(len(channels)))
    for path, array in zip(images, channels, strict=True):
        sitk.WriteImage(sitk_image(array, grid), path)
    sitk.WriteImage(sitk_image(labels, grid), folder / f"{name}_labels.nrrd")
    return Case(name, images, folder / f"{name}_labels.nrrd")


def cache_case(
    folder: Path,
    channels: Sequence[np.ndarray],
    labels: np.ndarray,
    description: ModelDescription,
    grid: Grid | None = None,
    name: str = "case",
) -> CachedCase:
    """Write a case below `folder` and cache it there."""
    case = write_case(folder / "raw", name, channels, labels, grid or straight(labels.shape))
    dataset = dataset_of(
        *(label.name for label in description.labels), ignore=description.ignore_label
    )
    return build_cache([case], dataset, description, folder / "cache")[0]


def fingerprint_of(
    dataset: Dataset, volumes: Sequence[Volume], labels: Sequence[np.ndarray]
) -> Fingerprint:
    """Of cases in memory."""
    pairs = enumerate(zip(volumes, labels, strict=True))
    return join([examine_case(f"case_{n}", v, m, dataset, n) for n, (v, m) in pairs])


def ball_and_box(
    *names: str,
    scheme: IntensityScheme | None = None,
    channels: tuple[str, ...] = ("MR",),
    offsets: tuple[float, ...] = (0.0,),
    orientation: SliceOrientation | None = None,
    ignore: int | None = None,
) -> ModelDescription:
    """A model for scans of `synthetic_dataset`, or for other labels."""
    sampling = Sampling(orientation or SliceOrientation(), (1.0, 1.0), (32, 32), offsets)
    described = describe(
        *(names or ("ball", "box")), channels=channels, sampling=sampling, intensity=scheme
    )
    return ModelDescription(**{**vars(described), "ignore_label": ignore})
