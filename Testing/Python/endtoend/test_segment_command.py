"""Scans through the command line, read back as another program would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import SHARED, describe, make_bundle, random_grid, sitk_image
from meddinov3.description import Purpose, Sampling

if TYPE_CHECKING:
    from command_fixtures import Command

pytest_plugins = ("command_fixtures",)


def same_grid(a: sitk.Image, b: sitk.Image, tolerance: float = 1e-5) -> bool:
    return a.GetSize() == b.GetSize() and all(
        np.allclose(getattr(a, part)(), getattr(b, part)(), atol=tolerance, rtol=0)
        for part in ("GetOrigin", "GetSpacing", "GetDirection")
    )


def test_a_folder_gets_label_map_segmentation_picture_and_report(
    meddinov3: Command, model: Path, scan: Path, tmp_path: Path
) -> None:
    outcome = meddinov3("segment", scan, "-o", tmp_path / "out", "--model", model,
                        "--preview", "--report")  # fmt: skip
    assert outcome.code == 0, outcome.err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stem = "hippocampus_091"
    assert names == {
        f"{stem}.nii.gz",
        f"{stem}.seg.nrrd",
        f"{stem}_preview.png",
        f"{stem}_report.json",
    }
    image = sitk.ReadImage(str(scan))
    label_map = sitk.ReadImage(str(tmp_path / "out" / f"{stem}.nii.gz"))
    segments = sitk.ReadImage(str(tmp_path / "out" / f"{stem}.seg.nrrd"))
    assert same_grid(image, label_map)
    assert same_grid(image, segments, 1e-12)
    array = sitk.GetArrayFromImage(label_map)
    assert set(np.unique(array)) <= {0, 1, 2}
    assert array.any()
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(segments))
    assert segments.GetMetaData("Segment1_Name") == "vessel"
    report = json.loads((tmp_path / "out" / f"{stem}_report.json").read_text())
    assert report["seconds"].keys() >= {"read", "resample", "network", "decide", "write"}
    assert report["peak_memory_mib"] > 50
    voxels = float(np.prod(image.GetSpacing())) / 1000
    assert report["volume_ml"]["vessel"] == pytest.approx((array == 2).sum() * voxels, abs=1e-3)
    assert str(tmp_path) not in json.dumps(report)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".seg.nrrd"])
@pytest.mark.parametrize("seed", range(4))
def test_one_named_file_lies_on_the_scans_grid(
    meddinov3: Command, model: Path, tmp_path: Path, ending: str, seed: int
) -> None:
    source = tmp_path / f"scan{'.mha' if ending == '.mha' else '.nrrd'}"
    grid = random_grid(seed)
    noise = np.random.default_rng(seed).normal(size=grid.shape).astype(np.float32)
    sitk.WriteImage(sitk_image(noise, grid), str(source))
    target = tmp_path / f"result{ending}"
    assert meddinov3("segment", source, "-o", target, "-m", model, "-q").code == 0
    a, b = sitk.ReadImage(str(source)), sitk.ReadImage(str(target))
    if ending == ".nii.gz":
        assert same_grid(a, b, 1e-4)
    else:
        assert (a.GetOrigin(), a.GetSpacing(), a.GetDirection()) == (
            b.GetOrigin(), b.GetSpacing(), b.GetDirection())  # fmt: skip


def test_several_scans_in_one_call(
    meddinov3: Command, model: Path, data: Path, tmp_path: Path
) -> None:
    scans = sorted((data / "msd_hippocampus_mr" / "images").glob("*.nii.gz"))[:2]
    assert meddinov3("segment", *scans, "-o", tmp_path, "-m", model).code == 0
    for scan in scans:
        assert (tmp_path / scan.name).is_file()
        assert (tmp_path / scan.name.replace(".nii.gz", ".seg.nrrd")).is_file()


def test_labels_and_region(meddinov3: Command, model: Path, scan: Path, tmp_path: Path) -> None:
    image = sitk.ReadImage(str(scan))
    low = np.array(image.TransformIndexToPhysicalPoint((8, 10, 6)))
    high = np.array(image.TransformIndexToPhysicalPoint((25, 40, 20)))
    corners = np.stack([low, high]) * [-1, -1, 1]  # LPS to RAS
    roi = ",".join(
        f"{v:.3f}" for pair in zip(corners.min(0), corners.max(0), strict=True) for v in pair
    )
    target = tmp_path / "part.nrrd"
    outcome = meddinov3(
        "segment", scan, "-o", target, "-m", model, f"--roi={roi}", "--labels", "vessel"
    )
    assert outcome.code == 0, outcome.err
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(target)))
    assert set(np.unique(found)) == {0, 2}
    k, j, i = np.nonzero(found)
    assert (i.min(), i.max()) >= (8, 8)
    assert i.max() <= 25
    assert j.min() >= 10
    assert j.max() <= 40
    assert k.min() >= 6
    assert k.max() <= 20


def test_channels_by_name_are_resampled_to_the_first(
    meddinov3: Command, tmp_path: Path, scan: Path
) -> None:
    bundle = make_bundle(tmp_path / "two", describe("a", channels=("T1", "T2")))
    image = sitk.ReadImage(str(scan))
    coarse = sitk.Resample(
        image,
        [n // 2 for n in image.GetSize()],
        sitk.Transform(),
        sitk.sitkLinear,
        image.GetOrigin(),
        [2 * s for s in image.GetSpacing()],
        image.GetDirection(),
    )
    sitk.WriteImage(coarse, str(tmp_path / "t2.nrrd"))
    common = ("-o", tmp_path / "out.nrrd", "-m", bundle)
    outcome = meddinov3("segment", scan, *common, "-c", f"T2={tmp_path / 't2.nrrd'}")
    assert outcome.code == 0, outcome.err
    assert same_grid(sitk.ReadImage(str(tmp_path / "out.nrrd")), image)
    only_names = meddinov3(
        "segment", *common, "-c", f"T1={scan}", "-c", f"T2={tmp_path / 't2.nrrd'}"
    )
    assert only_names.code == 0, only_names.err
    missing = meddinov3("segment", scan, *common)
    assert missing.code == 1
    assert "T1, T2" in missing.err
    assert "--channel NAME=FILE" in missing.err


def test_dicom_in_dicom_seg_out(meddinov3: Command, tmp_path: Path, shared: Path) -> None:
    import highdicom
    import pydicom

    bundle = make_bundle(
        tmp_path / "ct",
        describe("a", "b", channels=("CT",), sampling=Sampling(spacing=(4.0, 4.0), patch=(64, 64))),
    )
    folder = shared / "totalsegmentator_examples" / "ct_dicom"
    outcome = meddinov3("segment", folder, "-o", tmp_path / "x.dcm", "-m", bundle)
    assert outcome.code == 0, outcome.err
    assert "no study identifier" in outcome.out
    assert meddinov3("segment", folder, "-o", tmp_path / "x.nrrd", "-m", bundle).code == 0
    expected = sitk.ReadImage(str(tmp_path / "x.nrrd"))
    array = sitk.GetArrayFromImage(expected)
    seg = highdicom.seg.segread(tmp_path / "x.dcm")
    sources = {pydicom.dcmread(p, stop_before_pixels=True).file_meta.MediaStorageSOPInstanceUID: p
               for p in (folder / "series").iterdir()}  # fmt: skip
    for number in seg.segment_numbers:
        value = 1 if seg.get_segment_description(number).SegmentLabel == "a" else 2
        uids = list(sources)
        planes = seg.get_pixels_by_source_instance(
            uids,
            segment_numbers=[number],
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
        for uid, plane in zip(uids, planes[..., 0], strict=True):
            position = pydicom.dcmread(sources[uid], stop_before_pixels=True).ImagePositionPatient
            k = expected.TransformPhysicalPointToIndex([float(p) for p in position])[2]
            np.testing.assert_array_equal(plane > 0, array[k] == value)


def test_dicom_seg_needs_dicom(meddinov3: Command, model: Path, scan: Path, tmp_path: Path) -> None:
    outcome = meddinov3("segment", scan, "-o", tmp_path / "x.dcm", "-m", model)
    assert outcome.code == 1
    assert "no DICOM series" in outcome.err
    assert not (tmp_path / "x.dcm").exists()


def test_a_scan_much_larger_than_the_training_boxes_is_refused(
    meddinov3: Command, scan: Path, tmp_path: Path
) -> None:
    purpose = Purpose("MR", "hippocampus", "boxes", (15.0, 20.0, 20.0))
    bundle = make_bundle(tmp_path / "boxes", describe("a", purpose=purpose))
    outcome = meddinov3("segment", scan, "-o", tmp_path / "out", "-m", bundle)
    assert outcome.code == 1
    assert "20 x 20 x 15 mm" in outcome.err
    assert "--roi" in outcome.err
    assert not (tmp_path / "out").exists()
    image = sitk.ReadImage(str(scan))
    centre = np.array(
        image.TransformContinuousIndexToPhysicalPoint([n / 2 for n in image.GetSize()])
    )
    box = [v for c in centre * [-1, -1, 1] for v in (c - 9, c + 9)]
    roi = ",".join(f"{v:.2f}" for v in box)
    assert (
        meddinov3("segment", scan, "-o", tmp_path / "out", "-m", bundle, f"--roi={roi}").code == 0
    )


def test_a_scans_model_warns_instead(meddinov3: Command, scan: Path, tmp_path: Path) -> None:
    purpose = Purpose("CT", "", "scans", (15.0, 20.0, 20.0))
    bundle = make_bundle(tmp_path / "scans", describe("a", channels=("CT",), purpose=purpose))
    outcome = meddinov3("segment", scan, "-o", tmp_path / "out", "-m", bundle)
    assert outcome.code == 0
    assert "not to be trusted" in outcome.out
    assert "Hounsfield" in outcome.out


BAD = {
    "missing file": (["nowhere.nii.gz"], "There is no file"),
    "no scan": ([], "at least one scan"),
    "unknown label": (["SCAN", "--labels", "liver"], "no label 'liver'"),
    "unknown device": (["SCAN", "--device", "tpu9"], "no device"),
    "absent device": (["SCAN", "--device", "cuda:99"], "not available"),
    "emulated precision": (["SCAN", "--precision", "fp16", "--device", "cpu"], "emulated"),
    "unknown model": (["SCAN", "--model", "nowhere"], "no model 'nowhere'"),
    "bad region": (["SCAN", "--roi", "1,2,3"], "no region"),
    "region outside": (["SCAN", "--roi=5000,5010,0,10,0,10"], "does not touch"),
    "channel without file": (["SCAN", "--channel", "T2"], "NAME=FILE"),
    "the same name twice": (["SCAN", "SCAN"], "overwrite each other"),
    "an empty label": (["SCAN", "--labels", ""], "no label"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    meddinov3: Command, model: Path, scan: Path, tmp_path: Path, case: str
) -> None:
    arguments, expected = BAD[case]
    given = [str(scan) if a == "SCAN" else a for a in arguments]
    if "--model" not in given:
        given += ["--model", str(model)]
    outcome = meddinov3("segment", *given, "-o", tmp_path / "out")
    assert outcome.code != 0
    assert expected in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()


def test_input_is_never_overwritten(
    meddinov3: Command, model: Path, scan: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "scan.nii.gz"
    copy.write_bytes(scan.read_bytes())
    for output in (copy, tmp_path):
        outcome = meddinov3("segment", copy, "-o", output, "-m", model)
        assert outcome.code == 1
        assert "would overwrite the input" in outcome.err
    assert copy.read_bytes() == scan.read_bytes()


def test_a_failed_run_leaves_an_older_result_alone(
    meddinov3: Command, model: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "result.nrrd"
    target.write_text("older")

    def disk_full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sitk, "WriteImage", disk_full)
    outcome = meddinov3("segment", scan, "-o", target, "-m", model)
    assert outcome.code == 1
    assert "No space left" in outcome.err
    assert target.read_text() == "older"
    assert not list(tmp_path.glob("*partial*"))


def test_models_list_and_info(meddinov3: Command, own_home: Path) -> None:
    make_bundle(own_home / "models" / "my-liver", describe("liver", "tumour"))
    listed = meddinov3("models", "list")
    assert "my-liver" in listed.out
    assert "liver, tumour" in listed.out
    told = meddinov3("models", "info", "my-liver")
    assert "tumour (2)" in told.out
    whole = json.loads(meddinov3("models", "info", "my-liver", "--json").out)
    assert whole["labels"][0]["name"] == "liver"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the larger data sets are not beside this checkout")
def test_a_whole_abdomen_ct_keeps_its_grid(meddinov3: Command, tmp_path: Path) -> None:
    bundle = make_bundle(
        tmp_path / "ct",
        describe("a", channels=("CT",), sampling=Sampling(spacing=(3.0, 3.0), patch=(96, 96))),
    )
    source = SHARED / "totalsegmentator_examples" / "ct_3mm" / "image.nii.gz"
    assert meddinov3("segment", source, "-o", tmp_path / "ct.nii.gz", "-m", bundle).code == 0
    assert same_grid(sitk.ReadImage(str(source)), sitk.ReadImage(str(tmp_path / "ct.nii.gz")))
