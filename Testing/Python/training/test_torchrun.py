"""The command under torchrun: two processes, one run folder, the model of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from meddinov3.model_store import read_description
from meddinov3_training.finetune import finetune
from safetensors.torch import load_file
from short_runs import alone, events_of, narrow_base, quick  # noqa: F401
from synthetic_dataset import write_dataset

OPTIONS = ("--steps", "6", "--hold-out", "1", "--spacing", "1,1", "--device", "cpu",
           "--name", "m", "--drop-path", "0", "--decoder-rate", "1e-2",
           "--backbone-rate", "1e-2")  # fmt: skip


def torchrun(
    dataset: Path,
    base: Path,
    run: Path,
    *options: str,
    start: tuple[str, ...] = ("-m", "meddinov3_training"),
) -> subprocess.CompletedProcess[str]:
    packages = os.pathsep.join(str(ROOT / part) for part in ("Logic", "training"))
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         *start, "finetune", str(dataset), "--base", str(base),
         "--output", str(run), *OPTIONS, *options],
        env={**os.environ, "PYTHONPATH": packages, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("frozen", [False, True])
def test_two_processes_train_the_model_of_one(tmp_path: Path, frozen: bool) -> None:
    dataset, base = write_dataset(tmp_path / "d", 3), narrow_base(tmp_path / "base", "x", "y")
    way = "--frozen" if frozen else "--full"
    done = torchrun(dataset, base, tmp_path / "two", "--batch", "4", way)
    assert done.returncode == 0, done.stdout + done.stderr
    settings = quick(
        base, steps=6, batch=4, drop_path=0.0, frozen=frozen, decoder_rate=1e-2, backbone_rate=1e-2
    )
    alone_bundle = finetune(dataset, tmp_path / "one", settings)
    one, two = (load_file(b / "model.safetensors") for b in (alone_bundle, tmp_path / "two/m"))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=5e-3, rtol=2e-2, msg=name)
    moved = (
        (
            one["decoder.classify.weight"]
            - load_file(base / "model.safetensors")["decoder.classify.weight"][
                : len(one["decoder.classify.weight"])
            ]
        )
        .abs()
        .max()
    )
    assert moved > 0.02, "so that another model would not pass"
    assert read_description(tmp_path / "two/m").training["processes"] == 2
    kinds = [event["event"] for event in events_of(tmp_path / "two")]
    assert kinds.count("start") == kinds.count("done") == kinds.count("validated") == 1


TAMPERED = """
import os, runpy, sys
from pathlib import Path
import torch
rank, place = os.environ["RANK"], Path(os.environ["TAMPER_PLACE"])
from meddinov3_training import task
for name in ("check_dataset", "read_fingerprint"):
    def counted(*given, real=getattr(task, name), name=name, **more):
        (place / f"{name}.{rank}").touch()
        return real(*given, **more)
    setattr(task, name, counted)
if os.environ.get("TAMPER_FAILS") == rank:
    from meddinov3_training.learner import Learner
    real = Learner._gradient
    def gradient(self, images, values, step):
        if step == 3:
            raise torch.OutOfMemoryError("out of memory")
        return real(self, images, values, step)
    Learner._gradient = gradient
from meddinov3_training.cli import main
main()
"""


def tampered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str = ""
) -> subprocess.CompletedProcess[str]:
    """Two processes that note who looks at the cases; one may run out of memory at step 3."""
    dataset, base = write_dataset(tmp_path / "d", 3), narrow_base(tmp_path / "base", "x", "y")
    script = tmp_path / "tampered.py"
    script.write_text(TAMPERED, encoding="utf-8")
    monkeypatch.setenv("TAMPER_PLACE", str(tmp_path))
    monkeypatch.setenv("TAMPER_FAILS", fails)
    return torchrun(dataset, base, tmp_path / "run", "--batch", "4", start=(str(script),))


def test_only_the_first_process_looks_at_the_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = tampered(tmp_path, monkeypatch)
    assert done.returncode == 0, done.stdout + done.stderr
    looked = {p.name for n in ("check_dataset", "read_fingerprint") for p in tmp_path.glob(n + "*")}
    assert looked == {"check_dataset.0", "read_fingerprint.0"}


def test_an_error_of_another_process_is_told_once_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = tampered(tmp_path, monkeypatch, fails="1")
    assert done.returncode != 0
    (event,) = [e for e in events_of(tmp_path / "run") if e["event"] == "error"]
    assert (event["code"], event["process"]) == ("out-of-memory", 1)
    assert event["message"].startswith("Process 1 of 2: Memory ran out")


def test_a_batch_that_cannot_be_shared_is_told(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 3), narrow_base(tmp_path / "base", "x", "y")
    done = torchrun(dataset, base, tmp_path / "run", "--batch", "3")
    assert done.returncode != 0
    assert "A batch of 3 cannot be shared among 2 processes" in done.stdout + done.stderr
