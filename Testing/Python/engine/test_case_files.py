"""Files of any kind into a case library: structures matched, and no trace of the patient."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import sitk_image
from dicom_series import write_series
from meddinov3.cases.adding import add_files
from meddinov3.cases.export import export_dataset
from meddinov3.cases.label_matching import match_labels
from meddinov3.cases.library import Library
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import Label
from meddinov3.terminology import named_label
from meddinov3.writing import write_label_map, write_segmentation
from meddinov3_training.import_dataset import import_dataset
from rtstruct_file import write_rtstruct
from small_library import GRID, LIVER, TUMOUR, drawn, make_library, scan
from synthetic_cases import nnunet_folder

SECRETS = (b"Secretus", b"secretus", b"19610412", b"4711-X", b"Hospital")


def read_everything(folder: Path) -> bytes:
    """All names and all bytes of a folder, compressed voxels unpacked too."""
    found = b""
    for path in sorted(folder.rglob("*")):
        found += str(path.relative_to(folder)).encode()
        if path.is_file():
            content = path.read_bytes()
            found += content
            if path.suffix == ".nrrd":
                header, _, voxels = content.partition(b"\n\n")
                assert b":=" not in header, "key/value pairs"
                found += gzip.decompress(voxels)
    return found


def secret_scan(folder: Path) -> tuple[Path, Path]:
    """A scan and a segmentation whose names and headers tell whose they are."""
    image = sitk_image(scan(3), GRID)
    image.SetMetaData("PatientName", "Secretus^Maria")
    image.SetMetaData("DICOM_0010_0030", "19610412")
    path = folder / "Secretus_Maria_4711-X.nrrd"
    sitk.WriteImage(image, str(path))
    segmentation = folder / "Secretus_Maria.seg.nrrd"
    write_segmentation(segmentation, drawn(), GRID, [LIVER, TUMOUR], "Secretus")
    return path, segmentation


class TestNoTraceOfThePatient:
    def test_headers_and_names_of_files(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        image, label = secret_scan(tmp_path)
        add_files(library, [image], label)
        add_files(library, [second_channel(tmp_path)], label)
        library.replace("case_0002", [scan(9)], GRID, drawn())
        exported = export_dataset(library, tmp_path / "out", 501, "Liver")
        for folder in (tmp_path / "library", exported):
            everything = read_everything(folder)
            assert b"case_0001" in everything
            assert not [secret for secret in (*SECRETS, str(tmp_path).encode())
                        if secret in everything]  # fmt: skip

    def test_dicom(self, tmp_path: Path) -> None:
        files = write_series(tmp_path / "Secretus", scan(3), GRID)
        for path in files:
            data = pydicom.dcmread(path)
            data.PatientName, data.PatientID = "Secretus^Maria", "4711-X"
            data.PatientBirthDate, data.InstitutionName = "19610412", "Hospital"
            data.save_as(path)
        uid = pydicom.dcmread(files[0]).StudyInstanceUID.encode()
        square = np.array([[-9.0, 21, 35], [-5, 21, 35], [-5, 26, 35], [-9, 26, 35]])
        frame = pydicom.dcmread(files[0]).FrameOfReferenceUID
        label = write_rtstruct(
            tmp_path / "Secretus.dcm", [("Liver", [square]), ("Secretus", [square])], frame
        )
        library = make_library(tmp_path / "library")
        added = add_files(library, [tmp_path / "Secretus"], label, leave_out_others=True)
        assert added.left_out == ("Secretus",)
        np.testing.assert_array_equal(library.read(added.id)[0].channels[0], scan(3))
        assert library.case(added.id).voxels["liver"] > 10
        everything = read_everything(tmp_path / "library")
        assert not [secret for secret in (*SECRETS, uid) if secret in everything]

    def test_import(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "Dataset001_Livers", ["Secretus", "Hospital"])
        ids, _ = import_dataset(folder, tmp_path / "library")
        assert ids == {"Hospital": "case_0001", "Secretus": "case_0002"}
        everything = read_everything(tmp_path / "library")
        assert not [secret for secret in SECRETS if secret in everything]


def second_channel(folder: Path) -> Path:
    path = folder / "other.nii.gz"
    image = sitk_image(scan(4), GRID)
    image.SetMetaData("descrip", "Secretus")
    sitk.WriteImage(image, str(path))
    return path


class TestStructuresOfFiles:
    def library(self, folder: Path) -> tuple[Library, Path]:
        image = folder / "scan.nrrd"
        sitk.WriteImage(sitk_image(scan(1), GRID), str(image))
        return make_library(folder / "library"), image

    def test_segments_by_name(self, tmp_path: Path) -> None:
        library, image = self.library(tmp_path)
        theirs = [replace(TUMOUR, value=1), replace(LIVER, value=2, name="LIVER")]
        write_segmentation(tmp_path / "a.seg.nrrd", drawn(), GRID, theirs)
        added = add_files(library, [image], tmp_path / "a.seg.nrrd")
        expected = np.array([0, 2, 1], np.uint8)[drawn()]
        np.testing.assert_array_equal(library.read(added.id)[1], expected)

    def test_a_map_without_names_has_the_librarys_values(self, tmp_path: Path) -> None:
        library, image = self.library(tmp_path)
        write_label_map(tmp_path / "a.nrrd", drawn(), GRID)
        added = add_files(library, [image], tmp_path / "a.nrrd")
        np.testing.assert_array_equal(library.read(added.id)[1], drawn())

    def test_values_mapped_and_left_out(self, tmp_path: Path) -> None:
        library, image = self.library(tmp_path)
        write_label_map(tmp_path / "a.nrrd", drawn() * 5, GRID)
        with pytest.raises(MedDINOv3Error, match="label 5, label 10"):
            add_files(library, [image], tmp_path / "a.nrrd")
        added = add_files(
            library, [image], tmp_path / "a.nrrd", mapping={"5": "Tumour", "label 10": ""}
        )
        assert added.left_out == ("label 10",)
        np.testing.assert_array_equal(library.read(added.id)[1], (drawn() == 1) * 2)

    def test_what_is_left_out_covers_nothing(self, tmp_path: Path) -> None:
        """A body contour that comes last would hide every structure in it."""
        library, image = self.library(tmp_path)
        square = np.array([[-9.0, 21, 35], [-5, 21, 35], [-5, 26, 35], [-9, 26, 35]])
        label = write_rtstruct(tmp_path / "a.dcm", [("liver", [square]), ("BODY", [square])])
        with pytest.raises(MedDINOv3Error, match="BODY"):
            add_files(library, [image], label)
        added = add_files(library, [image], label, mapping={"BODY": ""})
        assert library.case(added.id).voxels["liver"] > 10

    def test_nothing_that_the_library_knows(self, tmp_path: Path) -> None:
        library, image = self.library(tmp_path)
        write_segmentation(tmp_path / "a.seg.nrrd", drawn(), GRID, [named_label("bowel", 1, 0)])
        with pytest.raises(MedDINOv3Error) as caught:
            add_files(library, [image], tmp_path / "a.seg.nrrd", leave_out_others=True)
        assert caught.value.code == "nothing-annotated"

    def test_channels_on_other_grids_are_resampled(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "two", ("T1", "T2"))
        _, image = self.library(tmp_path)
        coarse = replace(GRID, size=(6, 5, 8), spacing=(1.4, 1.8, 2.5))
        sitk.WriteImage(sitk_image(scan(2, coarse), coarse), str(tmp_path / "t2.nrrd"))
        write_label_map(tmp_path / "a.nrrd", drawn(), GRID)
        added = add_files(library, [image, tmp_path / "t2.nrrd"], tmp_path / "a.nrrd")
        volume, _ = library.read(added.id)
        assert [channel.shape for channel in volume.channels] == [GRID.shape] * 2
        np.testing.assert_array_equal(volume.channels[1][:, ::2, ::2], scan(2, coarse))


class TestMatching:
    ours = DatasetLabels(
        (named_label("kidney_left", 1, 0), named_label("kidney right", 2, 1), LIVER.__class__(
            "lesion", 3, (9, 9, 9))), ((1,), (2,), (3,)), False, None)  # fmt: skip

    def found(self, *labels: Label, **mapping: str) -> tuple[dict[int, int], list[str]]:
        values, unknown = match_labels(labels, self.ours, mapping)
        return values, [label.name for label in unknown]

    def test_spelling(self) -> None:
        theirs = named_label("Kidney  Left", 7, 0), named_label("KIDNEY-RIGHT", 8, 0)
        assert self.found(*theirs) == ({7: 1, 8: 2}, [])

    def test_code_and_side(self) -> None:
        left = replace(named_label("left kidney", 5, 0), name="Niere li.")
        whole = replace(named_label("kidney", 6, 0), name="Niere")
        assert self.found(left, whole) == ({5: 1}, ["Niere"])

    def test_an_unspecific_code_matches_nothing(self) -> None:
        assert self.found(named_label("something", 5, 0)) == ({}, ["something"])

    def test_an_ambiguous_code_matches_nothing(self) -> None:
        ours = DatasetLabels((LIVER, replace(LIVER, name="liver 2", value=2)), ((1,), (2,)),
                             False, None)  # fmt: skip
        theirs = replace(LIVER, name="Leber")
        assert match_labels([theirs], ours) == ({}, (theirs,))

    def test_mapping_goes_before_the_name(self) -> None:
        theirs = named_label("lesion", 1, 0), named_label("x", 2, 0)
        assert self.found(*theirs, lesion="Kidney left", x="") == ({1: 1, 2: 0}, [])

    @pytest.mark.parametrize("mapping", [{"y": "lesion"}, {"x": "y"}])
    def test_a_mapping_of_nothing(self, mapping: dict[str, str]) -> None:
        with pytest.raises(MedDINOv3Error, match="'y'"):
            self.found(named_label("x", 1, 0), **mapping)
