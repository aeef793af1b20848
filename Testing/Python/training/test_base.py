"""What fine-tuning starts from, and what of it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, describe, make_bundle
from meddinov3.bundle import read_bundle
from meddinov3.errors import MedDINOv3Error
from meddinov3.network.backbone import BackboneShape
from meddinov3.network.segmenter import Segmenter
from meddinov3_training.base import Base, base_offsets, read_base
from torch import Tensor

NARROW = "vit_tiny_patch16_dinov3_qkvb"


def network_for(base: Base, in_channels: int, outputs: int, seed: int = 5) -> Segmenter:
    """A fresh network as fine-tuning builds it, with DINOv3's own positions."""
    torch.manual_seed(seed)
    described = base.network
    shape = BackboneShape(
        described.backbone,
        in_channels,
        dict(described.overrides),
        described.norm_eps,
        described.rope_precision,
    )
    return Segmenter(shape, outputs, layer_scale=base.layer_scale).eval()


def copy_of(network: Segmenter) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


# From nothing.


def test_scratch_leaves_the_network_at_random(tmp_path: Path) -> None:
    base = read_base(f"scratch:{NARROW}", 1)
    assert base.network.backbone == NARROW
    assert base.network.backbone_source == "random initialisation"
    assert base.backbone_rate == 3e-4
    network = network_for(base, 1, 3)
    gammas = [v for n, v in network.named_parameters() if n.endswith(("gamma_1", "gamma_2"))]
    assert gammas
    assert all((gamma == 1).all() for gamma in gammas), "1e-5 would take long to wake up"
    before = copy_of(network)
    assert base.load_into(network, ["a", "b"]) == []
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_scratch_with_an_unknown_name_is_refused() -> None:
    base = read_base("scratch:resnet50", 1)
    with pytest.raises(MedDINOv3Error) as caught:
        network_for(base, 1, 2)
    assert caught.value.code == "unknown-backbone"


# From a backbone file.


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_backbone_file_gives_the_reference_features(data: Path, channels: int) -> None:
    """C equal channels see what one sees; the numbers are those of the published code."""
    folder = data / "reference_checkpoints"
    base = read_base(str(folder / "model.pth"), channels)
    network = network_for(base, channels, 4)
    assert base.load_into(network, ["a", "b"]) == []
    expected = np.load(folder / "expected.npz")
    slices = torch.from_numpy(expected["x"]).repeat(1, channels, 1, 1)
    with torch.inference_mode():
        tokens = network.backbone(slices)
    features = tokens.transpose(1, 2).reshape(2, -1, 4, 6).numpy()
    np.testing.assert_allclose(features, expected["features_rope_fp32"], atol=1e-4)
    assert np.std(features) > 0.1


def test_backbone_file_leaves_the_decoder_at_random(data: Path) -> None:
    base = read_base(str(data / "reference_checkpoints" / "model.pth"), 1)
    network = network_for(base, 1, 4)
    before = copy_of(network)
    base.load_into(network, ["a", "b"])
    after = network.state_dict()
    assert all(torch.equal(after[n], before[n]) for n in after if n.startswith("decoder."))
    assert not torch.equal(
        after["backbone.vit.patch_embed.proj.weight"],
        before["backbone.vit.patch_embed.proj.weight"],
    )


def test_backbone_file_is_recorded_without_its_path(data: Path) -> None:
    path = data / "reference_checkpoints" / "model.pth"
    base = read_base(str(path), 1)
    assert base.network.backbone_source == "model.pth"
    again = read_base(str(path), 3)
    assert len(base.network.backbone_hash) == 64
    assert again.network.backbone_hash == base.network.backbone_hash  # of the file's tensors
    assert base.network.norm_eps == 1e-6
    assert base.backbone_rate == 3e-5


def test_files_that_are_no_backbone_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"not a torch file")
    for name, code in (
        ("other.pth", "not-a-backbone"),
        ("broken.pth", "damaged-checkpoint"),
        ("absent.pth", "file-missing"),
        ("no-such-model", "no-model"),
    ):
        with pytest.raises(MedDINOv3Error) as caught:
            read_base(str(tmp_path / name), 1)
        assert caught.value.code == code, name


def test_a_backbone_of_the_catalogue_that_is_not_here() -> None:
    for ask in (lambda: read_base("meddinov3-ct", 1), lambda: base_offsets("meddinov3-ct")):
        with pytest.raises(MedDINOv3Error) as caught:
            ask()
        assert caught.value.code == "not-pulled"
        assert caught.value.remedy.endswith("meddinov3 models pull meddinov3-ct")


def test_flexicts_file_is_imported_first_so_that_its_licence_is_kept(tmp_path: Path) -> None:
    kernel = {"backbone.patch_embed_2D.proj.weight": torch.zeros(144, 1, 8, 8)}
    torch.save({"teacher": kernel}, tmp_path / "ct_2d_teacher.pth")
    with pytest.raises(MedDINOv3Error, match="models import") as caught:
        read_base(str(tmp_path / "ct_2d_teacher.pth"), 1)
    assert caught.value.code == "import-first"


# From another model.


def test_model_with_the_same_labels_is_kept_whole(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "first", describe("a", "b"))
    base = read_base(str(bundle), 1)
    network = network_for(base, 1, 3)
    assert base.load_into(network, ["a", "b"]) == []
    _, original = read_bundle(bundle)
    expected = original.state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert base.network.backbone_source == "model first"
    assert base.network.overrides == TINY


def test_model_is_found_by_its_name(own_home: Path) -> None:
    bundle = make_bundle(own_home / "models" / "mine", describe("a"))
    expected = read_bundle(bundle)[1].backbone.state_dict()
    base = read_base("mine", 1)
    assert base.network.backbone_source == "model mine"
    assert all(torch.equal(value, expected[name]) for name, value in base.weights.items())


@pytest.mark.parametrize("names", [["a"], ["b", "a"], ["c", "d"], ["a", "b", "c"]])
def test_other_labels_restart_the_last_layer_only(tmp_path: Path, names: list[str]) -> None:
    bundle = make_bundle(tmp_path / "first", describe("a", "b"))
    base = read_base(str(bundle), 1)
    network = network_for(base, 1, len(names) + 1)
    before = copy_of(network)
    (note,) = base.load_into(network, names)
    assert "last layer" in note
    expected = read_bundle(bundle)[1].state_dict()
    after = network.state_dict()
    for name, value in after.items():
        restarted = name.startswith("decoder.classify.")
        assert torch.equal(value, (before if restarted else expected)[name]), name


def test_training_does_not_change_the_base(tmp_path: Path) -> None:
    base = read_base(str(make_bundle(tmp_path / "first", describe("a", "b"))), 1)
    kept = {name: value.clone() for name, value in (*base.weights.items(), *base.decoder.items())}
    network = network_for(base, 1, 3)
    base.load_into(network, ["a", "b"])
    assert all(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1
    for name, value in (*base.weights.items(), *base.decoder.items()):
        assert torch.equal(value, kept[name]), name


def test_model_with_other_context_is_refused(tmp_path: Path) -> None:
    base = read_base(str(make_bundle(tmp_path / "first", describe("a", "b"))), 3)
    network = network_for(base, 3, 3)
    before = copy_of(network)
    with pytest.raises(MedDINOv3Error, match=r"patch_embed") as caught:
        base.load_into(network, ["a", "b"])
    assert caught.value.code == "base-does-not-fit"
    assert "context" in caught.value.remedy
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} was changed by a refused base"
