"""Puts what is needed into Slicer's Python: only when asked for, and only after a yes."""

from __future__ import annotations

import contextlib
import importlib
import io
import shutil
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from packaging.requirements import Requirement
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.install import wording
from MedDINOv3SlicerLib.install.packages import (
    ALONE,
    LISTS,
    PROTECTED,
    SEGMENTING,
    TORCH,
    TRAINING,
    Missing,
    VersionOf,
    findMissing,
    installedVersion,
    readLists,
    versions,
)
from MedDINOv3SlicerLib.problem import Problem
from MedDINOv3SlicerLib.signal import Signal

REQUESTER = "MedDINOv3"
Importer = Callable[[str], Any]


class Installer:
    """Says what is missing, asks, installs.

    Attributes:
        changed: emitted after packages were installed; a running worker knows the old ones.

    Args:
        ask: shows a text and returns whether a person agreed.
        resource: gives the path of a file below ``Resources``.
        otherPython: the Python chosen in the settings, "" for Slicer's own; into another one
            nothing is ever installed.
        missing: finds what is not here.
        load: imports ``slicer.packaging`` and ``PyTorchUtils``.
        versionOf: gives the version of an installed package.
    """

    def __init__(
        self,
        ask: Callable[[str], bool],
        resource: Callable[[str], str],
        otherPython: Callable[[], str] = lambda: "",
        missing: Callable[[Sequence[str]], Missing] = findMissing,
        load: Importer = importlib.import_module,
        versionOf: VersionOf = installedVersion,
    ) -> None:
        self._ask, self._resource, self._otherPython = ask, resource, otherPython
        self._missing, self._load, self._versionOf = missing, load, versionOf
        self.changed = Signal()

    def missing(self, purpose: str = SEGMENTING) -> Missing:
        """What `purpose` needs and Slicer's Python lacks; nothing if another Python computes."""
        return Missing() if self._otherPython() else self._missing(self._lists(purpose))

    def versions(self) -> dict[str, str]:
        """Versions in Slicer's Python by package, "" for what is not installed."""
        return versions(self._lists(TRAINING), self._versionOf)

    def ensure(self, purpose: str = SEGMENTING) -> Problem | None:
        """Have everything that `purpose` needs; asks first, and shows progress.

        Returns:
            None when all is there, else why not; the code is ``declined`` after a no.
        """
        try:
            missing = self.missing(purpose)
        except (OSError, ValueError) as error:
            return wording.failed(str(error), traceback.format_exc())
        if not missing:
            return None
        problem = self._possible(missing)
        if problem is not None:
            return problem
        where = sysconfig.get_path("purelib")
        if not self._ask(wording.question(missing, purpose, where, _freeGb(where))):
            return wording.declined(purpose)
        return self._install(missing, purpose)

    def update(self) -> Problem | None:
        """Bring what is installed of ours up to date; torch and Slicer's own stay as they are."""
        if self._otherPython():
            return Problem(
                _("Another Python is chosen in the settings; nothing is installed into it."),
                _("Update its packages there, for example with pip."),
                code="other-python",
            )
        names = [Requirement(line).name for line in self._lists(TRAINING)]
        here = [name for name in names if self._versionOf(name)]
        if not here:
            return self.ensure(SEGMENTING)
        if self._packaging() is None:
            return wording.oldSlicer()
        if not self._ask(
            _("Download and install newer versions of {names}, where there are any?").format(
                names=", ".join(here)
            )
        ):
            return wording.declined(SEGMENTING)
        return self._attempt(lambda: self._pip(here, "--upgrade"))

    def _lists(self, purpose: str) -> tuple[str, ...]:
        return readLists(self._resource(name) for name in LISTS[purpose])

    def _pip(self, asked: Sequence[str], *options: str) -> None:
        """Install, with Slicer's own and torch held where they are.

        Not with ``skip_packages``: that rewrites what other packages declare, goes on when one
        of them fails, and is refused together with ``no_deps_requirements``.
        """
        alone = [line for line in asked if Requirement(line).name in ALONE]
        others = [line for line in asked if line not in alone]
        how: dict[str, Any] = {"requester": REQUESTER}
        if alone and others:
            how["no_deps_requirements"] = [*options, *alone]
        elif alone:  # pip refuses a call that names no package
            others = ["--no-deps", *alone]
        importlib.invalidate_caches()  # torch may have come just now
        with tempfile.TemporaryDirectory(prefix="meddinov3-install-") as folder:
            constraints = Path(folder, "constraints.txt")
            constraints.write_text(self._pins(), encoding="utf-8")
            self._packaging().pip_install([*options, *others], constraints=str(constraints), **how)

    def _pins(self) -> str:
        found = {name: self._versionOf(name) for name in PROTECTED}
        return "".join(f"{name}=={version}\n" for name, version in found.items() if version)

    def _possible(self, missing: Missing) -> Problem | None:
        if self._packaging() is None:
            return wording.oldSlicer()
        if missing.torch and self._torchUtils() is None:
            return wording.noTorchExtension()
        where = sysconfig.get_path("purelib")
        needed = wording.TORCH_DISK_GB if missing.torch else wording.PACKAGES_DISK_GB
        free = _freeGb(where)
        if free is not None and free < needed:
            return wording.littleSpace(needed, free, where)
        return None

    def _packaging(self) -> Any:
        return self._importable("slicer.packaging")

    def _torchUtils(self) -> Any:
        return self._importable("PyTorchUtils")

    def _importable(self, name: str) -> Any:
        try:
            return self._load(name)
        except ImportError:
            return None

    def _install(self, missing: Missing, purpose: str) -> Problem | None:
        def work() -> None:
            if missing.torch:
                logic = self._torchUtils().PyTorchUtilsLogic()
                torch = logic.installTorch(
                    askConfirmation=False, torchVersionRequirement=str(TORCH.specifier)
                )
                if torch is None:
                    raise RuntimeError("PyTorchUtils installed no torch")
            if missing.packages:
                self._pip(missing.packages)

        problem = self._attempt(work)
        if problem is not None:
            return problem
        # pip may end well although a package of a package is absent: look again.
        still = self.missing(purpose)
        if not still:
            return None
        names = ", ".join([*(["torch"] if still.torch else []), *still.packages])
        return wording.failed(_("Still missing: {names}").format(names=names), "")

    def _attempt(self, work: Callable[[], object]) -> Problem | None:
        with _overheard() as log:
            try:
                work()
            except Exception as error:  # what pip, PyTorchUtils and the disk raise has no bound
                said = (getattr(error, "output", None), getattr(error, "stderr", None))
                told = "\n".join(str(text) for text in said if text)
                problem = wording.failed(
                    f"{type(error).__name__}: {error}", f"{told}\n{log.getvalue()}".strip()
                )
            else:
                problem = None
        importlib.invalidate_caches()
        self.changed.emit()
        return problem


class _Tee(io.TextIOBase):
    """Passes on what is printed, and keeps it."""

    def __init__(self, before: TextIO) -> None:
        self._before, self._kept = before, io.StringIO()

    def write(self, text: str) -> int:
        self._before.write(text)
        return self._kept.write(text)

    def flush(self) -> None:
        self._before.flush()

    def getvalue(self) -> str:
        return self._kept.getvalue()


@contextlib.contextmanager
def _overheard() -> Iterator[_Tee]:
    """What Slicer prints of pip's words meanwhile, to say why it failed."""
    tee = _Tee(sys.stdout)
    with contextlib.redirect_stdout(tee):
        yield tee


def _freeGb(where: str) -> float | None:
    for folder in (Path(where), *Path(where).parents):
        try:
            return shutil.disk_usage(folder).free / 1e9
        except OSError:
            continue
    return None
