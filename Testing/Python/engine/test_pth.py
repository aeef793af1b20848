"""``.pth`` files: real checkpoints open, anything that could run code does not."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from meddinov3.checkpoints.pth import read_pth
from meddinov3.errors import MedDINOv3Error

NNUNET = "meddinov3_base_primus_multiscale_Trainer__nnUNetPlans__2d/fold_0/checkpoint_final.pth"
RAN: list[str] = []


def boom(text: str) -> str:
    RAN.append(text)
    return text


class Trap:
    """Calls something when it is unpickled."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.call


class Trainer:
    """A class of somebody's own, as some checkpoints hold."""

    def __init__(self) -> None:
        self.epoch = 7


def refusal(path: Path) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        read_pth(path)
    assert path.name in caught.value.message
    assert caught.value.remedy
    return caught.value


class TestReal:
    def test_the_released_backbones_layout(self, data: Path) -> None:
        state = read_pth(data / "reference_checkpoints" / "model.pth")
        kernel = state["teacher"]["backbone.patch_embed.proj.weight"]
        assert kernel.shape[-2:] == (16, 16)
        assert kernel.dtype == torch.float32

    def test_metas_layout(self, data: Path) -> None:
        state = read_pth(data / "reference_checkpoints" / "dinov3_qkv_bias.pth")
        assert {"cls_token", "blocks.0.attn.qkv.bias"} <= set(state)

    def test_an_nnunet_checkpoint_with_numpy_scalars(self, data: Path) -> None:
        """The plans inside hold numpy numbers, the logs numpy floats."""
        state = read_pth(data / "reference_checkpoints" / NNUNET)
        assert {"network_weights", "init_args", "trainer_name"} <= set(state)
        assert all(isinstance(v, torch.Tensor) for v in state["network_weights"].values())

    @pytest.mark.parametrize("zipped", [True, False])
    def test_every_plain_type_that_nnunet_writes(self, tmp_path: Path, zipped: bool) -> None:
        path = tmp_path / "checkpoint.pth"
        content = {
            "network_weights": OrderedDict(a=torch.arange(6.0).reshape(2, 3)),
            "half": torch.ones(3, dtype=torch.bfloat16),
            "device": torch.device("cpu"),
            "ema_fg_dice": [np.float64(0.5), np.float32(0.25), np.float16(0.125)],
            "counts": (np.int64(-3), np.int32(4), np.uint8(255), np.bool_(True)),
            "nothing": None,
            "spacing": [1.5, 2, "mm", {"deep": {1, 2}}],
        }
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        read = read_pth(path)
        torch.testing.assert_close(read["network_weights"]["a"], content["network_weights"]["a"])
        assert {k: v for k, v in read.items() if k not in ("network_weights", "half")} == {
            k: v for k, v in content.items() if k not in ("network_weights", "half")
        }

    def test_tensors_saved_on_a_gpu_come_to_the_cpu(self, tmp_path: Path) -> None:
        """Such a file differs from this one in the name of the device alone."""
        path = tmp_path / "gpu.pth"
        torch.save({"w": torch.ones(4)}, path, _use_new_zipfile_serialization=False)
        content = path.read_bytes()
        assert content.count(b"X\x03\x00\x00\x00cpu") == 1
        path.write_bytes(content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
        assert read_pth(path)["w"].device.type == "cpu"


class TestUnsafe:
    def save(self, path: Path, content: object, form: str) -> None:
        if form == "pickle":
            path.write_bytes(pickle.dumps(content, protocol=2))
        else:
            torch.save(content, path, _use_new_zipfile_serialization=form == "zip")

    @pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
    def test_a_system_call_is_refused_and_not_made(self, tmp_path: Path, form: str) -> None:
        mark, path = tmp_path / "ran", tmp_path / "model.pth"
        self.save(path, {"w": torch.ones(1), "x": Trap(os.system, f"touch '{mark}'")}, form)
        assert refusal(path).code == "unsafe-checkpoint"
        assert not mark.exists()

    @pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
    @pytest.mark.parametrize(
        "trap",
        [
            Trap(boom, "called"),
            Trap(eval, "__import__('test_pth').RAN.append('eval')"),
            Trap(getattr, "text", "upper"),
            Trap(np.load, "/etc/passwd"),
        ],
        ids=["own function", "eval", "getattr", "numpy function"],
    )
    def test_any_other_call_is_refused_and_not_made(
        self, tmp_path: Path, trap: Trap, form: str
    ) -> None:
        path = tmp_path / "model.pth"
        RAN.clear()
        self.save(path, {"x": trap}, form)
        assert refusal(path).code == "unsafe-checkpoint"
        assert RAN == []

    def test_a_plain_pickle_of_any_protocol_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "model.pkl"
        RAN.clear()
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            path.write_bytes(pickle.dumps({"x": Trap(boom, "called")}, protocol=protocol))
            refusal(path)
        assert RAN == []

    @pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
    def test_a_class_of_ones_own_is_refused_by_name(self, tmp_path: Path, form: str) -> None:
        path = tmp_path / "model.pth"
        self.save(path, {"trainer": Trainer()}, form)
        error = refusal(path)
        assert error.code == "unsafe-checkpoint"
        assert "Trainer" in error.message
        # torch's own text explains how to open the file all the same, with colour codes.
        assert "\x1b" not in error.message
        assert "can still be loaded" not in error.message

    def test_a_whole_module_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "model.pth"
        torch.save(torch.nn.Linear(2, 2), path)
        assert refusal(path).code == "unsafe-checkpoint"

    def test_what_was_allowed_for_a_file_is_not_allowed_for_good(self, data: Path) -> None:
        before = set(torch.serialization.get_safe_globals())
        read_pth(data / "reference_checkpoints" / NNUNET)
        assert set(torch.serialization.get_safe_globals()) == before


class TestDamaged:
    def test_a_missing_file(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "gone.pth").code == "file-missing"

    @pytest.mark.parametrize("part", [0.98, 0.5, 0.005])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_a_file_that_ends_too_early(self, tmp_path: Path, zipped: bool, part: float) -> None:
        path = tmp_path / "model.pth"
        torch.save({"w": torch.rand(64, 64)}, path, _use_new_zipfile_serialization=zipped)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
        assert refusal(path).code == "damaged-checkpoint"

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            b"\x00" * 4096,
            b"PK\x03\x04 but no archive",
        ],
        ids=["empty", "web page", "git lfs pointer", "zeros", "zip magic"],
    )
    def test_a_file_that_is_no_checkpoint(self, tmp_path: Path, content: bytes) -> None:
        """It holds nothing unsafe, and to ask its author for another format would not help."""
        path = tmp_path / "model.pth"
        path.write_bytes(content)
        assert refusal(path).code == "damaged-checkpoint"
