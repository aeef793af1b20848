"""Random geometries through files and back, with a network whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import describe, random_grid, sitk_image
from meddinov3.description import Sampling
from meddinov3.grid import SliceOrientation
from meddinov3.intensity import IntensityScheme
from meddinov3.segmentation import Model, segment
from torch import Tensor

INPUTS, OUTPUTS = (".nrrd", ".mha", ".nii.gz"), (".seg.nrrd", ".nrrd", ".mha", ".nii.gz")
ORIENTATIONS = [("LPS", "S"), ("RAS", "S"), ("LAS", "A"), ("PIR", "R"), ("SLP", "L")]


def above_zero(slices: Tensor, chunk: int | None = None) -> Tensor:
    """A network that calls what is above zero label 1, and above ten label 2."""
    return torch.cat([torch.zeros_like(slices), slices, 2 * slices - 10], dim=1)


@pytest.mark.parametrize("seed", range(240))
def test_output_is_the_thresholded_scan_on_the_scans_grid(tmp_path: Path, seed: int) -> None:
    grid = random_grid(seed)
    scan = np.random.default_rng(seed).integers(-30, 30, grid.shape).astype(np.int16)
    path = tmp_path / f"scan{INPUTS[seed % 3]}"
    sitk.WriteImage(sitk_image(scan, grid), str(path))
    sampling = Sampling(SliceOrientation(*ORIENTATIONS[seed % 5]))
    described = describe("a", "b", sampling=sampling, intensity=IntensityScheme("fixed"))
    result = segment(path, Model(described, above_zero, torch.device("cpu")))
    expected = np.select([scan > 10, scan > 0], [2, 1], 0)
    before = sitk.ReadImage(str(path))
    for ending in OUTPUTS:
        result.save(tmp_path / "out" / f"mask{ending}")
        mask = sitk.ReadImage(str(tmp_path / "out" / f"mask{ending}"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), expected)
        exact = path.suffix == Path(ending).suffix and "nii" not in ending
        for part in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
            if exact:
                assert getattr(mask, part)() == getattr(before, part)()
            else:  # NIfTI keeps float32
                np.testing.assert_allclose(
                    getattr(mask, part)(), getattr(before, part)(), rtol=1e-6, atol=1e-5
                )
