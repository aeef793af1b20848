"""Content and grid of predictions, with networks whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import blob, describe, random_grid, random_network
from meddinov3.description import Purpose, Sampling
from meddinov3.errors import Cancelled, MedDINOv3Error
from meddinov3.grid import Grid, SliceOrientation
from meddinov3.inference import predictor
from meddinov3.inference.decision import decide
from meddinov3.inference.predictor import Prediction, predict
from meddinov3.intensity import IntensityScheme
from meddinov3.labels import Label
from meddinov3.progress import Progress
from meddinov3.region import BoxRegion, LabelRegion
from meddinov3.volume import Volume
from torch import Tensor

CPU = torch.device("cpu")
UNCHANGED = IntensityScheme("fixed")
STRAIGHT = Grid((24, 20, 10), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))


def threshold(slices: Tensor, chunk: int | None = None) -> Tensor:
    """A network that calls everything above zero label 1 and everything above ten label 2."""
    image = slices[:, :1]
    return torch.cat([torch.zeros_like(image), image, 2 * image - 10], dim=1)


def thresholded(values: np.ndarray) -> np.ndarray:
    return np.select([values > 10, values > 0], [2, 1], 0)


def volume_on(grid: Grid, seed: int = 0, dtype: type = np.int16) -> Volume:
    array = np.random.default_rng(seed).integers(-30, 30, grid.shape).astype(dtype)
    return Volume((array,), grid)


def run(volume: Volume, sampling: Sampling, **options: object) -> Prediction:
    description = describe("a", "b", sampling=sampling, intensity=UNCHANGED)
    return predict(volume, description, threshold, CPU, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(240))
def test_thresholding_network_gives_the_thresholded_scan_on_any_grid(seed: int) -> None:
    """Axis orders, flips, oblique directions, unequal spacing: voxel for voxel."""
    code = ("LPS", "RAS", "LAI", "PSL", "SRA")[seed % 5]
    sampling = Sampling(SliceOrientation(code, code[seed % 3]))
    dtype = (np.int16, np.uint8, np.float32, np.float64, np.uint16, np.int32)[seed % 6]
    volume = volume_on(random_grid(seed), seed, dtype)
    before = volume.channels[0].copy()
    result = run(volume, sampling, batch=1 + seed % 4)
    assert result.label_map.shape == volume.grid.shape
    np.testing.assert_array_equal(result.label_map, thresholded(volume.channels[0]))
    np.testing.assert_array_equal(volume.channels[0], before)


@pytest.mark.parametrize("spacing", [(0.25, 0.25), (0.5, 0.7), (1.7, 1.3)])
def test_resampled_slices_come_back_in_place(spacing: tuple[float, float]) -> None:
    """A ball keeps its place and size through a finer or coarser network grid."""
    ball = blob((12, 40, 48), (6, 22.5, 19.0), 10)
    smooth = np.where(ball, 20.0, -20.0).astype(np.float32)
    grid = Grid((48, 40, 12), (0.9, 1.1, 2.0), (5.0, -7.0, 3.0), np.diag([-1.0, 1.0, -1.0]))
    description = describe("a", sampling=Sampling(spacing=spacing), intensity=UNCHANGED)

    def one_label(slices: Tensor, chunk: int | None = None) -> Tensor:
        return torch.cat([torch.zeros_like(slices), slices], dim=1)

    found = predict(Volume((smooth,), grid), description, one_label, CPU).label_map == 1
    overlap = 2 * (found & ball).sum() / (found.sum() + ball.sum())
    assert overlap > (0.999 if max(spacing) < 0.9 else 0.93)
    centre = np.array(np.nonzero(found)).mean(axis=1)
    np.testing.assert_allclose(centre, np.array(np.nonzero(ball)).mean(axis=1), atol=0.06)


def test_left_stays_left_whatever_the_storage_order() -> None:
    """One scan stored as LPS, RAS, LAS: a model that marks the patient's left half agrees."""
    sampling = Sampling(SliceOrientation("LPS", "S"))
    description = describe("left", sampling=sampling, intensity=UNCHANGED)

    def left_half(slices: Tensor, chunk: int | None = None) -> Tensor:
        side = torch.linspace(-1, 1, slices.shape[-1]).expand_as(slices)  # columns run to L
        return torch.cat([torch.zeros_like(side), side], dim=1)

    for signs in ((1, 1, 1), (-1, -1, 1), (1, -1, 1), (-1, 1, -1)):
        direction = np.diag(np.array(signs, dtype=float))
        grid = Grid((10, 8, 6), (1.0, 1.0, 1.0), tuple(-4.5 * s for s in signs), direction)
        volume = Volume((np.zeros(grid.shape, np.int16),), grid)
        found = predict(volume, description, left_half, CPU).label_map == 1
        index = np.array(np.nonzero(found)).T[:, ::-1]
        assert len(index) == 10 * 8 * 6 / 2
        assert (grid.to_patient(index.astype(float))[:, 0] > 0).all()


def test_region_limits_the_result_to_voxels_inside_it() -> None:
    volume = volume_on(STRAIGHT)
    region = BoxRegion.between(np.array([4.0, 3.0, 5.9]), np.array([12.0, 9.5, 14.1]))
    result = run(volume, Sampling(), region=region).label_map
    expected = np.zeros_like(result)
    inside = (slice(3, 8), slice(3, 10), slice(4, 13))
    expected[inside] = thresholded(volume.channels[0])[inside]
    np.testing.assert_array_equal(result, expected)


def test_oblique_label_map_region_agrees_with_voxel_centres() -> None:
    grid, other = random_grid(7, oblique=True), random_grid(8, oblique=True)
    points = grid.to_patient(np.array(np.meshgrid(*map(np.arange, grid.size), indexing="ij"))
                             .reshape(3, -1).T.astype(float))  # fmt: skip
    other = dataclasses.replace(other, origin=tuple(points.mean(axis=0) - 5))  # type: ignore[arg-type]
    painted = np.ones(other.shape, np.uint8)
    volume = volume_on(grid, 3)
    result = run(volume, Sampling(), region=LabelRegion(painted, other)).label_map
    index = np.floor(other.to_index(points) + 0.5)
    inside = ((index >= 0) & (index < other.size)).all(axis=1).reshape(grid.size).T
    assert 0 < inside.sum() < inside.size
    np.testing.assert_array_equal(result, np.where(inside, thresholded(volume.channels[0]), 0))


def test_only_the_labels_asked_for() -> None:
    volume = volume_on(STRAIGHT)
    everything = thresholded(volume.channels[0])
    result = run(volume, Sampling(), labels=["B"]).label_map
    np.testing.assert_array_equal(result, np.where(everything == 2, 2, 0))


def test_a_boxes_model_normalises_by_the_region_and_a_scans_model_by_the_scan() -> None:
    array = np.random.default_rng(0).normal(size=STRAIGHT.shape).astype(np.float32)
    array[:, :, 12:] += 100
    volume = Volume((array,), STRAIGHT)
    region = BoxRegion.between(np.array([0.0, 0.0, 0.0]), np.array([11.0, 19.0, 18.0]))
    seen: dict[str, Tensor] = {}
    for trained_on in ("boxes", "scans"):
        description = describe(
            "a", "b", sampling=Sampling(), purpose=Purpose(trained_on=trained_on)
        )

        def spy(slices: Tensor, chunk: int | None = None, key: str = trained_on) -> Tensor:
            seen[key] = slices.clone()
            return threshold(slices)

        predict(volume, description, spy, CPU, region=region, batch=100)
    assert seen["boxes"].shape[-1] == 12
    assert abs(seen["boxes"].mean().item()) < 1e-5
    assert seen["scans"].shape[-1] == 24  # a margin of context
    assert abs(seen["scans"][..., :12].mean().item() + 1) < 0.1


def test_context_channels_are_the_neighbouring_slices() -> None:
    """Offsets in mm, nearest slice, clamped at the ends, several channels kept together."""
    sampling = Sampling(slice_offsets=(-4.0, 0.0, 2.0))
    description = describe("a", channels=("x", "y"), sampling=sampling, intensity=UNCHANGED)
    ramp = np.arange(10, dtype=np.float32)[:, None, None].repeat(20, 1).repeat(24, 2)
    seen: list[Tensor] = []

    def spy(slices: Tensor, chunk: int | None = None) -> Tensor:
        seen.append(slices[:, :, 0, 0])
        return slices[:, :2]

    predict(Volume((ramp, ramp + 100), STRAIGHT), description, spy, CPU, batch=10)
    rows = torch.cat(seen)
    assert rows[0].tolist() == [0, 100, 0, 100, 1, 101]
    assert rows[5].tolist() == [3, 103, 5, 105, 6, 106]
    assert rows[9].tolist() == [7, 107, 9, 109, 9, 109]


def test_regions_are_written_in_order_and_need_not_exclude_each_other() -> None:
    labels = (Label("whole", 1, (1, 1, 1)), Label("core", 3, (2, 2, 2)))
    logits = torch.tensor([[[[1.0, 1.0, -1.0, -1.0]], [[-1.0, 1.0, 1.0, -1.0]]]])
    assert decide(logits, labels, True, labels).tolist() == [[[1, 3, 3, 0]]]
    assert decide(logits, labels, True, labels[:1]).tolist() == [[[1, 1, 0, 0]]]


def test_label_values_above_255_are_kept() -> None:
    description = describe("a", "b", sampling=Sampling(), intensity=UNCHANGED)
    labels = (description.labels[0], dataclasses.replace(description.labels[1], value=1000))
    description = dataclasses.replace(description, labels=labels)
    volume = volume_on(STRAIGHT)
    result = predict(volume, description, threshold, CPU).label_map
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(
        result, np.select([volume.channels[0] > 10, volume.channels[0] > 0], [1000, 1], 0)
    )


def test_mirroring_averages_over_allowed_axes() -> None:
    description = describe("a", "b", sampling=Sampling(mirror_axes=(1,)), intensity=UNCHANGED)
    calls: list[Tensor] = []

    def lopsided(slices: Tensor, chunk: int | None = None) -> Tensor:
        calls.append(slices.clone())
        bias = torch.linspace(-40, 40, slices.shape[-1]).expand_as(slices)
        return torch.cat([torch.zeros_like(slices), slices + bias, torch.full_like(slices, -99)], 1)

    volume = volume_on(STRAIGHT)
    plain = predict(volume, description, lopsided, CPU, batch=10).label_map
    mirrored = predict(volume, description, lopsided, CPU, batch=10, mirror=True).label_map
    assert torch.equal(calls[1], calls[0])
    assert torch.equal(calls[2], calls[0].flip(-1))
    assert len(calls) == 3
    assert not np.array_equal(plain, volume.channels[0] > 0)
    np.testing.assert_array_equal(mirrored, volume.channels[0] > 0)


def test_batches_give_what_single_slices_give() -> None:
    description = describe("a", "b", sampling=Sampling(spacing=(0.5, 0.5), patch=(48, 48)))
    network = random_network(description)
    volume = volume_on(STRAIGHT, dtype=np.float32)
    one, many = (predict(volume, description, network, CPU, batch=b).label_map for b in (1, 7))
    assert len(np.unique(one)) > 1
    np.testing.assert_array_equal(one, many)


def test_progress_counts_slices_and_estimates_the_rest() -> None:
    told: list[Progress] = []
    run(volume_on(STRAIGHT), Sampling(), batch=4, report=told.append)
    assert [(p.done, p.total) for p in told] == [(4, 10), (8, 10), (10, 10)]
    assert all(p.seconds_left is not None and p.seconds_left >= 0 for p in told)
    assert told[-1].seconds_left == 0


def test_cancel_between_batches() -> None:
    done: list[Progress] = []
    with pytest.raises(Cancelled):
        run(volume_on(STRAIGHT), Sampling(), batch=2, report=done.append,
            stop=lambda: len(done) == 2)  # fmt: skip
    assert done[-1].done == 4


class ScarceMemory:
    """A network that runs out of memory above a number of pixels or of decoded tokens."""

    def __init__(self, pixels: int, tokens: int | None = None) -> None:
        self.pixels, self.tokens = pixels, tokens

    def __call__(self, slices: Tensor, chunk: int | None = None) -> Tensor:
        pixels = slices.shape[0] * slices.shape[2] * slices.shape[3]
        if pixels > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        if self.tokens is not None and (chunk is None or chunk > self.tokens):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return threshold(slices)


def test_memory_running_out_halves_the_batch_and_says_so() -> None:
    volume = volume_on(STRAIGHT)
    description = describe("a", "b", sampling=Sampling(), intensity=UNCHANGED)
    result = predict(volume, description, ScarceMemory(3 * 480), CPU, batch=8)
    np.testing.assert_array_equal(result.label_map, thresholded(volume.channels[0]))
    assert [note.split(": ")[1] for note in result.notes] == [
        "4 slice(s) at a time instead",
        "2 slice(s) at a time instead",
    ]


def test_memory_running_out_at_one_slice_decodes_fewer_tokens() -> None:
    grid = Grid((320, 320, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    volume = volume_on(grid)
    description = describe("a", "b", sampling=Sampling(), intensity=UNCHANGED)
    result = predict(volume, description, ScarceMemory(10**9, tokens=100), CPU, batch=1)
    np.testing.assert_array_equal(result.label_map, thresholded(volume.channels[0]))
    assert result.notes == ["memory ran out: decoding 64 tokens at a time instead"]


def test_too_large_a_slice_is_an_error_that_names_the_size_that_fits() -> None:
    grid = Grid((320, 320, 2), (0.5, 0.5, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    description = describe("a", "b", sampling=Sampling(), intensity=UNCHANGED)
    with pytest.raises(MedDINOv3Error) as caught:
        predict(volume_on(grid), description, ScarceMemory(170 * 170), CPU, batch=1)
    assert caught.value.code == "out-of-memory"
    assert "320 x 320 pixels" in caught.value.message
    assert "160 x 160 pixels fit" in caught.value.remedy
    assert "80 x 80 mm" in caught.value.remedy


def test_other_errors_are_not_taken_for_memory() -> None:
    def broken(slices: Tensor, chunk: int | None = None) -> Tensor:
        raise RuntimeError("shape mismatch")

    description = describe("a", "b", sampling=Sampling(), intensity=UNCHANGED)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        predict(volume_on(STRAIGHT), description, broken, CPU)


def test_time_is_booked_to_phases() -> None:
    seconds = run(volume_on(STRAIGHT), Sampling()).seconds
    assert list(seconds) == ["intensities", "resample", "network", "decide", "place"]
    assert predictor.TOKENS_AT_ONCE.keys() == {"cpu", "cuda", "mps"}


def test_a_region_that_nobody_asked_for_covers_none_that_was_asked_for() -> None:
    labels = (Label("whole", 1, (1, 1, 1)), Label("core", 3, (2, 2, 2)))
    logits = torch.tensor([[[[1.0, 1.0, -1.0]], [[-1.0, 1.0, -1.0]]]])
    assert decide(logits, labels, True, labels[:1]).tolist() == [[[1, 1, 0]]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_change_nothing_elsewhere(value: float) -> None:
    description = describe("a", "b", intensity=IntensityScheme("zscore", mask="nonzero_box"))
    network = random_network(description)
    clean = volume_on(STRAIGHT, dtype=np.float32)
    spoilt = clean.channels[0].copy()
    spoilt[4, 5, 6] = clean.channels[0].min()
    expected = predict(Volume((spoilt.copy(),), STRAIGHT), description, network, CPU)
    spoilt[4, 5, 6] = value
    found = predict(Volume((spoilt,), STRAIGHT), description, network, CPU)
    assert (found.label_map != expected.label_map).mean() < 0.01  # statistics lack one voxel
    assert found.label_map.any()
    assert any("1 voxel(s)" in note for note in found.notes)
    assert not expected.notes


def test_a_scan_without_any_number_is_refused() -> None:
    empty = Volume((np.full(STRAIGHT.shape, np.nan, np.float32),), STRAIGHT)
    description = describe("a", "b")
    with pytest.raises(MedDINOv3Error) as caught:
        predict(empty, description, random_network(description), CPU)
    assert caught.value.code == "no-numbers"


def test_logits_on_the_scans_grid_are_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model coarser than the scan has small network slices and large logits."""
    largest, real = [], predictor.plane.to_scan

    def watched(logits: Tensor, size: tuple[int, int]) -> Tensor:
        result = real(logits, size)
        largest.append(result.numel())
        return result

    monkeypatch.setattr(predictor.plane, "to_scan", watched)
    grid = Grid((512, 512, 40), (0.75, 0.75, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    names = [f"label {n}" for n in range(60)]
    description = describe(*names, sampling=Sampling(spacing=(6.0, 6.0), patch=(64, 64)))
    volume = Volume((np.zeros(grid.shape, np.int16),), grid)

    def network(slices: Tensor, chunk: int | None = None) -> Tensor:
        return torch.zeros(len(slices), 61, *slices.shape[-2:])

    predict(volume, description, network, CPU)
    assert sum(largest) == 40 * 61 * 512 * 512
    assert max(largest) <= max(predictor.VALUES_DECIDED, 61 * 512 * 512)
