"""Where voxels lie: spacing, origin, direction, and how index axes follow the patient.

Everything is in millimetres in LPS patient space (x to the patient's left, y to the back, z
to the head), as DICOM and ITK have it. Index order is (i, j, k); numpy arrays are (k, j, i).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from meddinov3.errors import MedDINOv3Error

FloatArray = NDArray[np.float64]

# A letter names the side that an index axis runs towards: (patient axis, sign in LPS).
DIRECTIONS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
LETTERS = {value: key for key, value in DIRECTIONS.items()}
INDEX_AXES = ("i", "j", "k")


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular voxel grid in patient space.

    Attributes:
        size: voxels along (i, j, k).
        spacing: millimetres along (i, j, k).
        origin: LPS position of the centre of voxel (0, 0, 0), mm.
        direction: 3 x 3; column n is the unit direction of index axis n in LPS.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: FloatArray

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numpy shape (k, j, i)."""
        return (self.size[2], self.size[1], self.size[0])

    @property
    def index_to_patient(self) -> FloatArray:
        """3 x 3 matrix from index steps (i, j, k) to millimetres in LPS."""
        matrix: FloatArray = self.direction * np.asarray(self.spacing)
        return matrix

    @property
    def orientation(self) -> str:
        """Three letters: the side nearest to which each index axis runs, e.g. ``LPS``."""
        return "".join(LETTERS[axis] for axis in nearest_axes(self.direction))

    def in_figures(self) -> str:
        """Size, spacing, origin and orientation in words, for messages."""
        spacing = " x ".join(f"{step:.4g}" for step in self.spacing)
        origin = ", ".join(f"{place:.4g}" for place in self.origin)
        size = " x ".join(map(str, self.size))
        return f"{size} voxels of {spacing} mm from ({origin}) mm, {self.orientation}"

    def overlaps(self, other: Grid) -> bool:
        """Whether another grid's corners do not all lie beyond one side of this one."""
        corners = np.array(np.meshgrid(*((-0.5, n - 0.5) for n in other.size))).reshape(3, -1).T
        index = self.to_index(other.to_patient(corners))
        beyond = (index.max(axis=0) < 0) | (index.min(axis=0) > np.asarray(self.size) - 1)
        return not beyond.any()

    def to_patient(self, index: FloatArray) -> FloatArray:
        """LPS positions (..., 3) in mm of continuous indices (..., 3) in (i, j, k)."""
        position: FloatArray = index @ self.index_to_patient.T + np.asarray(self.origin)
        return position

    def to_index(self, position: FloatArray) -> FloatArray:
        """Continuous indices (..., 3) in (i, j, k) of LPS positions (..., 3) in mm."""
        inverse = np.linalg.inv(self.index_to_patient)
        index: FloatArray = (position - np.asarray(self.origin)) @ inverse.T
        return index

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both have the same size and all corners agree within `tolerance` mm."""
        if self.size != other.size:
            return False
        corners = np.array(np.meshgrid(*((0, n - 1) for n in self.size))).reshape(3, -1).T
        difference = self.to_patient(corners.astype(float)) - other.to_patient(corners)
        return bool(np.abs(difference).max() <= tolerance)


def nearest_axes(direction: FloatArray) -> list[tuple[int, int]]:
    """For each index axis the patient axis it follows best, each used once, with its sign."""
    best = max(
        permutations(range(3)),
        key=lambda order: sum(abs(direction[order[n], n]) for n in range(3)),
    )
    return [(axis, 1 if direction[axis, n] >= 0 else -1) for n, axis in enumerate(best)]


@dataclass(frozen=True)
class SliceOrientation:
    """How a model sees a scan: which way its slices lie and run.

    Attributes:
        code: target direction of (i, j, k), e.g. ``LPS``; or index axes as stored, e.g.
            ``ijk``, for models that saw arrays without regard to the patient.
        slice_axis: the letter of `code` along which slices are stacked; of the other two,
            the first runs along columns, the second along rows.
    """

    code: str = "LPS"
    slice_axis: str = "S"

    def __post_init__(self) -> None:
        axes = sorted(DIRECTIONS.get(letter, (-1, 0))[0] for letter in self.code)
        known = axes == [0, 1, 2] or self.as_stored
        if not known or self.slice_axis not in tuple(self.code):
            raise MedDINOv3Error(
                "bad-orientation",
                f"'{self.code}' sliced along '{self.slice_axis}' is no orientation.",
                "Give one of L/R, P/A, S/I each once, and a slice axis among them.",
            )

    @property
    def as_stored(self) -> bool:
        """Whether slices follow the array, whatever way the patient lies in it."""
        return sorted(self.code) == list(INDEX_AXES)

    @property
    def letters(self) -> tuple[str, str, str]:
        """Letters of (slices, rows, columns)."""
        columns, rows = (letter for letter in self.code if letter != self.slice_axis)
        return (self.slice_axis, rows, columns)

    def array_axes(self, grid: Grid) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Which axes of a (k, j, i) array become (slices, rows, columns), and which flip."""
        if self.as_stored:
            return tuple(2 - INDEX_AXES.index(n) for n in self.letters), (False, False, False)
        nearest = nearest_axes(grid.direction)
        axes, flips = [], []
        for letter in self.letters:
            patient_axis, sign = DIRECTIONS[letter]
            index_axis = next(n for n, (axis, _) in enumerate(nearest) if axis == patient_axis)
            axes.append(2 - index_axis)
            flips.append(nearest[index_axis][1] != sign)
        return tuple(axes), tuple(flips)

    def view(self, array: np.ndarray, grid: Grid) -> np.ndarray:
        """A (k, j, i, ...) array seen as (slices, rows, columns, ...); writes go through."""
        axes, flips = self.array_axes(grid)
        steps = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
        return array.transpose((*axes, *range(3, array.ndim)))[steps]

    def spacing(self, grid: Grid) -> tuple[float, float, float]:
        """Spacing in mm along (slices, rows, columns)."""
        axes, _ = self.array_axes(grid)
        slices, rows, columns = (grid.spacing[2 - axis] for axis in axes)
        return (slices, rows, columns)

    def extent(self, grid: Grid) -> tuple[float, float, float]:
        """Extent in mm along (slices, rows, columns), voxel edges included."""
        axes, _ = self.array_axes(grid)
        slices, rows, columns = (grid.size[2 - axis] * grid.spacing[2 - axis] for axis in axes)
        return (slices, rows, columns)
