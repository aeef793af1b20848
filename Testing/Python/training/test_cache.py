"""The cache of slices equals what inference sees."""

from __future__ import annotations

import dataclasses
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from cached_cases import ball_and_box, cache_case, dataset_of, write_case
from conftest import describe, random_grid
from meddinov3.description import ModelDescription
from meddinov3.grid import Grid, SliceOrientation
from meddinov3.inference.slices import SliceSource
from meddinov3.intensity import IntensityScheme
from meddinov3.region import index_box
from meddinov3_training.cache import CachedCase, build_cache
from meddinov3_training.dataset import Case, read_dataset
from meddinov3_training.fingerprint import read_fingerprint
from meddinov3_training.plan import make_plan
from synthetic_dataset import SHAPE, write_dataset

CPU = torch.device("cpu")
SCHEMES = [
    IntensityScheme("zscore"),
    IntensityScheme("zscore", mask="nonzero"),
    IntensityScheme("zscore", mask="nonzero_box"),
    IntensityScheme("ct", (-50.0, 260.0), 100.0, 40.0),
    IntensityScheme("range"),
    IntensityScheme("fixed", std=255.0),
]


def source_of(case: Case, description: ModelDescription) -> SliceSource:
    """What inference sees of a case."""
    volume = case.read()
    whole = index_box(None, volume.grid, description.sampling.orientation)
    return SliceSource(volume, description.schemes, description.sampling, whole, whole)


def deviation(cached: CachedCase, source: SliceSource) -> float:
    """Largest difference of a value within four of the mean, in standard deviations."""
    expected = torch.cat([source.batch([n], CPU) for n in range(cached.count)])
    found = torch.stack([cached.image(n) for n in range(cached.count)])
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    # Channels of these scans are alike, or their figures would have to be taken one by one.
    spread = expected.std()
    typical = (expected - expected.mean()).abs() <= 4 * spread
    assert typical.float().mean() > 0.9
    return float(((found - expected).abs() / spread)[typical].max())


# Equal to what inference sees.


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: f"{s.kind}-{s.mask}")
def test_slices_equal_those_of_inference(tmp_path: Path, scheme: IntensityScheme) -> None:
    dataset = read_dataset(write_dataset(tmp_path / "d", 1))
    description = ball_and_box(scheme=scheme)
    (cached,) = build_cache(dataset.cases, dataset, description, tmp_path / "cache")
    assert cached.record.image.dtype == "float16"
    assert deviation(cached, source_of(dataset.cases[0], description)) <= 1e-3


@pytest.mark.parametrize("seed", range(8))
def test_any_grid_is_seen_as_inference_sees_it(tmp_path: Path, seed: int) -> None:
    """Flipped, permuted and oblique grids; several channels; context slices."""
    random, grid = np.random.default_rng(seed), random_grid(seed)
    scans = [random.normal(10, 3, grid.shape).astype(np.float32) for _ in range(2)]
    labels = random.integers(0, 4, grid.shape).astype(np.uint8)
    case = write_case(tmp_path / "raw", "case", scans, labels, grid)
    orientation = SliceOrientation("LPS", "LPS"[seed % 3])
    description = ball_and_box(
        "a", "b", "c", channels=("T1", "T2"), offsets=(-2.5, 0.0, 4.0), orientation=orientation
    )
    dataset = dataset_of("a", "b", "c", channels=("T1", "T2"))
    (cached,) = build_cache([case], dataset, description, tmp_path / "cache")
    assert deviation(cached, source_of(case, description)) <= 1e-3
    view = orientation.view(labels, grid)
    assert cached.count == len(view)
    assert cached.size == view.shape[1:]
    assert cached.spacing == pytest.approx(orientation.spacing(grid)[1:])
    for number, plane in enumerate(view):
        found = cached.labels(number)
        assert found.dtype == torch.int64
        np.testing.assert_array_equal(found, plane)
    for value in (1, 2, 3):
        expected = np.flatnonzero((view == value).any(axis=(1, 2)))
        np.testing.assert_array_equal(cached.slices_with[value], expected)


def test_a_flipped_scan_with_known_marks(tmp_path: Path) -> None:
    labels = np.zeros((4, 5, 6), dtype=np.uint8)
    labels[1, 2, 3], labels[3, 0, 0], labels[2, 4, 5] = 1, 2, 9
    flipped = Grid((6, 5, 4), (0.5, 0.7, 3.0), (0.0, 0.0, 0.0), np.diag([-1.0, 1.0, -1.0]))
    cached = cache_case(
        tmp_path, [labels.astype(np.float32)], labels, ball_and_box("a", "b", ignore=9), flipped
    )
    assert cached.labels(2)[2, 2] == 1
    assert cached.labels(0)[0, 5] == 2
    assert cached.labels(1)[4, 0] == 9, "not annotated: kept for the loss to leave out"
    assert cached.spacing == (0.7, 0.5)
    assert {v: found.tolist() for v, found in cached.slices_with.items()} == {1: [2], 2: [0]}


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (1000.0, 0.5), (-3.0, 1e6), (7.0, 0.0)])
def test_values_far_from_standard_keep_their_detail(
    tmp_path: Path, mean: float, spread: float
) -> None:
    """A scan that is not normalised; float16 as it is would lose it, or overflow."""
    scan = np.random.default_rng(0).normal(mean, spread, SHAPE).astype(np.float32)
    description = ball_and_box(scheme=IntensityScheme("fixed"))
    cached = cache_case(tmp_path, [scan], np.zeros(SHAPE, np.uint8), description)
    found = np.stack([cached.image(n)[0] for n in range(cached.count)])
    typical = np.abs(scan - scan.mean()) <= 4 * scan.std()
    # At 1000 a float32 itself is known to 3e-5.
    assert np.abs(found - scan)[typical].max() <= 1e-3 * scan.std() + abs(mean) * 2**-22


def test_gaps_in_a_scan_are_filled_and_noted(tmp_path: Path) -> None:
    scan = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    scan[3, 4, 5] = np.nan
    cached = cache_case(tmp_path, [scan], np.zeros(SHAPE, np.uint8), ball_and_box())
    assert torch.isfinite(cached.image(3)).all()
    assert any("no numbers" in note for note in cached.notes)


def test_label_values_above_a_byte(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint16)
    labels[2, 3, 4] = 1000
    case = write_case(tmp_path / "raw", "a", [labels.astype(np.float32)], labels,
                      Grid(SHAPE[::-1], (1.0, 1.0, 2.0), (0.0,) * 3, np.eye(3)))  # fmt: skip
    dataset = dataset_of("a", members=((1000,),))
    (cached,) = build_cache([case], dataset, ball_and_box("a"), tmp_path / "cache")
    assert cached.labels(2)[3, 4] == 1000
    assert list(cached.slices_with) == [1000]


def test_a_case_travels_to_another_process(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path / "d", 1))
    (cached,) = build_cache(dataset.cases, dataset, ball_and_box(), tmp_path / "cache")
    here, there = multiprocessing.Pipe()
    with here, there:
        here.send(cached)
        assert len(there.recv_bytes()) < 10_000, "paths travel, not voxels"
        here.send(cached)
        assert torch.equal(there.recv().image(5), cached.image(5))


def test_real_cases_equal_inference(shared: Path, tmp_path: Path) -> None:
    for name, count in (("msd_hippocampus_mr", 3), ("openkbp_headneck_ct", 2)):
        dataset = read_dataset(shared / name)
        cases = dataset.cases[:count]
        plan = make_plan(dataset, read_fingerprint(dataset, cases), slice_offsets=(-3.0, 0.0, 3.0))
        described = describe(*(label.name for label in dataset.labels), sampling=plan.sampling)
        description = dataclasses.replace(described, channels=plan.channels)
        for cached, case in zip(
            build_cache(cases, dataset, description, tmp_path / name), cases, strict=True
        ):
            assert deviation(cached, source_of(case, description)) <= 1e-3
