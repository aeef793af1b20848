"""Slices on a regular grid, or on none: what small steps add up to."""

from __future__ import annotations

import numpy as np
import pytest
from meddinov3.dicom_geometry import check_slices
from meddinov3.errors import MedDINOv3Error
from scipy.spatial.transform import Rotation

AXIAL = np.array([1.0, 0, 0, 0, 1, 0])


def check(corners: np.ndarray, cosines: np.ndarray = AXIAL, pixel: float = 0.7) -> None:
    count = len(corners)
    check_slices("It", corners, np.tile(cosines, (count, 1)), np.full((count, 2), pixel))


def refusal(corners: np.ndarray) -> str:
    with pytest.raises(MedDINOv3Error) as caught:
        check(corners)
    assert caught.value.code == "uneven-series"
    return caught.value.message


def straight(count: int, distance: float) -> np.ndarray:
    return np.arange(count)[:, None] * distance * np.array([0.0, 0.0, 1.0])


@pytest.mark.parametrize("degrees", [0.3, 1, 5])
@pytest.mark.parametrize("distance", [0.5, 1.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_thin_slices_of_a_gantry_tilted_a_little(
    degrees: float, distance: float, sign: int
) -> None:
    """Each step aside is small; at the end it is up to 13 mm."""
    corners = straight(300, distance) * sign
    corners[:, 1] = corners[:, 2] * np.tan(np.radians(degrees))
    assert f"tilted gantry ({degrees} degrees)" in refusal(corners)


def test_steps_that_grow_a_little() -> None:
    corners = straight(300, 1.0)
    corners[:, 2] += np.where(np.arange(300) < 150, 0, 0.04 * (np.arange(300) - 150))
    assert "even steps" in refusal(corners)


def test_a_slow_drift_to_one_side_and_back() -> None:
    corners = straight(300, 1.0)
    corners[:, 0] = 3 * np.sin(np.arange(300) / 300 * np.pi)
    assert "sideways" in refusal(corners)


@pytest.mark.parametrize("digits", [2, 3])
@pytest.mark.parametrize("distance", [0.5, 0.625, 1.0])
@pytest.mark.parametrize("seed", range(10))
def test_rounding_in_headers_is_none(digits: int, distance: float, seed: int) -> None:
    """600 slices turned in space, positions and directions rounded."""
    turn = Rotation.random(random_state=seed).as_matrix()
    corners = straight(600, distance) @ turn.T + np.array([-123.4567, 210.9876, 33.3333])
    cosines = np.concatenate([turn[:, 0], turn[:, 1]])
    check(np.round(corners, digits), np.round(cosines, 3), pixel=0.3)
    check(np.round(corners, digits), cosines, pixel=0.3)
