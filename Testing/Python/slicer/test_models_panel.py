"""The list of models: what is told of one, two side by side, and what is done with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from conftest import describe, make_bundle
from meddinov3.bundle import update_description
from meddinov3.model_store import read_description
from panel_bed import FakeChoice, FakeProblems, cutOff
from panel_bed import opened as on_screen
from pythonqt import click

pytest_plugins = ("panel_bed",)


def add(home: Path, name: str, dice: float | None = None, **training: Any) -> None:
    folder = make_bundle(home / "models" / name, describe("liver", "tumour"))
    scores = {"held_out_cases": 4, "dice": {"liver": dice}, "mean_dice": dice} if dice else {}
    described = dataclasses.replace(
        read_description(folder), scores=scores, training=training, licence="CC0-1.0",
        name=f"Livers <{name}>",
    )  # fmt: skip
    update_description(folder, described)


class Opened:
    def __init__(self, app: Any, home: Path) -> None:
        from MedDINOv3SlicerLib.model_shelf import ModelShelf
        from MedDINOv3SlicerLib.panels.models_panel import ModelsPanel

        self.home, self.shelf = home, ModelShelf()
        self.problems, self.choice = FakeProblems(app.qt), FakeChoice()
        self.panel = on_screen(app, ModelsPanel(self.shelf, self.problems, self.choice))
        self.ui = self.panel.ui


@pytest.fixture
def opened(bed: Any, own_home: Path) -> Opened:
    """Two models of one's own beside the starter."""
    add(own_home, "livers", 0.91, base="meddinov3", minutes=30.0, dataset_sha256="a" * 64)
    add(own_home, "old", 0.85, base="scratch", minutes=10.0, dataset_sha256="b" * 64)
    return Opened(bed, own_home)


def names(ui: Any) -> list[str]:
    return [ui.modelTable.item(row, 0).text() for row in range(ui.modelTable.rowCount)]


def test_models_are_listed_with_score_and_size(opened: Opened) -> None:
    assert names(opened.ui) == ["livers", "old", "hippocampus-mr-tiny"]
    assert opened.ui.modelTable.item(0, 1).text() == "0.910"
    assert opened.ui.modelTable.item(0, 2).text().endswith("kB")


def test_one_model_is_described(opened: Opened) -> None:
    opened.panel.select("livers")
    text = opened.ui.detailLabel.text
    assert "Livers &lt;livers&gt;" in text, "names are shown as written, not taken for HTML"
    for part in ("liver, tumour", "mean Dice 0.910 on 4 cases", "CC0-1.0"):
        assert part in text


def test_two_models_are_compared_with_a_caution(opened: Opened) -> None:
    opened.panel.select("livers", "old")
    table = opened.ui.compareTable
    rows = {
        table.item(r, 0).text(): (table.item(r, 1).text(), table.item(r, 2).text())
        for r in range(table.rowCount)
    }
    assert rows["Dice, mean"] == ("0.910", "0.850")
    assert rows["trained from"] == ("meddinov3", "scratch")
    assert "different cases" in opened.ui.detailLabel.text
    assert "one model" in opened.ui.removeButton.toolTip and not opened.ui.removeButton.enabled


def test_renaming(opened: Opened) -> None:
    opened.panel.select("old")
    assert not opened.ui.renameButton.enabled and "another name" in opened.ui.renameButton.toolTip
    opened.ui.renameEdit.text = "livers"
    click(opened.ui.renameButton)
    assert opened.problems.shown.code == "exists"
    opened.ui.renameEdit.text = "before"
    click(opened.ui.renameButton)
    assert opened.problems.shown is None
    assert "before" in names(opened.ui) and "old" not in names(opened.ui)
    assert [entry.id for entry in opened.panel.chosen()] == ["before"]


def test_removing_asks_in_the_panel_and_restoring_brings_it_back(opened: Opened) -> None:
    opened.panel.select("old")
    click(opened.ui.removeButton)
    assert "old" in names(opened.ui), "first it is asked"
    click(opened.panel.question.yesButton)
    assert "old" not in names(opened.ui)
    opened.ui.removedGroup.collapsed = False
    assert "Choose one" in opened.ui.restoreButton.toolTip
    opened.ui.removedList.setCurrentRow(0)
    click(opened.ui.restoreButton)
    assert "old" in names(opened.ui) and opened.ui.removedList.count == 0


def test_restoring_under_a_taken_name_takes_a_free_one(opened: Opened) -> None:
    opened.shelf.remove("old")
    add(opened.home, "old", 0.5)
    opened.panel.refresh()
    assert opened.shelf.restore(opened.shelf.removed()[0]).name == "old-2"


def test_emptying_asks_and_deletes_for_good(opened: Opened) -> None:
    opened.shelf.remove("old")
    opened.ui.removedGroup.collapsed = False
    click(opened.ui.emptyButton)
    click(opened.panel.question.yesButton)
    assert opened.shelf.removed() == []
    assert "No model was removed" in opened.ui.emptyButton.toolTip


def test_starters_can_be_exported_but_not_removed(opened: Opened, tmp_path: Path) -> None:
    opened.panel.select("hippocampus-mr-tiny")
    for button in (opened.ui.removeButton, opened.ui.renameButton):
        assert not button.enabled and "comes with MedDINOv3" in button.toolTip
    opened.choice.path = tmp_path / "tiny"
    click(opened.ui.exportButton)
    assert (tmp_path / "tiny.zip").is_file()
    opened.choice.path = tmp_path / "tiny.zip"
    click(opened.ui.importButton)
    assert opened.problems.shown is None
    assert [entry.id for entry in opened.panel.chosen()] == ["tiny"]


def test_a_models_folder_is_imported_and_others_are_refused(opened: Opened, tmp_path: Path) -> None:
    opened.choice.path = make_bundle(tmp_path / "My Model", describe("a"))
    click(opened.ui.importFolderButton)
    assert "my-model" in names(opened.ui)
    opened.choice.path = tmp_path
    click(opened.ui.importFolderButton)
    assert opened.problems.shown.code == "no-model"
    assert "models import" in opened.problems.shown.remedy


def test_a_model_that_cannot_be_read_is_listed_with_the_reason(bed: Any, own_home: Path) -> None:
    (own_home / "models" / "damaged").mkdir(parents=True)
    (own_home / "models" / "damaged" / "model.json").write_text("{}", encoding="utf-8")
    it = Opened(bed, own_home)
    it.panel.select("damaged")
    assert "cannot be used" in it.ui.detailLabel.text
    assert "cannot be read" in it.ui.exportButton.toolTip and it.ui.removeButton.enabled


def test_what_can_be_trained_from_includes_what_is_not_here_yet(opened: Opened) -> None:
    bases = {base.id: base for base in opened.shelf.bases()}
    assert bases["livers"].here and "liver, tumour" in bases["livers"].what
    absent = [base for base in bases.values() if not base.here]
    assert absent and all(base.size and base.licence and base.pages for base in absent)
    assert all(base.size in base.what and base.licence in base.what for base in absent)


def test_it_fits_the_modules_column(opened: Opened) -> None:
    opened.panel.select("livers", "old")
    assert cutOff(opened.panel.widget) == 0
