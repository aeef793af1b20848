"""Fine-tuning: joins trainings, models and case libraries for the panel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
from meddinov3.errors import MedDINOv3Error
from meddinov3.progress import Progress
from meddinov3.run_folder import Follower
from meddinov3.worker.client import Listener
from meddinov3.worker.messages import Pull
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.install.packages import TRAINING
from MedDINOv3SlicerLib.jobs.training import Training
from MedDINOv3SlicerLib.jobs.training_command import TrainingOrder
from MedDINOv3SlicerLib.jobs.wording import errorOf, problemInSlicer
from MedDINOv3SlicerLib.model_shelf import Base
from MedDINOv3SlicerLib.problem import Problem

if TYPE_CHECKING:
    from meddinov3.cases.library import Library

    from MedDINOv3SlicerLib.module_logic import ModuleLogic

REPORT = "report.html"


class TrainingLogic:
    """What :class:`FineTunePanel` asks for."""

    def __init__(self, parts: ModuleLogic) -> None:
        self._parts = parts
        self._bases: dict[Path, _BaseScores] = {}

    def recentLibraries(self) -> Sequence[Path]:
        return self._parts.cases.recentLibraries()

    def openLibrary(self, folder: Path) -> Library:
        return self._parts.cases.openLibrary(folder)

    def bases(self) -> Sequence[Base]:
        return self._parts.shelf.bases()

    def devices(self) -> Sequence[tuple[str, str]]:
        found = [
            ("auto", _("automatic")),
            ("cuda", _("graphics card (CUDA)")),
            ("mps", _("Apple graphics (MPS)")),
            ("cpu", _("processor (CPU)")),
        ]
        chosen = self._parts.preferences.device()
        return sorted(found, key=lambda device: device[0] != chosen)

    def download(
        self,
        base: Base,
        progressed: Callable[[float], object],
        ended: Callable[[Problem | None], object],
    ) -> None:
        problem = self._parts.installer.ensure()
        if problem is not None:
            ended(problem)
            return

        def tell(progress: Progress) -> None:
            if progress.total:
                progressed(progress.done / progress.total)

        def fail(error: MedDINOv3Error) -> None:
            ended(problemInSlicer(error, self._parts.worker.logText()))

        def done(_result: Mapping[str, Any]) -> None:
            self._parts.shelf.changed.emit()
            ended(None)

        listener = Listener(
            progress=tell, done=done, failed=fail,
            cancelled=lambda: ended(Problem(
                _("The download was cancelled."), _("Start it again; it goes on where it was.")
            )),
        )  # fmt: skip
        try:
            self._parts.worker.ask(Pull(base.id), listener)
        except MedDINOv3Error as error:
            fail(error)

    def start(
        self, library: Path, base: str, name: str, minutes: float, device: str,
        advanced: Mapping[str, Any],
    ) -> Training:  # fmt: skip
        problem = self._parts.installer.ensure(TRAINING)
        if problem is not None:
            raise errorOf(problem)
        order = TrainingOrder(library, base, name, minutes, device, advanced)
        return self._parts.trainings.start(order)

    def trainings(self) -> Sequence[Training]:
        return list(reversed(self._parts.trainings.list()))

    def goOn(self, training: Training) -> None:
        self._parts.trainings.goOn(training)

    def baseScores(self, training: Training) -> Mapping[str, float] | str:
        # Asked every second: only what is new in the events is read.
        return self._bases.setdefault(training.run, _BaseScores(training.run)).read()

    def reasons(self, training: Training) -> Sequence[str]:
        notes: list[str] = []
        for event in Follower(training.run).new_events():
            if event["event"] == "start":
                notes = [str(note) for note in event.get("notes", ())]
        return notes

    def report(self, training: Training) -> Path | None:
        path = training.run / REPORT
        return path if path.is_file() else None

    def modelName(self, training: Training) -> str:
        taken = {entry.id for entry in self._parts.shelf.entries()}
        name, number = training.order.modelId, 2
        while name in taken:
            name, number = f"{training.order.modelId}-{number}", number + 1
        return name

    def keep(self, training: Training, name: str) -> Path:
        bundle = training.model
        if bundle is None:
            raise MedDINOv3Error(
                "no-model",
                _("The training '{name}' has no model yet.").format(name=training.order.name),
                _("Wait for its end, or stop it."),
            )
        return self._parts.shelf.keep(bundle, name, training.order.name)

    def show(self, path: Path) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))


class _BaseScores:
    """How well the base did on the held-out cases of one training, from its events."""

    def __init__(self, run: Path) -> None:
        self._follower = Follower(run)
        self._scores: dict[str, float] = {}
        self._why = ""

    def read(self) -> Mapping[str, float] | str:
        """Mean Dice by case, or why there is none."""
        for event in self._follower.new_events():
            if event["event"] == "base_validated":
                known = [value for value in event["dice"].values() if value is not None]
                if known:
                    self._scores[str(event["case"])] = sum(known) / len(known)
            elif event["event"] in ("done", "stopped"):
                self._why = str(event.get("base_scores", {}).get("why", ""))
        return dict(self._scores) or _reasons().get(self._why, _("The base was not scored."))


def _reasons() -> dict[str, str]:
    """The trainer's reasons in words."""
    return {
        "no case is held out": _("No case was held out."),
        "the base is no segmentation model": _(
            "The base is a backbone or random: by itself it finds no structures."
        ),
        "overlapping regions are not compared": _("Overlapping regions are not compared."),
        "the base has other channels": _("The base was made for other scans."),
        "the base knows none of the structures": _("The base knows none of these structures."),
    }
