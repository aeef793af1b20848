"""LiTS: the liver and its tumours on CT."""

from __future__ import annotations

import re

from meddinov3_training.recipes.recipe import Recipe, Release, Score

LITS = Recipe(
    id="lits",
    title="LiTS, the Liver Tumor Segmentation Benchmark: liver and tumours on CT",
    page="https://competitions.codalab.org/competitions/17094",
    download="Training Batch 1 and Training Batch 2 (volumes 0 to 130), both unpacked below one "
    "folder",
    size="two archives of about 16 GB together, about three times as much unpacked",
    access="a free CodaLab account and taking part in the competition, which shows the links",
    licence="Creative Commons, non-commercial; pages that hand it out disagree between "
    "BY-NC-SA 4.0 and BY-NC-ND 4.0",
    reference="Bilic et al., The Liver Tumor Segmentation Benchmark (LiTS), Medical Image "
    "Analysis 84, 2023, arXiv:1901.04056",
    channel="CT",
    labels=(("liver", 1), ("tumor", 2)),
    release=Release(
        structure=(
            "media/nas/01_Datasets/CT/LITS/\n"
            "  Training Batch 1/volume-0.nii  segmentation-0.nii ...  (0 to 27)\n"
            "  Training Batch 2/volume-28.nii  segmentation-28.nii ...  (28 to 130)\n"
            "  test-volume-*.nii (no labels: left out)"
        ),
        image=re.compile(r"(?:.*/)?volume-(\d{1,3})\.nii"),
        label=re.compile(r"(?:.*/)?segmentation-(\d{1,3})\.nii"),
        case=r"lits_\1",
        ending=".nii",
        cases=131,
    ),
    compared_with="131 cases, as here",
    table_2=(
        Score("nnU-Net 2D", 75.00, 53.02),
        Score("SegFormer", 65.45, 35.98),
        Score("Dino U-Net (B)", 72.89, 48.25),
        Score("MedDINOv3", 75.28, 53.01),
    ),
)
