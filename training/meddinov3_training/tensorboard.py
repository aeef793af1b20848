"""TensorBoard files of a run, for those who have TensorBoard open anyway."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

FOLDER = "tensorboard"
GROUPS = {
    "loss": "training/loss",
    "rate": "training/learning_rate",
    "samples_per_second": "speed/samples_per_second",
    "data_wait": "speed/waiting_for_data",
}
ENDS = ("done", "stopped", "paused", "error")


class TensorBoard:
    """Listens to a run and writes scalars below its folder.

    Without the tensorboard package nothing is written, and `note` says so. A disk that is full
    never stops a training.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.note = ""
        self._folder = folder / FOLDER
        self._writer: Any = None
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            self.note = (
                "no TensorBoard files are written: the package tensorboard is not installed; "
                "events.jsonl and curve.png hold the same"
            )
            return
        self._make: Any = SummaryWriter

    def __call__(self, event: dict[str, Any]) -> None:
        """Write what an event holds."""
        if self.note:
            return
        kind, step = event.get("event"), event.get("step")
        with contextlib.suppress(OSError):
            if kind == "step" and isinstance(step, int):
                for key, tag in GROUPS.items():
                    self._add(tag, event.get(key), step)
            elif kind == "pseudo" and isinstance(step, int):
                self._add("pseudo_dice/mean", event.get("mean"), step)
                for label, value in (event.get("dice") or {}).items():
                    self._add(f"pseudo_dice/{label}", value, step)
            elif kind == "done":
                self._scores(event)
            if kind in ENDS:
                self.close()

    def close(self) -> None:
        """Finish the file; an event after it begins another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _scores(self, event: dict[str, Any]) -> None:
        scores, step = event.get("scores") or {}, event.get("steps") or 0
        self._add("held_out_dice/mean", scores.get("mean_dice"), step)
        for label, value in (scores.get("dice") or {}).items():
            self._add(f"held_out_dice/{label}", value, step)

    def _add(self, tag: str, value: Any, step: int) -> None:
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            return
        if self._writer is None:
            # Steps that a resumed run repeats replace those of the file before.
            self._writer = self._make(str(self._folder), purge_step=step)
        self._writer.add_scalar(tag, value, step)
