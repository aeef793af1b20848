"""A question in Slicer's own dialogue, for what must be agreed to before anything happens."""

from __future__ import annotations

import slicer


def askInSlicer(text: str) -> bool:
    """Ask, and return whether a person agreed.

    Nobody agrees in an automatic test, where Slicer's own dialogues answer yes by themselves.
    """
    if slicer.app.testingEnabled():
        return False
    return bool(slicer.util.confirmOkCancelDisplay(text))
