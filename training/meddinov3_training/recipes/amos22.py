"""AMOS22: fifteen abdominal organs, task 1 on CT and task 2 on CT and MR."""

from __future__ import annotations

import dataclasses
import re

from meddinov3_training.recipes.recipe import Recipe, Release, Score

# Case numbers up to 500 are CT, above it MR (the release's readme).
_CT = r"0[0-4]\d\d|0500"
_ANY = r"\d{4}"


def _release(numbers: str, cases: int) -> Release:
    return Release(
        structure=(
            "amos22/\n"
            "  imagesTr/amos_0001.nii.gz ...  labelsTr/amos_0001.nii.gz ...  (200 CT, 40 MR)\n"
            "  imagesVa/amos_0008.nii.gz ...  labelsVa/amos_0008.nii.gz ...  (100 CT, 20 MR)\n"
            "  imagesTs/ (no labels: left out)  dataset.json  readme.md"
        ),
        image=re.compile(rf"(?:.*/)?images(Tr|Va)/amos_({numbers})\.nii\.gz"),
        label=re.compile(rf"(?:.*/)?labels(Tr|Va)/amos_({numbers})\.nii\.gz"),
        case=r"amos_\2",
        ending=".nii.gz",
        cases=cases,
    )


AMOS22 = Recipe(
    id="amos22",
    title="AMOS22 task 2: 15 abdominal organs on CT and MR",
    page="https://zenodo.org/records/7262581 (challenge: https://amos22.grand-challenge.org)",
    download="amos22.zip of the release after the challenge, which holds the validation labels",
    size="one archive of about 24 GB",
    access="nobody has to register for Zenodo",
    licence="CC BY 4.0 (Zenodo record)",
    reference="Ji et al., AMOS: A Large-Scale Abdominal Multi-Organ Benchmark for Versatile "
    "Medical Image Segmentation, NeurIPS 2022 Datasets and Benchmarks, arXiv:2206.08023",
    # Neither CT nor MR, so that each scan is standardised by itself, as nnU-Net's task 2.
    channel="scan",
    labels=(
        ("spleen", 1),
        ("right kidney", 2),
        ("left kidney", 3),
        ("gallbladder", 4),
        ("esophagus", 5),
        ("liver", 6),
        ("stomach", 7),
        ("aorta", 8),
        ("inferior vena cava", 9),
        ("pancreas", 10),
        ("right adrenal gland", 11),
        ("left adrenal gland", 12),
        ("duodenum", 13),
        ("bladder", 14),
        ("prostate/uterus", 15),
    ),
    release=_release(_ANY, 360),
    compared_with="300 CT and 60 MR cases, training and validation together, as here; whether "
    "their intensities were treated as CT or scan by scan is not stated",
    table_2=(
        Score("nnU-Net 2D", 84.81, 73.98),
        Score("SegFormer", 78.50, 65.20),
        Score("Dino U-Net (B)", 80.90, 67.00),
        Score("MedDINOv3", 87.38, 77.15),
    ),
)

AMOS22_CT = dataclasses.replace(
    AMOS22,
    id="amos22-ct",
    title="AMOS22 task 1: 15 abdominal organs on CT",
    channel="CT",
    release=_release(_CT, 300),
    compared_with="300 CT and 60 MR cases together; it has no numbers for CT alone (those for "
    "both: meddinov3 dataset recipe amos22)",
    table_2=(),
)
