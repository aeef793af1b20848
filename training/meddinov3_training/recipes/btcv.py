"""BTCV: thirteen abdominal organs on CT."""

from __future__ import annotations

import re

from meddinov3_training.recipes.recipe import Recipe, Release, Score

BTCV = Recipe(
    id="btcv",
    title="BTCV, Multi-Atlas Labeling Beyond the Cranial Vault (abdomen): 13 organs on CT",
    page="https://www.synapse.org/Synapse:syn3193805",
    download="RawData.zip of the abdomen part (not the registered or cropped copies)",
    size="one archive of about 1.5 GB",
    access="a free Synapse account, and agreeing to the challenge's terms of use there",
    licence="the challenge's terms of use on Synapse",
    reference="Landman et al., MICCAI Multi-Atlas Labeling Beyond the Cranial Vault: Workshop "
    "and Challenge, 2015",
    channel="CT",
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
        ("portal vein and splenic vein", 10),
        ("pancreas", 11),
        ("right adrenal gland", 12),
        ("left adrenal gland", 13),
    ),
    release=Release(
        structure=(
            "RawData/\n"
            "  Training/img/img0001.nii.gz ...  Training/label/label0001.nii.gz ...  (30 cases)\n"
            "  Testing/img/ (20 scans without labels: left out)"
        ),
        image=re.compile(r"(?!(?:.*/)?Testing/)(?:.*/)?img/img(\d{4})\.nii\.gz"),
        label=re.compile(r"(?:.*/)?label/label(\d{4})\.nii\.gz"),
        case=r"btcv_\1",
        ending=".nii.gz",
        cases=30,
    ),
    compared_with="50 cases by the paper's count; labels of 30 are published, and which were "
    "trained on and scored is not stated",
    table_2=(
        Score("nnU-Net 2D", 73.30, 64.66),
        Score("SegFormer", 37.04, 22.39),
        Score("Dino U-Net (B)", 66.88, 56.23),
        Score("MedDINOv3", 78.79, 70.38),
    ),
)
