"""What is to be trained, and the command that does it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from meddinov3.cases.records import is_library, read_record
from meddinov3.errors import MedDINOv3Error
from slicer.i18n import tr as _

FEWEST_TO_HOLD_OUT = 4  # with fewer cases each is needed to learn from
SHARE_HELD_OUT = 5  # one of
VALUES = (
    "batch", "checkpoint-every", "context", "decoder-rate", "backbone-rate", "layer-decay",
    "drop-path", "largest-patch", "precision", "preset", "seed", "spacing", "steps", "trained-on",
    "workers", "hold-out", "body-part", "licence", "summary",
)  # fmt: skip
SWITCHES = {  # option: its name when on, when off
    "mirror": ("--mirror", "--no-mirror"),
    "frozen": ("--frozen", "--full"),
    "checkpointing": ("--checkpointing", ""),
    "compile": ("--compile", ""),
}


@dataclass(frozen=True)
class TrainingOrder:
    """A fine-tuning.

    Attributes:
        library: folder of annotated cases.
        base: model or backbone to start from: id, folder, or ``scratch:...``.
        name: of the model to be, for people.
        minutes: in which the training ends.
        device: as for segmenting.
        advanced: further options of ``meddinov3 finetune`` by their names without dashes, e.g.
            ``{"batch": 8, "mirror": False, "spacing": (1.0, 1.0)}``; None leaves one out.
    """

    library: Path
    base: str
    name: str
    minutes: float
    device: str = "auto"
    advanced: Mapping[str, Any] = field(default_factory=dict)

    @property
    def modelId(self) -> str:
        """Id of the model, made of its name."""
        made = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return made or "my-model"

    def toJson(self) -> str:
        """As text for the run's folder."""
        plain = asdict(self) | {"library": str(self.library), "advanced": dict(self.advanced)}
        return json.dumps(plain, indent=1) + "\n"

    @classmethod
    def fromJson(cls, text: str) -> TrainingOrder:
        """What :meth:`toJson` wrote.

        Raises:
            ValueError, TypeError, KeyError: it is damaged.
        """
        fields = json.loads(text)
        return cls(**(fields | {"library": Path(fields["library"])}))


def startCommand(entry: Path, order: TrainingOrder, run: Path) -> list[str]:
    """Arguments for Python that start a training.

    Args:
        entry: ``meddinov3_training/__main__.py``.
        order: what.
        run: the run's folder, new.

    Raises:
        MedDINOv3Error: an option is none, there is no time, or there are no cases.
    """
    advanced = {name: value for name, value in order.advanced.items() if value is not None}
    unknown = sorted(set(advanced) - set(VALUES) - set(SWITCHES))
    if unknown:
        raise MedDINOv3Error(
            "bad-settings",
            _("'{name}' is no option of a training.").format(name=unknown[0]),
            _("Leave it out."),
        )
    advanced.setdefault("hold-out", heldOut(countCases(order.library)))
    options = [
        "--base", order.base, "--output", str(run), "--name", order.modelId,
        "--title", order.name, "--device", order.device,
    ]  # fmt: skip
    if "steps" not in advanced:
        options += ["--budget", budget(order.minutes)]
    for name, value in advanced.items():
        if name in SWITCHES:
            switch = SWITCHES[name][0 if value else 1]
            options += [switch] if switch else []
        else:
            # In one word: a value may begin with a dash.
            options.append(f"--{name}={_text(value)}")
    return [str(entry), "finetune", str(order.library), *options]


def resumeCommand(entry: Path, order: TrainingOrder, run: Path) -> list[str]:
    """Arguments for Python that go on with a training from its last checkpoint."""
    return [str(entry), "finetune", str(order.library), "--output", str(run), "--resume"]


def budget(minutes: float) -> str:
    """A time as the command takes it.

    Raises:
        MedDINOv3Error: it is no time.
    """
    if not math.isfinite(minutes) or minutes * 60 < 1:
        raise MedDINOv3Error(
            "bad-settings", _("There is no time to train."), _("Give some minutes.")
        )
    return f"{round(minutes * 60)}s"


def heldOut(cases: int) -> int:
    """Cases to be scored instead of trained on: a fifth, at least one of four or more."""
    return max(1, cases // SHARE_HELD_OUT) if cases >= FEWEST_TO_HOLD_OUT else 0


def countCases(library: Path) -> int:
    """Annotated cases that a training would use.

    Raises:
        MedDINOv3Error: there are none, or the folder holds none.
    """
    if is_library(library):
        count = len(read_record(library).training_cases)
    else:
        try:
            content = json.loads((library / "dataset.json").read_text(encoding="utf-8"))
            listed = content.get("training")
            files = [p for p in (library / "labelsTr").iterdir() if not p.name.startswith(".")]
            count = len(listed) if isinstance(listed, list) else len(files)
        except (OSError, ValueError, AttributeError) as error:
            raise MedDINOv3Error(
                "no-dataset",
                _("'{name}' is no library of cases: {reason}.").format(
                    name=library.name, reason=error
                ),
                _("Choose a case library, or a folder in nnU-Net's raw layout."),
            ) from error
    if count == 0:
        raise MedDINOv3Error(
            "no-cases",
            _("The library '{name}' has no case to train on.").format(name=library.name),
            _("Add a corrected segmentation first."),
        )
    return count


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)
