"""From a folder of annotated scans to a model that segments the next one."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import describe
from meddinov3.bundle import read_bundle
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import read_description
from meddinov3.segmentation import load_model, segment
from meddinov3_training import loop as loop_module
from meddinov3_training import run as run_module
from meddinov3_training.augmentation import Augmentation
from meddinov3_training.dataset import read_dataset
from meddinov3_training.finetune import finetune
from meddinov3_training.losses import exclusive_loss, region_loss
from meddinov3_training.objective import Objective
from meddinov3_training.run import Event
from meddinov3_training.settings import Settings
from safetensors.torch import load_file
from short_runs import alone, contents, events_of, narrow_base, quick, told  # noqa: F401
from synthetic_dataset import save, write_dataset

GEOMETRY_OFF = {"rotation_p": 0.0, "scaling_p": 0.0}
QUIET = Augmentation(
    **GEOMETRY_OFF,
    noise_p=0,
    blur_p=0,
    brightness_p=0,
    contrast_p=0,
    low_resolution_p=0,
    gamma_inverted_p=0,
    gamma_p=0,
)


@dataclass(frozen=True)
class Training:
    """A finished run and what it started from."""

    dataset: Path
    before: dict[str, str]
    run: Path
    bundle: Path
    heard: list[Event]

    def held_out(self) -> dict[str, dict[str, float | None]]:
        return {e["case"]: e["dice"] for e in self.heard if e["event"] == "validated"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Six cases, two held out; a hundred steps of a narrow network."""
    root = tmp_path_factory.mktemp("finetune")
    dataset = write_dataset(root / "balls", licence="CC0-1.0", reference="nobody")
    before, heard = contents(dataset), []
    settings = Settings(
        base=str(narrow_base(root / "base", "x", "y", "z", width=64)),
        steps=100,
        batch=8,
        validation=2,
        spacing=(0.5, 0.5),
        backbone_rate=2e-3,
        decoder_rate=5e-3,
        drop_path=0.0,
        device="cpu",
        augmentation=QUIET,
        name="balls",
        body_part="nowhere",
    )
    bundle = finetune(dataset, root / "run", settings, heard.append)
    return Training(dataset, before, root / "run", bundle, heard)


# A whole run.


def test_it_learns_to_find_the_structures(trained: Training) -> None:
    scores = trained.held_out()
    assert len(scores) == 2
    for case, dice in scores.items():
        assert set(dice) == {"ball", "box"}
        assert min(value or 0 for value in dice.values()) >= 0.6, case


def test_bundle_segments_held_out_cases_as_it_was_scored(trained: Training) -> None:
    model = load_model(str(trained.bundle), device="cpu")
    for case, dice in trained.held_out().items():
        result = segment(trained.dataset / "imagesTr" / f"{case}_0000.nrrd", model)
        assert result.notes == []
        image = sitk.ReadImage(trained.dataset / "labelsTr" / f"{case}.nrrd")
        assert result.grid.spacing == image.GetSpacing()
        assert result.grid.origin == image.GetOrigin()
        reference = sitk.GetArrayFromImage(image)
        for value, name in ((1, "ball"), (2, "box")):
            mine, theirs = result.label_map == value, reference == value
            again = 2 * (mine & theirs).sum() / (mine.sum() + theirs.sum())
            # Scored in single precision, stored in half.
            assert again == pytest.approx(dice[name], abs=0.005), (case, name)


def test_held_out_cases_are_scored_in_the_model(trained: Training) -> None:
    description = read_description(trained.bundle)
    held_out = trained.held_out().values()
    for name in ("ball", "box"):
        mean = np.mean([dice[name] for dice in held_out])
        assert description.scores["dice"][name] == pytest.approx(mean, abs=1e-4)
    assert description.scores["held_out_cases"] == 2
    assert description.scores["mean_dice"] == pytest.approx(
        np.mean(list(description.scores["dice"].values())), abs=1e-4
    )


def test_model_says_what_it_is(trained: Training) -> None:
    description = read_description(trained.bundle)
    assert trained.bundle == trained.run / "balls"
    assert (description.id, description.name) == ("balls", "Balls")
    assert [(label.name, label.value) for label in description.labels] == [("ball", 1), ("box", 2)]
    assert (description.licence, description.attribution) == ("CC0-1.0", "nobody")
    assert description.sampling.spacing == (0.5, 0.5)
    assert description.sampling.patch == (80, 64)  # 40 x 32 mm, in whole tokens
    assert description.purpose.modality == "MR"
    assert description.purpose.body_part == "nowhere"
    assert description.purpose.trained_on == "boxes"
    assert description.purpose.extent == (24.0, 40.0, 32.0)
    assert description.network.backbone_source == "model base"
    assert (description.training["steps"], description.training["cases"]) == (100, 4)


def test_model_holds_no_paths(trained: Training) -> None:
    text = (trained.bundle / "model.json").read_text(encoding="utf-8")

    def strings(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, item in value.items():
                yield from (key, *strings(item))
        elif isinstance(value, list):
            for item in value:
                yield from strings(item)
        elif isinstance(value, str):
            yield value

    found = list(strings(json.loads(text)))
    assert len(found) > 30
    for part in found:
        assert not re.search(r"(^|\s)[/\\~]|[A-Za-z]:\\", part), part
    for part in trained.dataset.parts[1:-1]:
        assert part not in text


def test_every_event_is_a_line_of_json(trained: Training) -> None:
    events = events_of(trained.run)
    assert events == json.loads(json.dumps(trained.heard)), "file and listener are told the same"
    kinds = [e["event"] for e in events if e["event"] not in ("preparing", "pseudo", "scoring")]
    assert kinds == ["start", *["step"] * 5, "validated", "validated", "done"]
    (start,) = told(trained.run, "start")
    assert (start["training"], start["held_out"]) == (4, 2)
    seconds = [event["seconds"] for event in events]
    assert seconds == sorted(seconds)
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == [20, 40, 60, 80, 100]
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.3
    assert all(event["left"] >= 0 for event in steps)
    assert steps[0]["rate"] > steps[-1]["rate"] > 0
    assert events[-1]["model"] == "balls"
    assert events[-1]["scores"] == read_description(trained.bundle).scores


def test_run_folder_explains_itself(trained: Training) -> None:
    assert {path.name for path in trained.run.iterdir()} >= {"config.json", "plan.json", "balls"}
    config = json.loads((trained.run / "config.json").read_text(encoding="utf-8"))
    plan = json.loads((trained.run / "plan.json").read_text(encoding="utf-8"))
    assert (config["steps"], config["seed"], config["batch"]) == (100, 0, 8)
    assert plan["sampling"]["spacing"] == [0.5, 0.5]
    assert plan["trained_on"] == "boxes"
    assert not list(trained.run.rglob("*.partial*"))


def test_dataset_is_not_touched(trained: Training) -> None:
    assert contents(trained.dataset) == trained.before
    assert len(trained.before) == 6 + 6 + 1


# Repeating.


def test_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d"), narrow_base(tmp_path / "base", "x", "y")
    weights = []
    for number, seed in enumerate((7, 7, 8)):
        bundle = finetune(dataset, tmp_path / str(number), quick(base, steps=3, seed=seed))
        weights.append(load_file(bundle / "model.safetensors"))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not torch.equal(
        weights[0]["decoder.classify.weight"], weights[2]["decoder.classify.weight"]
    )


# Other kinds of data.


def test_regions_ignored_voxels_and_two_channels(tmp_path: Path) -> None:
    dataset = write_dataset(
        tmp_path / "d",
        3,
        channels=("T1", "T2"),
        labels={"background": 0, "both": [1, 2], "box": [2], "ignore": 3},
        regions_class_order=[1, 2],
    )
    for path in (dataset / "labelsTr").iterdir():
        labels = sitk.GetArrayFromImage(sitk.ReadImage(path))
        labels[:, :, -6:] = 3
        save(path, labels)
    base = narrow_base(tmp_path / "base", "x", channels=2)
    bundle = finetune(dataset, tmp_path / "run", quick(base))
    description, network = read_bundle(bundle)
    assert description.regions
    assert description.ignore_label == 3
    assert [channel.name for channel in description.channels] == ["T1", "T2"]
    assert network.decoder.classify.out_features == 2
    (case,) = {e["case"] for e in events_of(tmp_path / "run") if e["event"] == "validated"}
    first, second = (str(dataset / "imagesTr" / f"{case}_000{n}.nrrd") for n in (0, 1))
    result = segment(first, load_model(str(bundle), device="cpu"), channels={"T2": second})
    assert set(np.unique(result.label_map)) <= {0, 1, 2}


def test_ct_with_context_slices(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", 3, channels=("CT",))
    base = narrow_base(tmp_path / "base", "x", channels=3)
    settings = quick(base, slice_offsets=(-2.0, 0.0, 2.0), validation=0)
    bundle = finetune(dataset, tmp_path / "run", settings)
    description, network = read_bundle(bundle)
    assert description.sampling.slice_offsets == (-2.0, 0.0, 2.0)
    assert network.backbone.vit.patch_embed.proj.in_channels == 3
    assert description.purpose.modality == "CT"
    assert description.channels[0].intensity.kind == "ct"
    assert description.scores == {}
    assert events_of(tmp_path / "run")[-1]["event"] == "done"
    result = segment(
        dataset / "imagesTr" / "case_0_0000.nrrd", load_model(str(bundle), device="cpu")
    )
    assert result.label_map.shape == (12, 40, 32)


def test_label_values_find_their_outputs(tmp_path: Path) -> None:
    """Values in any order become classes in the order of dataset.json; 9 is not annotated."""
    dataset = read_dataset(
        write_dataset(tmp_path, 1, labels={"background": 0, "b": 5, "a": 2, "ignore": 9})
    )
    description = dataclasses.replace(
        describe("b", "a"), labels=dataset.labels, ignore_label=dataset.ignore
    )
    values = torch.tensor([[[0, 5, 2, 9]]])
    logits = torch.randn(1, 3, 1, 4, generator=torch.Generator().manual_seed(0))
    loss = Objective(description, dataset.members).sums(logits, values).loss()
    assert loss.item() == exclusive_loss(logits, torch.tensor([[[0, 1, 2, -1]]])).item()


def test_values_find_their_regions(tmp_path: Path) -> None:
    labels = {"background": 0, "all": [1, 2, 3], "core": [3, 1], "ignore": 4}
    dataset = read_dataset(write_dataset(tmp_path, 1, labels=labels, regions_class_order=[2, 1]))
    values = torch.tensor([[[0, 1, 2, 3, 4]]])
    logits = torch.randn(1, 2, 1, 5, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([[[[0, 1, 1, 1, 0]], [[0, 1, 0, 1, 0]]]])
    valid = torch.tensor([[[True, True, True, True, False]]])
    description = dataclasses.replace(describe("all", "core", regions=True), ignore_label=4)
    loss = Objective(description, dataset.members).sums(logits, values).loss()
    assert loss.item() == region_loss(logits, target, valid).item()


# Budgets and rates.


def test_a_time_budget_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in processor time, so that other programs do not matter."""
    for module in (loop_module, run_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=time.process_time))
    monkeypatch.setattr(loop_module, "FEWEST_STEPS", 20)
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # the first one imports a compiler
    dataset, base = write_dataset(tmp_path / "d", 3), narrow_base(tmp_path / "base", "x", "y")
    finetune(dataset, tmp_path / "run", quick(base, steps=None, seconds=3.0, validation=0))
    (start,), steps, (done,) = (told(tmp_path / "run", k) for k in ("start", "step", "done"))
    assert 3.0 <= done["seconds"] - start["seconds"] <= 4.5
    assert done["steps"] > 20
    rates = [step["rate"] for step in steps]
    assert rates[-1] < 0.35 * max(rates), "the schedule must end with the budget"


def test_two_budgets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(tmp_path / "d", tmp_path / "run", quick(tmp_path, seconds=5.0))
    assert caught.value.code == "two-budgets"


def test_a_backbone_rate_of_zero_leaves_the_backbone(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 3), narrow_base(tmp_path / "base", "x", "y")
    bundle = finetune(dataset, tmp_path / "run", quick(base, backbone_rate=0.0))
    before, after = (load_file(folder / "model.safetensors") for folder in (base, bundle))
    assert not torch.equal(before["decoder.stages.0.weight"], after["decoder.stages.0.weight"])
    for name, value in after.items():
        if name.startswith("backbone."):
            assert torch.equal(value, before[name]), name
