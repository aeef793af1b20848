"""What the engine says about the machine it runs on."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from meddinov3.inference.device import choose_precision

CPU = torch.device("cpu")
PEAK = "from meddinov3.memory import peak_memory; print(peak_memory())"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count a process by itself")
def test_peak_memory_is_this_process_own() -> None:
    """Linux hands a parent's peak to its child; Slicer is a large parent."""
    held = bytearray(400 * 2**20)
    held[:: 2**12] = b"x" * len(held[:: 2**12])
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert 2**20 < int(done.stdout) < 200 * 2**20
    assert len(held)


def test_fp32_asks_nothing_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("fp32", CPU) == "fp32"
    assert choose_precision("auto", CPU) == "fp32"


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", "bf16"])
def test_bf16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch, feature: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {feature: True}, raising=False)
    assert choose_precision("bf16", CPU) == "bf16"
