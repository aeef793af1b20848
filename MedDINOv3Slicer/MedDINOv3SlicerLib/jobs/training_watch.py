"""Looks after a training while Slicer runs: a timer reads what it tells."""

from __future__ import annotations

import qt

from MedDINOv3SlicerLib.jobs.training import Training
from MedDINOv3SlicerLib.jobs.training_state import TrainingStatus
from MedDINOv3SlicerLib.jobs.wording import problemInSlicer
from MedDINOv3SlicerLib.signal import Signal

EVERY = 1000  # ms


class TrainingWatch:
    """Tells what changes. The training neither needs nor notices it.

    Attributes:
        training: that is watched.
        progressed: emitted with :class:`TrainingStatus` whenever it is another.
        curve: emitted with a list of :class:`CurvePoint` whenever there is a new point.
        ended: emitted once with the state (``done``, ``stopped``, ``interrupted``, ``failed`` or
            ``ended``) and a :class:`Problem` or None; again after it was gone on with.
        status: the last that was told.
    """

    def __init__(self, training: Training, every: int = EVERY) -> None:
        """Watch from the next turn of the event loop on; :meth:`close` ends it.

        Args:
            training: running or not.
            every: ms between two looks.
        """
        self.training = training
        self.progressed, self.curve, self.ended = Signal(), Signal(), Signal()
        self.status: TrainingStatus | None = None
        self._points = -1
        self._over = False
        self._timer = qt.QTimer()
        self._timer.setInterval(every)
        self._timer.timeout.connect(lambda: self.look())
        self._timer.start()
        self._open = True
        qt.QTimer.singleShot(0, lambda: self.look())

    def look(self) -> None:
        """Look now."""
        if not self._open:
            return
        try:
            self.training.insist()
            status, points = self.training.status(), self.training.curve()
        except Exception as error:  # e.g. its folder was deleted
            self.close()
            self.ended.emit("failed", problemInSlicer(error))
            return
        changed = status != self.status
        self.status = status
        if points and hash(tuple(points)) != self._points:
            self._points = hash(tuple(points))
            self.curve.emit(points)
        if changed:
            self.progressed.emit(status)
        if status.running:
            self._over = False
        elif not self._over:
            self._over = True
            self.ended.emit(status.state, status.problem)

    def pause(self) -> None:
        """Let the training wait."""
        self.training.pause()
        self.look()

    def goOn(self) -> None:
        """Let a paused training go on."""
        self.training.goOn()
        self.look()

    def stop(self) -> None:
        """Let the training end early, with the model of that moment."""
        self.training.stop()
        self.look()

    def close(self) -> None:
        """Watch no more; the training goes on."""
        self._open = False
        self._timer.stop()
