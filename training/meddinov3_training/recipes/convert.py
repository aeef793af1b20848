"""A released data set to nnU-Net's raw layout. Files are copied as they are."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from meddinov3.atomic import whole_folder
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.progress import ProgressCallback, Steps
from meddinov3.reading import read_label_map
from meddinov3.volume import grid_of

from meddinov3_training.recipes.recipe import Recipe

LISTED = 20  # defects in one message
SAME_GRID = 0.1  # mm, as fine-tuning asks for


@dataclass(frozen=True)
class ReleasedCase:
    """A scan and its label map as they were downloaded."""

    id: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Conversion:
    """What came of it.

    Attributes:
        cases: how many were converted.
        notes: what a person should know, in sentences.
    """

    cases: int
    notes: tuple[str, ...]


def convert(
    recipe: Recipe,
    source: Path,
    target: Path,
    *,
    link: bool = False,
    report: ProgressCallback | None = None,
) -> Conversion:
    """Bring a released data set into nnU-Net's raw layout.

    Args:
        recipe: which data set it is.
        source: the folder it was unpacked to, or one above; nothing in it is changed.
        target: a new folder outside `source`; it exists whole or not at all.
        link: share the files' disk space with `source` (hard links) where that can be done.
        report: told how far it is.

    Raises:
        MedDINOv3Error: files are missing, a label map does not fit (all listed), the target
            exists, or there is too little disk space.
    """
    if target.exists():
        raise MedDINOv3Error(
            "exists", f"'{target.name}' exists already.", "Choose another name or remove it first."
        )
    if target.resolve().is_relative_to(source.resolve()):
        raise MedDINOv3Error(
            "target-inside",
            f"'{target}' lies inside the downloaded folder, which is never written to.",
            "Choose a place outside of it.",
        )
    cases = find_cases(recipe, source)
    notes = _check(recipe, cases, report)
    if not link:
        _check_space(cases, target)
    if len(cases) != recipe.release.cases:
        notes.insert(0, f"{len(cases)} cases were found; the release has {recipe.release.cases}")
    steps = Steps("writing", len(cases), report)
    with whole_folder(target) as folder:
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir()
        for case in cases:
            ending = recipe.release.ending
            _put(case.image, folder / "imagesTr" / f"{case.id}_0000{ending}", link)
            _put(case.label, folder / "labelsTr" / f"{case.id}{ending}", link)
            steps.advance()
        text = json.dumps(_description(recipe, len(cases)), indent=2) + "\n"
        (folder / "dataset.json").write_text(text, encoding="utf-8", newline="\n")
    return Conversion(len(cases), tuple(notes))


def find_cases(recipe: Recipe, source: Path) -> list[ReleasedCase]:
    """Scans and label maps that belong together, in the order of their ids.

    Raises:
        MedDINOv3Error: `source` is no folder, holds none of them, a scan lacks its label map or
            the other way round, or a case occurs twice (all listed).
    """
    if not source.is_dir():
        raise MedDINOv3Error("no-folder", f"There is no folder '{source}'.", "Check the path.")
    release = recipe.release
    images: dict[tuple[str, ...], list[str]] = {}
    labels: dict[tuple[str, ...], list[str]] = {}
    ids: dict[tuple[str, ...], str] = {}
    for path in _files(source):
        if match := release.image.fullmatch(path):
            images.setdefault(match.groups(), []).append(path)
            ids[match.groups()] = match.expand(release.case)
        elif match := release.label.fullmatch(path):
            labels.setdefault(match.groups(), []).append(path)
    if not images and not labels:
        raise MedDINOv3Error(
            "not-the-release",
            f"'{source.name}' holds no file of {recipe.id}.",
            f"Give the unpacked download:\n{release.structure}",
        )
    problems = [
        f"{paths[0]} has no label map" for key, paths in images.items() if key not in labels
    ]
    problems += [f"{paths[0]} has no scan" for key, paths in labels.items() if key not in images]
    problems += [
        f"{paths[0]} lies there {len(paths)} times"
        for found in (images, labels)
        for paths in found.values()
        if len(paths) > 1
    ]
    names = list(ids.values())
    problems += sorted({f"{name} stands for two scans" for name in names if names.count(name) > 1})
    if problems:
        raise MedDINOv3Error(
            "release-incomplete",
            f"'{source.name}' is not {recipe.id} as released: {_listed(problems)}.",
            f"Complete the download, or remove what does not belong to it. {recipe.download}.",
        )
    found = [
        ReleasedCase(ids[key], source / images[key][0], source / labels[key][0]) for key in images
    ]
    return sorted(found, key=lambda case: _natural(case.id))


def _files(source: Path) -> list[str]:
    """Paths of all files below a folder, relative and with ``/``, in order."""
    return sorted(
        (Path(folder) / name).relative_to(source).as_posix()
        for folder, _, names in os.walk(source)
        for name in names
    )


def _natural(name: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _check(recipe: Recipe, cases: list[ReleasedCase], report: ProgressCallback | None) -> list[str]:
    """Look into every label map and its scan's header; what is odd but usable is returned."""
    problems, shifted = [], []
    steps = Steps("checking label maps", len(cases), report)
    for case in cases:
        try:
            scan = _grid(case.image)
            values, grid = read_label_map(case.label)
            unknown = {int(v) for plane in values for v in np.unique(plane)} - recipe.values
        except MedDINOv3Error as error:
            problems.append(f"{case.id}: {error.message.rstrip('.')}")
        else:
            if scan.size != grid.size:
                problems.append(
                    f"{case.id}: the scan has {_shape(scan)} voxels, its label map {_shape(grid)}"
                )
            elif not scan.same_as(grid, SAME_GRID):
                shifted.append(case.id)
            if unknown:
                problems.append(f"{case.id}: its label map holds {sorted(unknown)}")
        steps.advance()
    if problems:
        raise MedDINOv3Error(
            "release-damaged",
            f"{len(problems)} defects: {_listed(problems)}. Values of {recipe.id} are "
            f"{sorted(recipe.values)}.",
            "Download these files again, or leave the cases out.",
        )
    if not shifted:
        return []
    return [
        "by their headers, label maps lie elsewhere than their scans (fine-tuning refuses them): "
        + _listed(shifted)
    ]


def _grid(path: Path) -> Grid:
    """The grid in a scan's header; its voxels stay unread."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        return grid_of(reader)
    except (RuntimeError, ValueError) as error:
        raise MedDINOv3Error(
            "unreadable", f"'{path.name}' is no readable three-dimensional image."
        ) from error


def _shape(grid: Grid) -> str:
    return " x ".join(map(str, grid.size))


def _listed(problems: list[str]) -> str:
    more = len(problems) - LISTED
    return "; ".join(problems[:LISTED]) + (f"; and {more} more" if more > 0 else "")


def _check_space(cases: list[ReleasedCase], target: Path) -> None:
    needed = sum(path.stat().st_size for case in cases for path in (case.image, case.label))
    place = next(parent for parent in target.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise MedDINOv3Error(
            "disk-full",
            f"The copy needs {needed / 1e9:.1f} GB; '{place}' has {free / 1e9:.1f} GB free.",
            "Free some space, choose another disk, or share the files' space (--link).",
        )


def _put(source: Path, target: Path, link: bool) -> None:
    # A read-only file could not be flushed through its link.
    if link and os.access(source, os.W_OK):
        try:
            os.link(source.resolve(), target)
            return
        except OSError:  # another disk, or a file system without links
            pass
    shutil.copyfile(source, target)


def _description(recipe: Recipe, cases: int) -> dict[str, object]:
    regions = recipe.regions_class_order
    return {
        "name": recipe.title,
        "channel_names": {"0": recipe.channel},
        "labels": {"background": 0, **dict(recipe.labels)},
        **({"regions_class_order": regions} if regions else {}),
        "numTraining": cases,
        "file_ending": recipe.release.ending,
        "licence": recipe.licence,
        "reference": recipe.reference,
        "release": recipe.page,
    }
