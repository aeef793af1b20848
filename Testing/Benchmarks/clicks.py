"""How good masks from clicks are: by likeness alone, and by a trained click model.

    python Testing/Benchmarks/clicks.py HIPPOCAMPUS [--model CLICK_MODEL] [--only posterior]
        [--skip 4] [--encoder ID] [--ct IMAGE LABELS] [--json FILE]

HIPPOCAMPUS is the Decathlon's Task04 folder (dataset.json with a list of test cases). A simulated
user clicks up to ten times on each structure of each test case, every time at the deepest point of
the largest wrong part. Told are Dice after 1, 3, 5 and 10 clicks (mean over structures, and the
share below 0.5), how often the structure that was meant wins over its neighbour (Dice at least 0.5
larger, as in ../shared/reference/seed-systems.md, section 5), how many clicked voxels are as asked,
and seconds for the first and for later clicks. `--ct` does the same on a CT and its label map, by
likeness.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from meddinov3.features.click_model import ClickModel, load_click_model, open_click_tokens
from meddinov3.features.encoder import Encoder, load_encoder, wrap_backbone
from meddinov3.features.encoding import open_tokens
from meddinov3.features.prompting import PromptSession
from meddinov3.network.backbone import Backbone, BackboneShape
from meddinov3.reading import read_label_map, read_volume
from meddinov3_training.metrics import dice
from meddinov3_training.prompts.validation import Exchange, converse

TOLD = (1, 3, 5, 10)
STRUCTURES = {"anterior": 1, "posterior": 2}
MOST_ML = 2000.0  # larger organs of a CT are not asked about
RANDOM = "random"


def encoder_of(name: str) -> Encoder:
    """A backbone of this machine, or one with random weights."""
    if name != RANDOM:
        return load_encoder(name, "cpu")
    torch.manual_seed(0)
    shape = BackboneShape("vit_tiny_patch16_dinov3_qkvb", 1)
    return wrap_backbone(Backbone(shape, layer_scale=1.0), name=RANDOM)


class Tally:
    """Figures of one way of answering."""

    def __init__(self) -> None:
        self.dice: list[list[float]] = []
        self.lead: list[list[float]] = []
        self.said: list[Exchange] = []
        self.first: list[float] = []
        self.later: list[float] = []

    def add(self, said: list[Exchange], neighbour: np.ndarray | None) -> None:
        """One conversation, and the structure beside the one that was meant."""
        self.dice.append([exchange.dice for exchange in said])
        self.said += said
        self.first.append(said[0].seconds)
        self.later += [exchange.seconds for exchange in said[1:] if exchange.seconds]
        if neighbour is not None:
            self.lead.append([e.dice - (dice(e.mask, neighbour) or 0.0) for e in said])

    def figures(self) -> dict[str, Any]:
        """For the table."""
        scores, lead = np.array(self.dice), np.array(self.lead)
        after = {count: scores[:, count - 1] for count in TOLD}
        wins = {n: float((lead[:, n - 1] >= 0.5).mean()) if len(lead) else None for n in TOLD}
        return {
            "conversations": len(scores),
            "dice": {n: round(float(values.mean()), 3) for n, values in after.items()},
            "failed": {n: round(float((values < 0.5).mean()), 3) for n, values in after.items()},
            "wins": wins,
            "kept": float(np.mean([exchange.kept for exchange in self.said])),
            "seconds_first": round(float(np.median(self.first)), 2),
            "seconds_later": round(float(np.median(self.later)), 3),
            "seconds_later_most": round(float(np.max(self.later)), 2),
        }


def hippocampi(
    folder: Path, skip: int, only: str, model: ClickModel | None, encoder: Encoder
) -> dict[str, Any]:
    """Both structures of the test cases."""
    listed = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["test"][skip:]
    tally, encoding = Tally(), []
    for entry in listed:
        image = folder / (entry["image"] if isinstance(entry, dict) else entry)
        volume = read_volume(image)
        labels, _ = read_label_map(folder / "labels" / image.name)
        tokens = open_click_tokens(volume, model) if model else open_tokens(
            volume, encoder, pixels=208)  # fmt: skip
        begin = time.monotonic()
        tokens.encode()
        encoding.append(time.monotonic() - begin)
        session = PromptSession(tokens, model)
        for name, value in STRUCTURES.items():
            if only in ("", name):
                said = converse(session, tokens.where, labels == value, max(TOLD))
                tally.add(said, labels == 3 - value)
    return tally.figures() | {"seconds_encoding": round(float(np.median(encoding)), 2)}


def organs(image: Path, labels: Path, encoder: Encoder) -> dict[str, Any]:
    """Every structure of a CT that has some size, by likeness."""
    volume = read_volume(image)
    found, grid = read_label_map(labels)
    voxel = abs(float(np.linalg.det(grid.index_to_patient))) / 1000
    tokens = open_tokens(volume, encoder)
    begin = time.monotonic()
    tokens.encode()
    encoding = time.monotonic() - begin
    session, tally = PromptSession(tokens), Tally()
    for value in np.unique(found[found > 0]):
        wanted = found == value
        if 1.0 <= wanted.sum() * voxel <= MOST_ML:
            tally.add(converse(session, tokens.where, wanted, max(TOLD)), None)
    return tally.figures() | {"seconds_encoding": round(encoding, 1)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", default="")
    parser.add_argument("--only", default="", choices=["", *STRUCTURES])
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--encoder", default="hippocampus-mr-tiny")
    parser.add_argument("--ct", type=Path, nargs=2, metavar=("IMAGE", "LABELS"))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = load_click_model(asked.model, "cpu") if asked.model else None
    encoder = model.encoder if model else encoder_of(asked.encoder)
    if asked.ct:
        result = organs(*asked.ct, encoder)
    else:
        result = hippocampi(asked.dataset, asked.skip, asked.only, model, encoder)
    text = json.dumps(result, indent=1)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
