"""Why a training process ended, read from what it printed."""

from __future__ import annotations

from meddinov3.errors import MedDINOv3Error
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.jobs.wording import problemInSlicer
from MedDINOv3SlicerLib.problem import Problem

KILLED = (-9, 137)
ERROR, REMEDY = "Error: ", "What to do: "


def problemFromLog(log: str, code: int | None = None) -> Problem:
    """Put the end of a training that told nothing itself into words.

    Args:
        log: what the process printed last.
        code: how it ended, negative for a signal; None if that is not known.
    """
    if code in KILLED:
        return Problem(
            _("The training process was ended from outside, perhaps since memory ran out."),
            _("Close other programs and choose Go on: what was learnt up to the last checkpoint"
              " is kept."),
            log,
            "training-killed",
        )  # fmt: skip
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    told = [number for number, line in enumerate(lines) if line.startswith(ERROR)]
    if told:
        what = lines[told[-1]].removeprefix(ERROR)
        after = [line for line in lines[told[-1] :] if line.startswith(REMEDY)]
        remedy = after[0].removeprefix(REMEDY) if after else _("Change the settings.")
        return problemInSlicer(MedDINOv3Error("training-failed", what, remedy), log)
    if any(line.startswith("Traceback ") for line in lines):
        reason = lines[-1]
        missing = reason.startswith(("ModuleNotFoundError", "ImportError"))
        return Problem(
            _("The training ended with an error: {reason}.").format(reason=reason.rstrip(".")),
            _("Set MedDINOv3 up (at the top of the module).")
            if missing
            else _("Choose Go on; if it happens again report it with the details."),
            log,
            "not-set-up" if missing else "training-failed",
        )
    return Problem(
        _("The training process ended unexpectedly."),
        _("Choose Go on: what was learnt up to the last checkpoint is kept. If it happens again"
          " report it with the details."),
        log,
        "training-died",
    )  # fmt: skip
