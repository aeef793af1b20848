"""The small pictures by which a person knows a case again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import blob
from meddinov3.cases.thumbnail import draw, write_thumbnail
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.grid import Grid
from meddinov3.labels import Label

BLUE = DatasetLabels((Label("ball", 1, (0, 0, 255)),), ((1,),), False, None)
SHAPE = (20, 60, 40)  # (k, j, i)
AXIAL = Grid((40, 60, 20), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))


def case() -> tuple[np.ndarray, np.ndarray]:
    """A ball in slices 8 to 12 at the front left, in water with a bright rim."""
    label_map = blob(SHAPE, (10, 15, 30), 4).astype(np.uint8)
    image = np.full(SHAPE, 40, np.int16)
    image[:, :, :2] = 3000
    return image, label_map


def is_blue(picture: np.ndarray) -> np.ndarray:
    return picture[..., 2].astype(int) - picture[..., 0] > 60


def test_size_window_and_place() -> None:
    picture = draw(*case(), AXIAL, BLUE, is_ct=True)
    assert picture.shape == (128, 85, 3) and picture.dtype == np.uint8
    grey = picture[~is_blue(picture)]
    assert (grey[:, 0] == grey[:, 2]).all()
    assert np.median(grey) == round(255 * (40 + 160) / 400)
    assert picture[5, 0, 0] == 255, "the rim is above the window"
    rows, columns = np.nonzero(is_blue(picture))
    assert rows.mean() * 60 / 128 == pytest.approx(15, abs=0.6)
    assert columns.mean() * 40 / 85 == pytest.approx(30, abs=0.6)
    pixels = np.count_nonzero(case()[1][10]) * (128 / 60) * (85 / 40)
    assert is_blue(picture).sum() == pytest.approx(pixels, rel=0.05)


@pytest.mark.parametrize("order", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, 1, -1)])
def test_the_patient_lies_the_same_way_however_stored(order: tuple[int, ...]) -> None:
    """Left is on the right, the front above: as radiologists look at it."""
    flips = tuple(slice(None, None, sign) for sign in order[::-1])
    last = [n - 1 for n in AXIAL.size]
    corner = AXIAL.to_patient(np.where(np.array(order) < 0, last, 0).astype(float))
    origin = (float(corner[0]), float(corner[1]), float(corner[2]))
    grid = Grid(AXIAL.size, AXIAL.spacing, origin, np.diag(order).astype(float))
    image, label_map = case()
    picture = draw(image[flips], label_map[flips], grid, BLUE, is_ct=True)
    np.testing.assert_array_equal(picture, draw(*case(), AXIAL, BLUE, is_ct=True))


def test_sagittal_slices_are_shown_as_such() -> None:
    """Thick along left-right: the picture shows head above and nose to the left."""
    grid = Grid((10, 40, 60), (4.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    label_map = np.zeros(grid.shape, np.uint8)
    label_map[50:55, 5:9, 4] = 1  # high and in front
    picture = draw(np.zeros(grid.shape, np.float32), label_map, grid, BLUE, is_ct=False)
    assert picture.shape == (128, 85, 3)
    rows, columns = np.nonzero(is_blue(picture))
    assert rows.mean() < 32 and columns.mean() < 32


def test_without_labels_and_with_holes() -> None:
    image = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    image[5] = np.nan
    image[10, 0, 0] = np.inf
    picture = draw(image, np.zeros(SHAPE, np.uint8), AXIAL, BLUE, is_ct=False)
    assert picture.std() > 20
    flat = draw(np.zeros(SHAPE), np.zeros(SHAPE, np.uint8), AXIAL, BLUE, is_ct=False)
    assert not flat.any()


def test_a_single_voxel_row(tmp_path: Path) -> None:
    grid = Grid((1, 1, 300), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    assert draw(np.zeros((300, 1, 1)), np.zeros((300, 1, 1), np.uint8), grid, BLUE, True).size


def test_the_file_is_a_png_without_text(tmp_path: Path) -> None:
    path = tmp_path / "case.png"
    write_thumbnail(path, *case(), AXIAL, BLUE, is_ct=True)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(str(path))), draw(*case(), AXIAL, BLUE, is_ct=True)
    )
    content = path.read_bytes()
    assert not [kind for kind in (b"tEXt", b"iTXt", b"zTXt", b"tIME", b"eXIf") if kind in content]
