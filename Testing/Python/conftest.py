"""What several test files share: narrow models, synthetic scans, where data lie."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from meddinov3.bundle import backbone_shape, write_bundle
from meddinov3.description import (
    Channel,
    ModelDescription,
    NetworkDescription,
    Purpose,
    Sampling,
)
from meddinov3.grid import Grid
from meddinov3.intensity import IntensityScheme
from meddinov3.labels import Label, default_colour
from meddinov3.network.segmenter import Segmenter
from scipy.spatial.transform import Rotation

ROOT = Path(__file__).resolve().parents[2]
# PySide6 reads it once, whichever test file imports it first: PythonQt's enums are ints.
os.environ["PYSIDE6_OPTION_PYTHON_ENUM"] = "0x02"
DATA = ROOT / "Testing" / "Data"
SHARED = ROOT.parent / "shared" / "data"
TINY = {"embed_dim": 32, "depth": 4, "num_heads": 2}

# Small tensors gain nothing from more, and threads that wait for each other on a busy machine take
# minutes. Processes that tests start inherit it.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees or changes the models of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("MEDDINOV3_HOME", str(home))
    return home


@pytest.fixture
def data() -> Path:
    """Samples that lie in the repository."""
    return DATA


@pytest.fixture
def shared() -> Path:
    """Larger data sets beside the checkout; the test skips where they are absent."""
    if not SHARED.is_dir():
        pytest.skip("the larger data sets are not beside this checkout")
    return SHARED


@pytest.fixture
def slicer_app() -> Iterator[Any]:
    """Slicer's stand-in (slicer/slicer_app.py): a ``Booted``, its scene empty again afterwards.

    One application serves the whole process. A test fails of what PythonQt would only have
    printed: unknown signals, exceptions in slots; ``taken_complaints()`` forgives.
    """
    # Looked for, not imported: the stand-in sets options that PySide6 reads at import.
    if find_spec("PySide6") is None:
        pytest.skip("PySide6 is not installed")
    folder = str(Path(__file__).parent / "slicer")
    if folder not in sys.path:
        sys.path.append(folder)
    from slicer_app import boot

    booted = boot()
    booted.taken_complaints()
    yield booted
    booted.fresh()
    complaints = booted.taken_complaints()
    assert not complaints, "\n".join(complaints)


def describe(
    *names: str,
    channels: tuple[str, ...] = ("MR",),
    regions: bool = False,
    sampling: Sampling | None = None,
    purpose: Purpose | None = None,
    intensity: IntensityScheme | None = None,
) -> ModelDescription:
    """A description of a narrow model that finds `names`."""
    labels = tuple(Label(n, v, default_colour(v - 1)) for v, n in enumerate(names, start=1))
    return ModelDescription(
        id="tiny",
        name="Tiny",
        network=NetworkDescription(
            "vit_tiny_patch16_dinov3_qkvb", len(labels) + (0 if regions else 1), dict(TINY)
        ),
        channels=tuple(Channel(c, intensity or IntensityScheme("zscore")) for c in channels),
        labels=labels,
        sampling=sampling or Sampling(spacing=(1.0, 1.0), patch=(64, 64)),
        purpose=purpose or Purpose(),
        regions=regions,
    )


def random_network(description: ModelDescription, seed: int = 0) -> Segmenter:
    """A network with random weights large enough to give every class some pixels."""
    torch.manual_seed(seed)
    network = Segmenter(backbone_shape(description), description.network.outputs, layer_scale=1.0)
    return network.eval().requires_grad_(False)


def make_bundle(folder: Path, description: ModelDescription, seed: int = 0) -> Path:
    """Write a bundle with random weights."""
    write_bundle(folder, description, random_network(description, seed))
    return folder


def random_grid(seed: int, oblique: bool | None = None) -> Grid:
    """A grid of any axis order, flips and (for odd seeds) oblique directions."""
    random = np.random.default_rng(seed)
    size = tuple(int(n) for n in random.integers(3, 24, 3))
    spacing = tuple(float(s) for s in random.uniform(0.3, 5.0, 3))
    origin = tuple(float(o) for o in random.uniform(-300, 300, 3))
    order = np.eye(3)[random.permutation(3)] * random.choice([-1.0, 1.0], 3)
    if seed % 2 if oblique is None else oblique:
        order = Rotation.from_rotvec(random.uniform(-0.4, 0.4, 3)).as_matrix() @ order
    return Grid(size, spacing, origin, order)  # type: ignore[arg-type]


def sitk_image(array: np.ndarray, grid: Grid) -> sitk.Image:
    """A SimpleITK image of a (k, j, i) array, built without the code under test."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def blob(
    shape: tuple[int, int, int], centre: tuple[float, float, float], radius: float
) -> np.ndarray:
    """A boolean ball (k, j, i) in voxels."""
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) <= radius**2
