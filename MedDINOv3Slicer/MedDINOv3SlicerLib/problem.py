"""What a person reads when something fails: what happened, what to do, details to copy."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from slicer.i18n import tr as _


@dataclass(frozen=True)
class Problem:
    """A failure in words.

    Attributes:
        what: one sentence on what happened and why.
        remedy: one sentence on what to do.
        details: log or traceback, for people who help.
        code: short and stable, for tests and reports.
    """

    what: str
    remedy: str
    details: str = ""
    code: str = ""


def problemOf(error: BaseException, details: str = "") -> Problem:
    """Put an exception into words; the engine's own errors carry theirs."""
    what, remedy = getattr(error, "message", ""), getattr(error, "remedy", "")
    if what and remedy:
        return Problem(what, remedy, details, getattr(error, "code", ""))
    return Problem(
        _("Something unexpected happened ({kind}: {reason}).").format(
            kind=type(error).__name__, reason=error
        ),
        _("Try again; if it happens again report it with the details."),
        details or "".join(traceback.format_exception(error)),
        "unexpected",
    )
