"""One way in for labels of every kind: on exactly the scan's grid, or refused with figures."""

from __future__ import annotations

from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from conftest import random_grid, sitk_image
from dicom_series import write_series
from meddinov3.dicom_seg import write_dicom_seg
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.label_map import LabelMap
from meddinov3.label_reading import read_labels_on
from meddinov3.labels import Label
from meddinov3.reading import read_volume
from meddinov3.terminology import named_label
from meddinov3.volume import Volume
from meddinov3.writing import write_label_map, write_segmentation
from rtstruct_file import write_rtstruct

GRID = Grid((8, 7, 6), (0.7, 0.9, 2.5), (-10.0, 20.0, 30.0), np.eye(3))
LABELS = (named_label("liver", 1, 0), named_label("Tumor größer", 5, 1), named_label("empty", 9, 2))


def scan_on(grid: Grid) -> Volume:
    return Volume((np.zeros(grid.shape, np.int16),), grid)


def blocks(grid: Grid = GRID) -> np.ndarray:
    label_map = np.zeros(grid.shape, np.uint8)
    label_map[1:, : grid.shape[1] - 1, 1] = 1
    label_map[0, 1:, : grid.shape[2] - 1] = 5
    return label_map


def refusal(path: Path, scan: Volume, names: list[str] | None = None) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        read_labels_on(path, scan, names)
    assert caught.value.remedy
    return caught.value


class TestPlainLabelMaps:
    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
    def test_same_grid(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"labels{ending}"
        write_label_map(path, blocks(), GRID)
        found = read_labels_on(path, scan_on(GRID))
        np.testing.assert_array_equal(found.array, blocks())
        assert found.grid is not None
        assert [(label.name, label.value) for label in found.labels] == [
            ("label 1", 1), ("label 5", 5),
        ]  # fmt: skip
        assert found.notes == ()

    @pytest.mark.parametrize("seed", range(10))
    @pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
    def test_other_axis_order_is_brought_onto_the_scan_exactly(
        self, tmp_path: Path, seed: int, ending: str
    ) -> None:
        grid = random_grid(seed)
        label_map = blocks(grid)
        random = np.random.default_rng(seed)
        order = [int(n) for n in random.permutation(3)]
        flips = [bool(n) for n in random.integers(0, 2, 3)]
        image = sitk.Flip(sitk.PermuteAxes(sitk_image(label_map, grid), order), flips)
        sitk.WriteImage(image, str(tmp_path / f"labels{ending}"))
        found = read_labels_on(tmp_path / f"labels{ending}", scan_on(grid))
        np.testing.assert_array_equal(found.array, label_map)

    def test_real_organs_stored_flipped(self, shared: Path) -> None:
        folder = shared / "totalsegmentator_examples/ct_dicom"
        scan = read_volume(folder / "series")
        found = read_labels_on(folder / "label.nii.gz", scan)
        assert found.array.shape == scan.grid.shape
        liver = np.asarray(scan.channels[0])[found.array == 5]
        assert len(liver) == 366_708
        assert 80 < np.median(liver) < 140

    @pytest.mark.parametrize(
        "grid",
        [
            Grid((8, 7, 5), GRID.spacing, GRID.origin, GRID.direction),
            Grid(GRID.size, (0.7, 0.9, 2.6), GRID.origin, GRID.direction),
            Grid(GRID.size, GRID.spacing, (-10.35, 20.0, 30.0), GRID.direction),
            Grid(GRID.size, GRID.spacing, (-9.3, 20.0, 30.0), GRID.direction),
        ],
        ids=["size", "spacing", "half a voxel", "a whole voxel"],
    )
    def test_other_voxels_are_refused_with_figures(self, tmp_path: Path, grid: Grid) -> None:
        path = tmp_path / "labels.nrrd"
        write_label_map(path, np.ones(grid.shape, np.uint8), grid)
        error = refusal(path, scan_on(GRID))
        assert error.code == "other-grid"
        for part in (grid, GRID):
            assert f"{' x '.join(map(str, part.size))} voxels" in error.message
            assert f"{part.spacing[2]:.4g} mm from ({part.origin[0]:.4g}," in error.message

    def test_one_value_can_be_had(self, tmp_path: Path) -> None:
        path = tmp_path / "labels.nrrd"
        write_label_map(path, blocks(), GRID)
        found = read_labels_on(path, scan_on(GRID), ["label 5"])
        np.testing.assert_array_equal(found.array, blocks() * (blocks() == 5))
        assert refusal(path, scan_on(GRID), ["label 2"]).code == "unknown-label"

    def test_large_values_are_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "labels.nrrd"
        write_label_map(path, blocks().astype(np.uint16) * 200, GRID)
        np.testing.assert_array_equal(
            read_labels_on(path, scan_on(GRID)).array, blocks().astype(int) * 200
        )

    @pytest.mark.parametrize("value", [-3, 70000, 0.5])
    def test_a_scan_is_no_label_map(self, tmp_path: Path, value: float) -> None:
        kind = np.float32 if value == 0.5 else np.int32
        array = np.full(GRID.shape, value, kind)
        sitk.WriteImage(sitk_image(array, GRID), str(tmp_path / "scan.nrrd"))
        assert refusal(tmp_path / "scan.nrrd", scan_on(GRID)).code == "not-labels"

    def test_a_missing_file(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "none.nrrd", scan_on(GRID)).code == "file-missing"


def layers_file(
    path: Path, layers: np.ndarray, segments: list[dict[str, str]], **more: str
) -> Path:
    """A ``.seg.nrrd`` with layers (n, k, j, i) as Slicer writes it: the layer is the first axis."""
    header: dict[str, object] = {
        "space": "left-posterior-superior",
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.vstack([np.full(3, np.nan), GRID.index_to_patient.T]),
        "space origin": list(GRID.origin),
        **more,
    }
    for number, segment in enumerate(segments):
        header |= {f"Segment{number}_{key}": value for key, value in segment.items()}
    nrrd.write(str(path), layers.transpose(0, 3, 2, 1), header)
    return path


class TestSlicerSegmentations:
    @pytest.mark.parametrize("seed", range(4))
    def test_ours_comes_back_with_names_colours_and_codes(self, tmp_path: Path, seed: int) -> None:
        grid = random_grid(seed)
        path = tmp_path / "case.seg.nrrd"
        write_segmentation(path, blocks(grid), grid, LABELS, "tiny")
        found = read_labels_on(path, scan_on(grid))
        np.testing.assert_array_equal(found.array, blocks(grid))
        assert found.labels == LABELS
        assert found.notes == ()

    def test_overlapping_layers(self, tmp_path: Path) -> None:
        """Both segments have the value 1, each in its layer."""
        layers = np.zeros((2, *GRID.shape), np.uint8)
        layers[0, 1:4], layers[1, 3:, 2:] = 1, 1
        segments = [
            {"ID": "a", "Name": "organ", "LabelValue": "1", "Layer": "0", "Color": "1 0.5 0"},
            {"ID": "b", "Name": "organ", "LabelValue": "1", "Layer": "1"},
        ]
        path = layers_file(tmp_path / "case.seg.nrrd", layers, segments)
        found = read_labels_on(path, scan_on(GRID))
        np.testing.assert_array_equal(found.array == 2, layers[1] == 1)
        np.testing.assert_array_equal(found.array == 1, layers[0] > layers[1])
        assert [label.name for label in found.labels] == ["organ", "organ (2)"]
        assert found.labels[0].colour == (255, 128, 0)
        both = np.count_nonzero(layers.all(axis=0))
        assert any(f"covers {both} voxel(s)" in note for note in found.notes)
        first = read_labels_on(path, scan_on(GRID), ["organ"])
        np.testing.assert_array_equal(first.array, layers[0])
        assert first.notes == ()

    def test_cropped_to_its_segments(self, tmp_path: Path) -> None:
        """Slicer can save the smallest box only."""
        corner = GRID.to_patient(np.array([1.0, 2.0, 3.0]))
        part = Grid((3, 2, 2), GRID.spacing, tuple(corner), GRID.direction)  # type: ignore[arg-type]
        path = tmp_path / "case.seg.nrrd"
        write_segmentation(path, np.full(part.shape, 5, np.uint8), part, LABELS)
        expected = np.zeros(GRID.shape, np.uint8)
        expected[3:5, 2:4, 1:4] = 5
        np.testing.assert_array_equal(read_labels_on(path, scan_on(GRID)).array, expected)

    def test_reaching_beyond_the_scan(self, tmp_path: Path) -> None:
        path = tmp_path / "case.seg.nrrd"
        write_segmentation(path, np.full(GRID.shape, 5, np.uint8), GRID, LABELS)
        small = Grid((8, 7, 2), GRID.spacing, GRID.origin, GRID.direction)
        found = read_labels_on(path, scan_on(small))
        assert (found.array == 5).all()
        assert any("224 voxel(s)" in note for note in found.notes)
        far = Grid(GRID.size, GRID.spacing, (-10.0, 20.0, 330.0), GRID.direction)
        assert refusal(path, scan_on(far)).code == "outside-scan"

    def test_on_other_voxels(self, tmp_path: Path) -> None:
        path = tmp_path / "case.seg.nrrd"
        write_segmentation(path, blocks(), GRID, LABELS)
        other = Grid(GRID.size, (0.7, 0.9, 2.6), GRID.origin, GRID.direction)
        assert refusal(path, scan_on(other)).code == "other-grid"

    def test_fractional_segments(self, tmp_path: Path) -> None:
        path = layers_file(
            tmp_path / "case.seg.nrrd", np.ones((1, *GRID.shape), np.uint8), [{"ID": "a"}],
            Segmentation_MasterRepresentation="Fractional labelmap",
        )  # fmt: skip
        assert refusal(path, scan_on(GRID)).code == "fractional-segments"

    @pytest.mark.parametrize("entry", [{"LabelValue": "one"}, {"Layer": "3"}, {"LabelValue": "0"}])
    def test_garbled_entries(self, tmp_path: Path, entry: dict[str, str]) -> None:
        segments = [{"ID": "a", "Name": "organ", "LabelValue": "1", "Layer": "0", **entry}]
        layers = np.ones((1, *GRID.shape), np.uint8)
        path = layers_file(tmp_path / "case.seg.nrrd", layers, segments)
        assert refusal(path, scan_on(GRID)).code == "unreadable"

    def test_cut_off(self, tmp_path: Path) -> None:
        path = tmp_path / "case.seg.nrrd"
        write_segmentation(path, blocks(), GRID, LABELS)
        path.write_bytes(path.read_bytes()[:-20])
        assert refusal(path, scan_on(GRID)).code == "unreadable"


@pytest.fixture
def dicom_scan(tmp_path: Path) -> Volume:
    write_series(tmp_path / "series", np.zeros(GRID.shape, np.int16), GRID)
    return read_volume(tmp_path / "series")


class TestDicom:
    def test_all_kinds_hold_the_same_voxels(self, tmp_path: Path, dicom_scan: Volume) -> None:
        label_map = np.zeros(GRID.shape, np.uint8)
        label_map[2, 2:5, 1:6] = 1
        label = Label("box", 1, (10, 20, 30))
        box = np.array([(0.5, 1.5, 2), (5.5, 1.5, 2), (5.5, 4.5, 2), (0.5, 4.5, 2)])
        write_rtstruct(tmp_path / "rt.dcm", [("box", [dicom_scan.grid.to_patient(box)])])
        write_dicom_seg(tmp_path / "seg.dcm", label_map, [label], dicom_scan.source, "tiny")
        write_segmentation(tmp_path / "a.seg.nrrd", label_map, dicom_scan.grid, [label])
        write_label_map(tmp_path / "a.nii.gz", label_map, dicom_scan.grid)
        for name in ("rt.dcm", "seg.dcm", "a.seg.nrrd", "a.nii.gz"):
            found: LabelMap = read_labels_on(tmp_path / name, dicom_scan)
            np.testing.assert_array_equal(found.array, label_map, err_msg=name)
            assert found.grid is dicom_scan.grid
            assert found.labels[0].name == ("label 1" if name == "a.nii.gz" else "box")

    def test_a_slice_is_neither(self, dicom_scan: Volume) -> None:
        assert refusal(Path(dicom_scan.source[0]), dicom_scan).code == "not-labels"

    def test_known_by_their_beginning(self, tmp_path: Path, dicom_scan: Volume) -> None:
        label_map = np.ones(GRID.shape, np.uint8)
        write_dicom_seg(
            tmp_path / "seg.dcm", label_map, [Label("all", 1, (1, 2, 3))], dicom_scan.source, "t"
        )
        (tmp_path / "seg.dcm").rename(tmp_path / "SG0001")
        assert read_labels_on(tmp_path / "SG0001", dicom_scan).array.all()
