"""Stand-ins for slicer and qt, just large enough to open the module's panel.

Each rule is one seen in the running Slicer 5.12 (PythonQt): properties are values and not
methods, setters make strings of anything, Qt constructors refuse keyword arguments, Qt objects
refuse new attributes, types are flat, a wrong signal name prints and returns False, and
surplus signal arguments are cut for functions. Grow it only by rules that were seen there.
"""

from __future__ import annotations

import inspect
import sys
import types
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

NO_NEW_ATTRIBUTES = "creating new attributes on C++ objects is not allowed"


def qt_class(
    name: str, *, signals: tuple[str, ...] = (), methods: tuple[str, ...] = (), **properties: Any
) -> type:
    """A flat type with these properties, signals by signature, and methods that do nothing."""

    def construct(self: Any, *arguments: Any, **keywords: Any) -> None:
        if keywords:
            raise ValueError(f"{name} takes no keyword arguments")
        own: dict[str, Any] = {
            "values": dict(properties),
            "arguments": arguments,
            "slots": {},
            "items": [],
            "layout": None,
        }
        object.__setattr__(self, "own", own)
        if "text" in properties and arguments:
            own["values"]["text"] = str(arguments[0])
        if name.endswith("Layout") and arguments:
            arguments[0].own["layout"] = self

    def read(self: Any, attribute: str) -> Any:
        values = self.own["values"]
        if attribute in values:
            return values[attribute]
        known = attribute[3:4].lower() + attribute[4:]
        if attribute.startswith("set") and known in values:
            return lambda value: write(self, known, value)
        if attribute in methods:
            return lambda *arguments: None
        raise AttributeError(f"{name} has no attribute {attribute!r}")

    def write(self: Any, attribute: str, value: Any) -> None:
        values = self.own["values"]
        if attribute not in values:
            raise AttributeError(f"{name}.{attribute}: {NO_NEW_ATTRIBUTES}")
        values[attribute] = str(value) if isinstance(values[attribute], str) else value

    def connect(self: Any, signal: str, slot: Callable[..., Any]) -> bool:
        if signal not in signals:
            print(f"{name} has no signal {signal}", file=sys.stderr)
            return False
        self.own["slots"].setdefault(signal, []).append(slot)
        return True

    members = {
        "__init__": construct,
        "__getattr__": read,
        "__setattr__": write,
        "connect": connect,
        "layout": lambda self: self.own["layout"],
        "addWidget": lambda self, widget: self.own["items"].append(widget),
        "addStretch": lambda self, factor: None,
        "className": lambda self: name,
    }
    return type(name, (), members)


def emit(sender: Any, signal: str, *arguments: Any) -> None:
    """Call the slots as PythonQt does: functions and methods get what they have room for."""
    for slot in sender.own["slots"].get(signal, []):
        given = arguments
        if inspect.isfunction(slot) or inspect.ismethod(slot):
            parameters = inspect.signature(slot).parameters.values()
            if not any(p.kind is p.VAR_POSITIONAL for p in parameters):
                room = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
                given = arguments[: len(room)]
        slot(*given)


ModuleObject = qt_class(
    "qSlicerScriptedLoadableModule",
    path="",
    title="",
    helpText="",
    acknowledgementText="",
    categories=[],
    dependencies=[],
    contributors=[],
    icon=None,
)


def _qt() -> types.ModuleType:
    qt = types.ModuleType("qt")
    qt.QWidget = qt_class("QWidget")
    qt.QVBoxLayout = qt_class("QVBoxLayout")
    qt.QLabel = qt_class(
        "QLabel", text="", wordWrap=False, methods=("setTextFormat", "setTextInteractionFlags")
    )
    qt.QPushButton = qt_class("QPushButton", text="", signals=("clicked(bool)", "clicked()"))
    qt.QIcon = qt_class("QIcon")
    qt.Qt = types.SimpleNamespace(RichText=1, TextSelectableByMouse=1)  # enums are ints
    return qt


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        self.parent = parent
        self.layout = parent.layout()

    def setup(self) -> None:
        pass


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        pass


class ScriptedLoadableModuleTest(unittest.TestCase):
    pass


def stand_ins() -> dict[str, types.ModuleType]:
    """Modules for ``sys.modules``."""
    base = types.ModuleType("slicer.ScriptedLoadableModule")
    for kind in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(base, kind.__name__, kind)
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr = lambda text: text
    i18n.translate = lambda context, text: text
    slicer = types.ModuleType("slicer")
    slicer.ScriptedLoadableModule, slicer.i18n = base, i18n
    found = (slicer, base, i18n, _qt())
    return {module.__name__: module for module in found}


def open_module(module: types.ModuleType, file: Path) -> tuple[Any, Any]:
    """What Slicer does when the module is found and then selected: its two objects."""
    parent = ModuleObject()
    parent.path = str(file)
    area = sys.modules["qt"].QWidget()
    sys.modules["qt"].QVBoxLayout(area)
    found = module.MedDINOv3Slicer(parent)
    widget = module.MedDINOv3SlicerWidget(area)
    widget.setup()
    widget.enter()
    return found, widget
