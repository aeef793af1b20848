"""The doctor finds what is wrong, and says what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from conftest import describe, make_bundle
from meddinov3 import doctor, speed
from meddinov3.description import Purpose
from meddinov3.doctor import Finding, examine
from meddinov3_training.cli import main


def findings(**options: object) -> dict[str, Finding]:
    return {finding.topic: finding for finding in examine("cpu", **options)}  # type: ignore[arg-type]


def test_a_healthy_machine(own_home: Path) -> None:
    make_bundle(own_home / "models" / "scans-ct", describe("a", purpose=Purpose("CT")))
    make_bundle(own_home / "models" / "any", describe("a"))
    found = findings()
    assert not [f for f in found.values() if f.remedy and f.topic != "your folder"]
    assert torch.__version__ in found["versions"].text
    assert "CPU" in found["segments on"].text
    assert "CT of 512 x 512 x 300 takes about" in found["scans-ct"].text
    assert "MR" not in found["scans-ct"].text
    assert "MR of 256 x 256 x 180 takes about" in found["any"].text
    assert "a box of its size" in found["hippocampus-mr-tiny"].text


def test_a_broken_model_is_named_and_the_others_go_on(own_home: Path) -> None:
    bundle = make_bundle(own_home / "models" / "broken", describe("a"))
    (bundle / "model.safetensors").write_bytes(b"")
    make_bundle(own_home / "models" / "whole", describe("a"))
    found = findings(time_models=False)
    assert "Get the model again" in found["broken"].remedy
    assert found["whole"] == Finding("whole", "can be loaded")


def test_a_folder_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refused)
    found = findings(time_models=False)
    assert "Permission denied" in found["your folder"].text
    assert "MEDDINOV3_HOME" in found["your folder"].remedy


def test_a_card_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver lists it; the first computation tells."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

    def no_kernel(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.Tensor, "to", no_kernel)
    (found,) = doctor._accelerators()
    assert "no kernel image" in found.text
    assert "torch built for this card" in found.remedy


def test_a_device_that_computes_is_good() -> None:
    assert doctor._try_device(torch.device("cpu")).remedy == ""


def test_the_command_tells_and_its_exit_code_too(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(own_home / "models" / "broken", describe("a"))
    (bundle / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["meddinov3", "doctor", "--quick", "--device", "cpu"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    printed = capsys.readouterr().out
    assert "!!  broken" in printed
    assert "What to do: Get the model again" in printed


NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"


def test_a_card_that_fails_when_a_model_runs(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bundle(own_home / "models" / "any", describe("a"))

    def no_kernel(*_arguments: object, **_options: object) -> None:
        raise RuntimeError(NO_KERNEL)

    monkeypatch.setattr(speed, "predict", no_kernel)
    found = findings()
    assert "no code for this graphics card" in found["any"].text
    assert "choose the CPU" in found["any"].remedy


@pytest.mark.parametrize("said", [NO_KERNEL, "CUDA error: unspecified launch failure", "a bug"])
def test_the_command_tells_what_a_card_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    def fails(*_arguments: object, **_options: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(doctor, "examine", fails)
    monkeypatch.setattr(sys, "argv", ["meddinov3", "doctor"])
    with pytest.raises(RuntimeError if said == "a bug" else SystemExit) as caught:
        main()
    printed = capsys.readouterr().err
    if said != "a bug":
        assert caught.value.code == 1  # type: ignore[union-attr]
        assert "graphics card" in printed and "What to do:" in printed


@pytest.mark.parametrize(
    "broken",
    [ModuleNotFoundError("No module named 'torch'"), OSError("[WinError 126] c10.dll"),
     RuntimeError("operator torchvision::nms does not exist")],
    ids=str,
)  # fmt: skip
def test_a_torch_that_does_not_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: Exception
) -> None:
    class Broken:
        def find_spec(self, name: str, *_arguments: object) -> None:
            if name == "meddinov3.doctor":
                raise broken

    monkeypatch.delitem(sys.modules, "meddinov3.doctor")
    monkeypatch.delattr("meddinov3.doctor")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    monkeypatch.setattr(sys, "argv", ["meddinov3", "doctor"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    printed = capsys.readouterr().out
    assert str(broken) in printed
    assert "What to do: Install torch and torchvision again" in printed
