"""Predictions and references through the command line, to scores and a report."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import blob
from meddinov3.grid import Grid
from meddinov3.labels import Label
from meddinov3.writing import write_segmentation
from meddinov3_training.cli import main

SHAPE = (8, 20, 18)
SPACING = (0.9, 1.1, 2.5)  # (i, j, k) mm
GRID = Grid((18, 20, 8), SPACING, (0.0, 0.0, 0.0), np.eye(3))


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `meddinov3` in this process, by default `evaluate`."""

    def run(*arguments: object, command: str = "evaluate") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["meddinov3", command, *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, " ".join(printed.err.split()))

    return run


def save(path: Path, array: np.ndarray, spacing: tuple[float, ...] = SPACING) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, path)


def balls(shift: float = 0.0, value: int = 1, second: int = 2) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[blob(SHAPE, (4, 10, 6 + shift), 3.2)] = value
    array[blob(SHAPE, (4, 10, 13), 2.2)] = second
    return array


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Four cases in mixed formats; predictions drift away from case to case."""
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    for n, (ending, other) in enumerate(
        ((".nii.gz", ".nrrd"), (".nrrd", ".mha"), (".mha", ".nii.gz"), (".nii", ".nrrd"))
    ):
        save(predictions / f"case_{n}{ending}", balls(shift=float(n)))
        save(references / f"case_{n}{other}", balls())
    return predictions, references


def contents(*roots: Path) -> dict[Path, str]:
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def scores_of(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "scores.json").read_text(encoding="utf-8"))
    return content


def test_two_folders_become_scores_and_a_report(
    evaluate: Command, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    predictions, references = folders
    (predictions / "case_0_report.json").write_text("{}", encoding="utf-8")
    before, output = contents(*folders), tmp_path / "out"
    outcome = evaluate("--predictions", predictions, "--references", references, "-o", output)
    assert outcome.code == 0, outcome.err
    assert contents(*folders) == before
    assert {p.name for p in output.iterdir()} == {"report.html", "scores.json", "scores.csv"}
    content = scores_of(output)
    assert [case["case"] for case in content["cases"]] == [f"case_{n}" for n in range(4)]
    first, _, _, last = (case["labels"] for case in content["cases"])
    assert (first["label 1"]["dice"], first["label 1"]["hd95_mm"]) == (1, 0)
    expected, drawn = balls() == 1, balls(3.0) == 1
    assert last["label 1"]["dice"] == pytest.approx(
        2 * (expected & drawn).sum() / (expected.sum() + drawn.sum()), abs=1e-6
    )
    assert last["label 1"]["reference_ml"] == pytest.approx(
        expected.sum() * 0.9 * 1.1 * 2.5 / 1000, abs=1e-5
    )
    assert "With 4 cases an interval" in outcome.out
    assert "references' values" in outcome.out
    for name in ("report.html", "scores.json", "scores.csv"):
        assert str(tmp_path) not in (output / name).read_text(encoding="utf-8"), name
    command = "meddinov3 evaluate --predictions predictions --references references"
    assert content["command"] == command
    assert command in (output / "report.html").read_text(encoding="utf-8")
    assert len(list(csv.reader((output / "scores.csv").open(encoding="utf-8")))) == 9


def test_processes_give_the_same_scores(
    evaluate: Command, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    given = ("--predictions", folders[0], "--references", folders[1], "--worst", 0, "-q")
    assert evaluate(*given, "-o", tmp_path / "one").code == 0
    # A process of its own, as a user's: children import the main module again.
    command = [sys.executable, "-m", "meddinov3_training", "evaluate", *map(str, given)]
    command += ["-o", str(tmp_path / "two"), "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    one, two = scores_of(tmp_path / "one"), scores_of(tmp_path / "two")
    assert one["cases"] == two["cases"] and one["summary"] == two["summary"]


def test_missing_predictions_are_listed_or_count_as_empty(
    evaluate: Command, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    predictions, references = folders
    (predictions / "case_1.nrrd").unlink()
    (predictions / "case_3.nii").unlink()
    save(predictions / "spare.nrrd", balls())
    given = ("--predictions", predictions, "--references", references, "-o", tmp_path / "out")
    outcome = evaluate(*given)
    assert outcome.code == 1
    assert "2 of 4 cases have no prediction: case_1, case_3." in outcome.err
    assert not (tmp_path / "out").exists()
    outcome = evaluate(*given, "--missing", "empty")
    assert outcome.code == 0, outcome.err
    content = scores_of(tmp_path / "out")
    assert [case["predicted"] for case in content["cases"]] == [True, False, True, False]
    missing = content["cases"][1]["labels"]["label 1"]
    assert (missing["dice"], missing["nsd"], missing["hd95_mm"]) == (0, 0, None)
    assert content["summary"]["labels"]["label 1"]["missed"] == 2
    assert "1 prediction without a reference left out: spare." in outcome.out
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "2 cases without a prediction counted as empty" in html
    assert "case_1 (no prediction)" in html


def test_all_bad_cases_are_named_with_figures(
    evaluate: Command, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    predictions, references = folders
    save(predictions / "case_0.nii.gz", balls(), spacing=(0.9, 1.1, 2.6))
    save(predictions / "case_1.nrrd", balls()[1:])
    (predictions / "case_2.mha").write_bytes(b"none")
    outcome = evaluate("--predictions", predictions, "--references", references,
                       "-o", tmp_path / "out")  # fmt: skip
    assert outcome.code == 1
    assert "3 of 4 cases cannot be scored" in outcome.err
    assert "Case 'case_0': the prediction lies on another grid (18 x 20 x 8 voxels of " in (
        outcome.err
    )
    assert "0.9 x 1.1 x 2.6 mm" in outcome.err and "18 x 20 x 7 voxels" in outcome.err
    assert "case_2.mha" in outcome.err and "'case_3'" not in outcome.err
    assert not (tmp_path / "out").exists()


def test_only_an_earlier_evaluation_is_overwritten(
    evaluate: Command, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    given, output = ("--predictions", folders[0], "--references", folders[1]), tmp_path / "out"
    assert evaluate(*given, "-o", output).code == 0
    assert evaluate(*given, "-o", output, "--tolerance", 2).code == 0
    assert scores_of(output)["labels"][0]["tolerance_mm"] == 2
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "scores.json").write_text('{"mine": 1}', encoding="utf-8")
    assert "something else" in evaluate(*given, "-o", other).err
    assert "stays as it is" in evaluate(*given, "-o", folders[0] / "out").err
    assert [p.name for p in other.iterdir()] == ["scores.json"]
    assert not (folders[0] / "out").exists()


def test_a_second_model_is_compared_case_by_case(
    evaluate: Command, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    predictions, references = folders
    for n in range(4):
        save(tmp_path / "other" / f"case_{n}.nrrd", balls(shift=n + 0.5))
    given = ("--predictions", predictions, "--references", references)
    outcome = evaluate(*given, "--against", tmp_path / "other", "--against-name", "older",
                       "-o", tmp_path / "out")  # fmt: skip
    assert outcome.code == 0, outcome.err
    found = scores_of(tmp_path / "out")["comparison"]
    assert found["against"]["model"] == "older"
    first, second = found["labels"]["label 1"]["dice"], found["labels"]["label 2"]["dice"]
    assert first["difference"]["mean"] > 0 and first["better"] >= 3
    # Balls that overwrite each other may differ; where nothing does the difference is nothing.
    assert second["better"] + second["worse"] + second["equal"] == 4
    itself = evaluate(*given, "--against", predictions, "-o", tmp_path / "same")
    assert itself.code == 0, itself.err
    same = scores_of(tmp_path / "same")["comparison"]
    assert same["against"]["model"] == "predictions (2)"
    for metric in ("dice", "nsd", "hd95_mm"):
        mean = same["mean"][metric]
        assert (mean["difference"]["mean"], mean["p"], mean["equal"]) == (0, 1, 4)


def test_regions_and_ignored_voxels_come_from_the_dataset(
    evaluate: Command, tmp_path: Path
) -> None:
    reference, prediction = balls(), balls(1.0)
    reference[:3] = 9
    references = tmp_path / "dataset" / "labelsTr"
    save(references / "a.nrrd", reference)
    save(tmp_path / "predictions" / "a.nrrd", prediction)
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 9}
    content = {"labels": labels, "regions_class_order": [1, 2]}
    (tmp_path / "dataset" / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    given = ("--predictions", tmp_path / "predictions", "--references", references)
    outcome = evaluate(*given, "--tolerance", "core=3", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    found = scores_of(tmp_path / "out")
    assert [(e["name"], e["tolerance_mm"]) for e in found["labels"]] == [("whole", 1), ("core", 3)]
    assert found["ignore"] == 9 and found["regions"]
    p, r = (array[3:] for array in (prediction, reference))
    expected = 2 * ((p > 0) & (r > 0)).sum() / ((p > 0).sum() + (r > 0).sum())
    score = found["cases"][0]["labels"]["whole"]
    assert score["dice"] == pytest.approx(expected, abs=1e-6)
    assert "whole = 1 + 2" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    unknown = evaluate(*given, "--tolerance", "coer=3", "-o", tmp_path / "no")
    assert "no label 'coer'" in unknown.err and "whole, core" in unknown.err


def test_segmentations_lend_their_names(evaluate: Command, tmp_path: Path) -> None:
    labels = (Label("head", 1, (1, 2, 3)), Label("tail", 2, (3, 2, 1)))
    for name in "ab":
        save(tmp_path / "references" / f"{name}.nrrd", balls())
        (tmp_path / "predictions").mkdir(exist_ok=True)
        path = tmp_path / "predictions" / f"{name}.seg.nrrd"
        write_segmentation(path, balls(), GRID, labels)
    save(tmp_path / "predictions" / "a.nii.gz", balls(1.0))  # goes before a.seg.nrrd
    given = ("--predictions", tmp_path / "predictions", "--references", tmp_path / "references")
    outcome = evaluate(*given, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    found = scores_of(tmp_path / "out")
    assert [entry["name"] for entry in found["labels"]] == ["head", "tail"]
    assert [case["labels"]["head"]["dice"] == 1 for case in found["cases"]] == [False, True]
    swapped = (Label("tail", 1, (1, 2, 3)), Label("head", 2, (3, 2, 1)))
    write_segmentation(tmp_path / "predictions" / "b.seg.nrrd", balls(), GRID, swapped)
    assert "another segment" in evaluate(*given, "-o", tmp_path / "no").err


def test_values_without_a_name(
    evaluate: Command, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    predictions, references = folders
    save(predictions / "case_0.nii.gz", balls(second=5))
    dataset = tmp_path / "dataset.json"
    dataset.write_text('{"labels": {"background": 0, "a": 1, "b": 2}}', encoding="utf-8")
    given = ("--predictions", predictions, "--references", references, "--dataset", dataset)
    outcome = evaluate(*given, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "counted as background: 5." in outcome.out
    assert scores_of(tmp_path / "out")["cases"][0]["labels"]["b"]["outcome"] == "missed"
    save(references / "case_0.nrrd", balls(second=7))
    outcome = evaluate(*given, "-o", tmp_path / "no")
    assert "The reference of case 'case_0' holds [7]" in outcome.err
    dataset.write_text("{", encoding="utf-8")
    assert "names no labels" in evaluate(*given, "-o", tmp_path / "no").err


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda p, r: p.rename(p.with_name("gone")), "There is no folder"),
        (lambda p, r: [f.unlink() for f in p.iterdir()], "'predictions' holds no label maps"),
        (lambda p, r: [f.rename(f.with_name("x" + f.name)) for f in p.iterdir()], "No file in"),
        (lambda p, r: save(p / "case_0.mha", balls()), "for one case"),
    ],
)
def test_folders_that_cannot_be_matched(
    evaluate: Command,
    folders: tuple[Path, Path],
    tmp_path: Path,
    break_it: Callable[[Path, Path], object],
    said: str,
) -> None:
    break_it(*folders)
    outcome = evaluate("--predictions", folders[0], "--references", folders[1],
                       "-o", tmp_path / "out")  # fmt: skip
    assert outcome.code == 1
    assert said in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["-1", "a=", "=2", "wide", "nan"])
def test_a_tolerance_that_is_none(evaluate: Command, tmp_path: Path, text: str) -> None:
    outcome = evaluate(f"--tolerance={text}", "--predictions", tmp_path, "--references", tmp_path,
                       "-o", tmp_path / "out")  # fmt: skip
    assert outcome.code == 2
    assert "is no tolerance" in outcome.err


def test_the_starter_model_on_the_sample(evaluate: Command, data: Path, tmp_path: Path) -> None:
    sample = data / "msd_hippocampus_mr"
    scans = sorted((sample / "images").glob("*.nii.gz"))
    outcome = evaluate(*scans, "-o", tmp_path / "found", "-m", "hippocampus-mr-tiny",
                       command="segment")  # fmt: skip
    assert outcome.code == 0, outcome.err
    outcome = evaluate("--predictions", tmp_path / "found", "--references", sample / "labels",
                       "--images", sample / "images", "-o", tmp_path / "out")  # fmt: skip
    assert outcome.code == 0, outcome.err
    mean = scores_of(tmp_path / "out")["summary"]["mean"]
    assert 0.8 < mean["dice"]["mean"] < 0.95
    assert 0.8 < mean["nsd"]["mean"] < 1 and 0.5 < mean["hd95_mm"]["mean"] < 4
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/png") == len(scans)
    assert "anterior hippocampus" in html and "hippocampus_091" in html
