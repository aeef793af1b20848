"""Named settings of a plan: for most machines, for small ones, and the paper's."""

from __future__ import annotations

from dataclasses import dataclass

from meddinov3.errors import MedDINOv3Error


@dataclass(frozen=True)
class Preset:
    """Limits that a plan keeps.

    Attributes:
        name: what ``--preset`` takes.
        summary: for people.
        tokens_across: tokens of 16 pixels that the smallest structure should measure.
        largest_slice: tokens that a whole slice may have.
        largest_patch: pixels along an edge of the training patch.
        keeps_native: never coarser than the scans, even if a slice has more tokens then.
        square: patch of this many pixels along both edges over the field of view that nnU-Net's
            2D plan has, whatever the structures measure; None lets them decide.
    """

    name: str
    summary: str
    tokens_across: float = 3.5
    largest_slice: int = 56 * 56
    largest_patch: int = 512
    keeps_native: bool = True
    square: int | None = None


AUTO = Preset("auto", "spacing by the smallest structure, patches up to 512 pixels")
# MedDINOv3 (arXiv 2509.02379), configuration 2d_896 of its nnU-Net plans.
PAPER_896 = Preset("paper-896", "896 x 896 pixels over nnU-Net's field of view", square=896)
# A patch of 256 pixels has a quarter of the tokens of one of 512, and a step costs a fifth.
SMALL = Preset(
    "small",
    "for processors and small GPUs: patches up to 256 pixels, coarser slices",
    tokens_across=2.5,
    largest_slice=28 * 28,
    largest_patch=256,
    keeps_native=False,
)
PRESETS = {preset.name: preset for preset in (AUTO, PAPER_896, SMALL)}


def find_preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        MedDINOv3Error: there is none.
    """
    if name not in PRESETS:
        raise MedDINOv3Error(
            "no-preset", f"There is no preset '{name}'.", f"Choose {', '.join(PRESETS)}."
        )
    return PRESETS[name]
