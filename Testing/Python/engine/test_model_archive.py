"""A model in one file: out, over, in, and nothing else comes along."""

from __future__ import annotations

import dataclasses
import os
import stat
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import describe, make_bundle
from meddinov3.backbone_file import read_backbone
from meddinov3.bundle import read_bundle
from meddinov3.checkpoints.importing import import_file
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_archive import export_model, import_archive, remove_model
from meddinov3.model_store import STARTERS, find_model
from meddinov3_training.cli import main


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    bundle = make_bundle(tmp_path / "mine", describe("a", "b"))
    (bundle / "LICENSE.md").write_text("CC0")
    export_model(bundle, tmp_path / "mine.zip")
    return tmp_path / "mine.zip"


def refusal(path: Path) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        import_archive(path, "new")
    return caught.value


def rewritten(archive: Path, name: str, content: bytes = b"x", mode: int = 0o644) -> Path:
    """A copy with a further member."""
    target = archive.with_name("other.zip")
    target.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(target, "a") as stream:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        stream.writestr(member, content)
    return target


def test_a_model_comes_back_under_its_new_name(archive: Path, own_home: Path) -> None:
    made = import_file(archive, "theirs")
    assert made.is_model
    assert made.folder == own_home / "models" / "theirs" == find_model("theirs")
    description, _ = read_bundle(made.folder)
    assert description.id == "theirs"
    assert [label.name for label in description.labels] == ["a", "b"]
    assert (made.folder / "LICENSE.md").read_text() == "CC0"


def test_nothing_but_the_model_is_exported(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "mine", describe("a"))
    (bundle / "patients.csv").write_text("Doe, 1970")
    export_model(bundle, tmp_path / "mine.zip")
    with zipfile.ZipFile(tmp_path / "mine.zip") as stream:
        assert set(stream.namelist()) == {"mine/model.json", "mine/model.safetensors"}
        assert str(tmp_path).encode() not in stream.read("mine/model.json")


@pytest.mark.parametrize(
    ("name", "mode"),
    [("../../evil.md", 0o644), ("/etc/LICENSE.md", 0o644), ("mine/../../README.md", 0o644),
     ("C:/README.md", 0o644), ("mine\\..\\..\\README.md", 0o644), ("mine/a/README.md", 0o644),
     ("mine/run.py", 0o644), ("mine/README.md", stat.S_IFLNK | 0o777)],
)  # fmt: skip
def test_archives_that_reach_out_are_refused(
    archive: Path, own_home: Path, name: str, mode: int
) -> None:
    assert refusal(rewritten(archive, name, mode=mode)).code == "foreign-archive"
    assert not (own_home / "models" / "new").exists()
    assert not list(archive.parent.rglob("*evil*"))


def test_a_member_twice(archive: Path) -> None:
    assert refusal(rewritten(archive, "two/model.json")).code == "foreign-archive"


def test_without_weights(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "part.zip", "w") as stream:
        stream.writestr("mine/model.json", "{}")
    assert refusal(tmp_path / "part.zip").code == "foreign-archive"


def test_a_damaged_model_is_not_kept(archive: Path, own_home: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = archive.with_name("damaged.zip")
    damaged.write_bytes(content)
    assert refusal(damaged).code in ("damaged-archive", "weights-altered")
    damaged.write_bytes(content[:1000])
    assert refusal(damaged).code == "damaged-archive"
    assert not (own_home / "models" / "new").exists()


def test_a_damaged_deflated_archive(archive: Path) -> None:
    packed = archive.with_name("packed.zip")
    with (
        zipfile.ZipFile(archive) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as target:
        start = target.getinfo("mine/model.safetensors").header_offset
    content[start + 60 : start + 160] = b"\xff" * 100
    packed.write_bytes(content)
    assert refusal(packed).code == "damaged-archive"


def test_a_damaged_model_is_not_exported(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "mine", describe("a"))
    (bundle / "model.safetensors").write_bytes(b"")
    with pytest.raises(MedDINOv3Error):
        export_model(bundle, tmp_path / "mine.zip")
    assert not (tmp_path / "mine.zip").exists()


def test_removing(archive: Path, own_home: Path, data: Path) -> None:
    import_file(archive, "theirs")
    import_file(data / "reference_checkpoints" / "model.pth", "ct-3m")
    for name in ("theirs", "ct-3m"):
        assert not remove_model(name).exists()
    assert not list((own_home / "models").iterdir())
    with pytest.raises(MedDINOv3Error, match="cannot be removed"):
        remove_model("hippocampus-mr-tiny")
    assert (STARTERS / "hippocampus-mr-tiny").is_dir()


@pytest.mark.parametrize("name", ["gone", "", "..", "../models", "."])
def test_removing_what_is_not_there(own_home: Path, archive: Path, name: str) -> None:
    import_file(archive, "theirs")
    with pytest.raises(MedDINOv3Error):
        remove_model(name)
    assert (own_home / "models" / "theirs").is_dir()


def test_removing_what_is_in_use(
    archive: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_file(archive, "theirs")

    def refused(_self: Path, _target: Path) -> None:
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(MedDINOv3Error) as caught:
        remove_model("theirs")
    assert caught.value.code == "in-use" and "Close Slicer" in caught.value.remedy
    assert (own_home / "models" / "theirs").is_dir()


@pytest.mark.parametrize("how", ["import", "remove"])
def test_what_a_killed_import_left_is_swept(archive: Path, own_home: Path, how: str) -> None:
    import_file(archive, "theirs")
    left = own_home / "models" / ".0123abcd.partial"
    left.mkdir()
    os.utime(left, (0, 0))
    remove_model("theirs") if how == "remove" else import_file(archive, "again")
    assert not left.exists()


def test_the_commands(
    tmp_path: Path,
    own_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["meddinov3", "models", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    target = tmp_path / "out.zip"
    assert "models import out.zip" in run("export", "hippocampus-mr-tiny", target)
    assert "--model mine" in run("import", target, "--name", "mine")
    assert "mine" in run("list")
    assert "removed" in run("remove", "mine", "--yes")
    assert "mine " not in run("list")


def test_a_backbone_comes_back_as_a_backbone(data: Path, tmp_path: Path, own_home: Path) -> None:
    folder = import_file(data / "reference_checkpoints" / "model.pth", "ct-3m").folder
    export_model(folder, tmp_path / "ct-3m.zip")
    made = import_file(tmp_path / "ct-3m.zip", "again")
    assert not made.is_model
    assert made.folder == own_home / "backbones" / "again"
    first, second = read_backbone(folder), read_backbone(made.folder)
    assert second.description == dataclasses.replace(first.description, id="again")
    assert all(torch.equal(second.weights[key], value) for key, value in first.weights.items())


def test_a_backbones_archive_holds_no_model(
    data: Path, archive: Path, tmp_path: Path, own_home: Path
) -> None:
    folder = import_file(data / "reference_checkpoints" / "model.pth", "ct-3m").folder
    export_model(folder, tmp_path / "ct-3m.zip")
    mixed = rewritten(tmp_path / "ct-3m.zip", "ct-3m/model.json")
    assert refusal(mixed).code == "foreign-archive"
    (folder / "backbone.safetensors").write_bytes(b"")
    with pytest.raises(MedDINOv3Error):
        export_model(folder, tmp_path / "broken.zip")
    assert not (tmp_path / "broken.zip").exists()
