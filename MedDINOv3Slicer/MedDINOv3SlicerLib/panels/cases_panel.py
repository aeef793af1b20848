"""Training cases: the corrected scan goes into a library, whose cases are listed and kept."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer.util
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.case_words import caseDetails, caseText, libraryText, statusText
from MedDINOv3SlicerLib.panels.attempt import Gate, Problems, shown
from MedDINOv3SlicerLib.panels.cases_needs import CasesLogic, SceneFacts
from MedDINOv3SlicerLib.panels.file_choice import Choice, DialogueChoice, colourIcon
from MedDINOv3SlicerLib.panels.label_mapping import LabelMapping
from MedDINOv3SlicerLib.panels.question import Question
from MedDINOv3SlicerLib.problem import Problem
from MedDINOv3SlicerLib.resources import resourcePath
from MedDINOv3SlicerLib.signal import Signal

if TYPE_CHECKING:
    from meddinov3.cases.library import Library
    from meddinov3.cases.records import CaseRecord

STATUSES = ("annotated", "reviewed", "excluded")


class CasesPanel:
    """The section "Training cases". ``libraryChanged(Library | None)`` tells other panels."""

    def __init__(self, logic: CasesLogic, problems: Problems, choice: Choice | None = None) -> None:
        self._logic, self._problems = logic, problems
        self.widget = slicer.util.loadUI(resourcePath("UI/Cases.ui"))
        self.ui: Any = slicer.util.childWidgetVariables(self.widget)
        self._choice = choice or DialogueChoice(self.widget)
        self.libraryChanged = Signal()
        self.library: Library | None = None
        self._facts = SceneFacts(problem=_("No scan is loaded."))
        self._colour: tuple[int, int, int] | None = None
        self._filling = False
        self.question = Question()
        self.mapping = LabelMapping(self._showGates)
        self._place(self.ui.messagePlace, problems.widget, self.question.widget)
        self._place(self.ui.mappingPlace, self.mapping.widget)
        for status in STATUSES:
            self.ui.statusCombo.addItem(statusText(status), status)
        self.ui.newFrame.hide()
        buttons = {
            "add": self._add, "reopen": self._reopen, "replace": self._askReplace,
            "remove": self._askRemove, "define": self._define, "create": self._create,
        }  # fmt: skip
        self.gates: dict[str, Gate] = {}
        for name, slot in buttons.items():
            button = getattr(self.ui, f"{name}Button")
            button.connect("clicked(bool)", slot)
            self.gates[name] = Gate(button)
        self._connect()
        self.enter()

    def _place(self, place: Any, *widgets: Any) -> None:
        layout = qt.QVBoxLayout(place)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in widgets:
            layout.addWidget(widget)

    def _connect(self) -> None:
        ui = self.ui
        ui.libraryCombo.connect("activated(int)", self._chooseRecent)
        ui.openButton.connect("clicked(bool)", self._open)
        ui.newButton.connect("toggled(bool)", self._showNew)
        ui.newFolderButton.connect("clicked(bool)", self._chooseNewFolder)
        ui.newName.connect("textEdited(QString)", self._suggestFolder)
        for edit in (ui.newName, ui.newFolder, ui.newChannels, ui.structureName):
            edit.connect("textChanged(QString)", lambda text: self._showGates())
        ui.caseList.connect("currentRowChanged(int)", lambda row: self._showCase())
        ui.statusCombo.connect("activated(int)", self._setStatus)
        ui.noteEdit.connect("editingFinished()", self._setNote)
        ui.colourButton.connect("clicked(bool)", self._chooseColour)

    def enter(self) -> None:
        """See what other programs and panels have changed."""
        with shown(self._problems):
            recent = list(self._logic.recentLibraries())
            if self.library is not None:
                self.library.refresh()
            elif recent:
                self.library = self._logic.openLibrary(recent[0])
                self.libraryChanged.emit(self.library)
        self._showLibrary()
        self.sceneChanged()

    def exit(self) -> None:
        """Nothing keeps running."""

    def cleanup(self) -> None:
        """The widget goes; no signal may reach it any more."""
        self.libraryChanged = Signal()

    def setScene(self, scene: Any) -> None:
        """Another scene: other scans."""
        self.sceneChanged()

    def sceneClosed(self) -> None:
        """Nothing is chosen any more."""
        self.question.close()
        self.sceneChanged()

    def sceneChanged(self) -> None:
        """The chosen scan or segmentation, or its structures, changed."""
        try:
            self._facts = self._logic.sceneFacts()
        except Exception as error:
            self._facts = SceneFacts(problem=str(error))
        facts = self._facts
        if facts.problem:
            self.ui.sceneLabel.text = facts.problem
        else:
            self.ui.sceneLabel.text = _("To add: {scans} with {segmentation} ({names}).").format(
                scans=", ".join(facts.scans), segmentation=facts.segmentation,
                names=", ".join(label.name for label in facts.labels),
            )  # fmt: skip
        self._showNewLabels()
        self._showMapping()

    def _use(self, library: Library) -> None:
        self.library = library
        self.ui.newButton.checked = False
        self._changed()

    def _changed(self, select: str = "") -> None:
        self._showLibrary(select)
        self._showMapping()
        self.libraryChanged.emit(self.library)

    # The library

    def _chooseRecent(self, row: int) -> None:
        with shown(self._problems):
            self._use(self._logic.openLibrary(Path(self.ui.libraryCombo.itemData(row))))
        self._showLibrary()

    def _open(self) -> None:
        with shown(self._problems):
            folder = self._choice.folder(_("Open a case library"))
            if folder is not None:
                self._use(self._logic.openLibrary(folder))

    def _showNew(self, wanted: bool) -> None:
        self.ui.newFrame.visible = wanted
        if wanted:
            self.ui.newChannels.text = ", ".join(self._facts.channels) or "CT"
            self._suggestFolder(self.ui.newName.text)
        self._showGates()

    def _suggestFolder(self, name: str) -> None:
        with shown(self._problems, keep=True):
            plain = "".join(c if c.isalnum() else "-" for c in name.strip().lower()).strip("-")
            folder = self._logic.librariesFolder()
            self.ui.newFolder.text = str(folder / plain) if plain else ""

    def _chooseNewFolder(self) -> None:
        with shown(self._problems):
            start = self._logic.librariesFolder()
            folder = self._choice.folder(_("Folder of the new library"), start)
            if folder is not None:
                self.ui.newFolder.text = str(folder)

    def _create(self) -> None:
        channels = [part.strip() for part in self.ui.newChannels.text.split(",") if part.strip()]
        with shown(self._problems):
            folder, name = Path(self.ui.newFolder.text.strip()), self.ui.newName.text
            self._use(self._logic.createLibrary(folder, name, channels, self._facts.labels))

    def _showLibrary(self, select: str = "") -> None:
        combo, library = self.ui.libraryCombo, self.library
        combo.clear()
        with suppress(Exception):  # enter() has told why
            for folder in self._logic.recentLibraries():
                combo.addItem(folder.name, str(folder))
        if library is None:
            combo.setCurrentIndex(-1)
            self.ui.libraryLabel.text = _("No library is open. Open one, or make a new one.")
        else:
            if combo.findData(str(library.folder)) < 0:
                combo.insertItem(0, library.folder.name, str(library.folder))
            combo.setCurrentIndex(combo.findData(str(library.folder)))
            combo.toolTip = str(library.folder)
            self.ui.libraryLabel.text = libraryText(library)
        self._listCases(select)
        self._listStructures()
        self._showCase()

    def _listCases(self, select: str) -> None:
        cases, shownList = self._cases(), self.ui.caseList
        row = shownList.currentRow
        self._filling = True
        shownList.clear()
        for number, case in enumerate(cases):
            assert self.library is not None
            shownList.addItem(caseText(case))
            item = shownList.item(number)
            item.setIcon(qt.QIcon(str(self.library.folder / case.thumbnail)))
            item.setToolTip(caseDetails(case))
        ids = [case.id for case in cases]
        row = ids.index(select) if select in ids else min(row, len(ids) - 1)
        shownList.setCurrentRow(row)
        self._filling = False

    def _listStructures(self) -> None:
        structures = self.ui.structureList
        structures.clear()
        for number, label in enumerate(self.library.labels.labels if self.library else ()):
            structures.addItem(f"{label.value}  {label.name}")
            structures.item(number).setIcon(colourIcon(label.colour))

    def _cases(self) -> tuple[CaseRecord, ...]:
        return self.library.cases if self.library is not None else ()

    def _case(self) -> CaseRecord | None:
        row, cases = self.ui.caseList.currentRow, self._cases()
        return cases[row] if 0 <= row < len(cases) else None

    # Adding

    def _showMapping(self) -> None:
        if self.library is None or self._facts.problem:
            self.mapping.clear()
        else:
            with shown(self._problems, keep=True):
                from meddinov3.cases.label_matching import match_labels

                _values, unknown = match_labels(self._facts.labels, self.library.labels)
                known = [label.name for label in self.library.labels.labels]
                self.mapping.show(unknown, known)
        self._showGates()

    def _add(self, _checked: bool = False, allowEmpty: bool = False) -> None:
        library = self.library
        assert library is not None
        with shown(self._problems):
            mapping = self._agreedMapping(library)
            try:
                case = self._logic.addCase(library, mapping, allowEmpty)
            except Exception as error:
                self._failed(error, lambda: self._add(allowEmpty=True))
            else:
                self._changed(case)
                self._showNotes()

    def _replace(self, caseId: str, allowEmpty: bool = False) -> None:
        library = self.library
        assert library is not None
        with shown(self._problems):
            mapping = self._agreedMapping(library)
            try:
                self._logic.replaceCase(library, caseId, mapping, allowEmpty)
            except Exception as error:
                self._failed(error, lambda: self._replace(caseId, allowEmpty=True))
            else:
                self._changed(caseId)
                self._showNotes()

    def _agreedMapping(self, library: Library) -> dict[str, str]:
        """What the person chose; new structures are defined first."""
        there = {label.name.casefold() for label in library.labels.labels}
        for label in self.mapping.new:
            if label.name.casefold() in there:  # of an attempt that failed afterwards
                continue
            library.define_label(label.name, label.colour, label.type, label.modifier)
        return self.mapping.mapping

    def _showNotes(self) -> None:
        if self._logic.notes:
            self._problems.show(Problem(
                " ".join(self._logic.notes), _("The case was added; look whether it is right.")
            ))  # fmt: skip

    def _failed(self, error: Exception, again: Any) -> None:
        self._showLibrary()  # structures may have been defined already
        self._showMapping()
        if getattr(error, "code", "") != "nothing-annotated":
            raise error
        self.question.ask(
            _("None of the library's structures is drawn. Is this a scan without any of them?"),
            _("Add it without structures"),
            again,
        )

    def _askReplace(self) -> None:
        case = self._case()
        if case is not None:
            text = _("Put {scans} in the place of {case}? Its files are deleted.").format(
                scans=", ".join(self._facts.scans), case=case.id
            )
            self.question.ask(text, _("Replace"), lambda: self._replace(case.id))

    # The chosen case

    def _askRemove(self) -> None:
        case = self._case()
        if case is not None:
            text = _("Delete {case} from the library for good?").format(case=case.id)
            self.question.ask(text, _("Delete"), lambda: self._remove(case.id))

    def _remove(self, caseId: str) -> None:
        with shown(self._problems):
            assert self.library is not None
            self.library.remove(caseId)
            self._changed()

    def _reopen(self) -> None:
        case = self._case()
        with shown(self._problems):
            assert self.library is not None and case is not None
            self._logic.reopenCase(self.library, case.id)

    def _setStatus(self, row: int) -> None:
        case = self._case()
        if case is not None and self.library is not None:
            with shown(self._problems):
                self.library.set_status(case.id, self.ui.statusCombo.itemData(row))
                self._changed(case.id)
            self._showCase()

    def _setNote(self) -> None:
        case = self._case()
        if case is not None and self.library is not None and self.ui.noteEdit.text != case.note:
            with shown(self._problems):
                self.library.set_note(case.id, self.ui.noteEdit.text)
                self._changed(case.id)

    def _showCase(self) -> None:
        if self._filling:
            return
        case = self._case()
        self.ui.noteEdit.text = case.note if case else ""
        self.ui.statusCombo.setCurrentIndex(STATUSES.index(case.status) if case else -1)
        self.ui.noteEdit.enabled = self.ui.statusCombo.enabled = case is not None
        self._showGates()

    # Structures

    def _chooseColour(self) -> None:
        picked = self._choice.colour(self._colour or (200, 120, 60))
        if picked is not None:
            self._colour = picked
            self.ui.colourButton.setIcon(colourIcon(picked))

    def _define(self) -> None:
        with shown(self._problems):
            assert self.library is not None
            self.library.define_label(self.ui.structureName.text.strip(), self._colour)
            self._colour, self.ui.structureName.text = None, ""
            self.ui.colourButton.setIcon(qt.QIcon())
            self._changed(getattr(self._case(), "id", ""))

    # What can be pressed

    def _showNewLabels(self) -> None:
        names = ", ".join(label.name for label in self._facts.labels)
        self.ui.newLabels.text = (
            _("Structures, from the current segmentation: {names}.").format(names=names)
            if names
            else _("Without structures, as no segmentation is chosen: define them below.")
        )

    def _showGates(self) -> None:
        ui, gates, case = self.ui, self.gates, self._case()
        noLibrary = "" if self.library else _("Open a case library first.")
        noCase = noLibrary or ("" if case else _("Choose a case in the list first."))
        undecided = self.mapping.undecided
        cannotAdd = noLibrary or self._facts.problem or (
            _("Say above where {names} belongs.").format(names=", ".join(undecided))
            if undecided
            else ""
        )  # fmt: skip
        gates["add"].set(cannotAdd)
        gates["replace"].set(noCase or cannotAdd)
        gates["reopen"].set(noCase)
        gates["remove"].set(noCase)
        named = ui.structureName.text.strip()
        gates["define"].set(noLibrary or ("" if named else _("Type the structure's name first.")))
        gates["create"].set(
            "" if ui.newName.text.strip() and ui.newFolder.text.strip()
            and ui.newChannels.text.strip(" ,")
            else _("Give a name, a folder and at least one channel.")
        )  # fmt: skip
