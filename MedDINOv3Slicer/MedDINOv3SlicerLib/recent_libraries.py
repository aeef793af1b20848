"""Which case libraries were used last; kept in Slicer's settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KEY = "MedDINOv3/RecentLibraries"
MOST = 10


class RecentLibraries:
    """Folders, the latest first. `settings` is a QSettings, or whatever has its two methods."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    def folders(self) -> list[Path]:
        """Those that still are case libraries."""
        return [folder for folder in self._all() if (folder / "cases.json").is_file()]

    def remember(self, folder: Path) -> None:
        """Put a folder first."""
        others = [other for other in self._all() if other != folder]
        # One text: across starts QSettings turns a list of one into a plain string.
        text = json.dumps([str(path) for path in (folder, *others)][:MOST])
        self._settings.setValue(KEY, text)

    def _all(self) -> list[Path]:
        try:
            return [Path(text) for text in json.loads(str(self._settings.value(KEY, "[]")))]
        except (TypeError, ValueError):
            return []
