"""Reports: complete in one file, nothing private in them, no part missed when one is absent."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import blob, sitk_image
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.labels import Label, default_colour
from meddinov3.writing import write_label_map
from meddinov3_training.evaluation.evaluate import METRICS, Evaluation
from meddinov3_training.evaluation.matching import Pair
from meddinov3_training.evaluation.page import without_paths
from meddinov3_training.evaluation.pictures import PREDICTION, REFERENCE, case_picture
from meddinov3_training.evaluation.report import WorstCase, figure, write_report
from meddinov3_training.evaluation.results import (
    is_scores,
    read_scores,
    write_scores,
    write_table,
)
from meddinov3_training.evaluation.scores import CaseScore, score_masks
from meddinov3_training.run_report import write_run_report
from PIL import Image

SPACING = (2.0, 1.0, 1.0)
SHAPE = (10, 24, 28)
GRID = Grid((28, 24, 10), (1.0, 1.0, 2.0), (5.0, -7.0, 30.0), np.diag([1.0, -1.0, 1.0]))


def structures(*names: str) -> DatasetLabels:
    labels = tuple(Label(name, n + 1, default_colour(n)) for n, name in enumerate(names))
    return DatasetLabels(labels, tuple((label.value,) for label in labels), False, None)


def evaluation(name: str = "ours", cases: int = 8, shift: float = 0.0) -> Evaluation:
    """Balls that are found a little beside where they are; one is missed."""
    scored = []
    for n in range(cases):
        reference = blob(SHAPE, (5, 12, 12), 3)
        prediction = blob(SHAPE, (5, 12 + shift, 12 + n / 4), 3)
        scores = {
            "ball <1>": score_masks(prediction, reference, SPACING),
            "box": score_masks(prediction & bool(n), reference, SPACING),
        }
        scored.append(CaseScore(f"case_{n}", scores))
    tolerances = {"ball <1>": 1.0, "box": 2.0}
    return Evaluation(name, structures("ball <1>", "box"), tolerances, tuple(scored), ("a note",))


def pictures_of(html: str) -> list[bytes]:
    return [base64.b64decode(text) for text in re.findall(r"base64,([\w+/=]+)", html)]


def test_scores_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    first, path = evaluation(), tmp_path / "scores.json"
    write_scores(path, first, evaluation("theirs", shift=1.0), "meddinov3 evaluate")
    read = read_scores(path)
    assert is_scores(path)
    assert read.name == "ours" and read.tolerances == first.tolerances
    for metric in METRICS:
        assert read.table(metric) == pytest.approx(first.table(metric), abs=1e-6, nan_ok=True)
    content = json.loads(path.read_text(encoding="utf-8"))
    mean = content["summary"]["labels"]["box"]["dice"]
    values = [case["labels"]["box"]["dice"] for case in content["cases"]]
    assert mean["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    assert mean["low"] < mean["mean"] < mean["high"] and mean["cases"] == 8
    assert content["summary"]["labels"]["box"]["missed"] == 1
    assert content["comparison"]["against"]["model"] == "theirs"
    assert content["comparison"]["labels"]["ball <1>"]["dice"]["better"] == 8
    assert "NSD" in content["definitions"]


def test_scores_that_are_none_or_damaged_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    for text in ("{", "[]", '{"format": "else"}', '{"format": "meddinov3-evaluation"}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(MedDINOv3Error, match="holds no scores"):
            read_scores(path)
    assert is_scores(path)
    path.write_text("{", encoding="utf-8")
    assert not is_scores(path) and not is_scores(tmp_path / "gone.json")


def test_the_table_has_a_row_for_each_model_case_and_label(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    write_table(path, evaluation(cases=2), evaluation("theirs", cases=2))
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [(r["model"], r["case"], r["label"]) for r in rows[:3]] == [
        ("ours", "case_0", "ball <1>"), ("ours", "case_0", "box"), ("ours", "case_1", "ball <1>"),
    ]  # fmt: skip
    assert len(rows) == 8
    assert (rows[0]["dice"], rows[1]["dice"], rows[1]["outcome"]) == ("1.0", "0.0", "missed")
    assert rows[1]["hd95_mm"] == "" and rows[1]["nsd_tolerance_mm"] == "2.0"


def test_the_report_is_one_file_with_every_part(tmp_path: Path) -> None:
    path, first = tmp_path / "report.html", evaluation()
    picture = WorstCase(first.worst(1)[0], b"\x89PNG picture")
    write_report(path, first, evaluation("theirs", shift=1.0), [picture], command="meddinov3 x")
    html = path.read_text(encoding="utf-8")
    for text in ("Scores by label", "ours against theirs", "Every case", "Volumes", "Worst cases",
                 "All cases", "What the figures mean", "a note", "meddinov3 x", "ball &lt;1&gt;",
                 REFERENCE, PREDICTION, "2 mm (box)"):  # fmt: skip
        assert text in html, text
    assert "ball <1>" not in html, "names are escaped"
    overall = first.means(METRICS[0])[1].mean
    assert f"<b>{overall:.3f}</b>" in html
    found = pictures_of(html)
    assert len(found) == 6 and b"\x89PNG picture" in found
    assert sum(content.startswith(b"<?xml") for content in found) == 5
    # Nothing is fetched, and nothing lies beside it.
    assert re.findall(r"(?:src|href)=\"(?!data:)", html) == []
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", html)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_rows_sort_by_their_figures(tmp_path: Path) -> None:
    path, first = tmp_path / "report.html", evaluation(cases=3)
    write_report(path, first)
    html = path.read_text(encoding="utf-8")
    assert html.count('<table class="sortable">') == 2
    dice = first.cases[2].labels["box"].dice
    assert f'data-v="{dice:.6g}"' in html
    assert 'data-v=""' in html, "a missed structure has no HD95, and sorts last"


def test_few_cases_are_told_in_the_report(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, evaluation(cases=3))
    assert "With 3 cases an interval or a test means little" in path.read_text(encoding="utf-8")
    write_report(path, evaluation(cases=1))
    assert "no interval" in path.read_text(encoding="utf-8")
    write_report(path, evaluation(cases=6))
    assert "means little:" not in path.read_text(encoding="utf-8")


def test_a_report_without_any_score_is_still_a_report(tmp_path: Path) -> None:
    nothing = np.zeros(SHAPE, dtype=bool)
    case = CaseScore("a", {"ball": score_masks(nothing, nothing, SPACING)})
    empty = Evaluation("ours", structures("ball"), {"ball": 1.0}, (case,))
    write_report(tmp_path / "report.html", empty)
    write_scores(tmp_path / "scores.json", empty)
    assert "no score" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert empty.worst(3) == []


def test_many_labels_do_not_make_a_table_too_wide(tmp_path: Path) -> None:
    mask = blob(SHAPE, (5, 12, 12), 3)
    names = [f"organ {n}" for n in range(30)]
    scores = {name: score_masks(mask, mask, SPACING) for name in names}
    scores["organ 21"] = score_masks(np.roll(mask, 1, 2), mask, SPACING)
    case = CaseScore("a", scores)
    many = Evaluation("ours", structures(*names), dict.fromkeys(names, 1.0), (case,) * 6)
    write_report(tmp_path / "report.html", many)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Dice organ 3" not in html and "Lowest Dice" in html
    assert f"organ 21 {scores['organ 21'].dice:.3f}</td>" in html
    assert "The first 12 labels are shown" in html


def test_figures_have_signs_and_nothing_has_none() -> None:
    ml = METRICS[3]
    assert [figure(ml, value) for value in (1.234, -0.5, 0.001, -0.001, None)] == [
        "+1.23", "\N{MINUS SIGN}0.50", "0.00", "0.00", "\N{EN DASH}",
    ]  # fmt: skip
    assert figure(METRICS[2], 1.5, unit=True) == "1.50 mm"


def write_case(folder: Path, prediction: np.ndarray, reference: np.ndarray) -> Pair:
    for name, array in (("prediction", prediction), ("reference", reference)):
        write_label_map(folder / f"{name}.nrrd", array.astype(np.uint8), GRID)
    return Pair("a", folder / "reference.nrrd", folder / "prediction.nrrd")


def colours(png: bytes) -> set[tuple[int, ...]]:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return {colour for _, colour in image.getcolors(1 << 20)}


def test_a_picture_shows_both_outlines_on_the_scan(tmp_path: Path) -> None:
    import SimpleITK as sitk

    reference, prediction = blob(SHAPE, (5, 12, 12), 4), blob(SHAPE, (5, 12, 16), 4)
    pair = write_case(tmp_path, prediction, reference)
    scan = np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.float32)
    sitk.WriteImage(sitk_image(scan, GRID), tmp_path / "scan.nrrd")
    drawn = case_picture(pair, structures("ball"), tmp_path / "scan.nrrd")
    found = colours(drawn)
    for colour in (REFERENCE, PREDICTION):
        assert tuple(bytes.fromhex(colour[1:])) in found
    plain = case_picture(pair, structures("ball"), None)
    assert len(colours(plain)) < len(found) / 2, "without a scan the ground is plain"
    (tmp_path / "scan.nrrd").write_bytes(b"damaged")
    assert case_picture(pair, structures("ball"), tmp_path / "scan.nrrd") == plain
    assert Image.open(io.BytesIO(drawn)).width < 1200


def test_a_picture_of_a_case_without_prediction(tmp_path: Path) -> None:
    reference = blob(SHAPE, (5, 12, 12), 4)
    pair = write_case(tmp_path, reference, reference)
    drawn = colours(case_picture(Pair("a", pair.reference, None), structures("ball"), None))
    assert tuple(bytes.fromhex(REFERENCE[1:])) in drawn
    assert tuple(bytes.fromhex(PREDICTION[1:])) not in drawn


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/anna/models/base", "base"),
        ("from 'C:\\Users\\anna\\base' at 1/2 mm", "from 'base' at 1/2 mm"),
        ("\\\\server\\share\\file.nii.gz", "file.nii.gz"),
        ("~/base and/or 3/4", "base and/or 3/4"),
        ("scratch:vit_tiny (axial/coronal)", "scratch:vit_tiny (axial/coronal)"),
    ],
)  # fmt: skip
def test_paths_are_cut_to_their_last_part(text: str, shown: str) -> None:
    assert without_paths(text) == shown


def fill_run(folder: Path) -> None:
    events: list[dict[str, Any]] = [
        {"event": "start", "seconds": 0.2, "device": "cpu", "precision": "fp32", "training": 9,
         "held_out": 2, "notes": ["spacing follows the smallest structure"], "labels": ["ball"]},
        *({"event": "step", "seconds": n, "step": n, "loss": 1 / n, "done": n / 50, "left": 50 - n,
           "rate": 1e-4, "samples_per_second": 20.0, "data_wait": 0.1} for n in range(5, 50, 5)),
        {"event": "pseudo", "seconds": 46, "step": 45, "dice": {"ball": 0.6}, "mean": 0.6},
        {"event": "warning", "seconds": 47, "text": "cannot write to /home/anna/run: disk full"},
        {"event": "validated", "seconds": 60, "case": "x", "dice": {"ball": 0.9}, "number": 1},
        {"event": "validated", "seconds": 61, "case": "y", "dice": {"ball": 0.7}, "number": 2},
        {"event": "done", "seconds": 62, "model": "balls", "steps": 50, "scores": {}},
    ]  # fmt: skip
    text = "".join(json.dumps(event) + "\n" for event in events) + '{"event": "st'
    (folder / "events.jsonl").write_text(text, encoding="utf-8")
    config = {"base": "/home/anna/bases/vit", "steps": 50, "title": "", "spacing": [1.0, 1.0],
              "augmentation": {"noise_p": 0.1}, "seconds": None}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "plan.json").write_text('{"reasons": ["a", "b"]}', encoding="utf-8")


def test_the_report_of_a_run(tmp_path: Path) -> None:
    fill_run(tmp_path)
    path = write_run_report(tmp_path)
    assert path == tmp_path / "report.html"
    html = path.read_text(encoding="utf-8")
    for text in ("Training of balls", "9 training cases, 2 held out", "<b>0.800</b>", "<b>50</b>",
                 "62 s", "spacing follows the smallest structure", "disk full", "noise p: 0.1",
                 "<dd>vit</dd>", "With 2 cases", "10% of the time waiting"):  # fmt: skip
        assert text in html, text
    assert "anna" not in html and str(tmp_path) not in html
    assert len(pictures_of(html)) == 2, "curves and Dice"


def test_the_scores_of_a_run_are_preferred_to_its_events(tmp_path: Path) -> None:
    fill_run(tmp_path)
    write_scores(tmp_path / "scores.json", evaluation())
    html = write_run_report(tmp_path).read_text(encoding="utf-8")
    assert "Scores by label" in html and "HD95 (mm)" in html
    assert len(pictures_of(html)) == 5


@pytest.mark.parametrize("absent", ["config.json", "plan.json", "events.jsonl"])
@pytest.mark.parametrize("content", [None, b"{", b"[]\n", b'{"event": 3}\n', b"\xff\xfe\x00"])
def test_a_part_that_is_missing_or_damaged_stops_no_report(
    tmp_path: Path, absent: str, content: bytes | None
) -> None:
    fill_run(tmp_path)
    (tmp_path / absent).unlink()
    if content is not None:
        (tmp_path / absent).write_bytes(content)
    html = write_run_report(tmp_path).read_text(encoding="utf-8")
    assert ("noise p" in html) == (absent != "config.json")
    assert ("disk full" in html) == (absent != "events.jsonl")
    assert ("not finished" in html) == (absent == "events.jsonl")


def test_a_run_that_failed_says_so(tmp_path: Path) -> None:
    error = {"event": "error", "seconds": 3, "code": "diverged", "message": "Loss is not finite.",
             "remedy": "Lower the rates."}  # fmt: skip
    (tmp_path / "events.jsonl").write_text(json.dumps(error), encoding="utf-8")
    html = write_run_report(tmp_path).read_text(encoding="utf-8")
    assert "ended with an error: Loss is not finite. Lower the rates." in html
    assert "nothing is known about the model" in html


@pytest.mark.parametrize("end", ["done", "stopped", "step"])
def test_an_error_that_was_mended_is_not_the_end(tmp_path: Path, end: str) -> None:
    error = {"event": "error", "seconds": 1.0, "message": "The disk is full.", "remedy": "Free it."}
    later = [
        {"event": "resumed", "seconds": 0.5, "step": 3},
        {"event": "step", "seconds": 0.7, "step": 4, "loss": 0.5},
    ]
    if end != "step":
        later.append({"event": end, "seconds": 2.0, "model": "m", "steps": 9, "scores": {}})

    def page(*events: dict[str, Any]) -> str:
        lines = "".join(json.dumps(event) + "\n" for event in events)
        (tmp_path / "events.jsonl").write_text(lines, encoding="utf-8")
        return write_run_report(tmp_path).read_text(encoding="utf-8")

    assert "The run ended with an error: The disk is full." in page(error)
    mended = page(error, *later)
    assert "ended with an error" not in mended
    assert "The disk is full. Free it." in mended, "what happened is still told"
    assert ("stopped early" in mended) == (end == "stopped")
    assert ("not finished" in mended) == (end == "step")
    assert "ended with an error" in page(*later, error)
