"""The engine's errors in Slicer's words: no options of a command line."""

from __future__ import annotations

from meddinov3.errors import MedDINOv3Error
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.problem import Problem, problemOf


def problemInSlicer(error: BaseException, details: str = "") -> Problem:
    """A failed job in words.

    Args:
        error: whatever was raised or reported.
        details: log or traceback.
    """
    if isinstance(error, ImportError):
        return Problem(
            _("A package that MedDINOv3 needs is missing: {name}.").format(
                name=error.name or error
            ),
            _("Set MedDINOv3 up (at the top of the module)."),
            details,
            "not-set-up",
        )
    problem = problemOf(error, details)
    remedy = _remedies().get(problem.code)
    if remedy is None:
        return problem
    return Problem(problem.what, remedy, problem.details, problem.code)


def errorOf(problem: Problem) -> MedDINOv3Error:
    """A problem as an exception, for scripts."""
    return MedDINOv3Error(problem.code or "failed", problem.what, problem.remedy)


def _remedies() -> dict[str, str]:
    """Where the engine names options of the command line."""
    return {
        "region-needed": _("Draw a region (ROI) around the structure and choose it under Region."),
        "wrong-channels": _("Choose a volume for each channel of the model."),
        "no-device": _("Choose another device, or update the driver."),
        "unknown-device": _("Choose another device."),
        "precision-unsupported": _("Leave the precision to the device."),
        "no-model": _("Choose another model under Models."),
        "which-model": _("Choose a model."),
        "budget-too-small": _("Give more minutes, or choose a smaller base."),
        "run-exists": _("Start a new training."),
        "dataset-changed": _("Start a new training, perhaps with the last one's model as base."),
        "split": _("Add more cases."),
        "no-labels": _("Add a case with a drawn structure first."),
        "run-ended": _("To train on, start a new training with that model as base."),
        "cannot-write": _("Check free space and permissions, or choose another folder."),
        "bad-settings": _("Correct the advanced settings."),
    }
