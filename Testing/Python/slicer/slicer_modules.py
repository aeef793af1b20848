"""Python modules that Slicer has and slicer-core lacks: base classes, i18n, packaging, samples."""

from __future__ import annotations

import subprocess
import types
import unittest
from pathlib import Path
from typing import Any


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title, parent.categories, parent.dependencies = "", [], []
        parent.contributors, parent.helpText, parent.acknowledgementText = [], "", ""

    def resourcePath(self, filename: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / filename)


class ScriptedLoadableModuleWidget:
    """Order seen there: __init__(parent), setup, enter; exit, enter; cleanup at the end."""

    def __init__(self, parent: Any = None) -> None:
        import qt

        if parent is None:
            parent = qt.QWidget()
            qt.QVBoxLayout(parent)
        self.parent, self.layout = parent, parent.layout()
        self.moduleName = type(self).__name__.removesuffix("Widget")

    def resourcePath(self, filename: str) -> str:
        import sys

        file = sys.modules[type(self).__module__].__file__
        return str(Path(file or "").parent / "Resources" / filename)

    def setup(self) -> None:
        pass

    def enter(self) -> None:
        pass

    def exit(self) -> None:
        pass

    def cleanup(self) -> None:
        pass


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message: str, **_: Any) -> None:
        print(message)


def refusePip(
    requirements: Any, no_deps_requirements: Any = None, skip_packages: Any = None,
    blocking: bool = True, **_how: Any,
) -> None:  # fmt: skip
    """Raise for what ``slicer.packaging.pip_install`` of 5.12.3, or pip, refuses."""
    if skip_packages is not None and no_deps_requirements is not None:
        raise ValueError("skip_packages and no_deps_requirements are mutually exclusive")
    if skip_packages is not None and not blocking:
        raise ValueError("skip_packages requires blocking=True")
    for asked in (requirements, no_deps_requirements):
        if asked is None:
            continue
        if type(asked) not in (str, list):
            raise ValueError("requirement input must be string or list")
        words = asked.split() if isinstance(asked, str) else asked
        if all(word.startswith("-") for word in words):
            raise subprocess.CalledProcessError(1, "pip", "You must give at least one requirement")


class Packaging:
    """``slicer.packaging`` that installs nothing and records what it was asked.

    Signatures as read in 5.12.3. ``missing`` are requirements that are not there; ``fails`` is
    what an installation raises.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.missing: set[str] = set()
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []
        self.fails: Exception | None = None

    def pip_check(self, req: Any) -> bool:
        asked = [str(req)] if not isinstance(req, list | tuple) else [str(r) for r in req]
        return not self.missing & set(asked)

    def pip_install(
        self,
        requirements: Any,
        constraints: Any = None,
        no_deps_requirements: Any = None,
        skip_packages: Any = None,
        blocking: bool = True,
        show_progress: bool = True,
        requester: Any = None,
        parent: Any = None,
        logCallback: Any = None,
        completedCallback: Any = None,
    ) -> Any:
        given = {k: v for k, v in locals().items() if k not in ("self", "requirements")}
        refusePip(requirements, **given)
        self.calls.append(("pip_install", requirements, given))
        self._install(requirements, blocking, logCallback, completedCallback)

    def pip_ensure(
        self,
        requirements: Any,
        constraints: Any = None,
        skip_packages: Any = None,
        prompt_install: bool = True,
        prompt_restart: bool = True,
        requester: Any = None,
        skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> Any:
        given = {k: v for k, v in locals().items() if k not in ("self", "requirements")}
        self.calls.append(("pip_ensure", requirements, given))
        self._install(requirements, True, None, None)
        return []

    def pip_uninstall(
        self,
        requirements: Any,
        blocking: bool = True,
        logCallback: Any = None,
        completedCallback: Any = None,
    ) -> Any:
        self.calls.append(("pip_uninstall", requirements, {}))

    def isPipInstallInProgress(self) -> bool:
        return False

    def load_requirements(self, path: Any) -> list[str]:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def _install(self, asked: Any, blocking: bool, log: Any, completed: Any) -> None:
        if self.fails is not None and blocking:
            raise self.fails
        asked = [asked] if isinstance(asked, str) else asked
        if self.fails is None:
            self.missing -= {str(a) for a in asked}
        if not blocking:
            import qt

            def finish() -> None:
                if log is not None:
                    log("Collecting " + " ".join(map(str, asked)))
                if completed is not None:
                    completed(1 if self.fails is not None else 0)

            qt.QTimer.singleShot(0, finish)


PACKAGING_NAMES = (
    *("pip_check", "pip_install", "pip_ensure", "pip_uninstall", "load_requirements"),
    "isPipInstallInProgress",
)


class SampleDataLogic:
    """``SampleData.SampleDataLogic``; a registered sample is kept, nothing is downloaded."""

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: Any = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: Any = None,
        loadFileType: Any = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
    ) -> None:
        import slicer

        source = types.SimpleNamespace(**locals())
        if not hasattr(slicer.modules, "sampleDataSources"):
            slicer.modules.sampleDataSources = {}
        slicer.modules.sampleDataSources.setdefault(category, []).append(source)


def python_modules(packaging: Packaging) -> dict[str, types.ModuleType]:
    """The modules by name, for ``sys.modules``."""
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
    pack = types.ModuleType("slicer.packaging")
    for name in PACKAGING_NAMES:
        setattr(pack, name, getattr(packaging, name))
    samples = types.ModuleType("SampleData")
    samples.SampleDataLogic = SampleDataLogic
    return {m.__name__: m for m in (base, i18n, pack, samples)}
