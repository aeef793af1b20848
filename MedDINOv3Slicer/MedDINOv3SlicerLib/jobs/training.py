"""One training: a folder that remembers what was ordered, and a process that outlives Slicer."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from meddinov3.atomic import whole_file
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import DESCRIPTION_FILE
from meddinov3.run_folder import (
    CONFIG,
    EVENTS,
    Follower,
    is_running,
    owner_pid,
    read_command,
    send_command,
)
from meddinov3.worker.process import log_tail
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.jobs.process import endTree, exitCode, isAlive, isOurs, startDetached
from MedDINOv3SlicerLib.jobs.training_command import (
    TrainingOrder,
    resumeCommand,
    startCommand,
)
from MedDINOv3SlicerLib.jobs.training_log import problemFromLog
from MedDINOv3SlicerLib.jobs.training_state import (
    CAN_GO_ON,
    DONE,
    ENDED,
    FAILED,
    INTERRUPTED,
    STOPPED,
    WAITING,
    CurvePoint,
    EventReading,
    TrainingStatus,
)
from MedDINOv3SlicerLib.jobs.wording import problemInSlicer
from MedDINOv3SlicerLib.problem import Problem

ORDER, PROCESS, OUTCOME, WANTED = "order.json", "process.json", "outcome.json", "wanted.json"
LOG, RUN = "log.txt", "run"
WAIT_FOR_START = 120.0  # seconds for the worker to give up its memory
GETTING_READY = 600.0  # seconds until a process that was started must have begun its run

Python = Callable[[], str]
Environment = Callable[[], Mapping[str, str]]


class Training:
    """A training that was ordered, whoever started it and whether or not it still runs.

    Attributes:
        folder: holds ``order.json``, ``log.txt`` and ``run``, the folder of the trainer.
        order: what was ordered.
        run: the trainer's folder.
    """

    def __init__(self, folder: Path) -> None:
        """Find a training again.

        Raises:
            MedDINOv3Error: the folder holds none.
        """
        self.folder, self.run, self.logFile = folder, folder / RUN, folder / LOG
        try:
            self.order = TrainingOrder.fromJson((folder / ORDER).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise MedDINOv3Error(
                "no-run",
                _("'{name}' holds no training that can be read: {reason}.").format(
                    name=folder.name, reason=error
                ),
                _("Delete the folder, or start a new training."),
            ) from error
        self._follower, self._reading = Follower(self.run), EventReading()
        self._session = 0.0

    @property
    def serial(self) -> str:
        """By which it is told from others."""
        return self.folder.name

    @property
    def model(self) -> Path | None:
        """The model's folder, None before the end."""
        name = self.status().model
        bundle = self.run / name
        return bundle if name and (bundle / DESCRIPTION_FILE).is_file() else None

    def expectLaunch(self) -> None:
        """It is about to be launched: what an earlier process came to counts no more."""
        for name in (OUTCOME, WANTED, PROCESS):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / ORDER).touch()

    def launch(self, python: Python, environment: Environment, entry: Path) -> None:
        """Start the process, or start it again from the last checkpoint.

        What goes wrong is the training's failure, see :meth:`status`.

        Args:
            python: the program.
            environment: of the process.
            entry: ``meddinov3_training/__main__.py``.
        """
        (self.folder / OUTCOME).unlink(missing_ok=True)
        with suppress(OSError):  # Windows: somebody reads it
            self.logFile.unlink(missing_ok=True)
        begun = (self.run / CONFIG).is_file()
        try:
            make = resumeCommand if begun else startCommand
            command = [python(), *make(entry, self.order, self.run)]
            if not begun:  # what a process left that died before it knew its task
                shutil.rmtree(self.run, ignore_errors=True)
            before = events.stat().st_size if (events := self.run / EVENTS).is_file() else 0
            pid = startDetached(command, environment(), self.logFile)
            self._write(PROCESS, {"pid": pid, "started": time.time(), "events": before})
        except (MedDINOv3Error, OSError, ImportError) as error:
            self.settle(problemInSlicer(error))

    def status(self) -> TrainingStatus:
        """How far it is at this moment."""
        self._read()
        outcome = self._load(OUTCOME)
        if outcome is not None:
            return self._settled(outcome)
        process = self._load(PROCESS)
        if process is None:
            return self._notStarted()
        working = self._holdsLock() or self._alive()
        if not working:
            self._read()  # its last words may have come just now
        told = self._reading.state
        if told in (DONE, STOPPED):
            return self._ended(told)
        if told in (FAILED, INTERRUPTED) or working:
            return self._reading.status(told, self._withLog(self._reading.problem))
        problem = problemFromLog(self.log(), exitCode(int(process.get("pid", 0))))
        return self._reading.status(FAILED, problem)

    def curve(self) -> list[CurvePoint]:
        """The learning curve so far."""
        self._read()
        return self._reading.curve()

    def log(self) -> str:
        """The end of what the process printed."""
        return log_tail(self.logFile)

    def pause(self) -> None:
        """Let it wait; memory stays taken."""
        self._want("pause")

    def goOn(self) -> None:
        """Let a paused one go on; one that has no process is to be launched again."""
        self._want("go on")

    def stop(self) -> None:
        """Let it end early, with the model of that moment."""
        self._want("stop")

    def insist(self) -> None:
        """Say again what is wanted: a process that only starts does not hear it."""
        wanted = (self._load(WANTED) or {}).get("command")
        if wanted is None or not self._holdsLock():
            return
        if read_command(self.run) != wanted:
            with suppress(MedDINOv3Error):  # Windows: it is being read; the next time
                send_command(self.run, wanted)

    def end(self) -> None:
        """End the process at once; there will be no model, but it can be launched again."""
        if self.status().state in (DONE, STOPPED):
            return
        self._write(OUTCOME, {"state": ENDED})
        process = self._load(PROCESS)
        if process is not None and self._alive():
            endTree(int(process["pid"]))
        pid = owner_pid(self.run)
        if pid is not None and is_running(self.run):  # so it is no other of that number
            endTree(pid)

    def settle(self, problem: Problem) -> None:
        """Remember that it failed."""
        self._write(
            OUTCOME,
            {"state": FAILED, "code": problem.code, "what": problem.what, "remedy": problem.remedy},
        )

    @property
    def wanted(self) -> str:
        """``pause``, ``stop`` or ``go on``: what was asked last, heeded already or not."""
        return str((self._load(WANTED) or {}).get("command", "go on"))

    def canGoOn(self) -> bool:
        """Whether launching it again makes sense."""
        return self.status().state in CAN_GO_ON

    def _want(self, command: str) -> None:
        self._write(WANTED, {"command": command})
        self.insist()

    def _read(self) -> None:
        process = self._load(PROCESS) or {}
        started = process.get("started", 0.0)
        if started != self._session:  # what an earlier process said does not tell of this one
            for event in self._follower.new_events(int(process.get("events", 0))):
                self._reading.take(event)
            self._reading.begin()
            self._session = started
        for event in self._follower.new_events():
            self._reading.take(event)

    def _notStarted(self) -> TrainingStatus:
        if time.time() - (self.folder / ORDER).stat().st_mtime < WAIT_FOR_START:
            return self._reading.status(WAITING)
        problem = Problem(
            _("The training was ordered but never started: Slicer ended before."),
            _("Choose Go on to start it."),
            "",
            "never-started",
        )
        return self._reading.status(FAILED, problem)

    def _ended(self, told: str) -> TrainingStatus:
        status = self._reading.status(told)
        if (self.run / status.model / DESCRIPTION_FILE).is_file():
            return status
        problem = Problem(
            _("The model of this training is not in its folder any more."),
            _("Start a new training."),
            str(self.run),
            "model-gone",
        )
        return self._reading.status(FAILED, problem)

    def _settled(self, outcome: dict[str, Any]) -> TrainingStatus:
        if outcome.get("state") == ENDED:
            return self._reading.status(ENDED)
        what, remedy = str(outcome.get("what", "")), str(outcome.get("remedy", ""))
        problem = Problem(what, remedy, self.log(), str(outcome.get("code", "")))
        return self._reading.status(FAILED, problem)

    def _withLog(self, problem: Problem | None) -> Problem | None:
        if problem is None or problem.details:
            return problem
        return Problem(problem.what, problem.remedy, self.log(), problem.code)

    def _holdsLock(self) -> bool:
        try:
            return is_running(self.run)
        except (OSError, ImportError):
            return False

    def _alive(self) -> bool:
        """Whether the process that was started is there, also before it has begun its run."""
        process = self._load(PROCESS)
        try:
            pid, started = int(process["pid"]), float(process["started"])  # type: ignore[index]
        except (KeyError, TypeError, ValueError):
            return False
        if not isOurs(pid) and time.time() - started > GETTING_READY:
            return False  # by now the number may be another process's
        return isAlive(pid)

    def _load(self, name: str) -> dict[str, Any] | None:
        try:
            found = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _write(self, name: str, content: dict[str, Any]) -> None:
        with whole_file(self.folder / name) as partial:
            partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
