"""How the starter model was made, scored and put into the package.

    python Testing/Benchmarks/starter_model.py train DATASET RUN1 --budget 75m
    python Testing/Benchmarks/starter_model.py train DATASET RUN2 --budget 35m --rate 4e-4 \\
        --base RUN1/hippocampus-mr-tiny
    python Testing/Benchmarks/starter_model.py install DATASET RUN2

DATASET is the Decathlon's Task04 Hippocampus folder (images, labels, dataset.json with lists of
training and test cases). `train` calls `meddinov3 finetune` on the training list; `install`
scores the test list, which no step before has seen, writes names, codes and scores into
model.json and copies the bundle to Logic/meddinov3/starters.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from meddinov3.bundle import read_bundle, write_bundle
from meddinov3.description import ModelDescription
from meddinov3.labels import ANATOMICAL_STRUCTURE, Code, Label
from meddinov3.reading import read_label_map
from meddinov3.segmentation import load_model, segment
from meddinov3_training.dataset import content_hash, read_dataset
from meddinov3_training.metrics import dice

NAME = "hippocampus-mr-tiny"
STARTERS = Path(__file__).resolve().parents[2] / "Logic" / "meddinov3" / "starters"
HIPPOCAMPUS = Code("SCT", "5366008", "Hippocampus")
LABELS = (
    Label("anterior hippocampus", 1, (230, 120, 60), ANATOMICAL_STRUCTURE, HIPPOCAMPUS,
          Code("SCT", "255549009", "Anterior")),
    Label("posterior hippocampus", 2, (70, 160, 220), ANATOMICAL_STRUCTURE, HIPPOCAMPUS,
          Code("SCT", "255551008", "Posterior")),
)  # fmt: skip
SUMMARY = (
    "Head (anterior) and body with tail (posterior) of one hippocampus on T1-weighted MR of "
    "adults. Trained on boxes of about 36 x 51 x 35 mm (left-right x front-back x head-foot) "
    "around one hippocampus: a larger scan needs a box of that size, given as a region. Trained "
    "from random weights on a CPU; an example to start from, not for clinical use."
)
ATTRIBUTION = (
    "Medical Segmentation Decathlon, Task04 Hippocampus: Antonelli et al., Nature Communications "
    "13, 2022; Simpson et al., arXiv:1902.09063. Data under CC BY-SA 4.0."
)
LICENCE_FILE = f"""# Licence of the starter model {NAME}

The weights were trained on the Medical Segmentation Decathlon's Task04 Hippocampus, whose data
are under CC BY-SA 4.0. They are offered under the same licence:
https://creativecommons.org/licenses/by-sa/4.0/

{ATTRIBUTION}
"""


def train(dataset: Path, run: Path, budget: str, base: str, rate: str) -> None:
    """Fine-tune on all training cases; the settings that made the starter."""
    command = [sys.executable, "-m", "meddinov3_training", "finetune", str(dataset)]
    command += ["--base", base, "--output", str(run), "--name", NAME]
    command += ["--spacing", "0.25,0.25", "--context=-2,-1,0,1,2", "--hold-out", "0"]
    command += ["--decoder-rate", rate, "--backbone-rate", rate, "--batch", "8"]
    command += ["--precision", "bf16", "--budget", budget]
    command += ["--body-part", "hippocampus", "--licence", "CC-BY-SA-4.0"]
    subprocess.run(command, check=True)


def score(dataset: Path, bundle: Path) -> dict[str, dict[str, float | None]]:
    """Dice of the dataset's test cases."""
    model = load_model(str(bundle))
    entries = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))["test"]
    scores = {}
    print("| case | anterior | posterior |")
    print("|---|---|---|")
    for entry in entries:
        result = segment(dataset / entry["image"], model)
        reference, _ = read_label_map(dataset / entry["label"])
        case = Path(entry["image"]).name.split(".")[0]
        scores[case] = {
            label.name: dice(result.label_map == label.value, reference == label.value)
            for label in LABELS
        }
        cells = [f"{value:.3f}" for value in scores[case].values() if value is not None]
        print(f"| {case} | {' | '.join(cells)} |", flush=True)
    return scores


def described(
    description: ModelDescription,
    scores: dict[str, dict[str, float | None]],
    dataset_sha256: str,
) -> ModelDescription:
    """The description with names, codes, licence and test scores."""
    means = {
        label.name: round(statistics.mean(s[label.name] or 0.0 for s in scores.values()), 4)
        for label in LABELS
    }
    return dataclasses.replace(
        description,
        name="Hippocampus on T1 MR",
        summary=SUMMARY,
        attribution=ATTRIBUTION,
        licence="CC-BY-SA-4.0",
        labels=LABELS,
        # The second run starts from the first, which is kept nowhere.
        network=dataclasses.replace(
            description.network, backbone_source="random initialisation", backbone_hash=""
        ),
        training={**description.training, "dataset_sha256": dataset_sha256},
        scores={
            "test_cases": len(scores),
            "dice": means,
            "mean_dice": round(statistics.mean(means.values()), 4),
        },
    )


def install(dataset: Path, run: Path) -> None:
    """Score, describe, and copy into the package."""
    scores = score(dataset, run / NAME)
    description, network = read_bundle(run / NAME)
    description = described(description, scores, content_hash(read_dataset(dataset).cases))
    target = STARTERS / NAME
    shutil.rmtree(target, ignore_errors=True)
    write_bundle(target, description, network)
    (target / "LICENSE.md").write_text(LICENCE_FILE, encoding="utf-8", newline="\n")
    print(f"mean Dice {description.scores['mean_dice']}: {description.scores['dice']}")
    print(f"{sum(p.stat().st_size for p in target.iterdir()) / 1e6:.1f} MB in {target.name}")


def main() -> None:
    """Train or install."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "install", "score"])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--budget", default="75m")
    parser.add_argument("--base", default="scratch:vit_tiny_patch16_dinov3_qkvb")
    parser.add_argument("--rate", default="8e-4", help="of backbone and decoder")
    arguments = parser.parse_args()
    if arguments.what == "train":
        train(arguments.dataset, arguments.run, arguments.budget, arguments.base, arguments.rate)
    elif arguments.what == "install":
        install(arguments.dataset, arguments.run)
    else:
        score(arguments.dataset, arguments.run)


if __name__ == "__main__":
    main()
