"""Which patches are drawn: structures often enough, rare ones too, sides never swapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import describe
from meddinov3.description import Channel, ModelDescription, Sampling
from meddinov3.grid import Grid, SliceOrientation
from meddinov3.intensity import IntensityScheme
from meddinov3.labels import Label, default_colour
from meddinov3.volume import Volume, volume_of
from meddinov3_training import samples
from meddinov3_training.augmentation import Augmentation
from meddinov3_training.dataset import Case, Dataset
from meddinov3_training.plan import make_plan
from meddinov3_training.samples import PatchSampler, PreparedCase, prepare

STILL = Augmentation(
    rotation_p=0, scaling_p=0, shift=0, noise_p=0, blur_p=0, brightness_p=0,
    contrast_p=0, low_resolution_p=0, gamma_p=0,
)  # fmt: skip


def straight(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Grid:
    """A grid in LPS order; `shape` (k, j, i), `spacing` (i, j, k)."""
    return Grid(shape[::-1], spacing, (0.0, 0.0, 0.0), np.eye(3))


def model(
    patch: tuple[int, int], spacing: tuple[float, float] = (1.0, 1.0), ignore: int | None = None
) -> ModelDescription:
    described = describe("a", "b", sampling=Sampling(spacing=spacing, patch=patch))
    return ModelDescription(**{**vars(described), "ignore_label": ignore})


def case_of(labels: np.ndarray, description: ModelDescription) -> PreparedCase:
    volume = Volume((labels.astype(np.float32),), straight(labels.shape, (1.0, 1.0, 3.0)))
    return prepare(volume, labels, description)


def share(sampler: PatchSampler, value: int, count: int = 300) -> float:
    _, labels = sampler.batch(count)
    return float((labels == value).flatten(1).any(dim=1).float().mean())


def test_a_case_is_seen_as_the_model_wants_it() -> None:
    labels = np.zeros((4, 5, 6), dtype=np.uint8)
    labels[1, 2, 3], labels[3, 0, 0], labels[2, 4, 5] = 1, 2, 9
    flipped = Grid((6, 5, 4), (0.5, 0.7, 3.0), (0.0, 0.0, 0.0), np.diag([-1.0, 1.0, -1.0]))
    volume = Volume((labels.astype(np.float32),), flipped)
    case = prepare(volume, labels, model((16, 16), ignore=9))
    np.testing.assert_array_equal(case.labels, labels[::-1, :, ::-1])
    assert case.spacing == (0.7, 0.5)
    assert {v: found.tolist() for v, found in case.slices_with.items()} == {1: [2], 2: [0]}


def test_a_patch_shows_image_and_labels_of_the_same_place() -> None:
    """The image is the label map itself, standardised: both must agree pixel by pixel."""
    labels = np.zeros((6, 40, 50), dtype=np.uint8)
    labels[:, 8:30, 5:25], labels[2:, 12:20, 30:44] = 1, 2
    description = model((32, 48), (0.5, 0.5))
    plain = Augmentation(
        noise_p=0, blur_p=0, brightness_p=0, contrast_p=0, low_resolution_p=0, gamma_p=0
    )
    sampler = PatchSampler([case_of(labels, description)], description, plain, 0)
    images, cut = sampler.batch(40)
    assert images.shape == (40, 1, 32, 48)
    assert images.dtype == torch.float32
    assert cut.shape == (40, 32, 48)
    assert cut.dtype == torch.int64
    restored = images[:, 0] * labels.std() + labels.mean()
    shown = restored.round().clip(0, 2)
    agree = (shown == cut).float().mean(dim=(1, 2))
    assert agree.min() > 0.85  # not at edges, where a value of 2 falls to 0 through 1
    assert {0, 1, 2} == set(cut.unique().tolist())


def test_a_third_of_the_patches_show_a_rare_structure() -> None:
    labels = np.zeros((60, 96, 96), dtype=np.uint8)
    labels[31, 40:46, 50:55] = 1
    description = model((32, 32))
    sampler = PatchSampler([case_of(labels, description)], description, Augmentation(), 0)
    # Drawn at random it would be in one of 60 slices and in some ninth of its patches.
    assert share(sampler, 1) > 1 / 3 - 3 * 0.027


@pytest.mark.parametrize("patch", [(32, 32), (16, 48)])
@pytest.mark.parametrize("corner", ["middle", "edge"])
def test_a_forced_patch_shows_its_structure(
    corner: str, patch: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "FOREGROUND_SHARE", 1.0)
    labels = np.zeros((20, 96, 96), dtype=np.uint8)
    at = slice(40, 46) if corner == "middle" else slice(0, 6)
    labels[7, at, at] = 1
    description = model(patch)
    sampler = PatchSampler([case_of(labels, description)], description, Augmentation(), 0)
    assert share(sampler, 1, 150) == 1


def test_rare_structures_are_drawn_as_often_as_common_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "FOREGROUND_SHARE", 1.0)
    common, both = np.zeros((2, 30, 64, 64), dtype=np.uint8)
    common[:, 10:16, 10:50] = 1
    both[:, 10:16, 10:50] = 1
    both[4, 52:56, 30:34] = 2  # one slice of one case in four
    description = model((16, 16))
    cases = [case_of(m, description) for m in (common, common, common, both)]
    sampler = PatchSampler(cases, description, STILL, 0)
    # A 16 pixel patch over the bar of the first does not reach the second, 36 rows below.
    assert share(sampler, 1) == pytest.approx(0.5, abs=0.1)
    assert share(sampler, 2) == pytest.approx(0.5, abs=0.1)


def test_all_slices_and_places_are_seen_without_structures() -> None:
    slices = np.arange(5 * 40 * 40, dtype=np.float32).reshape(5, 40, 40)
    described = model((16, 16))
    fixed = (Channel("MR", IntensityScheme("fixed")),)
    description = ModelDescription(**{**vars(described), "channels": fixed})
    case = prepare(
        Volume((slices,), straight(slices.shape, (1.0, 1.0, 1.0))),
        np.zeros(slices.shape, dtype=np.uint8),
        description,
    )
    images, labels = PatchSampler([case], description, STILL, 0).batch(200)
    assert (labels == 0).all()
    number, place = np.divmod(images[:, 0, 8, 8].round().numpy(), 1600)
    counts = np.bincount(number.astype(int), minlength=5)
    assert (counts > 20).all(), "each of five slices is expected forty times"
    rows, columns = np.divmod(place, 40)
    for along in (rows, columns):  # middles of patches that fit: 7.5 to 31.5
        assert along.min() < 10
        assert along.max() > 29


def test_voxels_without_annotation_do_not_count_as_a_structure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(samples, "FOREGROUND_SHARE", 1.0)
    labels = np.zeros((20, 64, 64), dtype=np.uint8)
    labels[3, 30:36, 30:36] = 1
    labels[4:, :8] = 9
    description = model((16, 16), ignore=9)
    sampler = PatchSampler([case_of(labels, description)], description, STILL, 0)
    assert share(sampler, 1) == 1
    kept = PatchSampler([case_of(labels, description)], description, STILL, 0)
    monkeypatch.setattr(samples, "FOREGROUND_SHARE", 0.0)
    assert share(kept, 9) > 0.05, "they stay in the label maps, for the loss to leave out"


def test_batches_repeat_for_the_same_seed() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (8, 40, 40)).astype(np.uint8)
    description = model((32, 32))
    case = case_of(labels, description)
    samplers = [PatchSampler([case], description, Augmentation(), s) for s in (3, 3, 4)]
    first, again, other = ([s.batch(4) for _ in range(3)] for s in samplers)
    for (image, label), (image2, label2) in zip(first, again, strict=True):
        assert torch.equal(image, image2)
        assert torch.equal(label, label2)
    for (image, label), (image2, label2) in zip(first, other, strict=True):
        assert not torch.equal(image, image2)
        assert not torch.equal(label, label2)
    assert not torch.equal(first[0][0], first[1][0]), "successive batches differ"


def test_drawing_does_not_touch_the_global_generators() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (8, 40, 40)).astype(np.uint8)
    description = model((32, 32))
    sampler = PatchSampler([case_of(labels, description)], description, Augmentation(), 0)
    torch.manual_seed(5)
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    sampler.batch(20)
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


def test_drawing_leaves_the_scan_alone() -> None:
    description = model((16, 16))
    labels = np.random.default_rng(0).integers(0, 3, (5, 20, 20)).astype(np.uint8)
    scan, kept = labels.astype(np.float32), labels.copy()
    case = prepare(Volume((scan,), straight(scan.shape, (1.0, 1.0, 1.0))), labels, description)
    PatchSampler([case], description, Augmentation(), 0).batch(30)
    np.testing.assert_array_equal(scan, kept)
    np.testing.assert_array_equal(labels, kept)


# Mirroring. The three channels of a scan are its patient coordinates, so a patch shows which
# way its rows and columns run.


def coordinates(
    stored: str, thick: str, names: tuple[str, ...]
) -> tuple[Dataset, Volume, np.ndarray]:
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
    labels = tuple(Label(n, v, default_colour(v)) for v, n in enumerate(names, start=1))
    members = tuple((label.value,) for label in labels)
    case = Case("a", (Path("a.nrrd"),), Path("b.nrrd"))
    dataset = Dataset("test", ("noNorm",) * 3, labels, members, False, None, (case,))
    found = (volume.channels[0] > 10) & (volume.channels[0] < 20)
    return dataset, volume, found.astype(np.uint8)


def directions(
    stored: str, thick: str, *names: str
) -> tuple[SliceOrientation, set[tuple[bool, ...]]]:
    """Which ways (left along columns or rows, and so on) the patches of a plan run.

    Returns:
        The plan's orientation; for each patch whether its coordinates rise along the axes of
        (rows, columns).
    """
    dataset, volume, labels = coordinates(stored, thick, names)
    plan = make_plan(dataset, [volume], [labels], spacing=(1.0, 1.0))
    described = describe(*names, channels=("x", "y", "z"), sampling=plan.sampling)
    description = ModelDescription(**{**vars(described), "channels": plan.channels})
    sampler = PatchSampler([prepare(volume, labels, description)], description, Augmentation(), 0)
    images, _ = sampler.batch(60)
    inner = images[..., 16:-16, 16:-16]
    rows, columns = ("LPS".index(letter) for letter in plan.sampling.orientation.letters[1:])
    down = inner[:, rows].diff(dim=-2).mean(dim=(-1, -2))
    right = inner[:, columns].diff(dim=-1).mean(dim=(-1, -2))
    found = set(zip((down > 0).tolist(), (right > 0).tolist(), strict=True))
    return plan.sampling.orientation, found


@pytest.mark.parametrize("stored", ["LPS", "RAS", "LAS", "SPR", "AIL"])
def test_sides_are_never_swapped_where_names_know_them(stored: str) -> None:
    orientation, found = directions(stored, "S", "Left kidney", "right kidney")
    assert orientation.letters == ("S", "P", "L")
    assert found == {(True, True)}


@pytest.mark.parametrize("stored", ["LPS", "RAS", "LAS", "SPR", "AIL"])
def test_without_sides_patches_are_mirrored_left_right_only(stored: str) -> None:
    _, found = directions(stored, "S", "kidney", "liver")
    assert found == {(True, True), (True, False)}  # rows run to the back, always


def test_coronal_slices_are_mirrored_left_right_only() -> None:
    orientation, found = directions("LPS", "P", "kidney")
    assert orientation.letters == ("P", "S", "L")
    assert found == {(True, True), (True, False)}


def test_sagittal_slices_are_never_mirrored() -> None:
    orientation, found = directions("RAS", "L", "kidney")
    assert orientation.letters == ("L", "S", "P")
    assert found == {(True, True)}
