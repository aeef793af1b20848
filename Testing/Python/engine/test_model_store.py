"""Which models there are, and which one a name means."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import describe
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import (
    check_name,
    find_model,
    installed_models,
    read_description,
    sweep_leftovers,
    user_folder,
)


def add(parent: Path, name: str, summary: str = "") -> Path:
    """A bundle without weights, which listing does not look at."""
    folder = parent / name
    folder.mkdir(parents=True)
    text = describe("liver").to_json().replace('"summary": ""', f'"summary": "{summary}"')
    (folder / "model.json").write_text(text.replace('"id": "tiny"', f'"id": "{name}"'))
    return folder


@pytest.fixture
def own(own_home: Path) -> Path:
    """Where the user's models lie."""
    return own_home / "models"


@pytest.fixture
def starters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for the models that ship with the package."""
    folder = tmp_path / "starters"
    folder.mkdir()
    monkeypatch.setattr("meddinov3.model_store.STARTERS", folder)
    return folder


def refusal(name: str | None) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        find_model(name)
    assert caught.value.remedy
    return caught.value


class TestListing:
    def test_nothing_there(self, starters: Path) -> None:
        assert installed_models() == []

    def test_the_users_come_first_then_the_starters(self, own: Path, starters: Path) -> None:
        add(starters, "a-starter")
        add(own, "z-mine")
        add(own, "b-mine")
        found = installed_models()
        assert [model.id for model in found] == ["b-mine", "z-mine", "a-starter"]
        assert [model.starter for model in found] == [False, False, True]
        assert all(model.description is not None and model.problem == "" for model in found)

    def test_a_users_model_hides_the_starter_of_its_name(self, own: Path, starters: Path) -> None:
        add(starters, "hippocampus", "shipped")
        mine = add(own, "hippocampus", "my own")
        (model,) = installed_models()
        assert model.folder == mine
        assert model.description is not None
        assert model.description.summary == "my own"
        assert not model.starter

    @pytest.mark.parametrize("content", [b"{", b"{}", b"\xff\xfe", b'{"format": 99}'])
    def test_one_that_cannot_be_read_is_listed_with_its_problem(
        self, own: Path, starters: Path, content: bytes
    ) -> None:
        add(own, "good")
        (add(own, "broken") / "model.json").write_bytes(content)
        broken, good = installed_models()
        assert (broken.id, broken.description) == ("broken", None)
        assert "model.json" in broken.problem
        assert good.description is not None

    def test_unfinished_downloads_and_other_folders_are_no_models(
        self, own: Path, starters: Path
    ) -> None:
        add(own, ".3f2a.partial.new")
        (own / "notes").mkdir()
        (own / "readme.txt").write_text("not a model")
        assert installed_models() == []

    def test_no_torch_is_needed(self) -> None:
        """Slicer lists models in a process that must not load it."""
        code = (
            "import sys, meddinov3.model_store as store; store.installed_models();"
            "sys.exit(sorted({'torch', 'timm', 'SimpleITK'} & set(sys.modules)).__repr__()"
            " if {'torch', 'timm'} & set(sys.modules) else 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class TestUserFolder:
    def test_the_environment_says_where(self, own_home: Path) -> None:
        assert user_folder() == own_home

    def test_a_tilde_is_the_home_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MEDDINOV3_HOME", "~/models of mine")
        assert user_folder() == Path.home() / "models of mine"

    def test_else_the_platforms_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MEDDINOV3_HOME")
        assert user_folder().name == "MedDINOv3"
        assert user_folder().is_absolute()

    @pytest.mark.parametrize("place", ["", "relative", "absolute"])
    def test_the_place_is_the_same_without_platformdirs(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
    ) -> None:
        """Slicer's own process may lack it, and must look where the others do."""
        monkeypatch.delenv("MEDDINOV3_HOME")
        named = str(tmp_path) if place == "absolute" else place
        for variable in ("XDG_DATA_HOME", "LOCALAPPDATA"):
            monkeypatch.setenv(variable, named)
        expected = user_folder()
        monkeypatch.setitem(sys.modules, "platformdirs", None)
        assert user_folder() == expected

    @pytest.mark.parametrize(
        ("system", "parts"),
        [("darwin", ("Library", "Application Support")), ("win32", ("AppData", "Local"))],
    )
    def test_the_place_on_other_systems(
        self, monkeypatch: pytest.MonkeyPatch, system: str, parts: tuple[str, ...]
    ) -> None:
        for variable in ("MEDDINOV3_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setitem(sys.modules, "platformdirs", None)
        monkeypatch.setattr("meddinov3.model_store.sys.platform", system)
        assert user_folder() == Path.home().joinpath(*parts, "MedDINOv3")


class TestFinding:
    def test_by_name(self, own: Path, starters: Path) -> None:
        mine, shipped = add(own, "mine"), add(starters, "shipped")
        assert find_model("mine") == mine
        assert find_model("shipped") == shipped

    def test_the_only_one_needs_no_name(self, own: Path, starters: Path) -> None:
        assert find_model(add(own, "mine").name) == find_model(None)

    def test_a_folder_anywhere(self, own: Path, starters: Path, tmp_path: Path) -> None:
        folder = add(tmp_path / "elsewhere", "theirs")
        assert find_model(str(folder)) == folder

    def test_several_and_no_name(self, own: Path, starters: Path) -> None:
        add(own, "mine")
        add(starters, "shipped")
        error = refusal(None)
        assert error.code == "which-model"
        assert "mine, shipped" in error.message

    def test_none_at_all_and_no_name(self, own: Path, starters: Path) -> None:
        """There is nothing to choose from, so the remedy is not to choose."""
        error = refusal(None)
        assert "which one" not in error.remedy

    def test_a_name_that_is_none(self, own: Path, starters: Path) -> None:
        add(own, "mine")
        error = refusal("yours")
        assert error.code == "no-model"
        assert "'yours'" in error.message
        assert "mine" in error.remedy

    def test_a_folder_that_holds_no_model(self, starters: Path, tmp_path: Path) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            read_description(find_model(str(tmp_path)))
        assert caught.value.code == "no-model"
        assert "model.json" in caught.value.remedy


class TestNames:
    @pytest.mark.parametrize(
        "name", ["con", "nul.v2", "com1", "lpt9.a.b", "liver.", "", ".x", "A", "a/b", "aux"]
    )
    def test_that_some_system_has_no_folder_for(self, name: str) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            check_name(name)
        assert caught.value.code == "bad-name"

    @pytest.mark.parametrize("name", ["contrast", "com", "com10", "ct.con", "null", "liver-1.0"])
    def test_that_are_fine(self, name: str) -> None:
        check_name(name)


def test_what_killed_imports_left_is_swept_after_a_day(own_home: Path) -> None:
    names = [".0123abcd.partial", ".removed.liver", ".mine", "liver", "x.partial"]
    old = [own_home / kind / name for kind in ("models", "backbones") for name in names]
    young = own_home / "models" / ".89abcdef.partial"
    for folder in (*old, young):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"x")
        if folder != young:
            os.utime(folder, (time.time() - 90_000,) * 2)
    sweep_leftovers()
    assert [path for path in (*old, young) if not path.exists()] == [*old[:2], *old[5:7]]
