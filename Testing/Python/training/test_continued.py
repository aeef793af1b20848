"""A run that is continued is the run that was begun, whatever happened to dataset and defaults."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import read_description
from meddinov3_training import decisions
from meddinov3_training.cli import meddinov3 as command
from meddinov3_training.dataset import content_hash, read_dataset
from meddinov3_training.finetune import finetune, read_settings
from safetensors.torch import load_file
from short_runs import alone, narrow_base, quick, told  # noqa: F401
from synthetic_dataset import draw_case, save, write_dataset


class Killed(BaseException):
    """Stands for whatever ends a process."""


def kill_at_start(event: dict[str, Any]) -> None:
    """A listener that ends a run when everything is decided and nothing trained."""
    if event["event"] == "start":
        raise Killed


def begin(dataset: Path, base: Path, run: Path, **choices: Any) -> None:
    with pytest.raises(Killed):
        finetune(dataset, run, quick(base, **choices), kill_at_start)


def write_new_case(dataset: Path, name: str, seed: int) -> None:
    (image,), labels = draw_case(seed)
    save(dataset / f"imagesTr/{name}_0000.nrrd", image)
    save(dataset / f"labelsTr/{name}.nrrd", labels)


def edit(dataset: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = dataset / "dataset.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "d", 3)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return narrow_base(tmp_path / "base", "x", "y")


# What it is trained on.


def test_a_dataset_that_grew_and_was_reordered_changes_nothing(
    tmp_path: Path, dataset: Path, base: Path
) -> None:
    straight = finetune(dataset, tmp_path / "straight", quick(base))
    run = tmp_path / "run"
    begin(dataset, base, run)
    before = {name: (run / name).read_bytes() for name in ("plan.json", "split.json")}
    write_new_case(dataset, "a_new_one", 9)  # first by name, so that every number is another
    edit(dataset, lambda d: d.update(
        name="Other", labels={"vessel": 3, "box": 2, "ball": 1, "background": 0}, numTraining=4
    ))  # fmt: skip
    continued = finetune(dataset, run, quick(base), resume=True)
    first, second = (load_file(b / "model.safetensors") for b in (straight, continued))
    assert all((value == second[name]).all() for name, value in first.items())
    assert {name: (run / name).read_bytes() for name in before} == before
    made = read_description(continued)
    assert [label.name for label in made.labels] == ["ball", "box"]
    assert made.id == read_description(straight).id and made.training["cases"] == 2
    warnings = [event["text"] for event in told(run, "warning")]
    assert any("a_new_one" in text and "not trained on" in text for text in warnings)
    assert any("vessel" in text for text in warnings)


def test_cases_or_labels_that_really_changed_are_refused(
    tmp_path: Path, dataset: Path, base: Path
) -> None:
    begin(dataset, base, tmp_path / "run")
    changes: dict[str, Callable[[Path], Any]] = {
        "missing.*case_1": lambda d: (d / "labelsTr/case_1.nrrd").unlink(),
        "missing.*case_2": lambda d: (d / "imagesTr/case_2_0000.nrrd").unlink(),
        "changed.*case_0": lambda d: write_new_case(d, "case_0", 7),
        "'ball' was 1 and is 2": lambda d: edit(d, lambda c: c.update(
            labels={"background": 0, "ball": 2, "box": 1})),
        "'box' was 2 and is gone": lambda d: edit(d, lambda c: c["labels"].pop("box")),
        "channels": lambda d: edit(d, lambda c: c.update(channel_names={"0": "CT"})),
    }  # fmt: skip
    for number, (message, change) in enumerate(changes.items()):
        copy = shutil.copytree(dataset, tmp_path / f"d{number}")
        change(copy)
        with pytest.raises(MedDINOv3Error, match=message) as caught:
            finetune(copy, tmp_path / "run", quick(base), resume=True)
        assert caught.value.code == "dataset-changed"


def test_a_dataset_that_was_copied_is_the_same(tmp_path: Path, dataset: Path, base: Path) -> None:
    begin(dataset, base, tmp_path / "run")
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy, copy_function=shutil.copyfile)  # new times
    assert finetune(copy, tmp_path / "run", quick(base), resume=True).is_dir()


def test_another_base_is_refused(tmp_path: Path, dataset: Path, base: Path) -> None:
    begin(dataset, base, tmp_path / "run")
    shutil.rmtree(base)
    narrow_base(base, "x", "y", width=64)
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, tmp_path / "run", quick(base), resume=True)
    assert caught.value.code == "base-changed"


def test_the_model_names_the_content_that_was_read(
    tmp_path: Path, dataset: Path, base: Path
) -> None:
    cases = read_dataset(dataset).cases
    expected = content_hash(cases)

    def overwrite(event: dict[str, Any]) -> None:
        if event["event"] == "start":
            write_new_case(dataset, "case_0", 7)

    bundle = finetune(dataset, tmp_path / "run", quick(base, validation=0), overwrite)
    assert content_hash(cases) != expected
    assert read_description(bundle).training["dataset_sha256"] == expected


# What it decided.


def test_what_auto_decided_is_kept(
    tmp_path: Path, dataset: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(decisions, "too_large_for_cpu", lambda *_: True)
    begin(dataset, base, run, device="auto", precision="auto")
    kept = read_settings(run)
    assert kept.frozen is True and kept.device != "auto" and kept.precision != "auto"
    assert kept.backbone_rate is not None and kept.drop_path is not None
    monkeypatch.setattr(decisions, "too_large_for_cpu", lambda *_: False)
    bundle = finetune(dataset, run, quick(base), resume=True)
    assert read_description(bundle).training["frozen"] is True


def test_options_beside_resume_are_taken_over_or_refused_by_name(
    tmp_path: Path, dataset: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    begin(dataset, base, run, workers=0)
    words = ["finetune", str(dataset), "-o", str(run), "--resume"]
    with pytest.raises(MedDINOv3Error) as caught:
        command.main([*words, "--batch", "2", "--base", "x", "--no-mirror"], standalone_mode=False)
    assert caught.value.code == "cannot-change"
    for option in ("--batch", "--base", "--mirror"):
        assert option in caught.value.message
    assert "--output" not in caught.value.message and told(run, "changed") == []
    given = ["--decoder-rate", "1e-5", "--backbone-rate", "0", "--checkpoint-every", "9s"]
    command.main([*words, *given], standalone_mode=False)
    kept = read_settings(run)
    assert (kept.decoder_rate, kept.backbone_rate, kept.checkpoint_seconds) == (1e-5, 0.0, 9.0)
    assert (kept.batch, kept.device) == (2, "cpu")
    (event,) = told(run, "changed")
    assert "decoder rate 1e-05 instead of 0.0003" in event["text"]
    assert event["text"] in capsys.readouterr().out
    (bundle,) = [path.parent for path in run.glob("*/model.json")]
    record = read_description(bundle).training
    assert (record["decoder_rate"], record["backbone_rate"]) == (1e-5, 0.0)
    after, before = (load_file(b / "model.safetensors") for b in (bundle, base))
    kernel = "backbone.vit.patch_embed.proj.weight"
    assert (after[kernel] == before[kernel]).all(), "the new rate must reach the optimiser"


def test_a_frozen_backbone_gets_no_rate() -> None:
    settings = quick(Path("base"), frozen=True)
    with pytest.raises(MedDINOv3Error, match="frozen"):
        decisions.changed(settings, {"backbone_rate": 1e-5})


def test_the_precision_follows_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = quick(Path("base"), device="cuda:1", precision="bf16")
    new, notes = decisions.changed(settings, {"device": "cpu"})
    assert (new.device, new.precision) == ("cpu", "fp32")
    assert notes == ["device cpu instead of cuda:1", "precision fp32 instead of bf16"]
