"""What has to be known to repeat one of the paper's benchmarks."""

from __future__ import annotations

import re
from dataclasses import dataclass

PRESET = "paper-896"
BACKBONE = "meddinov3-ct"
STEPS = 250_000  # 1000 epochs of 250
BATCH = 12  # nnU-Net's 2D reference; the paper names none

CAVEATS = (
    "The paper (arXiv 2509.02379) trains once on a fixed 80/20 split that it does not publish, "
    "without repetition: differences of a point mean little.",
    "Its checkpoint is the one with the best pseudo-Dice on the very cases that are scored, for "
    "all methods; here the last weights are scored.",
    "Its Dice and NSD (at 1 mm) leave out a label that a case's reference lacks, and are means "
    "of the labels' means.",
    "The scans that were scored are not kept out of the pretraining images (which have no labels).",
)


@dataclass(frozen=True)
class Score:
    """A row of the paper's Table 2, in percent.

    Attributes:
        method: its name there.
        dice: mean Dice.
        surface_dice: mean normalised surface Dice (NSD).
    """

    method: str
    dice: float
    surface_dice: float


@dataclass(frozen=True)
class Release:
    """The files of a data set as its owners hand them out.

    Attributes:
        structure: the folders, for people.
        image, label: patterns of a file's path below the folder a person gives, with ``/``.
            Files belong together if the patterns' groups are equal.
        case: the converted case's id, made from the image's groups.
        ending: of all files.
        cases: how many cases with labels it holds.
    """

    structure: str
    image: re.Pattern[str]
    label: re.Pattern[str]
    case: str
    ending: str
    cases: int


@dataclass(frozen=True)
class Recipe:
    """A benchmark: where its data come from, what they mean, what the paper reached.

    Attributes:
        id: what the command line takes.
        title: for people.
        page: where to read about it and to get it.
        download: what to fetch, in words.
        size: of the download, in words.
        access: who has to register or agree to what.
        licence: of the data.
        reference: what to cite.
        channel: the name that chooses the intensity scheme.
        labels: name and value; for region-based labels all values of a region.
        regions_class_order: values that are written for the regions, in order.
        release: the files.
        compared_with: which cases the paper's numbers are of.
        table_2: the paper's numbers; empty if it has none for these cases.
    """

    id: str
    title: str
    page: str
    download: str
    size: str
    access: str
    licence: str
    reference: str
    channel: str
    labels: tuple[tuple[str, int | tuple[int, ...]], ...]
    release: Release
    compared_with: str
    table_2: tuple[Score, ...]
    regions_class_order: tuple[int, ...] | None = None

    @property
    def values(self) -> frozenset[int]:
        """Every value that a label map may hold."""
        members = (value if isinstance(value, tuple) else (value,) for _, value in self.labels)
        return frozenset({0}).union(*members)

    def commands(self) -> tuple[str, ...]:
        """What to type, from the released folder to a model trained as in the paper."""
        return (
            f"meddinov3 models pull {BACKBONE}",
            f"meddinov3 dataset convert {self.id} DOWNLOADED datasets/{self.id}",
            f"meddinov3 finetune datasets/{self.id} --base {BACKBONE} --preset {PRESET} "
            f"--steps {STEPS} --batch {BATCH} --decoder-rate 3e-4 --backbone-rate 3e-5 "
            f"--output runs/{self.id}",
        )
