"""A lint for what works on the stand-in and fails in Slicer: PythonQt's rules, read in the code.

It knows nothing of types. A name is taken for a Qt object where it was made by a call of
``qt.Q...``, ``ctk.ctk...`` or ``slicer.q...``, or is an attribute of something called ``ui``.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HEAVY = {"torch", "torchvision", "timm", "SimpleITK", "monai", "scipy"}
THREADS = {"threading", "concurrent", "multiprocessing", "_thread"}
# Values there (slicer-verified.md 1, first row): calling them fails.
PROPERTIES = {
    *("text", "enabled", "visible", "checked", "toolTip", "objectName", "sizeHint", "icon"),
    *("currentIndex", "currentText", "currentData", "plainText", "placeholderText", "title"),
    *("collapsed", "currentPath", "minimumWidth", "maximumWidth", "minimumHeight", "maximumHeight"),
    *("value", "minimum", "maximum", "currentNodeID", "directory", "html", "rowCount"),
    *("columnCount", "windowTitle", "styleSheet", "font", "readOnly"),
}
DIALOGS = {"exec", "exec_", "getOpenFileName", "getSaveFileName", "getExistingDirectory"}
BOXES = {
    *("errorDisplay", "messageBox", "infoDisplay", "warningDisplay", "confirmOkCancelDisplay"),
    *("confirmYesNoDisplay", "confirmRetryCloseDisplay"),
}


@dataclass(frozen=True)
class Finding:
    rule: str
    line: int
    what: str


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of names and attributes; "" for anything else."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def qt_class(node: ast.AST) -> bool:
    module, _, name = dotted(node).partition(".")
    return (module in ("qt", "ctk") and name[:1].isalpha() and name[0] in "Qc") or (
        module == "slicer" and name.startswith("q")
    )


def qt_objects(tree: ast.AST) -> set[str]:
    """Dotted names that are given a Qt object made on the spot."""
    found = set()
    for node in ast.walk(tree):
        made = isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call)
        if made and qt_class(node.value.func):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(filter(None, map(dotted, targets)))
    return found


class Module:
    """One file, as the rules see it."""

    def __init__(self, source: str, path: str, attributes: set[str], signals: set[str]) -> None:
        self.tree, self.path = ast.parse(source), path
        self.parts = Path(path).parts
        self.objects = qt_objects(self.tree)
        self.attributes, self.signals = attributes, signals

    def nodes(self, *kinds: type) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def calls(self) -> Iterator[ast.Call]:
        return self.nodes(ast.Call)  # type: ignore[return-value]

    def is_widget(self, node: ast.AST) -> bool:
        name = dotted(node)
        return name in self.objects or "ui" in [p.lstrip("_") for p in name.split(".")[:-1]]

    def at_file_level(self) -> Iterator[ast.AST]:
        """Statements that run at import; those under TYPE_CHECKING do not."""
        waiting = list(self.tree.body)
        while waiting:
            node = waiting.pop(0)
            yield node
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                waiting += node.orelse
            elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
                waiting += [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]


Rule = Callable[[Module], Iterator[tuple[ast.AST, str]]]
RULES: dict[str, Rule] = {}


def rule(check: Rule) -> Rule:
    RULES[check.__name__.replace("_", "-")] = check
    return check


def imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and not node.level:
        return {(node.module or "").partition(".")[0]}
    return set()


@rule
def isinstance_is_flat(module: Module) -> Iterator[tuple[ast.AST, str]]:
    for call in module.calls():
        if dotted(call.func) in ("isinstance", "issubclass") and len(call.args) == 2:
            given = call.args[1]
            for kind in given.elts if isinstance(given, ast.Tuple) else [given]:
                if qt_class(kind):
                    yield call, f"{dotted(kind)}: use inherits() or className()"


@rule
def property_is_no_method(module: Module) -> Iterator[tuple[ast.AST, str]]:
    for call in module.calls():
        if (
            isinstance(call.func, ast.Attribute)
            and call.func.attr in PROPERTIES
            and not call.args
            and not call.keywords
            and module.is_widget(call.func.value)
        ):
            yield call, f"{dotted(call.func)} is a value"


@rule
def no_new_attributes(module: Module) -> Iterator[tuple[ast.AST, str]]:
    for node in module.nodes(ast.Assign, ast.AugAssign, ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if (
                isinstance(target, ast.Attribute)
                and module.is_widget(target.value)
                and target.attr not in module.attributes
            ):
                yield target, f"{dotted(target)}: no Qt class has such a property"


@rule
def no_keywords(module: Module) -> Iterator[tuple[ast.AST, str]]:
    for call in module.calls():
        if call.keywords and qt_class(call.func):
            yield call, f"{dotted(call.func)} takes no keyword arguments"


@rule
def known_signal(module: Module) -> Iterator[tuple[ast.AST, str]]:
    for call in module.calls():
        if (
            isinstance(call.func, ast.Attribute)
            and call.func.attr in ("connect", "disconnect")
            and call.args
            and isinstance(call.args[0], ast.Constant)
            and isinstance(call.args[0].value, str)
        ):
            signal = call.args[0].value.replace(" ", "")
            if signal not in module.signals:
                yield call, f"{signal} is no signal that a widget here has"


@rule
def no_threads(module: Module) -> Iterator[tuple[ast.AST, str]]:
    # Threads starve in an idle Slicer (slicer-verified.md 2).
    for node in module.nodes(ast.Import, ast.ImportFrom):
        for name in imported(node) & THREADS:
            yield node, f"{name}: use a process or a timer"
    for node in module.nodes(ast.Attribute):
        if dotted(node) == "qt.QThread":
            yield node, "qt.QThread: use a process or a timer"


@rule
def no_dialog_outside_panels(module: Module) -> Iterator[tuple[ast.AST, str]]:
    if "panels" in module.parts or "MedDINOv3SlicerLib" not in module.parts:
        return
    for call in module.calls():
        name = dotted(call.func).rpartition(".")[2]
        # A QEventLoop's exec waits, it asks nobody anything.
        loop = "loop" in dotted(call.func).lower()
        if (name in DIALOGS and "." in dotted(call.func) and not loop) or name in BOXES:
            yield call, f"{dotted(call.func)}: only panels talk to people"


@rule
def no_partial_slot(module: Module) -> Iterator[tuple[ast.AST, str]]:
    # A partial gets all arguments, surplus ones too (slicer-verified.md 1).
    for call in module.calls():
        if isinstance(call.func, ast.Attribute) and call.func.attr == "connect" and call.args:
            slot = call.args[-1]
            if isinstance(slot, ast.Call) and dotted(slot.func).rpartition(".")[2] == "partial":
                yield call, "a partial is given every argument: use a lambda"


@rule
def single_shot_is_set_by_method(module: Module) -> Iterator[tuple[ast.AST, str]]:
    for node in module.nodes(ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Attribute) and target.attr == "singleShot":
                yield node, "the static function hides the property: setSingleShot"


@rule
def nothing_heavy_at_import(module: Module) -> Iterator[tuple[ast.AST, str]]:
    for node in module.at_file_level():
        for name in sorted(imported(node) & HEAVY):
            yield node, f"{name} at file level: opening the module would import it"


@rule
def scene_knows_no_qt(module: Module) -> Iterator[tuple[ast.AST, str]]:
    if "scene" not in module.parts:
        return
    for node in module.nodes(ast.Import, ast.ImportFrom):
        for name in sorted(imported(node) & {"qt", "ctk"}):
            yield node, f"{name} in scene/"
        if isinstance(node, ast.ImportFrom) and node.module == "slicer":
            for alias in node.names:
                if alias.name in APPLICATION:
                    yield node, f"slicer.{alias.name} in scene/"
    for node in module.nodes(ast.Attribute):
        if dotted(node) in {f"slicer.{name}" for name in APPLICATION}:
            yield node, f"{dotted(node)} in scene/: the scene is given"


APPLICATION = {"app", "util", "modules", "mrmlScene"}


@rule
def flags_are_not_read(module: Module) -> Iterator[tuple[ast.AST, str]]:
    # R10: alignment, standardButtons and filters read as opaque objects.
    for node in module.nodes(ast.Attribute):
        if (
            node.attr in ("alignment", "standardButtons", "filters")
            and isinstance(node.ctx, ast.Load)
            and module.is_widget(node.value)
        ):
            yield node, f"{dotted(node)}: flags can be written, not read"


@rule
def gone_from_qt(module: Module) -> Iterator[tuple[ast.AST, str]]:
    # Slicer is built with Qt 5 and with Qt 6 (slicer-runtime.md 3).
    gone = {"qt.QRegExp", "qt.QDesktopWidget", "qt.Qt.CTRL", "qt.QTest", "qt.QSvgWidget"}
    for node in module.nodes(ast.Attribute):
        if dotted(node) in gone:
            yield node, f"{dotted(node)} is not in every Slicer"


def lint(source: str, path: str, attributes: set[str], signals: set[str]) -> list[Finding]:
    """What would fail in Slicer.

    Args:
        source: the file's text.
        path: relative to the module's folder; rules look at folder names.
        attributes: writable properties of the widget classes there are.
        signals: full signatures of the signals there are.
    """
    module = Module(source, path, attributes, signals)
    return [
        Finding(name, node.lineno, what)
        for name, check in RULES.items()
        for node, what in check(module)
    ]
