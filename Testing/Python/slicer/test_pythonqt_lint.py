"""The module's code keeps PythonQt's rules where the stand-in would not notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cmake_lists import ROOT
from pythonqt_lint import RULES, lint

MODULE = ROOT / "MedDINOv3Slicer"
LIB = "MedDINOv3SlicerLib"

# One failing snippet a rule, and one that is fine beside it.
SNIPPETS = {
    "isinstance-is-flat": ("isinstance(w, (qt.QWidget, str))", "w.inherits('QWidget')"),
    "property-is-no-method": ("b = qt.QLabel('x')\nb.text()", "b = qt.QLabel('x')\nb.text"),
    "no-new-attributes": (
        "class P:\n def __init__(self):\n  self.b = qt.QLabel()\n  self.b.mine = 1",
        "class P:\n def __init__(self):\n  self.b = qt.QLabel()\n  self.b.text = 'x'",
    ),
    "no-keywords": ("qt.QLabel(text='a')", "qt.QLabel('a')"),
    "known-signal": ("b.connect('clicked', f)", "b.connect('clicked(bool)', f)"),
    "no-threads": ("from concurrent.futures import ThreadPoolExecutor", "import subprocess"),
    "no-dialog-outside-panels": ("qt.QMessageBox().exec()\nbox.exec()", "loop.exec()\nexec('x')"),
    "no-partial-slot": (
        "b.clicked.connect(functools.partial(f, 1))",
        "b.clicked.connect(lambda: f(1))",
    ),
    "single-shot-is-set-by-method": ("t.singleShot = True", "t.setSingleShot(True)"),
    "nothing-heavy-at-import": (
        "try:\n import torch\nexcept ImportError: pass",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n import torch\n"
        "def f():\n import SimpleITK",
    ),
    "scene-knows-no-qt": ("slicer.util.arrayFromVolume(n)", "slicer.vtkMRMLScene()"),
    "flags-are-not-read": ("if self.ui.label.alignment: pass", "self.ui.label.alignment = 4"),
    "gone-from-qt": ("qt.QRegExp('x')", "qt.QRegularExpression('x')"),
}


@pytest.fixture
def known(slicer_app: Any) -> tuple[set[str], set[str]]:
    import known_to_qt

    return known_to_qt.writable_properties(), known_to_qt.signals()


@pytest.mark.parametrize("rule", sorted(RULES))
def test_rule_finds_its_snippet_and_nothing_else(rule: str, known: Any) -> None:
    bad, good = SNIPPETS[rule]
    path = f"{LIB}/scene/x.py"
    assert {f.rule for f in lint(bad, path, *known)} == {rule}
    assert lint(good, path, *known) == []


def test_rules_for_folders_hold_in_those_folders(known: Any) -> None:
    assert lint("slicer.util.errorDisplay('x')", f"{LIB}/panels/x.py", *known) == []
    assert [f.rule for f in lint("slicer.util.errorDisplay('x')", f"{LIB}/jobs/x.py", *known)] == [
        "no-dialog-outside-panels"
    ]


@pytest.mark.parametrize(
    "file", sorted(MODULE.rglob("*.py")), ids=lambda f: f.relative_to(MODULE).as_posix()
)
def test_module_keeps_pythonqt_rules(file: Path, known: Any) -> None:
    found = lint(file.read_text(encoding="utf-8"), file.relative_to(MODULE).as_posix(), *known)
    assert not found, "\n".join(f"{file.name}:{f.line} {f.rule}: {f.what}" for f in found)
