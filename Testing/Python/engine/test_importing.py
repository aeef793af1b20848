"""Other people's weights, each held to the numbers that their own code gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import timm
import torch
from meddinov3.backbone_file import read_backbone, shape_of_file
from meddinov3.bundle import read_bundle
from meddinov3.checkpoints.importing import import_file
from meddinov3.checkpoints.nnunet_results import read_results
from meddinov3.checkpoints.pth import read_pth
from meddinov3.checkpoints.upstream import unwrap
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import find_backbone, find_model, installed_backbones
from meddinov3.network.backbone import Backbone
from meddinov3.segmentation import load_model, segment
from safetensors.torch import save_file
from timm.models.eva import checkpoint_filter_fn

RESULTS = "meddinov3_base_primus_multiscale_Trainer__nnUNetPlans__2d"
SPACING = (1.0, 1.0, 3.0)


@pytest.fixture
def reference(data: Path) -> Path:
    return data / "reference_checkpoints"


@pytest.fixture
def results(reference: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    folder = tmp_path / RESULTS
    shutil.copytree(reference / RESULTS, folder)
    return folder


def change(path: Path, **entries: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def refusal(path: Path, **options: str) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        import_file(path, "new", **options)  # type: ignore[arg-type]
    return caught.value


def features(folder: Path, slices: np.ndarray) -> np.ndarray:
    read = read_backbone(folder)
    network = Backbone(shape_of_file(read.description)).eval()
    network.load_state_dict(dict(read.weights))
    grey = torch.from_numpy(slices).repeat(1, read.description.in_channels, 1, 1)
    with torch.inference_mode():
        return network(grey).transpose(1, 2).unflatten(2, (4, 6)).numpy()


def as_timm_loads_it(path: Path, slices: np.ndarray) -> np.ndarray:
    """Features of Meta's file through timm's own key map; another way than ours."""
    network = timm.create_model(
        "vit_base_patch16_dinov3_qkvb", num_classes=0, embed_dim=32, num_heads=2
    ).eval()
    weights = torch.load(path, weights_only=True)
    network.load_state_dict(checkpoint_filter_fn(weights, network))
    grey = torch.from_numpy(slices).repeat(1, 3, 1, 1)
    with torch.inference_mode():
        levels = network.forward_intermediates(
            grey, indices=[2, 5, 8, 11], norm=True, output_fmt="NCHW", intermediates_only=True
        )
    return torch.cat(levels, 1).numpy()


class TestBackbones:
    def test_meddinov3(self, reference: Path, own_home: Path) -> None:
        made = import_file(reference / "model.pth", "ct-3m")
        assert not made.is_model
        assert made.folder == own_home / "backbones" / "ct-3m" == find_backbone("ct-3m")
        expected = np.load(reference / "expected.npz")
        found = features(made.folder, expected["x"])
        np.testing.assert_allclose(found, expected["features_rope_fp32"], atol=1e-4)
        described = read_backbone(made.folder).description
        assert (described.origin, described.modality, described.norm_eps) == (
            "meddinov3", "CT", 1e-6)  # fmt: skip
        assert described.has_mask_token
        assert [folder.name for folder, _ in installed_backbones()] == ["ct-3m"]
        assert str(reference) not in (made.folder / "backbone.json").read_text()

    def test_metas_dinov3_with_bias(self, reference: Path) -> None:
        made = import_file(reference / "dinov3_qkv_bias.pth", "dino")
        slices = np.load(reference / "expected.npz")["x"]
        expected = as_timm_loads_it(reference / "dinov3_qkv_bias.pth", slices)
        np.testing.assert_allclose(features(made.folder, slices), expected, atol=1e-4)
        described = read_backbone(made.folder).description
        assert (described.origin, described.norm_eps) == ("dinov3", 1e-5)
        assert "DINOv3 License" in described.licence

    def test_metas_dinov3_without_bias(self, reference: Path, tmp_path: Path) -> None:
        tensors = unwrap(read_pth(reference / "model.pth"))
        torch.save(tensors, tmp_path / "plain.pth")
        made = import_file(tmp_path / "plain.pth", "plain")
        expected = np.load(reference / "expected.npz")
        found = features(made.folder, expected["x"])
        np.testing.assert_allclose(found, expected["features_rope_fp32"], atol=1e-4)

    def test_safetensors_with_metas_names(self, reference: Path, tmp_path: Path) -> None:
        tensors = unwrap(read_pth(reference / "dinov3_qkv_bias.pth"))
        save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "dino.safetensors")
        made = import_file(tmp_path / "dino.safetensors", "dino")
        slices = np.load(reference / "expected.npz")["x"]
        expected = as_timm_loads_it(reference / "dinov3_qkv_bias.pth", slices)
        np.testing.assert_allclose(features(made.folder, slices), expected, atol=1e-4)

    @pytest.mark.parametrize(
        "name",
        ["vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb",
         "vit_small_plus_patch16_dinov3", "vit_tiny_patch16_dinov3_qkvb"],
    )  # fmt: skip
    def test_timms_own_names(self, tmp_path: Path, name: str) -> None:
        torch.manual_seed(0)
        network = timm.create_model(name, num_classes=0, depth=4).eval()
        for key, parameter in network.named_parameters():
            if key.endswith(("q_bias", "v_bias")):
                torch.nn.init.normal_(parameter)
        save_file(network.state_dict(), tmp_path / "timm.safetensors")
        made = import_file(tmp_path / "timm.safetensors", "from-timm")
        described = read_backbone(made.folder).description
        assert described.backbone == name
        slices = torch.randn(1, 1, 64, 96)
        with torch.inference_mode():
            levels = network.forward_intermediates(
                slices.repeat(1, 3, 1, 1), indices=[0, 1, 2, 3], norm=True,
                output_fmt="NCHW", intermediates_only=True,
            )  # fmt: skip
        found = features(made.folder, slices.numpy())
        np.testing.assert_allclose(found, torch.cat(levels, 1).numpy(), atol=1e-4)


class TestResultsFolder:
    """Upstream's own predict command fails on such a folder."""

    @pytest.fixture
    def scan(self, reference: Path, tmp_path: Path) -> Path:
        """The reference slices as CT: undone are the plans' mean 80 and deviation 60."""
        slices = np.load(reference / "expected.npz")["x"][:, 0] * 60 + 80
        image = sitk.GetImageFromArray(slices.astype(np.float32))
        image.SetSpacing(SPACING)
        sitk.WriteImage(image, str(tmp_path / "scan.nrrd"))
        return tmp_path / "scan.nrrd"

    def test_network_gives_upstreams_logits(self, results: Path, reference: Path) -> None:
        made = import_file(results, "organs")
        assert made.is_model
        description, network = read_bundle(find_model("organs"))
        assert description.network.rope_precision == "bf16"
        expected = np.load(reference / "expected.npz")
        with torch.inference_mode():
            logits = network(torch.from_numpy(expected["x"])).numpy()
        np.testing.assert_allclose(logits, expected["logits_rope_bf16"], atol=1e-4)

    def test_a_file_is_segmented_as_upstream_would(
        self, results: Path, reference: Path, scan: Path
    ) -> None:
        import_file(results, "organs")
        result = segment(scan, load_model("organs", device="cpu"))
        expected = np.load(reference / "expected.npz")
        clipped = ((expected["x"] * 60 + 80).clip(-160, 300) - 80) / 60
        changed = (clipped != expected["x"]).any(axis=(1, 2, 3))
        wanted = expected["logits_rope_bf16"].argmax(axis=1)
        for number in range(2):
            share = (result.label_map[number] == wanted[number]).mean()
            assert share > (0.97 if changed[number] else 0.9999)
        assert set(np.unique(result.label_map)) == {0, 1, 2}
        assert any("as they were stored" in note for note in result.notes)

    def test_the_plans_are_taken_over(self, results: Path) -> None:
        made = import_file(results, "organs")
        description, _ = read_bundle(made.folder)
        (channel,) = description.channels
        scheme = channel.intensity
        assert (scheme.kind, scheme.clip, scheme.mean, scheme.std) == (
            "ct", (-160.0, 300.0), 80.0, 60.0)  # fmt: skip
        assert [label.name for label in description.labels] == ["organ_a", "organ_b"]
        assert description.sampling.windows == (64, 96)
        assert description.sampling.spacing == (1.0, 1.0)
        assert description.sampling.mirror_axes == (0, 1)
        assert description.sampling.orientation.letters == ("k", "j", "i")
        assert any("--orientation" in note for note in made.notes)

    @pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
    def test_orientation_and_transposition(self, results: Path, transpose: tuple) -> None:
        change(results / "plans.json", transpose_forward=list(transpose))
        description, _ = read_bundle(import_file(results, "turned", orientation="LAS").folder)
        letters = ("S", "A", "L")  # of a LAS array (k, j, i)
        assert description.sampling.orientation.letters == tuple(letters[n] for n in transpose)

    def test_left_stays_left(self, results: Path, scan: Path, tmp_path: Path) -> None:
        """One scan stored in three ways gives one anatomy."""
        import_file(results, "organs", orientation="RAS")
        model = load_model("organs", device="cpu")
        image = sitk.ReadImage(str(scan))
        found = []
        for code in ("LPS", "RAS", "LAS"):
            path = tmp_path / f"{code}.nrrd"
            sitk.WriteImage(sitk.DICOMOrient(image, code), str(path))
            result = segment(path, model)
            assert not any("as they were stored" in note for note in result.notes)
            result.save(tmp_path / f"mask-{code}.nrrd")
            mask = sitk.ReadImage(str(tmp_path / f"mask-{code}.nrrd"))
            found.append(sitk.GetArrayFromImage(sitk.DICOMOrient(mask, "LPS")))
        assert found[0].any()
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])

    def test_outputs_follow_values_whatever_the_order_in_the_file(self, results: Path) -> None:
        """nnU-Net sorts the values; files saved with sorted keys list labels by name."""
        path = results / "dataset.json"
        content = json.loads(path.read_text())
        labels = content["labels"]
        content["labels"] = dict(reversed(labels.items()))
        path.write_text(json.dumps(content))
        description, _ = read_results(results, "m")
        assert [label.value for label in description.labels] == sorted(
            value for value in labels.values() if value
        )
        assert {label.name: label.value for label in description.labels} == {
            name: value for name, value in labels.items() if value
        }

    def test_inherited_configurations(self, results: Path) -> None:
        plans = json.loads((results / "plans.json").read_text())
        plans["configurations"]["2d_896"] = {
            "inherits_from": "2d", "patch_size": [896, 896], "spacing": [0.5, 0.5]
        }  # fmt: skip
        (results / "plans.json").write_text(json.dumps(plans))
        renamed = results.rename(results.with_name(results.name + "_896"))
        description, _ = read_bundle(import_file(renamed, "fine").folder)
        assert description.sampling.windows == (896, 896)
        assert description.channels[0].intensity.kind == "ct"


class TestRefused:
    def test_what_is_no_results_folder(self, results: Path, own_home: Path) -> None:
        (results / "plans.json").unlink()
        assert refusal(results).code == "no-results"
        assert not (own_home / "models" / "new").exists()

    def test_a_fold_that_is_not_there(self, results: Path) -> None:
        assert refusal(results, fold="3").code == "no-checkpoint"
        assert refusal(results, checkpoint="best").code == "no-checkpoint"

    @pytest.mark.parametrize(
        "entries",
        [{"configurations": {}}, {"transpose_forward": [0, 1]}, {"configurations": None}],
        ids=str,
    )
    def test_garbled_plans(self, results: Path, entries: dict) -> None:
        change(results / "plans.json", **entries)
        assert refusal(results).code == "bad-plans"

    def test_labels_of_another_dataset(self, results: Path, own_home: Path) -> None:
        change(results / "dataset.json", labels={"background": 0, "a": 1, "b": 2, "c": 3})
        assert refusal(results).code == "weights-do-not-fit"
        assert not (own_home / "models" / "new").exists()

    def test_a_checkpoint_of_another_trainer(self, results: Path) -> None:
        path = results / "fold_0" / "checkpoint_final.pth"
        content = read_pth(path)
        weights = content["network_weights"]
        weights["up_projection.decode.0.0.weight"] = torch.zeros(32, 8, 2, 2)
        torch.save({"network_weights": weights}, path)
        assert refusal(results).code == "another-trainer"

    def test_an_orientation_that_is_none(self, results: Path) -> None:
        assert refusal(results, orientation="XYZ").code == "bad-plans"

    def test_a_name_in_use_or_outside(self, reference: Path) -> None:
        import_file(reference / "model.pth", "new")
        assert refusal(reference / "model.pth").code == "exists"
        for name in ("../up", "A B", ""):
            with pytest.raises(MedDINOv3Error) as caught:
                import_file(reference / "model.pth", name)
            assert caught.value.code == "bad-name"

    @pytest.mark.parametrize("name", ["gone.pth", "gone.safetensors"])
    def test_a_file_that_is_not_there(self, tmp_path: Path, name: str) -> None:
        assert refusal(tmp_path / name).code == "file-missing"

    @pytest.mark.parametrize(
        "state",
        [
            {"patch_embed.proj.weight": torch.zeros(96, 3, 4, 4),
             "layers.0.blocks.0.norm1.weight": torch.zeros(96)},
            {"patch_embed.proj.weight": torch.zeros(96, 3, 4, 4), "blocks.x.y": torch.zeros(2)},
            {"patch_embed.proj.weight": torch.zeros(()), "blocks.0.y": torch.zeros(2)},
            {"patch_embed.proj.weight": torch.zeros(96, 3, 4, 4),
             "blocks.0.attn.q_bias": torch.zeros(2), "reg_token": torch.zeros(1)},
            {0: torch.zeros(2), 1: torch.zeros(2)},
            {"teacher": {0: torch.zeros(2)}},
            {"teacher": {0: torch.zeros(2), "patch_embed_2D.proj.weight": torch.zeros(2)}},
        ],
        ids=["swin", "no numbers", "no kernel", "half a bias", "keys", "teacher", "flexict"],
    )  # fmt: skip
    def test_other_networks(self, tmp_path: Path, own_home: Path, state: dict) -> None:
        torch.save(state, tmp_path / "other.pth")
        error = refusal(tmp_path / "other.pth")
        assert error.code == "not-a-backbone" and error.remedy
        assert not (own_home / "backbones" / "new").exists()

    def test_other_files(self, tmp_path: Path) -> None:
        for name in ("weights.onnx", "weights.safetensors", "weights.pth"):
            (tmp_path / name).write_bytes(b"something else")
            assert refusal(tmp_path / name).code in ("unknown-weights", "damaged-checkpoint")
        save_file({"head.weight": torch.zeros(2, 2)}, tmp_path / "head.safetensors")
        assert refusal(tmp_path / "head.safetensors").code == "not-a-backbone"
