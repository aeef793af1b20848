"""The panel of training cases: libraries, adding, and what is done with a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from meddinov3.cases.library import Library
from meddinov3.cases.records import Changed, Provenance
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import Code
from meddinov3.terminology import named_label
from panel_bed import FakeChoice, FakeProblems, cutOff
from panel_bed import opened as on_screen
from pythonqt import click
from small_library import GRID, drawn, make_library, scan

pytest_plugins = ("panel_bed",)


class FakeLogic:
    """Real libraries on disk; the scene is two arrays."""

    def __init__(self, folder: Path, facts: Any) -> None:
        self.folder, self.facts, self.seed = folder, facts, 100
        self.label_map = drawn()
        self.recent: list[Path] = []
        self.reopened: list[str] = []

    def recentLibraries(self) -> Sequence[Path]:
        return self.recent

    def librariesFolder(self) -> Path:
        return self.folder / "libraries"

    def openLibrary(self, folder: Path) -> Library:
        library = Library.open(folder)
        self._remember(folder)
        return library

    def createLibrary(self, folder: Path, name: str, channels: Any, labels: Any) -> Library:
        library = Library.create(folder, name, channels, labels)
        self._remember(folder)
        return library

    def _remember(self, folder: Path) -> None:
        self.recent = [folder, *(other for other in self.recent if other != folder)]

    notes: tuple[str, ...] = ()

    def sceneFacts(self) -> Any:
        return self.facts

    def addCase(self, library: Library, mapping: Mapping[str, str], allowEmpty: bool) -> str:
        self.seed += 1
        return library.add(
            [scan(self.seed)], GRID, self.label_map, self.facts.labels, mapping=mapping,
            provenance=Provenance("liver-ct", "0" * 64, {"liver": Changed(0.9, 3.1, 0.4)}),
            allow_empty=allowEmpty,
        )  # fmt: skip

    def replaceCase(
        self, library: Library, caseId: str, mapping: Mapping[str, str], allowEmpty: bool
    ) -> None:
        self.seed += 1
        library.replace(
            caseId, [scan(self.seed)], GRID, self.label_map, self.facts.labels, mapping=mapping,
            allow_empty=allowEmpty,
        )  # fmt: skip

    def reopenCase(self, library: Library, caseId: str) -> None:
        self.reopened.append(caseId)


class Opened:
    def __init__(self, app: Any, folder: Path, *names: str) -> None:
        from MedDINOv3SlicerLib.panels.cases_needs import SceneFacts
        from MedDINOv3SlicerLib.panels.cases_panel import CasesPanel

        labels = tuple(named_label(name, n + 1, n) for n, name in enumerate(names))
        facts = SceneFacts(("CT chest",), "CT chest segmentation", labels, ("CT",))
        self.logic = FakeLogic(folder, facts)
        self.problems = FakeProblems(app.qt)
        self.choice = FakeChoice()
        self.heard: list[Any] = []
        self.new = lambda: on_screen(app, CasesPanel(self.logic, self.problems, self.choice))


@pytest.fixture
def opened(bed: Any, tmp_path: Path) -> Opened:
    """A library with two structures, the latest used; both are drawn on the scan."""
    it = Opened(bed, tmp_path, "liver", "tumour")
    make_library(tmp_path / "livers")
    it.logic.recent = [tmp_path / "livers"]
    it.panel = it.new()
    it.panel.libraryChanged.connect(it.heard.append)
    return it


def rows(panel: Any) -> list[str]:
    return [panel.ui.caseList.item(n).text() for n in range(panel.ui.caseList.count)]


def test_one_button_adds_the_scan_with_its_provenance(opened: Opened) -> None:
    click(opened.panel.ui.addButton)
    assert opened.problems.shown is None
    (text,) = rows(opened.panel)
    assert text.splitlines() == [
        "case_0001  ·  annotated", "liver, tumour", "corrected: +3.1 ml, -0.4 ml, overlap 0.90"
    ]  # fmt: skip
    assert not opened.panel.ui.caseList.item(0).icon().isNull()
    assert opened.panel.ui.caseList.currentRow == 0, "the new case is chosen"
    assert opened.heard, "fine-tuning hears of it"
    assert "1 case: 1 annotated" in opened.panel.ui.libraryLabel.text


def test_without_a_library_nothing_can_be_pressed_and_tips_say_why(
    bed: Any, tmp_path: Path
) -> None:
    it = Opened(bed, tmp_path, "liver")
    panel = it.new()
    for name in ("add", "replace", "reopen", "remove", "define"):
        button = getattr(panel.ui, f"{name}Button")
        assert not button.enabled and "library" in button.toolTip, name
    assert "No library is open" in panel.ui.libraryLabel.text


def test_without_a_scan_the_tip_says_what_is_missing(opened: Opened) -> None:
    usual = opened.panel.ui.addButton.toolTip
    opened.logic.facts = replace(opened.logic.facts, problem="No segmentation is chosen.")
    opened.panel.sceneChanged()
    assert not opened.panel.ui.addButton.enabled
    assert opened.panel.ui.addButton.toolTip == "No segmentation is chosen."
    opened.logic.facts = replace(opened.logic.facts, problem="")
    opened.panel.sceneChanged()
    assert opened.panel.ui.addButton.enabled and opened.panel.ui.addButton.toolTip == usual


def test_a_library_is_made_from_the_segmentation(bed: Any, tmp_path: Path) -> None:
    it = Opened(bed, tmp_path, "liver", "spleen")
    panel = it.new()
    click(panel.ui.newButton)
    assert "name" in panel.ui.createButton.toolTip and not panel.ui.createButton.enabled
    panel.ui.newName.text = "My livers"
    panel.ui.newName.textEdited.emit("My livers")
    assert panel.ui.newFolder.text == str(tmp_path / "libraries" / "my-livers")
    assert "liver, spleen" in panel.ui.newLabels.text
    click(panel.ui.createButton)
    assert it.problems.shown is None
    assert [label.name for label in panel.library.labels.labels] == ["liver", "spleen"]
    assert not panel.ui.newFrame.visible
    assert panel.ui.addButton.enabled


def test_a_folder_that_is_no_library_is_refused_in_words(opened: Opened, tmp_path: Path) -> None:
    opened.choice.path = tmp_path
    click(opened.panel.ui.openButton)
    assert opened.problems.shown.code == "no-library"
    assert opened.panel.library.folder == tmp_path / "livers", "the one before stays"


def test_structures_that_the_library_lacks_are_asked_for(bed: Any, tmp_path: Path) -> None:
    it = Opened(bed, tmp_path, "liver", "lesion", "vessel")
    it.logic.label_map[0, 0, 0] = 3
    make_library(tmp_path / "livers")
    it.logic.recent = [tmp_path / "livers"]
    panel = it.new()
    assert not panel.ui.addButton.enabled
    assert "lesion, vessel" in panel.ui.addButton.toolTip
    (_, _, lesion), (_, _, vessel) = panel.mapping._rows
    lesion.currentIndex = lesion.findData("=tumour")
    vessel.currentIndex = vessel.findData("+")
    assert panel.ui.addButton.enabled
    click(panel.ui.addButton)
    assert it.problems.shown is None
    case = panel.library.cases[0]
    assert {name for name, voxels in case.voxels.items() if voxels} == {"liver", "tumour", "vessel"}
    assert not panel.mapping.undecided or "vessel" not in panel.mapping.undecided


def test_a_structure_of_another_name_is_known_by_its_code(opened: Opened) -> None:
    liver, tumour = opened.logic.facts.labels
    assert liver.type == Code("SCT", "10200004", "Liver")
    opened.logic.facts = replace(opened.logic.facts, labels=(replace(liver, name="Leber"), tumour))
    opened.panel.sceneChanged()
    assert opened.panel.ui.addButton.enabled
    click(opened.panel.ui.addButton)
    assert "liver, tumour" in rows(opened.panel)[0]


def test_an_empty_segmentation_is_asked_about_in_the_panel(opened: Opened) -> None:
    opened.logic.label_map = drawn() * 0
    click(opened.panel.ui.addButton)
    assert opened.problems.shown is None and rows(opened.panel) == []
    assert opened.panel.question.widget.isVisibleTo(opened.panel.widget)
    click(opened.panel.question.yesButton)
    assert "no structure drawn" in rows(opened.panel)[0]


def test_the_same_scan_twice_is_refused_in_words(opened: Opened) -> None:
    click(opened.panel.ui.addButton)
    opened.logic.seed -= 1
    click(opened.panel.ui.addButton)
    assert opened.problems.shown.code == "duplicate-case"
    assert len(rows(opened.panel)) == 1


def test_status_and_note_are_kept(opened: Opened) -> None:
    click(opened.panel.ui.addButton)
    ui = opened.panel.ui
    ui.statusCombo.currentIndex = 1
    ui.statusCombo.activated.emit(1)
    ui.noteEdit.text = "motion"
    ui.noteEdit.editingFinished.emit()
    (case,) = Library.open(opened.panel.library.folder).cases
    assert (case.status, case.note) == ("reviewed", "motion")
    assert "reviewed" in rows(opened.panel)[0] and "motion" in rows(opened.panel)[0]


def test_removing_asks_in_the_panel_and_can_be_cancelled(opened: Opened) -> None:
    click(opened.panel.ui.addButton)
    click(opened.panel.ui.removeButton)
    click(opened.panel.question.noButton)
    assert len(rows(opened.panel)) == 1
    click(opened.panel.ui.removeButton)
    assert "case_0001" in opened.panel.question.label.text
    click(opened.panel.question.yesButton)
    assert rows(opened.panel) == [] and not Library.open(opened.panel.library.folder).cases
    assert "Choose a case" in opened.panel.ui.removeButton.toolTip


def test_a_case_is_replaced_after_asking_and_keeps_its_status(opened: Opened) -> None:
    click(opened.panel.ui.addButton)
    opened.panel.library.set_status("case_0001", "reviewed")
    click(opened.panel.ui.replaceButton)
    click(opened.panel.question.yesButton)
    (case,) = opened.panel.library.cases
    assert (case.revision, case.status) == (2, "reviewed")


def test_a_case_is_reopened(opened: Opened) -> None:
    click(opened.panel.ui.addButton)
    click(opened.panel.ui.addButton)
    opened.panel.ui.caseList.setCurrentRow(0)
    click(opened.panel.ui.reopenButton)
    assert opened.logic.reopened == ["case_0001"]


def test_a_structure_is_defined_with_its_colour(opened: Opened) -> None:
    opened.choice.picked = (1, 2, 3)
    opened.panel.ui.structuresGroup.collapsed = False
    click(opened.panel.ui.colourButton)
    opened.panel.ui.structureName.text = "portal vein"
    click(opened.panel.ui.defineButton)
    label = opened.panel.library.labels.labels[-1]
    assert (label.name, label.colour) == ("portal vein", (1, 2, 3))
    assert opened.panel.ui.structureList.count == 3
    assert "name" in opened.panel.ui.defineButton.toolTip


def test_adding_again_after_a_failure_defines_no_structure_twice(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    logic, panel = opened.logic, opened.panel
    new = SimpleNamespace(name="Portal vein", colour=(1, 2, 3), type=None, modifier=None)
    monkeypatch.setattr(type(panel.mapping), "new", property(lambda self: [new]))
    real, calls = logic.addCase, []

    def once_full(*arguments: Any) -> str:
        calls.append(arguments)
        if len(calls) == 1:
            raise MedDINOv3Error("disk-full", "The disk is full.", "Free some space.")
        return real(*arguments)

    monkeypatch.setattr(logic, "addCase", once_full)
    click(panel.ui.addButton)
    assert opened.problems.shown.code == "disk-full"
    logic.notes = ("Two structures overlap.",)
    click(panel.ui.addButton)
    names = [label.name for label in panel.library.labels.labels]
    assert names.count("Portal vein") == 1 and len(panel.library.cases) == 1
    assert opened.problems.shown.what == "Two structures overlap."


def test_a_package_that_is_missing_leads_to_the_set_up(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'filelock'", name="filelock")

    monkeypatch.setattr(opened.logic, "addCase", missing)
    click(opened.panel.ui.addButton)
    assert opened.problems.shown.code == "not-set-up"
    assert "filelock" in opened.problems.shown.what and "Set up" in opened.problems.shown.remedy


def test_what_another_program_added_is_seen_on_coming_back(opened: Opened) -> None:
    Library.open(opened.panel.library.folder).add([scan(7)], GRID, drawn())
    opened.panel.enter()
    assert len(rows(opened.panel)) == 1


def test_a_library_that_went_away_is_told(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "livers").rename(tmp_path / "gone")
    opened.panel.enter()
    assert opened.problems.shown.code == "no-library"
    assert isinstance(opened.problems.shown.what, str)
    with pytest.raises(MedDINOv3Error):
        opened.panel.library.refresh()


def test_it_fits_the_modules_column(opened: Opened) -> None:
    click(opened.panel.ui.addButton)
    click(opened.panel.ui.newButton)
    assert cutOff(opened.panel.widget) == 0
