"""PySide, patched, does what PythonQt was seen to do in Slicer; the numbers are pythonqt.py's."""

from __future__ import annotations

import functools
import gc
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def qt(slicer_app: Any) -> ModuleType:
    return slicer_app.qt


def test_properties_are_values_and_methods_stay_methods(qt: Any) -> None:
    button, combo, table = qt.QPushButton("Go"), qt.QComboBox(), qt.QTableWidget(2, 3)
    combo.addItem("one", {"a": 1})
    assert (button.text, button.enabled, button.checked) == ("Go", True, False)
    assert (combo.count, combo.currentIndex, combo.currentText) == (1, 0, "one")
    assert combo.currentData == {"a": 1}
    assert (table.rowCount, table.columnCount, table.currentRow()) == (2, 3, -1)
    assert button.isEnabled() and button.parent() is None and combo.itemData(0) == {"a": 1}
    with pytest.raises(TypeError):
        button.text()


def test_setters_convert_leniently(qt: Any, slicer_app: Any) -> None:
    label, spin = qt.QLabel(), qt.QSpinBox()
    for given, shown in ((5, "5"), (None, "None"), (Path("a"), "a"), (b"x", "b'x'")):
        label.setText(given)
        assert label.text == shown
        label.text = given
        assert label.text == shown
    spin.value = 3.7
    assert spin.value == 3
    spin.setValue(np.int64(4))
    assert spin.value == 4
    label.setEnabled("x")
    with pytest.raises(AttributeError):
        spin.value = "5"


def test_keywords_and_wrong_arguments_are_value_errors(qt: Any) -> None:
    with pytest.raises(ValueError, match="keyword"):
        qt.QLabel(text="a")
    with pytest.raises(ValueError, match="keyword"):
        qt.QLabel().setText(text="a")
    with pytest.raises(ValueError, match="overload"):
        qt.QComboBox().clear(1)


@pytest.mark.parametrize("signal", ["clicked", "nope(bool)", "currentIndexChanged(QString)"])
def test_unknown_signal_prints_and_gives_false(
    qt: Any, slicer_app: Any, signal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert qt.QPushButton().connect(signal, print) is False
    assert signal in capsys.readouterr().err
    assert len(slicer_app.taken_complaints()) == 1


def test_unknown_signal_object_is_loud(qt: Any) -> None:
    with pytest.raises(AttributeError):
        qt.QPushButton().nope.connect(print)


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)

    return wrapper


class Hearer:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def bare(self) -> None:
        self.heard.append("bare")

    @decorated
    def wrapped(self, *given: Any) -> None:
        self.heard.append(given)


def test_surplus_arguments_are_cut_for_functions_and_methods_only(qt: Any, slicer_app: Any) -> None:
    button, hearer, heard = qt.QPushButton(), Hearer(), []
    slots = [
        lambda: heard.append("none"),
        lambda x=5: heard.append(x),
        lambda x, y=7: heard.append((x, y)),
        lambda *all_of_them: heard.append(all_of_them),
        hearer.bare,
        hearer.wrapped,
    ]
    for slot in slots:
        assert button.connect("clicked( bool )", slot)
    button.clicked(True)
    assert heard == ["none", True, (True, 7), (True,)]
    assert hearer.heard == ["bare", (True,)]
    assert not slicer_app.taken_complaints()


def test_partials_and_qt_slots_get_everything_and_the_others_still_run(
    qt: Any, slicer_app: Any
) -> None:
    button, combo, heard = qt.QPushButton(), qt.QComboBox(), []
    button.connect("clicked(bool)", functools.partial(lambda a: None, "p"))
    button.connect("clicked(bool)", combo.clear)
    button.connect("clicked(bool)", lambda: heard.append(1))
    button.click()
    assert heard == [1]
    partial, slot = slicer_app.taken_complaints()
    assert "TypeError" in partial
    assert "ValueError" in slot


def test_signals_are_disconnected_by_a_fresh_bound_method(qt: Any) -> None:
    button, hearer = qt.QPushButton(), Hearer()
    button.connect("clicked(bool)", hearer.bare)
    button.connect("clicked(bool)", hearer.bare)
    button.click()
    assert hearer.heard == ["bare", "bare"], "connected twice is called twice"
    assert button.disconnect("clicked(bool)", hearer.bare)
    assert not button.disconnect("clicked(bool)", hearer.bare)
    button.clicked.connect(hearer.bare)
    button.clicked.disconnect(hearer.bare)
    button.click()
    assert len(hearer.heard) == 2


def test_three_argument_form_calls_a_slot_of_another_object(qt: Any) -> None:
    button, box = qt.QPushButton(), qt.QCheckBox()
    button.checkable = True
    assert button.connect("toggled(bool)", box, "setChecked(bool)")
    button.checked = True
    assert box.checked


def test_connection_keeps_its_callable_alive(qt: Any) -> None:
    button, heard = qt.QPushButton(), []

    class Panel:
        def on(self) -> None:
            heard.append(1)

    button.connect("clicked(bool)", Panel().on)
    gc.collect()
    button.click()
    assert heard == [1]


def test_qt_objects_take_no_new_attributes_and_subclasses_do(qt: Any) -> None:
    label = qt.QLabel("x")
    for name in ("mine", "setText", "linkActivated", "sizeHint"):
        with pytest.raises(AttributeError):
            setattr(label, name, 1)

    class Own(qt.QWidget):
        def __init__(self) -> None:
            super().__init__()
            self.mine, self.seen = 1, []

        def resizeEvent(self, event: Any) -> None:
            self.seen.append(event.size())

    own = Own()
    own.resize(40, 40)
    own.show()
    own.mine = 2
    assert own.mine == 2 and own.seen
    with pytest.raises(AttributeError):
        own.setEnabled = print


def test_enums_are_ints(qt: Any) -> None:
    assert qt.Qt.AlignLeft == qt.Qt.AlignmentFlag.AlignLeft == 1
    assert json.dumps([qt.Qt.AlignLeft, qt.QMessageBox.Ok]) == "[1, 1024]"
    assert f"{qt.Qt.AlignLeft | qt.Qt.AlignTop}" == "33"


def test_flag_properties_are_written_and_not_read(qt: Any, slicer_app: Any) -> None:
    label, edit = qt.QLabel(), slicer_app.ctk.ctkPathLineEdit()
    label.alignment = qt.Qt.AlignRight
    edit.filters = slicer_app.ctk.ctkPathLineEdit.Dirs
    for read in (label.alignment, edit.filters):
        with pytest.raises(TypeError):
            int(read)
        with pytest.raises(TypeError):
            assert read == 2
    with pytest.raises(AttributeError):
        label.alignment = label.alignment


def test_children_and_dynamic_properties_are_attributes(qt: Any) -> None:
    widget = qt.QWidget()
    child = qt.QPushButton("x", widget)
    child.objectName = "go"
    assert widget.go is child and child.name == "go"
    assert widget.findChild(qt.QPushButton, "go") is child
    assert widget.findChild("QPushButton", "go") is child
    assert widget.setProperty("mine", [1, 2]) is False
    assert widget.mine == (1, 2), "lists come back as tuples"
    widget.mine = "six"
    assert widget.property("mine") == "six"
    with pytest.raises(AttributeError):
        _ = widget.absent


def test_destroyed_objects_are_false_and_their_use_is_a_value_error(
    qt: Any, slicer_app: Any
) -> None:
    widget = qt.QWidget()
    child = qt.QPushButton("x", widget)
    widget.deleteLater()
    slicer_app.wait_until(lambda: not widget)
    assert not child
    with pytest.raises(ValueError, match="destroyed QPushButton"):
        _ = child.text


def test_class_names_answer_what_isinstance_cannot(qt: Any) -> None:
    button = qt.QPushButton()
    assert button.className() == "QPushButton"
    assert button.inherits("QWidget")


def test_byte_arrays_are_wrappers(qt: Any) -> None:
    array = qt.QByteArray(b"abc")
    assert array.data() == b"abc" and array.length() == 3
    assert str(array) == "b'abc'" and not array and array != b"abc"
    for use in (bytes, len):
        with pytest.raises(TypeError):
            use(array)


def test_single_shot_is_a_method(qt: Any, slicer_app: Any) -> None:
    timer, heard = qt.QTimer(), []
    with pytest.raises(AttributeError):
        timer.singleShot = True
    timer.setSingleShot(True)
    qt.QTimer.singleShot(0, functools.partial(heard.append, 1))
    slicer_app.wait_until(lambda: heard)
    qt.QTimer.singleShot(0, lambda: 1 / 0)
    slicer_app.wait_until(lambda: any("ZeroDivision" in c for c in slicer_app.taken_complaints()))


def test_dialogs_have_both_execs(qt: Any) -> None:
    for name in ("exec", "exec_"):
        dialog = qt.QDialog()
        qt.QTimer.singleShot(0, lambda dialog=dialog: dialog.accept())
        assert getattr(dialog, name)() == 1


def test_process_talks_and_a_missing_program_gives_no_finished(qt: Any, slicer_app: Any) -> None:
    process, heard = qt.QProcess(), []
    process.connect("finished(int,QProcess::ExitStatus)", lambda c, s: heard.append((c, s)))
    process.start(sys.executable, ("-c", "import sys; print(input()); sys.exit(3)"))
    assert process.waitForStarted()
    process.write("hello\n")
    slicer_app.wait_until(lambda: heard)
    assert heard == [(3, 0)]
    assert process.readAllStandardOutput().data().decode().strip() == "hello"
    missing, errors, ends = qt.QProcess(), [], []
    missing.errorOccurred.connect(errors.append)
    missing.finished.connect(lambda: ends.append(1))
    missing.start("/no/such/program", [])
    slicer_app.wait_until(lambda: errors)
    assert errors == [0] and missing.error() == 0 and not ends


def test_settings_give_lists_as_tuples(qt: Any, slicer_app: Any) -> None:
    settings = slicer_app.app.settings()
    settings.setValue("a/list", ["x"])
    assert qt.QSettings().value("a/list") == ("x",)
    assert slicer_app.slicer.util.settingsValue("a/none", 7) == 7


def test_mouse_reaches_only_what_can_be_pressed(qt: Any, slicer_app: Any) -> None:
    button, heard = qt.QPushButton("x"), []
    button.connect("clicked(bool)", lambda: heard.append(1))
    button.show()
    button.enabled = False
    slicer_app.click(button)
    assert heard == []
    button.enabled = True
    slicer_app.click(button)
    assert heard == [1]
