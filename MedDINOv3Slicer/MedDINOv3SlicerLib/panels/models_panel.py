"""The models on this computer: what they are, two side by side, and all that is done with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import qt
import slicer.util
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.model_words import comparison, detailText, diceText, sameData, sizeText
from MedDINOv3SlicerLib.panels.attempt import Gate, Problems, shown
from MedDINOv3SlicerLib.panels.file_choice import Choice, DialogueChoice
from MedDINOv3SlicerLib.panels.question import Question
from MedDINOv3SlicerLib.resources import resourcePath
from MedDINOv3SlicerLib.signal import Signal

if TYPE_CHECKING:
    from meddinov3.removed_models import RemovedModel

    from MedDINOv3SlicerLib.model_shelf import ModelEntry


class ModelsLogic(Protocol):
    """What the panel asks for; :class:`ModelShelf` has it. All may raise MedDINOv3Error."""

    changed: Signal

    def entries(self) -> Sequence[ModelEntry]: ...

    def rename(self, name: str, new: str) -> Path: ...

    def exportTo(self, folder: Path, target: Path) -> None: ...

    def importFrom(self, path: Path) -> Path: ...

    def remove(self, name: str) -> None: ...

    def removed(self) -> Sequence[RemovedModel]: ...

    def restore(self, removed: RemovedModel) -> Path: ...

    def emptyRemoved(self) -> int: ...


class ModelsPanel:
    """The section "Models"."""

    def __init__(
        self, logic: ModelsLogic, problems: Problems, choice: Choice | None = None
    ) -> None:
        self._logic, self._problems = logic, problems
        self.widget = slicer.util.loadUI(resourcePath("UI/Models.ui"))
        self.ui: Any = slicer.util.childWidgetVariables(self.widget)
        self._choice = choice or DialogueChoice(self.widget)
        self._entries: list[ModelEntry] = []
        self._removed: list[RemovedModel] = []
        self._filling = False
        self.question = Question()
        place = qt.QVBoxLayout(self.ui.messagePlace)
        place.setContentsMargins(0, 0, 0, 0)
        place.addWidget(problems.widget)
        place.addWidget(self.question.widget)
        self.gates: dict[str, Gate] = {}
        for name, slot in {
            "rename": self._rename, "export": self._export, "remove": self._askRemove,
            "restore": self._restore, "empty": self._askEmpty,
        }.items():  # fmt: skip
            button = getattr(self.ui, f"{name}Button")
            button.connect("clicked(bool)", slot)
            self.gates[name] = Gate(button)
        ui = self.ui
        ui.importButton.connect("clicked(bool)", self._importFile)
        ui.importFolderButton.connect("clicked(bool)", self._importFolder)
        ui.modelTable.connect("itemSelectionChanged()", self._showChosen)
        ui.removedList.connect("currentRowChanged(int)", lambda row: self._showGates())
        ui.renameEdit.connect("textChanged(QString)", lambda text: self._showGates())
        self._layTables()
        logic.changed.connect(self.refresh)
        self.refresh()

    def _layTables(self) -> None:
        table = self.ui.modelTable
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([_("Model"), _("Dice"), _("Size")])
        for each in (table, self.ui.compareTable):
            each.verticalHeader().hide()
            each.setWordWrap(True)
            each.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        self.ui.compareTable.setColumnCount(3)
        for column in (1, 2):
            self.ui.compareTable.horizontalHeader().setSectionResizeMode(
                column, qt.QHeaderView.Stretch
            )

    def enter(self) -> None:
        """See what the command line has changed."""
        self.refresh()

    def exit(self) -> None:
        """Nothing keeps running."""

    def setScene(self, scene: Any) -> None:
        """Models belong to no scene."""

    def sceneClosed(self) -> None:
        """Models belong to no scene."""

    def cleanup(self) -> None:
        """The widget goes."""
        self._logic.changed.disconnect(self.refresh)

    def refresh(self) -> None:
        """Read the models anew; what is chosen stays chosen."""
        before = {entry.id for entry in self.chosen()}
        with shown(self._problems, keep=True):
            self._entries = list(self._logic.entries())
            self._removed = list(self._logic.removed())
        self._listModels(before)
        self._listRemoved()
        self._showChosen()

    def select(self, *ids: str) -> None:
        """Choose models by their ids."""
        self._listModels(set(ids))
        self._showChosen()

    def chosen(self) -> list[ModelEntry]:
        """The chosen models in the order of the list."""
        table = self.ui.modelTable
        rows = [r for r in range(len(self._entries)) if _isSelected(table, r)]
        return [self._entries[row] for row in rows]

    def _listModels(self, chosen: set[str]) -> None:
        table = self.ui.modelTable
        self._filling = True
        table.clearSelection()
        table.setRowCount(len(self._entries))
        for row, entry in enumerate(self._entries):
            name = _("{id} (backbone)").format(id=entry.id) if entry.backbone else entry.id
            texts = (name, diceText(entry.meanDice), sizeText(entry.bytes) if entry.bytes else "")
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(_("unreadable") if entry.problem and column else text)
                item.setToolTip(entry.title or entry.problem)
                table.setItem(row, column, item)
                item.setSelected(entry.id in chosen)
        self._filling = False

    def _listRemoved(self) -> None:
        self.ui.removedList.clear()
        for removed in self._removed:
            text = _("{name}, removed {when}, {size}").format(
                name=removed.name, when=removed.when.astimezone().strftime("%Y-%m-%d %H:%M"),
                size=sizeText(removed.bytes),
            )  # fmt: skip
            self.ui.removedList.addItem(text)
        self.ui.removedGroup.title = _("Removed models ({count})").format(count=len(self._removed))

    def _showChosen(self) -> None:
        if self._filling:
            return
        chosen, ui = self.chosen(), self.ui
        two = len(chosen) == 2
        ui.compareTable.visible = two
        if two:
            self._compare(*chosen)
            ui.detailLabel.text = sameData(*chosen)
        elif len(chosen) == 1:
            ui.detailLabel.text = detailText(chosen[0])
            ui.renameEdit.text = chosen[0].id
        else:
            ui.detailLabel.text = _("Choose a model to see what it is, or two to compare them.")
        ui.detailLabel.visible = bool(ui.detailLabel.text)
        self._showGates()

    def _compare(self, one: ModelEntry, other: ModelEntry) -> None:
        table, rows = self.ui.compareTable, comparison(one, other)
        table.setHorizontalHeaderLabels(["", one.id, other.id])
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                table.setItem(number, column, qt.QTableWidgetItem(text))
        table.resizeRowsToContents()

    def _rename(self) -> None:
        (entry,), new = self.chosen(), self.ui.renameEdit.text.strip()
        with shown(self._problems):
            self._logic.rename(entry.id, new)
            self.select(new)

    def _export(self) -> None:
        (entry,) = self.chosen()
        with shown(self._problems):
            target = self._choice.saveFile(
                _("Export a model"), f"{entry.id}.zip", _("Models (*.zip)")
            )
            if target is not None:
                ended = target.suffix.lower() == ".zip"
                self._logic.exportTo(
                    entry.folder, target if ended else target.with_name(f"{target.name}.zip")
                )

    def _importFile(self) -> None:
        self._import(self._choice.openFile(_("Import a model"), _("Models (*.zip)")))

    def _importFolder(self) -> None:
        self._import(self._choice.folder(_("Import a model's folder")))

    def _import(self, path: Path | None) -> None:
        with shown(self._problems):
            if path is not None:
                self.select(self._logic.importFrom(path).name)

    def _askRemove(self) -> None:
        (entry,) = self.chosen()
        self.question.ask(
            _("Remove {name} from the list? It can be restored below.").format(name=entry.id),
            _("Remove"),
            lambda: self._remove(entry.id),
        )

    def _remove(self, name: str) -> None:
        with shown(self._problems):
            self._logic.remove(name)

    def _restore(self) -> None:
        with shown(self._problems):
            restored = self._logic.restore(self._removed[self.ui.removedList.currentRow])
            self.select(restored.name)

    def _askEmpty(self) -> None:
        size = sizeText(sum(removed.bytes for removed in self._removed))
        self.question.ask(
            _("Delete {count} removed models for good? This frees {size}.").format(
                count=len(self._removed), size=size
            ),
            _("Delete"),
            self._empty,
        )

    def _empty(self) -> None:
        with shown(self._problems):
            self._logic.emptyRemoved()

    def _showGates(self) -> None:
        chosen = self.chosen()
        one = "" if len(chosen) == 1 else _("Choose one model in the list first.")
        ours = one or (
            _("{name} comes with MedDINOv3: it can be neither renamed nor removed.").format(
                name=chosen[0].id
            )
            if chosen[0].starter
            else ""
        )
        new = self.ui.renameEdit.text.strip()
        same = chosen and new in ("", chosen[0].id)
        self.gates["rename"].set(ours or (_("Type another name on the left.") if same else ""))
        self.gates["remove"].set(ours)
        broken = bool(chosen) and bool(chosen[0].problem)
        self.gates["export"].set(one or (_("This model cannot be read.") if broken else ""))
        row = self.ui.removedList.currentRow
        none = "" if self._removed else _("No model was removed.")
        picked = 0 <= row < len(self._removed)
        self.gates["restore"].set(
            none or ("" if picked else _("Choose one of the removed models first."))
        )
        self.gates["empty"].set(none)


def _isSelected(table: Any, row: int) -> bool:
    item = table.item(row, 0)
    return bool(item and item.isSelected())
