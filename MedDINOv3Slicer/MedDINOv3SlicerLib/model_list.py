"""Which models are installed, in words for the panel. Knows no qt and needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from meddinov3.model_store import InstalledModel


@dataclass(frozen=True)
class ModelList:
    """The models on this computer, or why they cannot be listed."""

    models: Sequence[InstalledModel] = ()  # the user's own first, then starters
    problem: str = ""  # a sentence for people


def readModels() -> ModelList:
    """List the installed models; a problem is returned, not raised."""
    # Imported late: the engine needs packages that a fresh Slicer lacks, and the module has to
    # open without them.
    try:
        from meddinov3.model_store import installed_models

        # Click models segment nothing by themselves; they are chosen where points are.
        return ModelList([model for model in installed_models() if not model.takes_clicks])
    except ImportError as error:
        return ModelList(
            problem=_(
                "Models cannot be listed: Slicer's Python has no package '{package}'. It is among"
                " the packages that segmenting needs; this page installs nothing."
            ).format(package=error.name or error)
        )
    except OSError as error:
        return ModelList(problem=_("Models cannot be listed: {reason}.").format(reason=error))
