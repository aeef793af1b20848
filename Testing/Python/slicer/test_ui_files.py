"""Designer files and the code beside them agree; each file loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cmake_lists import ROOT

UI = ROOT / "Resources" / "UI"
MODULE = ROOT / "MedDINOv3Slicer"
FILES = sorted(UI.glob("*.ui"))

# Widgets that are right to be left alone by code, as FILE.ui:name, each with its reason.
LEFT_ALONE: dict[str, str] = {}

EXAMPLE = """<ui version="4.0"><class>X</class><widget class="qMRMLWidget" name="X">
<layout class="QVBoxLayout" name="all">
<item><widget class="QLabel" name="caption"><property name="text"><string>Scan:</string>
</property></widget></item>
<item><widget class="QPushButton" name="addButton"/></item>
<item><widget class="QPushButton" name="dropButton"/></item>
</layout></widget></ui>"""


@pytest.fixture
def ui(slicer_app: Any) -> Any:
    import ui_files

    return ui_files


@pytest.fixture
def example(tmp_path: Path, ui: Any) -> Any:
    path = tmp_path / "X.ui"
    path.write_text(EXAMPLE, encoding="utf-8")
    return ui.UiFile(path)


@pytest.fixture(scope="module")
def codes() -> dict[Path, Any]:
    from ui_files import read_codes

    return read_codes(MODULE)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_file_loads_and_its_widgets_are_used(
    file: Path, slicer_app: Any, ui: Any, codes: dict[Path, Any]
) -> None:
    slicer_app.slicer.util.loadUI(str(file))
    found = ui.unused(ui.UiFile(file), list(codes.values()))
    left = [name for name in found if f"{file.name}:{name}" not in LEFT_ALONE]
    assert left == [], "named, and used by no code that loads the file"


@pytest.mark.parametrize("path", sorted(MODULE.rglob("*.py")), ids=lambda p: p.name)
def test_code_names_widgets_and_signals_that_exist(
    path: Path, slicer_app: Any, ui: Any, codes: dict[Path, Any]
) -> None:
    code = codes[path]
    assert code.loads <= {file.name for file in FILES}
    assert ui.misnamed(code, [ui.UiFile(file) for file in FILES]) == []
    for name in code.loads:
        widget = slicer_app.slicer.util.loadUI(str(UI / name))
        widgets = vars(slicer_app.slicer.util.childWidgetVariables(widget))
        assert ui.unknown_signals(code, widgets) == []


def test_reasons_name_widgets_that_exist(ui: Any) -> None:
    there = {f"{file.name}:{name}" for file in FILES for name in ui.UiFile(file).named}
    assert set(LEFT_ALONE) <= there


def test_unused_widget_is_found(example: Any, ui: Any) -> None:
    used = ui.Code("p('UI/X.ui')\nself.ui.addButton.text = 'a'")
    assert ui.unused(example, [used]) == ["dropButton"]
    built = ui.Code("p('UI/X.ui')\nfor n in ('add', 'drop'): getattr(self.ui, f'{n}Button')")
    assert ui.unused(example, [built]) == []
    elsewhere = ui.Code("self.ui.addButton\nself.ui.dropButton")
    assert ui.unused(example, [elsewhere]) == ["addButton", "dropButton"]


def test_what_is_handed_on_is_looked_at_too(example: Any, ui: Any) -> None:
    giver = ui.Code("p('UI/X.ui')\nself.ui.addButton\nPart(self.ui, 3)")
    part = ui.Code(
        "class Part:\n    def f(self):\n        Other(self._ui)\n        self._ui.addButtom"
    )
    other = ui.Code("class Other:\n    def f(self):\n        self.ui.dropButton")
    stranger = ui.Code("class Stranger:\n    def f(self):\n        self.ui.more")
    sources = {"a": other, "b": part, "c": giver, "d": stranger}
    assert ui.unused(example, [giver]) == ["dropButton"]
    ui.join(sources)
    assert ui.unused(example, list(sources.values())) == []
    assert ui.misnamed(part, [example]) == ["addButtom"]
    assert ui.misnamed(stranger, [example]) == [], "nobody handed it this file"


def test_misspelt_widget_is_found(example: Any, ui: Any) -> None:
    code = ui.Code("p('UI/X.ui')\nself._ui.adButton.text = 'a'\nself._ui.addButton")
    assert ui.misnamed(code, [example]) == ["adButton"]


def test_signal_of_another_class_is_found(example: Any, slicer_app: Any, ui: Any) -> None:
    widget = slicer_app.slicer.util.loadUI(str(example.path))
    widgets = vars(slicer_app.slicer.util.childWidgetVariables(widget))
    code = ui.Code(
        "self.ui.addButton.connect('clicked(bool)', f)\n"
        "self.ui.dropButton.connect('textChanged(QString)', f)\n"
        "self.ui.dropButton.connect('clicked', f)\n"
    )
    found = ui.unknown_signals(code, widgets)
    assert found == ["dropButton.textChanged(QString)", "dropButton.clicked"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_a_field_for_a_folder_says_so(file: Path, ui: Any) -> None:
    """By itself the field's button opens a dialog for files."""
    from xml.etree import ElementTree

    for widget in ElementTree.parse(file).iter("widget"):
        if widget.get("class") == "ctkPathLineEdit":
            wanted = widget.find("property[@name='filters']/set")
            assert wanted is not None and "ctkPathLineEdit::Dirs" in (wanted.text or "")
