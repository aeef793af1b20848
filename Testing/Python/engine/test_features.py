"""Tokens of a scan: where they lie, that they are the backbone's, and where they are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, describe, make_bundle, random_grid
from meddinov3.backbone_file import write_backbone
from meddinov3.description import BackboneDescription
from meddinov3.errors import Cancelled, MedDINOv3Error
from meddinov3.features.encoder import Encoder, load_encoder, wrap_backbone
from meddinov3.features.encoding import open_tokens
from meddinov3.features.explorer import Explorer
from meddinov3.features.grid import FeatureGrid, orientation_along
from meddinov3.features.storage import InFile, InMemory, TokenStore
from meddinov3.grid import Grid, SliceOrientation
from meddinov3.intensity import IntensityScheme
from meddinov3.network.backbone import Backbone, BackboneShape
from meddinov3.network.segmenter import first_member
from meddinov3.segmentation import load_model
from meddinov3.volume import Volume

NAME = "vit_tiny_patch16_dinov3_qkvb"
AXIAL = Grid((40, 32, 6), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return wrap_backbone(Backbone(BackboneShape(NAME, 1, TINY), layer_scale=1.0))


def scan(grid: Grid = AXIAL, seed: int = 0, modality: str = "MR") -> Volume:
    values = np.random.default_rng(seed).normal(100, 20, grid.shape)
    return Volume((values.astype(np.float32),), grid, modality)


def test_tokens_are_those_the_backbone_gives_for_the_normalised_slice(encoder: Encoder) -> None:
    volume = scan()
    tokens = open_tokens(volume, encoder, pixels=40)
    assert tokens.where.size == (32, 40) and tokens.where.tokens == (2, 3)
    values = volume.channels[0][2]
    normal = (values - volume.channels[0].mean()) / volume.channels[0].std()
    padded = np.pad(normal, ((0, 0), (0, 8)))
    expected = encoder.backbone(torch.from_numpy(padded).float()[None, None])
    found = tokens.slices([2]).reshape(1, 6, -1)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)  # kept in float16


def test_slices_do_not_depend_on_what_was_encoded_before(encoder: Encoder) -> None:
    first, second = (open_tokens(scan(), encoder, pixels=64) for _ in range(2))
    first.encode()
    found = second.slices([4, 1])
    torch.testing.assert_close(first.slices([4, 1]), found, rtol=2e-3, atol=2e-3)
    assert torch.equal(second.slices([1]), found[1:])
    assert second.ready(4) and not second.ready(0)


@pytest.mark.parametrize("seed", range(6))
def test_a_voxel_lies_at_its_own_token_on_any_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = random_grid(seed)
    orientation = orientation_along(grid, int(rng.integers(3)))
    view = orientation.view(np.arange(np.prod(grid.shape)).reshape(grid.shape), grid)
    box = tuple(slice(n // 4, n) for n in view.shape)
    where = FeatureGrid(grid, orientation, box, (64, 48))  # type: ignore[arg-type]
    number, row, column = (int(rng.integers(part.start, part.stop)) for part in box)
    index = np.array(np.unravel_index(view[number, row, column], grid.shape))[::-1]
    point = grid.to_patient(index.astype(float))
    found = where.token_at(point)
    rows, columns = where.plane
    assert found[0] == number and where.holds(point)
    assert found[1] == pytest.approx((row - box[1].start + 0.5) / rows * 4 - 0.5)
    assert found[2] == pytest.approx((column - box[2].start + 0.5) / columns * 3 - 0.5)
    axis, _ = where.slice_axis
    array_index = int(index[::-1][axis])
    assert where.number_of(array_index) == number and where.number_of(number) == array_index
    assert not where.holds(point + 1000)


def test_maps_of_a_coordinate_come_back_as_the_coordinate() -> None:
    where = FeatureGrid(AXIAL, SliceOrientation(), (slice(0, 6), slice(0, 32), slice(0, 40)),
                        (80, 100))  # fmt: skip
    assert where.tokens == (5, 7) and where.token_spacing == pytest.approx((6.4, 6.4))
    rows = torch.arange(5.0)[:, None].expand(5, 7)
    values = where.to_slice(rows[None, None])[0, 0]
    expected = (np.arange(32) + 0.5) / 32 * 5 - 0.5
    np.testing.assert_allclose(values[:, 3], expected.clip(0, 4), atol=1e-5)


def test_averaging_over_tokens_counts_only_the_box() -> None:
    where = FeatureGrid(AXIAL, SliceOrientation(), (slice(0, 6), slice(0, 32), slice(0, 40)),
                        (32, 40))  # fmt: skip
    values = torch.zeros(1, 1, 32, 40)
    values[..., 32:] = 1.0  # fills the last token column, half of which lies beyond the box
    np.testing.assert_allclose(where.to_tokens(values)[0, 0], [[0, 0, 1]] * 2, atol=1e-6)


def test_the_finest_plane_of_a_thick_scan_is_encoded(encoder: Encoder) -> None:
    sagittal = Grid((8, 64, 48), (5.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    tokens = open_tokens(scan(sagittal), encoder, pixels=64)
    assert tokens.where.slice_axis == (2, False)
    assert tokens.where.plane == (48, 64) and len(tokens.where.numbers) == 8


def test_pixels_are_not_finer_than_an_eighth_of_a_voxel(encoder: Encoder) -> None:
    assert open_tokens(scan(), encoder, pixels=2048).where.size == (256, 320)


def test_computed_tensors_within_budget_stay_in_memory_and_others_go_to_a_file(
    encoder: Encoder, tmp_path: Path
) -> None:
    kept = open_tokens(scan(), encoder, pixels=64, store=TokenStore(2**20, 2**30, tmp_path))
    filed = open_tokens(scan(), encoder, pixels=64, store=TokenStore(0, 2**30, tmp_path))
    assert kept.folder is None and filed.folder is not None
    assert torch.equal(kept.slices([0, 5]), filed.slices([0, 5]))
    assert torch.equal(filed.slices([5]), kept.slices([5]))
    folder = filed.folder
    filed.close()
    assert not folder.exists()


def test_the_oldest_scan_gives_way_and_too_large_a_one_is_refused(tmp_path: Path) -> None:
    shape, device = (2, 2, 8), torch.device("cpu")  # 64 bytes a slice
    store = TokenStore(2 * 640, 700, tmp_path)
    first, second = (store.open(10, shape, device) for _ in range(2))
    first.put(0, torch.ones(shape).half())
    third = store.open(10, shape, device)
    assert isinstance(third, InMemory)
    assert not store.holds(first) and store.holds(second) and not first.has(0)
    full = TokenStore(0, 700, tmp_path)
    assert isinstance(full.open(10, shape, device), InFile)
    with pytest.raises(MedDINOv3Error, match="GiB may be used") as refused:
        full.open(11, shape, device)
    assert refused.value.code == "disk-full"
    full.close()
    assert not list(tmp_path.iterdir())


def test_what_was_encoded_before_a_cancel_is_kept(encoder: Encoder) -> None:
    tokens = open_tokens(scan(), encoder, pixels=512)
    asked = iter([False, True])
    with pytest.raises(Cancelled):
        tokens.encode(stop=lambda: next(asked))
    assert tokens.ready(0) and not tokens.ready(5)


def test_memory_running_out_halves_the_batch_and_one_slice_is_the_end(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = open_tokens(scan(), encoder, pixels=64)
    computed, largest = tokens._computed, 2

    def small(numbers: list[int]) -> torch.Tensor:
        if len(numbers) > largest:
            raise MemoryError
        return computed(numbers)

    monkeypatch.setattr(tokens, "_computed", small)
    tokens.encode()
    assert all(map(tokens.ready, range(6)))
    again = open_tokens(scan(), encoder, pixels=64)
    monkeypatch.setattr(again, "_computed", small)
    largest = 0
    with pytest.raises(MedDINOv3Error, match="does not fit into memory"):
        again.encode()


def test_a_model_s_backbone_encodes_as_in_the_model(own_home: Path) -> None:
    folder = own_home / "models" / "own"
    make_bundle(folder, describe("one"))
    model = load_model("own", "cpu")
    encoder = load_encoder("own", "cpu")
    inside = first_member(model.network).backbone  # type: ignore[arg-type]
    for key, value in inside.state_dict().items():
        assert torch.equal(encoder.backbone.state_dict()[key], value)
    assert encoder.identity == load_encoder("own", "cpu").identity


def test_without_any_download_the_starter_s_backbone_serves() -> None:
    assert load_encoder(device="cpu").name == "hippocampus-mr-tiny"


def test_a_backbone_file_is_preferred_and_takes_grey_slices(own_home: Path) -> None:
    torch.manual_seed(0)
    rgb = Backbone(BackboneShape(NAME, 3, TINY))
    description = BackboneDescription("small", "Small", NAME, 3, TINY)
    write_backbone(own_home / "backbones" / "small", description, rgb.state_dict())
    encoder = load_encoder(device="cpu")
    assert encoder.name == "small" and encoder.scheme is None
    grey = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(
        encoder.backbone(grey), rgb.eval()(grey.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5
    )


def test_ct_is_told_in_hounsfield_units_and_mr_by_itself() -> None:
    backbone = Backbone(BackboneShape(NAME, 1, TINY))
    encoder = wrap_backbone(backbone)
    assert encoder.scheme_for("CT") == IntensityScheme.meddinov3_ct()
    assert encoder.scheme_for("MR").kind == "zscore"


@pytest.mark.parametrize("pixels", [8, 10**6])
def test_senseless_pixels_are_refused(encoder: Encoder, pixels: int) -> None:
    with pytest.raises(MedDINOv3Error, match="cannot be encoded"):
        open_tokens(scan(), encoder, pixels=pixels)


def test_likeness_is_full_at_the_point_s_token_and_follows_the_picture(encoder: Encoder) -> None:
    values = np.random.default_rng(0).normal(0, 0.1, (6, 64, 64)).astype(np.float32)
    values[:, :, 32:] += np.indices((6, 64, 32)).sum(0) % 4  # another texture on one side
    grid = Grid((64, 64, 6), (1.0, 1.0, 3.0), (5.0, -7.0, 2.0), np.eye(3))
    explorer = Explorer(open_tokens(Volume((values,), grid), encoder, pixels=256))
    point = grid.to_patient(np.array([45.5, 21.5, 2.0]))  # a token's centre: 4 voxels a token
    found = explorer.similarity(point)
    assert found.shape == (6, 64, 64) and found.dtype == np.int8
    assert found[2, 21:23, 45:47].min() >= 90
    assert found[:, :, 36:].mean() > found[:, :, :28].mean() + 30
    assert np.array_equal(explorer.similarity(point, [2])[0], found[2])
    with pytest.raises(MedDINOv3Error, match="outside"):
        explorer.similarity(point + 500)


def test_colours_tell_textures_apart_and_are_the_same_each_time(encoder: Encoder) -> None:
    values = np.random.default_rng(0).normal(0, 0.1, (6, 64, 64)).astype(np.float32)
    values[:, :, 32:] += np.indices((6, 64, 32)).sum(0) % 4
    grid = Grid((64, 64, 6), (1.0, 1.0, 3.0), (5.0, -7.0, 2.0), np.eye(3))
    volume = Volume((values,), grid)
    first, second = (Explorer(open_tokens(volume, encoder, pixels=128)) for _ in range(2))
    found = first.colours()
    assert found.shape == (6, 64, 64, 3) and found.dtype == np.uint8
    assert np.array_equal(second.colours([3, 0]), found[[3, 0]])
    sides = found[..., 0].astype(int)
    assert abs(sides[:, :, 40:].mean() - sides[:, :, :24].mean()) > 100
