"""Where a panel's own failures go: into its problem box, never into a pop-up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from slicer.i18n import tr as _

from MedDINOv3SlicerLib.problem import Problem, problemOf


class Problems(Protocol):
    """What a panel needs of :class:`ProblemBox`."""

    widget: Any

    def show(self, problem: Problem) -> None: ...

    def clear(self) -> None: ...


@contextmanager
def shown(problems: Problems, keep: bool = False) -> Iterator[None]:
    """Show whatever goes wrong inside.

    What was shown before goes away first, unless `keep`: a list that is only drawn anew must not
    wipe off why the last click failed.
    """
    if not keep:
        problems.clear()
    try:
        yield
    except ImportError as error:
        problems.show(notSetUp(error))
    except Exception as error:
        problems.show(problemOf(error))


def notSetUp(error: ImportError) -> Problem:
    """A package that a fresh Slicer lacks is no defect but a step not taken yet."""
    return Problem(
        _("Slicer's Python has no package '{package}' yet.").format(package=error.name or error),
        _("Press Set up at the top of this module, then try again."),
        str(error),
        "not-set-up",
    )


class Gate:
    """A button that says in its tool tip why it cannot be pressed now."""

    def __init__(self, button: Any) -> None:
        self.button = button
        self._usual = button.toolTip

    def set(self, why: str) -> None:
        """Enable the button, or give the reason why not."""
        self.button.enabled = not why
        self.button.toolTip = why or self._usual
