"""Which patches are drawn: structures often enough, rare ones too, sides never swapped."""

from __future__ import annotations

import itertools
import math
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from cached_cases import STILL, cache_case, dataset_of, fingerprint_of
from conftest import describe
from meddinov3.description import Channel, ModelDescription, Sampling
from meddinov3.grid import SliceOrientation
from meddinov3.intensity import IntensityScheme
from meddinov3.volume import Volume, volume_of
from meddinov3_training import samples
from meddinov3_training.augmentation import NNUNET, ORIENTED, Augmentation
from meddinov3_training.cache import CachedCase
from meddinov3_training.plan import make_plan
from meddinov3_training.samples import Samples, loader, measure_loader
from torch import Tensor

MakeCase = Callable[[np.ndarray, ModelDescription], CachedCase]


def model(
    patch: tuple[int, int], spacing: tuple[float, float] = (1.0, 1.0), ignore: int | None = None
) -> ModelDescription:
    described = describe("a", "b", sampling=Sampling(spacing=spacing, patch=patch))
    return ModelDescription(**{**vars(described), "ignore_label": ignore})


@pytest.fixture
def case_of(tmp_path: Path) -> MakeCase:
    """Caches a case whose scan is its label map."""
    number = itertools.count()

    def make(labels: np.ndarray, description: ModelDescription) -> CachedCase:
        folder = tmp_path / str(next(number))
        return cache_case(folder, [labels.astype(np.float32)], labels, description)

    return make


def draw(drawn: Samples, count: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Samples first, first + 1, ..., stacked."""
    images, labels = zip(*(drawn[n] for n in range(first, first + count)), strict=True)
    return torch.stack(images), torch.stack(labels)


def share(drawn: Samples, value: int, count: int = 300) -> float:
    _, labels = draw(drawn, count)
    return float((labels == value).flatten(1).any(dim=1).float().mean())


def test_a_patch_shows_image_and_labels_of_the_same_place(case_of: MakeCase) -> None:
    """The image is the label map itself, standardised: both must agree pixel by pixel."""
    labels = np.zeros((6, 40, 50), dtype=np.uint8)
    labels[:, 8:30, 5:25], labels[2:, 12:20, 30:44] = 1, 2
    description = model((32, 48), (0.5, 0.5))
    plain = Augmentation(
        rotation=30, rotation_p=0.5, scaling_p=0.5, shift=8, noise_p=0, blur_p=0, brightness_p=0,
        contrast_p=0, low_resolution_p=0, gamma_inverted_p=0, gamma_p=0,
    )  # fmt: skip
    images, cut = draw(Samples([case_of(labels, description)], description, plain, 0), 40)
    assert images.shape == (40, 1, 32, 48)
    assert images.dtype == torch.float32
    assert cut.shape == (40, 32, 48)
    assert cut.dtype == torch.int64
    restored = images[:, 0] * labels.std() + labels.mean()
    shown = restored.round().clip(0, 2)
    agree = (shown == cut).float().mean(dim=(1, 2))
    assert agree.min() > 0.85  # not at edges, where a value of 2 falls to 0 through 1
    assert {0, 1, 2} == set(cut.unique().tolist())


@pytest.mark.parametrize("augmentation", [NNUNET, ORIENTED], ids=["nnunet", "oriented"])
def test_a_third_of_the_patches_show_a_rare_structure(
    case_of: MakeCase, augmentation: Augmentation
) -> None:
    labels = np.zeros((400, 96, 96), dtype=np.uint8)
    labels[31, 40:46, 50:55] = 1
    description = model((32, 32))
    drawn = Samples([case_of(labels, description)], description, augmentation, 0)
    # By chance it is in one of 400 slices and at most one patch in nine shows it there, so that
    # 600 draws show it 200 times, give or take sqrt(600 * 1/3 * 2/3) = 11.5; five of these.
    assert share(drawn, 1, 600) == pytest.approx(1 / 3, abs=5 * 11.5 / 600)


@pytest.mark.parametrize("patch", [(32, 32), (16, 48)])
@pytest.mark.parametrize("corner", ["middle", "edge"])
def test_a_forced_patch_shows_its_structure(
    case_of: MakeCase, corner: str, patch: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "FOREGROUND_SHARE", 1.0)
    labels = np.zeros((20, 96, 96), dtype=np.uint8)
    at = slice(40, 46) if corner == "middle" else slice(0, 6)
    labels[7, at, at] = 1
    description = model(patch)
    for augmentation in (NNUNET, ORIENTED):
        drawn = Samples([case_of(labels, description)], description, augmentation, 0)
        assert share(drawn, 1, 150) == 1


def test_rare_structures_are_drawn_as_often_as_common_ones(
    case_of: MakeCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "FOREGROUND_SHARE", 1.0)
    common, both = np.zeros((2, 30, 64, 64), dtype=np.uint8)
    common[:, 10:16, 10:50] = 1
    both[:, 10:16, 10:50] = 1
    both[4, 52:56, 30:34] = 2  # one slice of one case in four
    description = model((16, 16))
    cases = [case_of(m, description) for m in (common, common, common, both)]
    drawn = Samples(cases, description, STILL, 0)
    # A 16 pixel patch over the bar of the first does not reach the second, 36 rows below.
    # 300 draws: 150 each, give or take 8.7.
    assert share(drawn, 1) == pytest.approx(0.5, abs=0.12)
    assert share(drawn, 2) == pytest.approx(0.5, abs=0.12)


def test_all_slices_and_places_are_seen_without_structures(tmp_path: Path) -> None:
    slices = np.arange(5 * 40 * 40, dtype=np.float32).reshape(5, 40, 40)
    described = model((16, 16))
    fixed = (Channel("MR", IntensityScheme("fixed")),)
    description = ModelDescription(**{**vars(described), "channels": fixed})
    empty = np.zeros(slices.shape, dtype=np.uint8)
    case = cache_case(tmp_path, [slices], empty, description)
    images, labels = draw(Samples([case], description, STILL, 0), 200)
    assert (labels == 0).all()
    number, place = np.divmod(images[:, 0, 8, 8].round().numpy(), 1600)
    counts = np.bincount(number.astype(int), minlength=5)
    assert (counts > 20).all(), "each of five slices is expected forty times"
    rows, columns = np.divmod(place, 40)
    for along in (rows, columns):  # middles of patches that fit: 7.5 to 31.5
        assert along.min() < 10
        assert along.max() > 29


def test_voxels_without_annotation_do_not_count_as_a_structure(
    case_of: MakeCase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(samples, "FOREGROUND_SHARE", 1.0)
    labels = np.zeros((20, 64, 64), dtype=np.uint8)
    labels[3, 30:36, 30:36] = 1
    labels[4:, :8] = 9
    description = model((16, 16), ignore=9)
    drawn = Samples([case_of(labels, description)], description, STILL, 0)
    assert share(drawn, 1) == 1
    monkeypatch.setattr(samples, "FOREGROUND_SHARE", 0.0)
    assert share(drawn, 9) > 0.05, "they stay in the label maps, for the loss to leave out"


# The same numbers anywhere.


def mixed(case_of: MakeCase, patch: tuple[int, int] = (32, 32), seed: int = 0) -> Samples:
    """Samples of two cases of noise, every kind of change among them."""
    random = np.random.default_rng(0)
    description = model(patch)
    cases = [
        case_of(random.integers(0, 3, (8, 40, 40)).astype(np.uint8), description) for _ in range(2)
    ]
    return Samples(cases, description, NNUNET, seed)


def test_a_sample_follows_from_seed_and_number_alone(case_of: MakeCase) -> None:
    first = mixed(case_of, seed=3)
    forwards = [first[n] for n in range(12)]
    here, there = multiprocessing.Pipe()
    with here, there:
        here.send(first)
        again = there.recv()  # as another process gets it
    backwards = [again[n] for n in reversed(range(12))][::-1]
    for (image, label), (image2, label2) in zip(forwards, backwards, strict=True):
        assert torch.equal(image, image2)
        assert torch.equal(label, label2)
    assert len({float(image.sum()) for image, _ in forwards}) == 12, "samples differ"


def test_seeds_differ_whatever_their_sign(case_of: MakeCase) -> None:
    sums = {float(mixed(case_of, seed=seed)[5][0].sum()) for seed in (0, 1, -1, 2**63)}
    assert len(sums) == 4


def test_a_very_late_sample_can_be_drawn(case_of: MakeCase) -> None:
    assert torch.isfinite(mixed(case_of)[10**15][0]).all()


def test_batches_are_the_same_in_one_process_or_two(case_of: MakeCase) -> None:
    """Large patches, where sums over pixels would depend on the number of threads."""
    drawn = mixed(case_of, (256, 256))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        here = list(loader(drawn, 4, 8, 3, 0))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    elsewhere = list(loader(drawn, 4, 8, 3, 2))
    assert len(here) == len(elsewhere) == 3
    for (images, labels), (images2, labels2) in zip(here, elsewhere, strict=True):
        assert images.shape == (4, 1, 256, 256)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert torch.equal(images, images2)
        assert torch.equal(labels, labels2)


def test_a_loader_goes_on_where_another_stopped(case_of: MakeCase) -> None:
    drawn = mixed(case_of)
    through = list(loader(drawn, 3, 0, 4, 0))
    for (images, labels), (images2, labels2) in zip(
        through[2:], loader(drawn, 3, 2 * 3, 2, 0), strict=True
    ):
        assert torch.equal(images, images2)
        assert torch.equal(labels, labels2)


def test_an_endless_loader_can_be_left(
    case_of: MakeCase, capfd: pytest.CaptureFixture[str]
) -> None:
    batches = loader(mixed(case_of, (128, 128)), 8, 0, None, 2)
    for _ in range(3):
        next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert capfd.readouterr().err == "", "workers must not crash on their way out"


def test_drawing_does_not_touch_the_global_generators(case_of: MakeCase) -> None:
    drawn = mixed(case_of)
    torch.manual_seed(5)
    np.random.seed(6)
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()
    for _ in loader(drawn, 10, 0, 2, 0):
        pass
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before[1])
    assert np.random.get_state()[2:] == numpy_before[2:]


def test_neighbouring_slices_reach_the_network_together(tmp_path: Path) -> None:
    """Slices of 0, 10, 20, ...: a patch shows its own and the two beside it."""
    scan = np.broadcast_to(10 * np.arange(7, dtype=np.float32)[:, None, None], (7, 24, 24))
    described = describe("a", sampling=Sampling(
        spacing=(1.0, 1.0), patch=(16, 16), slice_offsets=(-3.0, 0.0, 3.0)
    ))  # fmt: skip
    fixed = (Channel("MR", IntensityScheme("fixed")),)
    description = ModelDescription(**{**vars(described), "channels": fixed})
    case = cache_case(tmp_path, [scan], np.zeros(scan.shape, np.uint8), description)
    images, _ = draw(Samples([case], description, STILL, 0), 30)
    before, own, after = images[:, :, 8, 8].round().T
    assert set(own.tolist()) == {0, 10, 20, 30, 40, 50, 60}
    assert torch.equal(before, (own - 10).clip(min=0))
    assert torch.equal(after, (own + 10).clip(max=60))


def test_rates_are_measured(case_of: MakeCase) -> None:
    rate = measure_loader(mixed(case_of, (16, 16)), 4, 0, 0.2)
    assert 1 < rate < math.inf


# Mirroring. The three channels of a scan are its patient coordinates, so a patch shows which
# way its rows and columns run.


def coordinates(stored: str, thick: str) -> tuple[Volume, np.ndarray]:
    """A scan stored in any orientation whose channels are left, posterior and superior mm."""
    sizes = {"L": 40, "P": 44, "S": 36}
    spacing = tuple(6.0 if letter == thick else 1.0 for letter in "LPS")
    shape = tuple(sizes[letter] // (6 if letter == thick else 1) for letter in "SPL")
    steps = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij")
    channels = []
    for array, step in zip(reversed(steps), spacing, strict=True):
        image = sitk.GetImageFromArray(array * step)
        image.SetSpacing(spacing)
        channels.append(volume_of(sitk.DICOMOrient(image, stored)))
    volume = Volume(tuple(v.channels[0] for v in channels), channels[0].grid)
    found = (volume.channels[0] > 10) & (volume.channels[0] < 20)
    return volume, found.astype(np.uint8)


def directions(
    folder: Path, stored: str, thick: str, *names: str
) -> tuple[SliceOrientation, set[tuple[bool, ...]]]:
    """Which ways (left along columns or rows, and so on) the patches of a plan run.

    Returns:
        The plan's orientation; for each patch whether its coordinates rise along the axes of
        (rows, columns).
    """
    volume, labels = coordinates(stored, thick)
    dataset = dataset_of(*names, channels=("noNorm",) * 3)
    plan = make_plan(dataset, fingerprint_of(dataset, [volume], [labels]), spacing=(1.0, 1.0))
    described = describe(*names, channels=("x", "y", "z"), sampling=plan.sampling)
    description = ModelDescription(**{**vars(described), "channels": plan.channels})
    case = cache_case(folder, volume.channels, labels, description, volume.grid)
    images, _ = draw(Samples([case], description, ORIENTED, 0), 60)
    inner = images[..., 16:-16, 16:-16]
    rows, columns = ("LPS".index(letter) for letter in plan.sampling.orientation.letters[1:])
    down = inner[:, rows].diff(dim=-2).mean(dim=(-1, -2))
    right = inner[:, columns].diff(dim=-1).mean(dim=(-1, -2))
    found = set(zip((down > 0).tolist(), (right > 0).tolist(), strict=True))
    return plan.sampling.orientation, found


@pytest.mark.parametrize("stored", ["LPS", "RAS", "LAS", "SPR", "AIL"])
def test_sides_are_never_swapped_where_names_know_them(tmp_path: Path, stored: str) -> None:
    orientation, found = directions(tmp_path, stored, "S", "Left kidney", "right kidney")
    assert orientation.letters == ("S", "P", "L")
    assert found == {(True, True)}


@pytest.mark.parametrize("stored", ["LPS", "RAS", "LAS", "SPR", "AIL"])
def test_without_sides_patches_are_mirrored_left_right_only(tmp_path: Path, stored: str) -> None:
    _, found = directions(tmp_path, stored, "S", "kidney", "liver")
    assert found == {(True, True), (True, False)}  # rows run to the back, always


def test_coronal_slices_are_mirrored_left_right_only(tmp_path: Path) -> None:
    orientation, found = directions(tmp_path, "LPS", "P", "kidney")
    assert orientation.letters == ("P", "S", "L")
    assert found == {(True, True), (True, False)}


def test_sagittal_slices_are_never_mirrored(tmp_path: Path) -> None:
    orientation, found = directions(tmp_path, "RAS", "L", "kidney")
    assert orientation.letters == ("L", "S", "P")
    assert found == {(True, True)}
