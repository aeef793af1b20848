"""Model bundles: weights that are exactly those described, or a refusal that says why."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import describe, make_bundle, random_network
from meddinov3.bundle import read_bundle, sha256, write_bundle
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import read_description
from safetensors.torch import load_file, save_file
from torch import Tensor

DESCRIPTION = describe("hippocampus", "amygdala")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "models" / "tiny-mr", DESCRIPTION)


def refusal(folder: Path) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        read_bundle(folder)
    assert caught.value.remedy
    return caught.value


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Alter tensors and write the hash anew, as if the bundle had been made so."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    rehash(folder)


def rehash(folder: Path) -> None:
    path = folder / "model.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["weights_sha256"] = sha256(folder / "model.safetensors")
    path.write_text(json.dumps(content), encoding="utf-8")


class TestRoundTrip:
    def test_description_and_logits_come_back(self, tmp_path: Path) -> None:
        network = random_network(DESCRIPTION)
        written = write_bundle(tmp_path / "tiny", DESCRIPTION, network, half=False)
        description, read = read_bundle(tmp_path / "tiny")
        assert description == written
        slices = torch.randn(2, 1, 40, 56)
        with torch.no_grad():
            torch.testing.assert_close(read(slices), network(slices), rtol=0, atol=0)

    def test_halved_weights_are_those_rounded_to_float16(self, bundle: Path) -> None:
        expected = random_network(DESCRIPTION).state_dict()
        stored = load_file(bundle / "model.safetensors")
        _, network = read_bundle(bundle)
        for key, value in network.state_dict().items():
            assert stored[key].dtype == torch.float16
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, expected[key].half().float(), rtol=0, atol=0)

    def test_the_network_is_ready_to_run_and_not_to_train(self, bundle: Path) -> None:
        _, network = read_bundle(bundle)
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())

    def test_the_description_names_the_folder_and_hashes_the_weights(self, bundle: Path) -> None:
        description = read_description(bundle)
        assert description.id == "tiny-mr"
        assert description.weights_sha256 == sha256(bundle / "model.safetensors")
        assert len(description.weights_sha256) == 64

    def test_writing_leaves_the_network_as_it_was(self, tmp_path: Path) -> None:
        network = random_network(DESCRIPTION)
        before = {key: value.clone() for key, value in network.state_dict().items()}
        write_bundle(tmp_path / "tiny", DESCRIPTION, network)
        for key, value in network.state_dict().items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, before[key], rtol=0, atol=0)

    def test_names_and_shapes_of_tensors_are_part_of_the_format(self, bundle: Path) -> None:
        """Width 32, 4 blocks, 3 outputs. A renamed layer would orphan every model out there."""
        block = {
            "gamma_1": (32,), "gamma_2": (32,),
            "norm1.weight": (32,), "norm1.bias": (32,), "norm2.weight": (32,), "norm2.bias": (32,),
            "attn.q_bias": (32,), "attn.v_bias": (32,), "attn.qkv.weight": (96, 32),
            "attn.proj.weight": (32, 32), "attn.proj.bias": (32,),
            "mlp.fc1.weight": (128, 32), "mlp.fc1.bias": (128,),
            "mlp.fc2.weight": (32, 128), "mlp.fc2.bias": (32,),
        }  # fmt: skip
        expected = {
            "backbone.vit.cls_token": (1, 1, 32),
            "backbone.vit.reg_token": (1, 4, 32),
            "backbone.vit.patch_embed.proj.weight": (32, 1, 16, 16),
            "backbone.vit.patch_embed.proj.bias": (32,),
            "backbone.vit.norm.weight": (32,),
            "backbone.vit.norm.bias": (32,),
            "decoder.classify.weight": (3, 8),
            "decoder.classify.bias": (3,),
        }
        for n in range(4):
            expected |= {f"backbone.vit.blocks.{n}.{key}": shape for key, shape in block.items()}
            width = 64 >> n
            expected[f"decoder.stages.{n}.weight"] = (4 * width, 2 * width)
            for key in ("bias", "norm.weight", "norm.bias"):
                expected[f"decoder.stages.{n}.{key}"] = (width,)
        stored = load_file(bundle / "model.safetensors")
        assert {key: tuple(value.shape) for key, value in stored.items()} == expected

    def test_nothing_of_this_machine_is_written(self, bundle: Path, tmp_path: Path) -> None:
        content = (bundle / "model.json").read_bytes() + (bundle / "model.safetensors").read_bytes()
        for secret in (tmp_path, Path.home(), Path.cwd(), socket.gethostname(), getpass.getuser()):
            if len(str(secret)) > 1 and str(secret) not in ("root", "user", "localhost"):
                assert str(secret).encode() not in content
        text = json.loads((bundle / "model.json").read_text(encoding="utf-8"))
        assert not [part for part in strings(text) if part.startswith(("/", "\\")) or ":\\" in part]

    def test_a_bundle_is_two_files(self, bundle: Path) -> None:
        names = sorted(path.name for path in bundle.iterdir())
        assert names == ["model.json", "model.safetensors"]


def strings(value: object) -> list[str]:
    """All texts in a JSON value."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)] + list(value)
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


class TestAltered:
    def test_one_flipped_bit_in_the_weights(self, bundle: Path) -> None:
        path = bundle / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
        error = refusal(bundle)
        assert error.code == "weights-altered"
        assert "tiny-mr" in error.message

    def test_weights_of_another_model(self, bundle: Path, tmp_path: Path) -> None:
        other = make_bundle(tmp_path / "other", DESCRIPTION, seed=1)
        os.replace(other / "model.safetensors", bundle / "model.safetensors")
        assert refusal(bundle).code == "weights-altered"

    def test_no_weights(self, bundle: Path) -> None:
        (bundle / "model.safetensors").unlink()
        assert refusal(bundle).code == "weights-missing"

    def test_no_description(self, bundle: Path) -> None:
        (bundle / "model.json").unlink()
        assert refusal(bundle).code == "no-model"

    def test_no_folder(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "gone").code == "no-model"

    @pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 64])
    def test_weights_that_are_no_safetensors(self, bundle: Path, content: bytes) -> None:
        (bundle / "model.safetensors").write_bytes(content)
        rehash(bundle)
        assert refusal(bundle).code == "weights-damaged"

    def test_weights_that_end_too_early(self, bundle: Path) -> None:
        path = bundle / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-64])
        rehash(bundle)
        assert refusal(bundle).code == "weights-damaged"


class TestDoNotFit:
    def test_a_tensor_of_the_wrong_shape_is_named(self, bundle: Path) -> None:
        def change(weights: dict[str, Tensor]) -> None:
            weights["decoder.classify.bias"] = torch.zeros(7, dtype=torch.float16)

        change_weights(bundle, change)
        error = refusal(bundle)
        assert error.code == "weights-do-not-fit"
        assert "decoder.classify.bias" in error.message
        assert "(7,)" in error.message

    def test_a_missing_tensor_is_named(self, bundle: Path) -> None:
        change_weights(bundle, lambda weights: weights.pop("backbone.vit.norm.weight"))
        error = refusal(bundle)
        assert error.code == "weights-do-not-fit"
        assert "backbone.vit.norm.weight" in error.message

    def test_an_extra_tensor_is_named(self, bundle: Path) -> None:
        change_weights(bundle, lambda weights: weights.update(surprise=torch.ones(2)))
        error = refusal(bundle)
        assert error.code == "weights-do-not-fit"
        assert "surprise" in error.message

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_a_weight_that_is_no_number(self, bundle: Path, value: float) -> None:
        change_weights(bundle, lambda weights: weights["backbone.vit.norm.weight"].fill_(value))
        error = refusal(bundle)
        assert error.code == "weights-not-finite"
        assert "backbone.vit.norm.weight" in error.message

    def test_a_description_of_another_network(self, bundle: Path) -> None:
        path = bundle / "model.json"
        path.write_text(path.read_text().replace('"embed_dim": 32', '"embed_dim": 64'))
        assert refusal(bundle).code == "weights-do-not-fit"

    @pytest.mark.parametrize("name", ["resnet50", "vit_base_patch16_224", "../../evil"])
    def test_a_backbone_that_is_none(self, bundle: Path, name: str) -> None:
        path = bundle / "model.json"
        path.write_text(path.read_text().replace("vit_tiny_patch16_dinov3_qkvb", name))
        assert refusal(bundle).code == "unknown-backbone"

    @pytest.mark.parametrize(
        "overrides",
        [
            {"depth": 0},
            {"embed_dim": 33},
            {"num_heads": 5},
            {"no_such": 3},
            {"pretrained": 1},  # these two would make timm fetch or unpickle a file
            {"checkpoint_path": "weights.pth"},
        ],
        ids=str,
    )
    def test_a_network_that_cannot_be_built(self, bundle: Path, overrides: dict) -> None:
        path = bundle / "model.json"
        content = json.loads(path.read_text())
        content["network"]["overrides"] |= overrides
        path.write_text(json.dumps(content))
        assert refusal(bundle).code == "bad-description"


class TestWriting:
    def test_an_existing_bundle_is_never_overwritten(self, bundle: Path) -> None:
        before = (bundle / "model.safetensors").read_bytes()
        with pytest.raises(MedDINOv3Error) as caught:
            write_bundle(bundle, DESCRIPTION, random_network(DESCRIPTION, seed=3))
        assert caught.value.code == "exists"
        assert "tiny-mr" in caught.value.message
        assert (bundle / "model.safetensors").read_bytes() == before
        assert list(bundle.parent.iterdir()) == [bundle]

    @pytest.mark.parametrize(
        ("value", "half"),
        [(float("nan"), False), (float("inf"), True), (70000.0, True)],
        ids=["not a number", "infinite", "beyond float16"],
    )
    def test_weights_that_are_not_finite_as_stored_are_refused(
        self, tmp_path: Path, value: float, half: bool
    ) -> None:
        network = random_network(DESCRIPTION)
        network.decoder.classify.bias.fill_(value)
        with pytest.raises(MedDINOv3Error) as caught:
            write_bundle(tmp_path / "models" / "tiny", DESCRIPTION, network, half)
        assert caught.value.code == "weights-not-finite"
        assert not (tmp_path / "models" / "tiny").exists()

    def test_large_weights_are_kept_when_not_halved(self, tmp_path: Path) -> None:
        network = random_network(DESCRIPTION)
        network.decoder.classify.bias.fill_(70000.0)
        write_bundle(tmp_path / "tiny", DESCRIPTION, network, half=False)
        _, read = read_bundle(tmp_path / "tiny")
        assert (read.decoder.classify.bias == 70000).all()

    @pytest.mark.parametrize("step", ["save_file", "sha256"])
    @pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError])
    def test_a_stop_while_writing_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, kind: type[BaseException]
    ) -> None:
        def stop(*_arguments: object, **_options: object) -> None:
            raise kind

        monkeypatch.setattr(f"meddinov3.bundle.{step}", stop)
        with pytest.raises(kind):
            write_bundle(tmp_path / "models" / "tiny", DESCRIPTION, random_network(DESCRIPTION))
        assert list((tmp_path / "models").iterdir()) == []

    def test_a_full_disk_leaves_nothing_and_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_arguments: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("meddinov3.atomic.os.fsync", full)
        with pytest.raises(MedDINOv3Error) as caught:
            write_bundle(tmp_path / "models" / "tiny", DESCRIPTION, random_network(DESCRIPTION))
        assert caught.value.code == "cannot-write"
        assert "No space left" in caught.value.message
        assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_whoever_may_read_the_description_may_read_the_weights(bundle: Path) -> None:
    modes = {path.stat().st_mode for path in bundle.iterdir()}
    assert len(modes) == 1
