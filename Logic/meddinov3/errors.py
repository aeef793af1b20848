"""What went wrong, why, and what to do: the one kind of error a user sees."""

from __future__ import annotations


class MedDINOv3Error(Exception):
    """An error a person can act on.

    Args:
        code: short machine-readable name, stable across versions (``"file-missing"``).
        message: one sentence: what happened and why.
        remedy: one sentence: what to do about it.
    """

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.code = code
        self.message = message
        self.remedy = remedy


class Cancelled(Exception):
    """The caller asked to stop; nothing was written."""
