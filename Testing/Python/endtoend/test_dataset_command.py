"""From a hospital's DICOM to a dataset that trains, by the command line alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from meddinov3.cases.library import Library
from meddinov3.reading import read_label_map, read_volume
from meddinov3_training.cli import main
from meddinov3_training.dataset import read_case_label, read_dataset
from synthetic_cases import nnunet_folder


class Terminal:
    """Types ``meddinov3 dataset ...`` and reads the answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: object, fails: int = 0) -> str:
        command = ["meddinov3", "dataset", *map(str, arguments)]
        self._monkeypatch.setattr(sys, "argv", command)
        self._monkeypatch.setenv("COLUMNS", "300")
        if fails:
            with pytest.raises(SystemExit) as caught:
                main()
            assert caught.value.code == fails
        else:
            main()
        captured = self._capsys.readouterr()
        return captured.out + captured.err


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(monkeypatch, capsys)


def test_dicom_with_rtstruct_to_nnunet(tmp_path: Path, shared: Path, dataset: Terminal) -> None:
    study = shared / "sts_dicom_rtstruct"
    library, contours = tmp_path / "library", study / "ct" / "mask" / "RS.dcm"
    dataset("create", library, "--name", "Sarcoma", "--channel", "CT", "--label", "tumour",
            "--licence", "CC BY 3.0")  # fmt: skip
    scan = ["--image", study / "ct" / "image", "--label", contours]
    refusal = dataset("add", library, *scan, fails=1)
    assert "GTV_Mass_CT" in refusal and "tumour" in refusal
    told = dataset("add", library, *scan, "--map", "GTV_Mass_CT=Tumour", "--note", "leg")
    assert "added as case_0001" in told and "9655 voxels" in told
    assert "case_0001" in dataset("add", library, *scan, "--map", "GTV_Mass_CT=tumour", fails=1)
    assert "replaced" in dataset(
        "add", library, *scan, "--map", "GTV_Mass_CT=tumour", "--replace", "case_0001"
    )
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(library / "thumbnails/case_0001_r2.png")))
    assert picture.shape == (119, 128, 3) and (picture.std(axis=2) > 10).sum() > 300

    # The same patient as NIfTI: voxels are equal value for value.
    nifti = shared / "sts_softtissue_tumour" / "ct"
    other = next((nifti / "images").glob("*025*"))
    volume, label_map = Library.open(library).read("case_0001")
    np.testing.assert_array_equal(volume.channels[0], read_volume(other).channels[0])

    assert "one case only" in dataset("check", library)
    listed = dataset("list", library)
    for part in ("case_0001", "annotated", "149 x 138 x 47", "tumour", "leg"):
        assert part in listed
    told = dataset("export", library, tmp_path / "raw", "--id", 501, "--name", "Sarcoma")
    folder = tmp_path / "raw" / "Dataset501_Sarcoma"
    assert str(folder) in told
    exported = read_dataset(folder)
    (case,) = exported.cases
    read = case.read()
    np.testing.assert_array_equal(read.channels[0], volume.channels[0])
    np.testing.assert_array_equal(read_case_label(case, read, exported), label_map)
    assert np.count_nonzero(label_map == 1) == 9655
    everything = b"".join(p.read_bytes() for p in library.rglob("*") if p.is_file())
    assert not [word for word in (b"GTV", b"RS.dcm", b"sts_dicom") if word in everything]


def test_marks_structures_and_removal(tmp_path: Path, dataset: Terminal) -> None:
    source = nnunet_folder(tmp_path / "source", ["x", "y", "z"])
    library = tmp_path / "library"
    told = dataset("import", source, library)
    assert "x -> case_0001" in told and "3 cases" in told
    assert "No defects" in dataset("check", library)
    assert "value 3" in dataset("define", library, "spleen", "--colour", "#00ff80")
    assert "'spleen'" in dataset("check", library, fails=1)
    dataset("undefine", library, "spleen")
    dataset("mark", library, "case_0001", "case_0003", "--status", "excluded")
    listed = json.loads(dataset("list", library, "--json"))
    assert [case["status"] for case in listed["cases"]] == ["excluded", "annotated", "excluded"]
    assert "2 excluded" in dataset("list", library)
    assert [case.id for case in read_dataset(library).cases] == ["case_0002"]
    assert "case_0009" in dataset("remove", library, "case_0001", "case_0009", "--yes", fails=1)
    dataset("remove", library, "case_0001", "case_0002", "--yes")
    assert [case.id for case in Library.open(library).cases] == ["case_0003"]


def test_several_channels_and_a_comma_in_a_name(tmp_path: Path, dataset: Terminal) -> None:
    source = nnunet_folder(tmp_path / "a,b", ["x", "y"], channels=("T1", "T2"))
    first, second = (source / "imagesTr" / f"x_000{n}.nii.gz" for n in range(2))
    label = source / "labelsTr" / "x.nii.gz"
    for number, images in enumerate(([f"{first}"], [f"{first}", f"{second}"])):
        library = tmp_path / f"library{number}"
        channels = [part for n in images for part in ("--channel", Path(n).name)]
        dataset("create", library, "--name", "x", *channels, "--label", "liver=2",
                "--label", "tumour=1", "--label", "ignore")  # fmt: skip
        dataset("add", library, *(part for image in images for part in ("--image", image)),
                "--label", label, "--map", "1=liver", "--map", "2=tumour")  # fmt: skip
        volume, label_map = Library.open(library).read("case_0001")
        assert len(volume.channels) == len(images)
        np.testing.assert_array_equal(label_map, np.array([0, 2, 1])[read_label_map(label)[0]])
        assert Library.open(library).labels.ignore == 3
    files = []
    for n in range(2):
        files.append(tmp_path / f"y{n}.nii.gz")
        files[-1].write_bytes((source / "imagesTr" / f"y_000{n}.nii.gz").read_bytes())
    joined = ",".join(map(str, files))
    assert "case_0002" in dataset("add", library, "--image", joined, "--label", label)


def test_check_for_programs(tmp_path: Path, dataset: Terminal) -> None:
    folder = nnunet_folder(tmp_path / "set", ["x", "y"])
    assert json.loads(dataset("check", folder, "--json")) == []
    (folder / "imagesTr" / "x_0000.nii.gz").unlink()
    (defect,) = json.loads(dataset("check", folder, "--json", fails=1))
    assert defect["severity"] == "error" and defect["code"] == "file-missing"
    assert defect["case"] == "x" and defect["message"] and defect["remedy"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("create", "new", "--name", "x", "--channel", "CT", "--label", "a=b"), 2),
        (("create", "new", "--name", "x", "--channel", "CT", "--label", "a", "--label", "A"), 1),
        (("create", "new", "--name", "x", "--channel", "CT", "--label", "a=1",
          "--label", "ignore=1"), 2),
        (("list", "nowhere"), 1),
        (("check", "nowhere"), 1),
        (("import", "nowhere", "new"), 1),
        (("define", "nowhere", "x", "--colour", "red"), 1),
        (("add", "nowhere", "--image", "x", "--label", "y", "--map", "z"), 2),
    ],
)  # fmt: skip
def test_what_cannot_be(
    tmp_path: Path, dataset: Terminal, arguments: tuple[str, ...], code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    told = dataset(*arguments, fails=code)
    assert "Error" in told and "Traceback" not in told
    assert not list(tmp_path.iterdir())
