"""Label maps on disk: the scan's own grid, the voxels as they are, whole files or none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import random_grid, sitk_image
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.labels import Label
from meddinov3.reading import read_label_map, read_volume
from meddinov3.writing import write_label_map, write_segmentation
from scipy.spatial.transform import Rotation

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
GRID = Grid((4, 5, 6), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), np.eye(3))
LABELS = (Label("liver", 1, (10, 20, 30)), Label("spleen", 2, (255, 0, 0)))


def random_labels(grid: Grid, top: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, grid.shape, endpoint=True).astype(dtype)


def geometry(path: Path) -> tuple[tuple[float, ...], ...]:
    """Origin, spacing and direction as SimpleITK gives them to anybody who opens the file."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return (reader.GetOrigin(), reader.GetSpacing(), reader.GetDirection())


def any_grid(seed: int) -> Grid:
    """Any rotation at all, spacing from 0.1 to 7 mm, origin up to a metre away."""
    random = np.random.default_rng(seed)
    direction = Rotation.random(random_state=seed).as_matrix()
    direction *= random.choice([-1.0, 1.0], 3)
    spacing = tuple(float(s) for s in random.uniform(0.1, 7, 3))
    origin = tuple(float(o) for o in random.uniform(-1000, 1000, 3))
    return Grid((2, 3, 4), spacing, origin, direction)  # type: ignore[arg-type]


def write_all(folder: Path, scan: Path, endings: tuple[str, ...]) -> list[Path]:
    """Read a scan and write an empty mask on its grid in several forms."""
    grid = read_volume(scan).grid
    mask = np.zeros(grid.shape, np.uint8)
    paths = [folder / ending.strip(".") / f"mask{ending}" for ending in endings]
    for path in paths:
        if path.name.endswith(".seg.nrrd"):
            write_segmentation(path, mask, grid, LABELS)
        else:
            write_label_map(path, mask, grid)
    return paths


class TestSameGrid:
    """Bit by bit: viewers compare grids, and some find 1e-16 mm a difference."""

    @pytest.fixture(autouse=True)
    def quick_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Over a thousand small files need not survive a power cut."""
        monkeypatch.setattr("meddinov3.atomic.os.fsync", lambda _: None)

    @pytest.mark.parametrize("block", range(4))
    def test_nrrd_in_nrrd_out_is_bit_equal(self, tmp_path: Path, block: int) -> None:
        for seed in range(50 * block, 50 * (block + 1)):
            scan = tmp_path / "scan.nrrd"
            grid = any_grid(seed)
            sitk.WriteImage(sitk_image(np.zeros(grid.shape, np.int16), grid), str(scan))
            for path in write_all(tmp_path, scan, (".nrrd", ".seg.nrrd")):
                assert geometry(path) == geometry(scan), f"{path.name}, grid {seed}"

    @pytest.mark.parametrize("digits", [6, 10, 17])
    @pytest.mark.parametrize("space", ["right-anterior-superior", "left-posterior-superior"])
    def test_nrrd_by_other_programs_in_nrrd_out_is_bit_equal(
        self, tmp_path: Path, space: str, digits: int
    ) -> None:
        scan = tmp_path / "scan.nrrd"
        for seed in range(40):
            grid = any_grid(seed)
            vectors = (
                "(" + ",".join(f"{v:.{digits}g}" for v in vector) + ")"
                for vector in (*grid.index_to_patient.T, grid.origin)
            )
            *directions, origin = vectors
            scan.write_text(
                "NRRD0004\ntype: uint8\ndimension: 3\nencoding: raw\nsizes: 2 3 4\n"
                f"space: {space}\nspace directions: {' '.join(directions)}\n"
                f"space origin: {origin}\n\n" + "0" * 24
            )
            for path in write_all(tmp_path, scan, (".nrrd", ".seg.nrrd")):
                assert geometry(path) == geometry(scan), f"{path.name}, grid {seed}"

    @pytest.mark.parametrize("block", range(4))
    def test_mha_in_mha_out_is_bit_equal(self, tmp_path: Path, block: int) -> None:
        for seed in range(50 * block, 50 * (block + 1)):
            scan = tmp_path / "scan.mha"
            grid = any_grid(seed)
            sitk.WriteImage(sitk_image(np.zeros(grid.shape, np.int16), grid), str(scan))
            (path,) = write_all(tmp_path, scan, (".mha",))
            assert geometry(path) == geometry(scan), f"grid {seed}"

    @pytest.mark.parametrize("seed", range(12))
    def test_any_format_in_any_format_out_lies_within_a_hundredth_of_a_micrometre(
        self, tmp_path: Path, seed: int
    ) -> None:
        for source in ENDINGS:
            scan = tmp_path / f"scan{source}"
            grid = random_grid(seed)
            sitk.WriteImage(sitk_image(np.zeros(grid.shape, np.int16), grid), str(scan))
            stored = read_volume(scan).grid
            for path in write_all(tmp_path, scan, (*ENDINGS, ".seg.nrrd")):
                # NIfTI rounds to float32 once; what came from NIfTI is rounded already.
                rounds = ".nii" in path.name and ".nii" not in source
                tolerance = 1e-4 if rounds else 1e-5
                assert read_volume(path).grid.same_as(stored, tolerance), f"{source} {path.name}"


class TestVoxels:
    @pytest.mark.parametrize("ending", [*ENDINGS, ".seg.nrrd"])
    @pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
    def test_values_and_type_stay(self, tmp_path: Path, dtype: type, top: int, ending: str) -> None:
        grid = random_grid(4)
        label_map = random_labels(grid, top, dtype)
        path = tmp_path / f"mask{ending}"
        if ending == ".seg.nrrd":
            write_segmentation(path, label_map, grid, LABELS)
        else:
            write_label_map(path, label_map, grid)
        read, _ = read_label_map(path)
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, label_map)

    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".seg.nrrd"])
    def test_files_are_compressed(self, tmp_path: Path, ending: str) -> None:
        grid = Grid((64, 64, 64), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
        path = tmp_path / f"mask{ending}"
        mask = np.zeros(grid.shape, np.uint8)
        if ending == ".seg.nrrd":
            write_segmentation(path, mask, grid, LABELS)
        else:
            write_label_map(path, mask, grid)
        assert path.stat().st_size < 64**3 / 50

    def test_missing_folders_are_made(self, tmp_path: Path) -> None:
        path = tmp_path / "results" / "case 1" / "mask.nrrd"
        write_label_map(path, random_labels(GRID, 2), GRID)
        assert path.is_file()

    @pytest.mark.parametrize("name", ["mask.txt", "mask", "mask.dcm", "mask.nii.gz.tmp"])
    def test_an_unknown_ending_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            write_label_map(tmp_path / name, random_labels(GRID, 2), GRID)
        assert caught.value.code == "unknown-ending"
        assert ".seg.nrrd" in caught.value.remedy
        assert list(tmp_path.iterdir()) == []


def half_a_file(error: BaseException) -> Callable[..., None]:
    """A writer that fails in the middle, as on a full disk."""

    def write(_image: sitk.Image, name: str, **_options: object) -> None:
        Path(name).write_bytes(b"half")
        raise error

    return write


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_arguments: object) -> None:
        raise error

    return fail


class TestInterrupted:
    @pytest.fixture(params=["mask.nii.gz", "mask.nrrd", "mask.mha", "mask.seg.nrrd"])
    def old(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        path = tmp_path / request.param
        path.write_bytes(b"yesterday's result")
        return path

    def write(self, path: Path) -> None:
        if path.name.endswith(".seg.nrrd"):
            write_segmentation(path, random_labels(GRID, 2), GRID, LABELS)
        else:
            write_label_map(path, random_labels(GRID, 2), GRID)

    def check_untouched(self, old: Path) -> None:
        assert old.read_bytes() == b"yesterday's result"
        assert list(old.parent.iterdir()) == [old]

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError])
    def test_a_stop_while_writing(
        self, old: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
    ) -> None:
        monkeypatch.setattr("meddinov3.writing.sitk.WriteImage", half_a_file(kind()))
        with pytest.raises(kind):
            self.write(old)
        self.check_untouched(old)

    def test_a_writer_that_fails(self, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("meddinov3.writing.sitk.WriteImage", half_a_file(RuntimeError("itk")))
        with pytest.raises(MedDINOv3Error) as caught:
            self.write(old)
        assert caught.value.code == "cannot-write"
        assert caught.value.remedy
        self.check_untouched(old)

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
    def test_a_full_disk_or_a_file_in_use(
        self, old: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
    ) -> None:
        error = OSError(number, os.strerror(number))
        monkeypatch.setattr(f"meddinov3.atomic.os.{call}", failing(error))
        with pytest.raises(MedDINOv3Error) as caught:
            self.write(old)
        assert caught.value.code == "cannot-write"
        assert os.strerror(number) in caught.value.message
        self.check_untouched(old)

    def test_an_undisturbed_write_replaces_the_old_file(self, old: Path) -> None:
        self.write(old)
        np.testing.assert_array_equal(read_label_map(old)[0], random_labels(GRID, 2))
        assert list(old.parent.iterdir()) == [old]

    def test_a_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "results").write_text("a file")
        with pytest.raises(MedDINOv3Error) as caught:
            write_label_map(tmp_path / "results" / "mask.nrrd", random_labels(GRID, 2), GRID)
        assert caught.value.code == "cannot-write"
        assert caught.value.remedy


class TestTwins:
    """ITK reads the voxels of x.nii for x.nii.gz if both are there, so both must not be."""

    @pytest.mark.parametrize(("there", "asked"), [(".nii", ".nii.gz"), (".nii.gz", ".nii")])
    def test_are_refused(self, tmp_path: Path, there: str, asked: str) -> None:
        grid = random_grid(1)
        mask = np.zeros(grid.shape, np.uint8)
        write_label_map(tmp_path / f"scan{there}", mask, grid)
        write_label_map(tmp_path / f"scan{there}", mask, grid)  # replacing itself is fine
        with pytest.raises(MedDINOv3Error) as caught:
            write_label_map(tmp_path / f"scan{asked}", mask, grid)
        assert caught.value.code == "nifti-twin"
        assert [path.name for path in tmp_path.iterdir()] == [f"scan{there}"]


@pytest.mark.parametrize("name", ["MASK.NII.GZ", "Mask.MHA", "m" * 240 + ".nrrd", "M.SEG.NRRD"])
def test_upper_case_endings_and_long_names(tmp_path: Path, name: str) -> None:
    grid = random_grid(2)
    mask = np.arange(np.prod(grid.shape)).reshape(grid.shape).astype(np.uint8)
    if name.lower().endswith(".seg.nrrd"):
        write_segmentation(tmp_path / name, mask, grid, LABELS)
    else:
        write_label_map(tmp_path / name, mask, grid)
    (made,) = tmp_path.iterdir()
    assert made.name == name
    made = made.rename(tmp_path / f"x{'.nii.gz' if 'NII' in name else made.suffix.lower()}")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(made))), mask)


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
import numpy as np
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.writing import write_label_map
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
labels = np.random.default_rng(0).integers(0, 200, (10, 256, 256)).astype(np.uint8)
grid = Grid((256, 256, 10), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
try:
    write_label_map(Path({target!r}), labels, grid)
except MedDINOv3Error as error:
    print(error.code)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files there")
@pytest.mark.parametrize("limit", [0, 100, 300_000])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, ending: str, limit: int) -> None:
    """Short writes that ITK keeps to itself, made by a limit on the size of files."""
    target = tmp_path / f"mask{ending}"
    target.write_bytes(b"as it was")
    path = [entry for entry in sys.path if entry]
    script = FULL.format(path=path, limit=limit, target=str(target))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["cannot-write"], done.stderr
    assert target.read_bytes() == b"as it was"
    assert list(tmp_path.iterdir()) == [target]
