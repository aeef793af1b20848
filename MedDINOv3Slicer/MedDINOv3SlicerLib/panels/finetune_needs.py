"""What the fine-tuning panel asks of the rest of the module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from meddinov3.cases.library import Library

    from MedDINOv3SlicerLib.model_shelf import Base
    from MedDINOv3SlicerLib.problem import Problem


class Training(Protocol):
    """A training that was ordered; ``jobs.training.Training`` is one.

    ``order`` has ``name``, ``base`` and ``library``; ``status()`` gives a ``TrainingStatus`` with
    ``state``, ``text``, ``share``, ``secondsLeft``, ``running``, ``caseScores``, ``problem``.
    """

    serial: str
    folder: Path
    order: Any

    @property
    def model(self) -> Path | None: ...

    def status(self) -> Any: ...

    def curve(self) -> Sequence[Any]: ...

    def insist(self) -> None:
        """Say again what was asked last, as long as it was not heard."""
        ...

    def pause(self) -> None: ...

    def stop(self) -> None: ...


class Chart(Protocol):
    """Draws loss and Dice, wherever it is shown."""

    def update(self, points: Sequence[Any]) -> None: ...


class FineTuneLogic(Protocol):
    """All may raise MedDINOv3Error or ImportError."""

    def recentLibraries(self) -> Sequence[Path]: ...

    def openLibrary(self, folder: Path) -> Library: ...

    def bases(self) -> Sequence[Base]: ...

    def devices(self) -> Sequence[tuple[str, str]]:
        """Name for the trainer and words for people; the first is the default."""

    def download(
        self,
        base: Base,
        progressed: Callable[[float], object],
        ended: Callable[[Problem | None], object],
    ) -> None:
        """Fetch a backbone in a process of its own; the person has agreed."""

    def start(
        self, library: Path, base: str, name: str, minutes: float, device: str,
        advanced: Mapping[str, Any],
    ) -> Training: ...  # fmt: skip

    def trainings(self) -> Sequence[Training]:
        """All on this computer, the latest first."""

    def goOn(self, training: Training) -> None:
        """Continue a paused training, or start a dead one again where it was."""

    def baseScores(self, training: Training) -> Mapping[str, float] | str:
        """Mean Dice of the base by held-out case; or in words why there is none."""

    def reasons(self, training: Training) -> Sequence[str]:
        """What was decided for this training, and why."""

    def report(self, training: Training) -> Path | None: ...

    def modelName(self, training: Training) -> str:
        """A free name for its model."""

    def keep(self, training: Training, name: str) -> Path: ...

    def show(self, path: Path) -> None:
        """Open a file or folder with the system's own program."""
