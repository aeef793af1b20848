"""A result never replaces what was read, however the engine is called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import describe, make_bundle, sitk_image
from dicom_series import write_series
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.segmentation import Model, load_model, read_scan, segment

GRID = Grid((20, 20, 3), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))
ARRAY = np.random.default_rng(0).integers(-100, 100, GRID.shape).astype(np.int16)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load_model(str(make_bundle(tmp_path / "tiny", describe("a", channels=("CT", "T2")))))


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    sitk.WriteImage(sitk_image(ARRAY, GRID), str(tmp_path / "scan.nii.gz"))
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "dicom", ARRAY, GRID)


@pytest.fixture
def region(tmp_path: Path) -> Path:
    mask = sitk_image(np.ones(GRID.shape, np.uint8), GRID)
    sitk.WriteImage(mask, str(tmp_path / "region.nrrd"))
    return tmp_path / "region.nrrd"


def test_files_slices_and_region(
    scan: Path, slices: list[Path], region: Path, model: Model, tmp_path: Path
) -> None:
    channels = {"T2": str(slices[0].parent)}
    results = [
        segment(scan, model, channels=channels, region=region),
        segment(slices[0].parent, model, channels={"T2": str(scan)}, region=str(region)),
        # As the worker does it.
        segment(read_scan(scan, channels, model.description), model, region=str(region)),
    ]
    given = [scan, region, scan.parent / "dicom" / ".." / "SCAN.nii.gz", *slices]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for result in results:
        for target in (*given, slices[0].parent / "new.dcm"):
            with pytest.raises(MedDINOv3Error) as caught:
                result.save(target)
            assert caught.value.code == "output-is-input"
        assert str(tmp_path) not in json.dumps(result.report())
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    results[0].save(slices[0].parent / "mask.nii.gz")  # no DICOM reader takes it for a slice
