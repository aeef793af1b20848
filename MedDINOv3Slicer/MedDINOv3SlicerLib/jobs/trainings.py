"""All trainings of this user: found again, started, gone on with, removed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import qt
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import user_folder
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.jobs.training import ORDER, Training
from MedDINOv3SlicerLib.jobs.training_command import TrainingOrder, startCommand

FREEING = 30_000  # ms for the worker to give up its memory
FreeMemory = Callable[[Callable[[], None]], None]
ATTEMPTS, BETWEEN = 20, 0.1  # s


def trainingEntry() -> Path:
    """``meddinov3_training/__main__.py``, beside the engine or in a checkout.

    Raises:
        MedDINOv3Error: it is not there.
    """
    import meddinov3

    engine = Path(meddinov3.__file__).resolve().parent
    for folder in (engine.parent, engine.parents[1] / "training"):
        entry = folder / "meddinov3_training" / "__main__.py"
        if entry.is_file():
            return entry
    raise MedDINOv3Error(
        "not-set-up",
        _("The part that trains is not beside the module."),
        _("Install the extension again."),
    )


class Trainings:
    """Trainings below one folder, newest last."""

    def __init__(
        self,
        python: Callable[[], str],
        environment: Callable[[], Mapping[str, str]],
        freeMemory: FreeMemory | None = None,
        folder: Path | None = None,
    ) -> None:
        """Look at nothing yet.

        Args:
            python, environment: as for :class:`MedDINOv3SlicerLib.jobs.worker.Worker`.
            freeMemory: lets the worker give up its memory, then calls what it is given, see
                :meth:`Segmenting.freeMemory`.
            folder: of the trainings; ``runs`` in the user's folder by default.
        """
        self._python, self._environment, self._free = python, environment, freeMemory
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where they lie.

        Raises:
            MedDINOv3Error: the user's folder is not known before the set-up.
        """
        return self._folder or user_folder() / "runs"

    def list(self) -> list[Training]:
        """All, whoever started them; what cannot be read is left out."""
        if not self.folder.is_dir():
            return []
        found = []
        for path in sorted(self.folder.glob(f"*/{ORDER}")):
            try:
                found.append(Training(path.parent))
            except MedDINOv3Error:
                continue
        return sorted(found, key=lambda training: (len(training.serial), training.serial))

    def running(self) -> Training | None:
        """One that has a process at this moment, the newest of several."""
        return next((t for t in reversed(self.list()) if t.status().running), None)

    def start(self, order: TrainingOrder) -> Training:
        """Begin a training; the worker gives up its memory first.

        Raises:
            MedDINOv3Error: an option is none, there are no cases, another training uses the
                device, or the folder cannot be written to. What goes wrong later is told by
                :meth:`Training.status`.
        """
        entry = trainingEntry()
        startCommand(entry, order, Path("run"))  # refuses before anything is written
        self._checkFree(order.device)
        training = self._new(order)
        self._launch(training, entry)
        return training

    def goOn(self, training: Training) -> None:
        """Let a paused training go on, or start one anew that was interrupted or failed.

        Raises:
            MedDINOv3Error: another training uses the device.
        """
        if training.status().running:
            training.goOn()
        elif training.canGoOn():
            self._checkFree(training.order.device)
            self._launch(training, trainingEntry())

    def remove(self, training: Training) -> None:
        """Delete a training and what it learnt; a model that was kept stays.

        Raises:
            MedDINOv3Error: it runs, or a program holds its files.
        """
        if training.status().running:
            raise MedDINOv3Error(
                "training-running",
                _("The training '{name}' is running.").format(name=training.order.name),
                _("Stop it first."),
            )
        try:
            _removeTree(training.folder)
        except OSError as error:
            raise MedDINOv3Error(
                "in-use",
                _("The training's folder cannot be deleted: {reason}.").format(
                    reason=error.strerror or error
                ),
                _("Close programs that show its files, then try again."),
            ) from error

    def _new(self, order: TrainingOrder) -> Training:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            numbers = [int(p.name) for p in self.folder.iterdir() if p.name.isdecimal()]
            number = max(numbers, default=0) + 1
            while True:
                folder = self.folder / f"{number:04d}"
                try:
                    folder.mkdir()
                    break
                except FileExistsError:  # another Slicer was quicker
                    number += 1
            (folder / ORDER).write_text(order.toJson(), encoding="utf-8")
        except OSError as error:
            raise MedDINOv3Error(
                "cannot-write",
                _("The training's folder cannot be made: {reason}.").format(
                    reason=error.strerror or error
                ),
                _("Check free space and permissions of '{folder}'.").format(folder=self.folder),
            ) from error
        return Training(folder)

    def _launch(self, training: Training, entry: Path) -> None:
        training.expectLaunch()
        launched: list[bool] = []

        def launch() -> None:
            if not launched:
                launched.append(True)
                if training.status().running:  # else it was ended while it waited
                    training.launch(self._python, self._environment, entry)

        if self._free is None:
            launch()
            return
        qt.QTimer.singleShot(FREEING, launch)  # a worker that is busy is not waited for any longer
        self._free(launch)

    def _checkFree(self, device: str) -> None:
        for training in self.list():
            other = training.order.device
            if (device == other or "auto" in (device, other)) and training.status().running:
                raise MedDINOv3Error(
                    "training-running",
                    _("The training '{name}' is running; two would share the memory.").format(
                        name=training.order.name
                    ),
                    _("Wait for its end or stop it, or choose another device for each."),
                )


def _removeTree(folder: Path) -> None:
    """Delete a folder into which a process that is ending may still write its report."""
    for _attempt in range(ATTEMPTS):
        try:
            shutil.rmtree(folder)
            return
        except OSError:
            time.sleep(BETWEEN)
    shutil.rmtree(folder)
