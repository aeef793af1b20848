"""What `meddinov3 segment` refuses: each in a sentence, and nothing of the user's is touched."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import SimpleITK as sitk

if TYPE_CHECKING:
    from command_fixtures import Command

pytest_plugins = ("command_fixtures",)


def test_what_was_given_is_never_overwritten(
    meddinov3: Command, model: Path, scan: Path, tmp_path: Path
) -> None:
    roi = tmp_path / "roi.nii.gz"
    image = sitk.ReadImage(str(scan))
    sitk.WriteImage(sitk.Cast(image > 0, sitk.sitkUInt8), str(roi))
    before = roi.read_bytes()
    outcome = meddinov3("segment", scan, "--roi", roi, "-o", roi, "-m", model)
    assert outcome.code == 1
    assert "overwrite the input 'roi.nii.gz'" in outcome.err
    assert roi.read_bytes() == before


def test_no_result_among_the_slices_it_came_from(
    meddinov3: Command, model: Path, tmp_path: Path, shared: Path
) -> None:
    folder = tmp_path / "series"
    shutil.copytree(shared / "totalsegmentator_examples" / "ct_dicom" / "series", folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for target in (next(iter(before)).with_suffix(".dcm"), folder / "result.dcm"):
        outcome = meddinov3("segment", folder, "-o", target, "-m", model)
        assert outcome.code == 1
        assert "outside that folder" in outcome.err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_no_gzipped_mask_beside_a_plain_scan(
    meddinov3: Command, model: Path, scan: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "scan.nii"
    sitk.WriteImage(sitk.ReadImage(str(scan)), str(plain))
    outcome = meddinov3("segment", plain, "-o", tmp_path, "-m", model)
    assert outcome.code == 1
    assert "scan.nii.gz" in outcome.err
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["scan.nii"]
    assert meddinov3("segment", plain, "-o", tmp_path / "out", "-m", model).code == 0


@pytest.mark.parametrize("name", ["mask.mhd", "mask.nhdr", "mask.dicom", "mask.gz"])
def test_an_ending_that_cannot_be_written_is_no_folder(
    meddinov3: Command, model: Path, scan: Path, tmp_path: Path, name: str
) -> None:
    outcome = meddinov3("segment", scan, "-o", tmp_path / name, "-m", model)
    assert outcome.code == 1
    assert ".seg.nrrd" in outcome.err
    assert not (tmp_path / name).exists()


def test_one_bad_scan_does_not_stop_the_others(
    meddinov3: Command, model: Path, data: Path, tmp_path: Path
) -> None:
    first, last = sorted((data / "msd_hippocampus_mr" / "images").glob("*.nii.gz"))[:2]
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no scan")
    outcome = meddinov3("segment", first, bad, last, "-o", tmp_path / "out", "-m", model)
    assert outcome.code == 1
    assert "bad: not segmented" in outcome.err
    assert "1 of 3 scans" in outcome.err
    assert {path.name for path in (tmp_path / "out").glob("*.nii.gz")} == {first.name, last.name}


def test_a_missing_file_is_told_before_anything_is_done(
    meddinov3: Command, model: Path, scan: Path, tmp_path: Path
) -> None:
    outcome = meddinov3("segment", scan, "gone.nii.gz", "-o", tmp_path / "out", "-m", model)
    assert outcome.code == 1
    assert "gone.nii.gz" in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "error",
    [OSError("[WinError 126] Error loading c10.dll"), ImportError("No module named torch"),
     RuntimeError("operator torchvision::nms does not exist")],
    ids=lambda e: type(e).__name__,
)  # fmt: skip
def test_a_torch_that_does_not_load_is_no_traceback(
    meddinov3: Command, model: Path, scan: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, error: Exception,
) -> None:  # fmt: skip
    class Broken:
        """Finds torch, and fails as a damaged one does."""

        def find_spec(self, name: str, *_: object) -> None:
            if name == "meddinov3.segmentation":
                raise error

    monkeypatch.delitem(sys.modules, "meddinov3.segmentation", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    outcome = meddinov3("segment", scan, "-o", tmp_path / "out", "--model", model)
    assert outcome.code == 1
    assert "torch cannot be loaded" in outcome.err and str(error).split("]")[-1][:20] in outcome.err
    assert "pip install --force-reinstall torch torchvision" in outcome.err
    assert "Traceback" not in outcome.err
