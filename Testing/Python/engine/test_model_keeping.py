"""Models kept, renamed, removed and had back: whole, under a checked name, and without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import describe, make_bundle
from meddinov3.bundle import read_bundle
from meddinov3.checkpoints.importing import import_file
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_archive import export_model, import_archive
from meddinov3.model_keeping import keep_model, rename_model
from meddinov3.model_store import find_model, installed_models, read_description
from meddinov3.removed_models import empty_removed, removed_models, restore_model, set_aside

WITHOUT_TORCH = """
import sys
from pathlib import Path
from meddinov3.model_archive import export_model, import_archive
from meddinov3.model_keeping import keep_model, rename_model
from meddinov3.removed_models import empty_removed, removed_models, restore_model, set_aside
source, target = map(Path, sys.argv[1:])
keep_model(source, "first")
rename_model("first", "second")
set_aside("second")
restore_model(removed_models()[0])
export_model(source, target, tensors=False)
import_archive(target, "third", tensors=False)
set_aside("third")
print(empty_removed(), sorted({"torch", "SimpleITK", "timm"} & set(sys.modules)))
"""


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A model as a training run leaves it in its folder."""
    bundle = make_bundle(tmp_path / "run" / "model", describe("a", "b"))
    (bundle / "events.jsonl").write_text("not part of a model")
    return bundle


def own(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "models").iterdir())


def code(call: object, *arguments: object) -> str:
    with pytest.raises(MedDINOv3Error) as caught:
        call(*arguments)
    assert caught.value.message and caught.value.remedy
    return caught.value.code


def test_a_runs_model_is_kept_under_a_name(trained: Path, own_home: Path) -> None:
    folder = keep_model(trained, "liver-2", " Livers, second try ")
    assert folder == own_home / "models" / "liver-2" == find_model("liver-2")
    assert {path.name for path in folder.iterdir()} == {"model.json", "model.safetensors"}
    description, _ = read_bundle(folder)
    assert (description.id, description.name) == ("liver-2", "Livers, second try")
    assert read_description(trained).id == "model", "the run's own copy stays as it is"


@pytest.mark.parametrize("name", ["", "Liver", "con", "../x", "a b", "hippocampus-mr-tiny"])
def test_a_name_that_cannot_be_or_is_taken(trained: Path, own_home: Path, name: str) -> None:
    assert code(keep_model, trained, name) in ("bad-name", "exists")
    assert not (own_home / "models").exists()


def test_a_damaged_model_is_not_kept(trained: Path, own_home: Path) -> None:
    weights = trained / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert code(keep_model, trained, "mine") == "weights-altered"
    weights.unlink()
    assert code(keep_model, trained, "mine") == "weights-missing"
    assert not (own_home / "models").exists()


def test_keeping_that_fails_midway_leaves_nothing(
    trained: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("meddinov3.model_keeping.shutil.copyfile", full)
    assert code(keep_model, trained, "mine") == "cannot-write"
    assert own(own_home) == []


def test_renaming(trained: Path, own_home: Path) -> None:
    keep_model(trained, "old")
    rename_model("old", "new")
    assert own(own_home) == ["new"]
    assert read_bundle(own_home / "models" / "new")[0].id == "new"
    keep_model(trained, "other")
    assert code(rename_model, "new", "other") == "exists"
    assert code(rename_model, "new", "No") == "bad-name"
    assert code(rename_model, "hippocampus-mr-tiny", "mine") == "starter"
    assert code(rename_model, "../models/new", "mine") == "no-model"
    assert own(own_home) == ["new", "other"]


def test_renaming_what_is_in_use_changes_nothing(
    trained: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_model(trained, "old")

    def refused(_self: Path, _target: Path) -> None:
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(Path, "rename", refused)
    assert code(rename_model, "old", "new") == "in-use"
    assert own(own_home) == ["old"]
    assert read_description(own_home / "models" / "old").id == "old"


def test_a_removed_model_comes_back_as_it_was(trained: Path, own_home: Path) -> None:
    keep_model(trained, "mine")
    before = (own_home / "models" / "mine" / "model.safetensors").read_bytes()
    set_aside("mine")
    assert "mine" not in [model.id for model in installed_models()]
    (removed,) = removed_models()
    assert (removed.name, removed.kind) == ("mine", "models")
    assert removed.bytes > len(before)
    restore_model(removed)
    assert (own_home / "models" / "mine" / "model.safetensors").read_bytes() == before
    assert read_bundle(find_model("mine"))[0].id == "mine"
    assert removed_models() == []
    assert code(restore_model, removed) == "gone"


def test_two_of_one_name_are_removed_and_restored(trained: Path, own_home: Path) -> None:
    for _ in range(2):
        keep_model(trained, "mine")
        set_aside("mine")
    latest, earlier = removed_models()
    assert latest.name == earlier.name == "mine" and latest.when > earlier.when
    restore_model(latest)
    assert code(restore_model, earlier) == "exists"
    assert code(restore_model, earlier, "hippocampus-mr-tiny") == "exists"
    assert len(removed_models()) == 1
    restore_model(earlier, "mine-before")
    assert own(own_home) == ["mine", "mine-before"]
    assert read_bundle(find_model("mine-before"))[0].id == "mine-before"


def test_backbones_are_removed_and_restored_too(data: Path, own_home: Path) -> None:
    import_file(data / "reference_checkpoints" / "model.pth", "ct-3m")
    set_aside("ct-3m")
    assert not list((own_home / "backbones").iterdir())
    assert restore_model(removed_models()[0]) == own_home / "backbones" / "ct-3m"


def test_what_cannot_be_removed(own_home: Path) -> None:
    assert code(set_aside, "hippocampus-mr-tiny") == "starter"
    for name in ("gone", "", "..", "../starters/hippocampus-mr-tiny"):
        assert code(set_aside, name) == "no-model"


def test_emptying_deletes_removed_models_and_nothing_else(trained: Path, own_home: Path) -> None:
    keep_model(trained, "kept")
    keep_model(trained, "mine")
    set_aside("mine")
    foreign = own_home / "removed" / "models" / "notes"
    foreign.mkdir()
    assert empty_removed() == 1
    assert removed_models() == []
    assert own(own_home) == ["kept"] and foreign.is_dir()


def test_altered_weights_are_noticed_without_looking_into_tensors(
    trained: Path, tmp_path: Path, own_home: Path
) -> None:
    export_model(trained, tmp_path / "m.zip", tensors=False)
    assert import_archive(tmp_path / "m.zip", "mine", tensors=False).name == "mine"
    (trained / "model.safetensors").write_bytes(b"x")
    with pytest.raises(MedDINOv3Error, match="not those"):
        export_model(trained, tmp_path / "n.zip", tensors=False)
    assert not (tmp_path / "n.zip").exists()


def test_slicer_does_all_of_it_without_torch(trained: Path, tmp_path: Path, own_home: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(trained), str(tmp_path / "m.zip")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env={**os.environ, "MEDDINOV3_HOME": str(own_home)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "1 []"
    assert own(own_home) == ["second"]
