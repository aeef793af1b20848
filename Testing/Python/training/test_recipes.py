"""The paper's benchmarks: miniature folders as released, converted, and what is wrong with some."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner
from meddinov3.errors import MedDINOv3Error
from meddinov3_training.cli import meddinov3
from meddinov3_training.dataset import Case, read_case_label, read_dataset
from meddinov3_training.recipes import RECIPES, find_recipe
from meddinov3_training.recipes.convert import convert
from meddinov3_training.recipes.recipe import BACKBONE, BATCH, PRESET, STEPS
from meddinov3_training.settings import Settings

SHAPE = (4, 6, 8)  # (k, j, i)


def write(path: Path, array: np.ndarray, origin: tuple[float, ...] = (10.0, -5.0, 2.5)) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.8, 0.8, 3.0))
    image.SetOrigin(origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, path)


def scan(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def label_map(*values: int) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels.flat[: len(values)] = values
    return labels


def write_pair(image: Path, label: Path, *values: int, seed: int = 0) -> None:
    write(image, scan(seed))
    write(label, label_map(*values))


def amos(folder: Path) -> Path:
    root = folder / "amos22"
    for part, number in (("Tr", 1), ("Tr", 507), ("Va", 8), ("Va", 500), ("Va", 600)):
        name = f"amos_{number:04d}.nii.gz"
        write_pair(root / f"images{part}" / name, root / f"labels{part}" / name, 1, 15, seed=number)
    write(root / "imagesTs" / "amos_0003.nii.gz", scan(3))
    (root / "imagesTr" / "._amos_0001.nii.gz").write_bytes(b"what macOS leaves")
    (root / "dataset.json").write_text("{}")
    (root / "readme.md").write_text("AMOS")
    return folder


def btcv(folder: Path) -> Path:
    for number in (1, 40):
        training = folder / "RawData" / "Training"
        write_pair(
            training / "img" / f"img{number:04d}.nii.gz",
            training / "label" / f"label{number:04d}.nii.gz",
            1,
            13,
        )
    write(folder / "RawData" / "Testing" / "img" / "img0061.nii.gz", scan(61))
    return folder


def kits(folder: Path) -> Path:
    for number in (0, 588):
        case = folder / "dataset" / f"case_{number:05d}"
        write_pair(case / "imaging.nii.gz", case / "segmentation.nii.gz", 1, 2, 3, seed=number)
        write(case / "instances" / "tumor_instance-1_annotation-1.nii.gz", label_map(1))
    (folder / "dataset" / "kits23.json").write_text("[]")
    return folder


def lits(folder: Path) -> Path:
    for batch, number in ((1, 2), (1, 10), (2, 130)):
        place = folder / "LITS" / f"Training Batch {batch}"
        write_pair(place / f"volume-{number}.nii", place / f"segmentation-{number}.nii", 1, 2)
    write(folder / "LITS" / "test-volume-0.nii", scan(0))
    return folder


RELEASES = {
    "amos22": (amos, ["amos_0001", "amos_0008", "amos_0500", "amos_0507", "amos_0600"]),
    "amos22-ct": (amos, ["amos_0001", "amos_0008", "amos_0500"]),
    "btcv": (btcv, ["btcv_0001", "btcv_0040"]),
    "kits23": (kits, ["case_00000", "case_00588"]),
    "lits": (lits, ["lits_2", "lits_10", "lits_130"]),
}


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refused(name: str, source: Path, target: Path) -> MedDINOv3Error:
    before = contents(source)
    with pytest.raises(MedDINOv3Error) as caught:
        convert(find_recipe(name), source, target)
    assert caught.value.remedy, "a person must be told what to do"
    assert contents(source) == before
    return caught.value


def nothing_left(folder: Path, *kept: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(kept)


# As released.


def test_every_recipe_has_a_miniature() -> None:
    assert set(RELEASES) == set(RECIPES)


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("name", RELEASES)
def test_release_becomes_a_dataset_of_unchanged_files(
    name: str, link: bool, tmp_path: Path
) -> None:
    make, ids = RELEASES[name]
    source = make(tmp_path / "download")
    before = contents(source)
    recipe = find_recipe(name)
    done = convert(recipe, source, tmp_path / "raw" / name, link=link)
    assert done.cases == len(ids)
    assert done.notes == (f"{len(ids)} cases were found; the release has {recipe.release.cases}",)
    assert contents(source) == before
    dataset = read_dataset(tmp_path / "raw" / name)
    assert {case.id for case in dataset.cases} == set(ids)
    assert dataset.channels == (recipe.channel,)
    assert [label.name for label in dataset.labels] == [label for label, _ in recipe.labels]
    assert dataset.licence == recipe.licence
    assert dataset.reference == recipe.reference
    for case in dataset.cases:
        values = set(np.unique(read_case_label(case, case.read(), dataset)).tolist())
        assert values == {0, 1, max(recipe.values)} | ({2} if name == "kits23" else set())
        assert (case.label.stat().st_nlink == 2) == link
    converted = contents(tmp_path / "raw" / name)
    assert len(converted) == 2 * len(ids) + 1, "nothing but scans, label maps and dataset.json"
    del converted["dataset.json"]
    assert set(converted.values()) <= set(before.values())


def test_scan_and_label_map_of_one_number_come_together(tmp_path: Path) -> None:
    """Number 10 sorts before 2, and the batches lie in different folders."""
    source = lits(tmp_path / "download")
    write(source / "LITS" / "Training Batch 1" / "volume-10.nii", scan(1234))
    write(source / "LITS" / "Training Batch 1" / "segmentation-10.nii", label_map(2, 2, 2))
    convert(find_recipe("lits"), source, tmp_path / "raw")
    case = Case("", (tmp_path / "raw/imagesTr/lits_10_0000.nii",), Path())
    np.testing.assert_array_equal(case.read().channels[0], scan(1234))
    label = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "raw/labelsTr/lits_10.nii"))
    np.testing.assert_array_equal(label, label_map(2, 2, 2))


def test_kits_regions_are_the_challenges(tmp_path: Path) -> None:
    """Kidney with its masses, tumours and cysts, tumours alone; written in that order."""
    convert(find_recipe("kits23"), kits(tmp_path / "download"), tmp_path / "raw")
    dataset = read_dataset(tmp_path / "raw")
    assert dataset.regions
    assert [label.name for label in dataset.labels] == ["kidney", "masses", "tumor"]
    assert dataset.members == ((1, 2, 3), (2, 3), (2,))
    # A voxel of all regions is a tumour, of the first two a cyst, of the first one kidney.
    assert [label.value for label in dataset.labels] == [1, 3, 2]
    content = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    assert content["labels"] == {
        "background": 0,
        "kidney": [1, 2, 3],
        "masses": [2, 3],
        "tumor": [2],
    }
    assert content["regions_class_order"] == [1, 3, 2]


@pytest.mark.parametrize("given", ["", "RawData", "RawData/Training"])
def test_any_level_of_the_download_may_be_given(given: str, tmp_path: Path) -> None:
    source = btcv(tmp_path / "download") / given
    assert convert(find_recipe("btcv"), source, tmp_path / "raw").cases == 2


# What may be wrong.


def test_all_missing_files_are_listed(tmp_path: Path) -> None:
    source = kits(tmp_path / "download")
    (source / "dataset/case_00000/imaging.nii.gz").unlink()
    (source / "dataset/case_00588/segmentation.nii.gz").unlink()
    error = refused("kits23", source, tmp_path / "raw")
    assert "case_00000/segmentation.nii.gz has no scan" in error.message
    assert "case_00588/imaging.nii.gz has no label map" in error.message
    assert "kits23_download_data" in error.remedy
    assert nothing_left(tmp_path, "download")


def test_validation_cases_without_labels_are_not_passed_over(tmp_path: Path) -> None:
    source = amos(tmp_path / "download")
    for path in (source / "amos22" / "labelsVa").iterdir():
        path.unlink()
    message = refused("amos22", source, tmp_path / "raw").message
    assert message.count("has no label map") == 3


def test_all_unknown_values_are_listed(tmp_path: Path) -> None:
    source = lits(tmp_path / "download")
    write(source / "LITS/Training Batch 1/segmentation-2.nii", label_map(1, 3))
    write(source / "LITS/Training Batch 2/segmentation-130.nii", label_map(7))
    error = refused("lits", source, tmp_path / "raw")
    assert "lits_2: its label map holds [3]" in error.message
    assert "lits_130: its label map holds [7]" in error.message
    assert "[0, 1, 2]" in error.message
    assert nothing_left(tmp_path, "download")


def test_defective_files_of_every_kind_in_one_message(tmp_path: Path) -> None:
    source = lits(tmp_path / "download")
    write(source / "LITS/Training Batch 1/segmentation-2.nii", label_map(1)[:3])
    write(source / "LITS/Training Batch 1/segmentation-10.nii", scan(0) / np.float32(3))
    (source / "LITS/Training Batch 2/volume-130.nii").write_bytes(b"cut off")
    message = refused("lits", source, tmp_path / "raw").message
    assert message.startswith("3 defects")
    assert "lits_2: the scan has 8 x 6 x 4 voxels, its label map 8 x 6 x 3" in message
    assert "lits_10: 'segmentation-10.nii' is no label map" in message
    assert "lits_130: 'volume-130.nii' is no readable" in message


def test_label_map_elsewhere_by_its_header_is_told(tmp_path: Path) -> None:
    source = lits(tmp_path / "download")
    write(source / "LITS/Training Batch 1/segmentation-2.nii", label_map(1), origin=(0, 0, 0))
    notes = convert(find_recipe("lits"), source, tmp_path / "raw").notes
    assert notes[-1].endswith("(fine-tuning refuses them): lits_2")


def test_case_that_lies_there_twice(tmp_path: Path) -> None:
    source = lits(tmp_path / "download")
    write_pair(source / "copy" / "volume-10.nii", source / "copy" / "segmentation-10.nii", 1)
    message = refused("lits", source, tmp_path / "raw").message
    assert "volume-10.nii lies there 2 times" in message
    assert "segmentation-10.nii lies there 2 times" in message


def test_one_number_in_two_parts(tmp_path: Path) -> None:
    source = amos(tmp_path / "download")
    root = source / "amos22"
    write_pair(root / "imagesVa/amos_0001.nii.gz", root / "labelsVa/amos_0001.nii.gz", 1)
    assert "amos_0001 stands for two scans" in refused("amos22", source, tmp_path / "raw").message


def test_another_data_set(tmp_path: Path) -> None:
    error = refused("btcv", lits(tmp_path / "download"), tmp_path / "raw")
    assert error.code == "not-the-release"
    assert "Training/label" in error.remedy


def test_existing_target_is_left_alone(tmp_path: Path) -> None:
    source = lits(tmp_path / "download")
    (tmp_path / "raw").mkdir()
    assert refused("lits", source, tmp_path / "raw").code == "exists"
    assert not list((tmp_path / "raw").iterdir())


def test_target_inside_the_download(tmp_path: Path) -> None:
    source = lits(tmp_path / "download")
    assert refused("lits", source, source / "raw").code == "target-inside"


def test_failure_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lits(tmp_path / "download")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("meddinov3_training.recipes.convert._put", fails)
    assert "No space left" in refused("lits", source, tmp_path / "raw").message
    assert nothing_left(tmp_path, "download")


def test_too_little_space_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = lits(tmp_path / "download")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("", (), {"free": 5})())
    assert refused("lits", source, tmp_path / "raw").code == "disk-full"


# The command.


def run(*arguments: object) -> str:
    result = CliRunner().invoke(
        meddinov3, ["dataset", *map(str, arguments)], catch_exceptions=False
    )
    assert result.exit_code == 0
    return result.output


def test_list_names_every_recipe() -> None:
    output = run("recipes")
    for recipe in RECIPES.values():
        assert recipe.id in output


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_tells_what_to_do_and_what_to_expect(name: str) -> None:
    output, recipe = run("recipe", name), find_recipe(name)
    for text in (recipe.page, recipe.licence, recipe.access, *recipe.commands()):
        assert text in output
    for score in recipe.table_2:
        assert f"{score.method:<16}{score.dice:6.2f}{score.surface_dice:8.2f}" in output
    assert f"--preset {PRESET}" in output


def test_printed_conversion_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kits(tmp_path / "DOWNLOADED")
    printed = next(c for c in find_recipe("kits23").commands() if "convert" in c)
    output = run(*shlex.split(printed)[2:])
    assert "2 cases were found; the release has 489" in output
    assert "2 cases lie in" in output
    assert len(read_dataset(tmp_path / "datasets" / "kits23").cases) == 2


@pytest.mark.parametrize("name", RECIPES)
def test_printed_training_is_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real command takes the line apart; only the training itself is left out."""
    calls: list[tuple[Path, Path, Settings]] = []

    def train(dataset: Path, output: Path, settings: Settings, *_: object, **more: bool) -> Path:
        assert more == {"resume": False, "changes": {}}
        settings.check()
        calls.append((dataset, output, settings))
        return output / "model"

    monkeypatch.setattr("meddinov3_training.finetune.finetune", train)
    (printed,) = (line.strip() for line in run("recipe", name).splitlines() if "finetune" in line)
    program, *words = shlex.split(printed)
    assert program == "meddinov3"
    result = CliRunner().invoke(meddinov3, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    ((dataset, output, settings),) = calls
    assert (dataset, output) == (Path("datasets") / name, Path("runs") / name)
    assert (settings.preset, settings.steps, settings.batch) == (PRESET, STEPS, BATCH)
    assert (settings.base, settings.decoder_rate, settings.backbone_rate) == (BACKBONE, 3e-4, 3e-5)


def test_misspelt_name_tells_the_names() -> None:
    with pytest.raises(MedDINOv3Error, match="amos22, amos22-ct, btcv, kits23, lits"):
        run("recipe", "kits19")
