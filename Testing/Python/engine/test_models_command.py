"""``meddinov3 models``: what it shows, and that it asks before it downloads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hub_server import COMMIT, LATER, Hub, library_alone
from meddinov3.catalogue import find_entry
from meddinov3.checkpoints.importing import import_file
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import find_backbone, read_backbone_description
from meddinov3_training.cli import meddinov3, pull

REPOSITORY = "ricklisz123/MedDINOv3-ViTB-16-CT-3M"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with library_alone(monkeypatch, tmp_path):
        monkeypatch.setenv("COLUMNS", "200")
        yield


@pytest.fixture
def model_file(data: Path) -> Path:
    return data / "reference_checkpoints" / "model.pth"


@pytest.fixture
def hub(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub.holding(REPOSITORY, model_file) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        yield running


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sits before it."""
    monkeypatch.setattr(pull, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))


def run(*words: str, answer: str = "", fails: bool = False) -> str:
    result = CliRunner().invoke(meddinov3, ["models", *words], input=answer)
    assert (result.exit_code != 0) == fails, result.output
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, MedDINOv3Error), result.exception
        return f"{result.exception.code}: {result.exception}"
    return result.output


class TestPull:
    def test_shows_where_from_how_large_and_the_licence_and_asks(
        self, hub: Hub, terminal: None
    ) -> None:
        shown = run("pull", "meddinov3-ct", answer="y\n")
        question = shown.index("accept this licence?")
        for text in (
            f"https://huggingface.co/{REPOSITORY}", hub.address, "about 343 MB",
            "Apache-2.0; derived from DINOv3 (DINOv3 License)",
            "https://ai.meta.com/resources/models-and-libraries/dinov3-license/",
        ):  # fmt: skip
            assert 0 <= shown.index(text) < question
        assert f"at revision {COMMIT}" in shown
        assert "finetune DATASET --base meddinov3-ct" in shown
        assert find_backbone("meddinov3-ct") is not None

    @pytest.mark.parametrize("answer", ["n\n", "\n", ""])
    def test_without_consent_no_connection_is_made(
        self, hub: Hub, terminal: None, own_home: Path, answer: str
    ) -> None:
        run("pull", "meddinov3-ct", answer=answer, fails=True)
        assert hub.asked == []
        assert not (own_home / "backbones").exists()
        assert not (own_home / "downloads").exists()

    def test_with_nobody_there_it_refuses(self, hub: Hub) -> None:
        text = run("pull", "meddinov3-ct", answer="y\n", fails=True)
        assert text.startswith("no-consent") and "--yes" in text
        assert hub.asked == []
        run("pull", "meddinov3-ct", "--yes")
        assert find_backbone("meddinov3-ct") is not None

    def test_what_is_here_needs_no_connection(self, hub: Hub) -> None:
        run("pull", "meddinov3-ct", "--yes")
        count = len(hub.asked)
        text = run("pull", "meddinov3-ct", "--yes")
        assert "here already" in text and COMMIT in text
        assert len(hub.asked) == count

    def test_what_was_brought_by_hand_is_here_too(self, hub: Hub, model_file: Path) -> None:
        import_file(model_file, "meddinov3-ct")
        assert "by hand" in run("pull", "meddinov3-ct", "--yes")
        assert hub.asked == []

    def test_it_is_asked_whether_the_hub_has_moved(self, hub: Hub) -> None:
        assert run("pull", "meddinov3-ct", "--check", fails=True).startswith("no-backbone")
        run("pull", "meddinov3-ct", "--yes")
        assert "is what the hub has" in run("pull", "meddinov3-ct", "--check")
        hub.commit, hub.content = LATER, hub.content + b"more"
        assert LATER in run("pull", "meddinov3-ct", "--check")

    def test_another_revision_beside_it(self, hub: Hub) -> None:
        run("pull", "meddinov3-ct", "--yes")
        hub.commit = LATER
        text = run("pull", "meddinov3-ct", "--yes", "--revision", LATER, fails=True)
        assert text.startswith("exists") and COMMIT in text
        text = run("pull", "meddinov3-ct", "--yes", "--revision", LATER, "--name", "later")
        assert "pulled from the same place before: meddinov3-ct" in text
        folder = find_backbone("later")
        assert folder is not None
        described = read_backbone_description(folder)
        assert described.hub is not None and described.hub.revision == LATER

    def test_what_is_no_entry(self, hub: Hub) -> None:
        assert "nothing to download" in run("pull", "hippocampus-mr-tiny")
        text = run("pull", "dinov4", fails=True)
        assert text.startswith("not-in-catalogue") and "dinov3-base" in text
        assert hub.asked == []


class TestListAndInfo:
    def test_list_tells_what_is_here_from_what_can_be_pulled(self, model_file: Path) -> None:
        import_file(model_file, "meddinov3-ct")
        here, _, offered = run("list").partition("Backbones to pull")
        assert "hippocampus-mr-tiny" in here and "meddinov3-ct" in here
        assert "meddinov3-ct" not in offered
        assert "dinov3-large" in offered and "about 1.2 GB" in offered

    def test_list_for_programs(self, model_file: Path) -> None:
        import_file(model_file, "dinov3-base")
        listed = json.loads(run("list", "--json"))
        assert {model["id"]: model["starter"] for model in listed["models"]} == {
            "hippocampus-mr-tiny": True
        }
        assert listed["backbones"] == [{"id": "dinov3-base", "problem": "", "hub": None}]
        installed = {entry["id"]: entry["installed"] for entry in listed["catalogue"]}
        assert installed["dinov3-base"] and not installed["dinov3-large"]

    def test_a_damaged_backbone_is_listed_as_such(self, own_home: Path) -> None:
        (own_home / "backbones" / "odd").mkdir(parents=True)
        (own_home / "backbones" / "odd" / "backbone.json").write_text("{}", encoding="utf-8")
        assert "unreadable" in run("list")
        (backbone,) = json.loads(run("list", "--json"))["backbones"]
        assert backbone == {"id": "odd", "problem": "unreadable"}

    def test_info_on_an_entry_a_backbone_and_a_model(self, hub: Hub) -> None:
        entry = find_entry("meddinov3-ct")
        assert entry is not None
        text = run("info", "meddinov3-ct")
        assert entry.licence in text and entry.size in text
        assert json.loads(run("info", "meddinov3-ct", "--json"))["repository"] == REPOSITORY
        run("pull", "meddinov3-ct", "--yes")
        text = run("info", "meddinov3-ct")
        assert COMMIT in text and hub.etag in text and entry.purpose in text
        assert json.loads(run("info", "meddinov3-ct", "--json"))["hub"]["revision"] == COMMIT
        assert "anterior hippocampus" in run("info", "hippocampus-mr-tiny")
        assert run("info", "nothing", fails=True).startswith("no-model")

    def test_a_backbone_leaves_and_comes_back(self, hub: Hub, tmp_path: Path) -> None:
        run("pull", "meddinov3-ct", "--yes")
        run("export", "meddinov3-ct", str(tmp_path / "ct.zip"))
        run("remove", "meddinov3-ct", "--yes")
        assert find_backbone("meddinov3-ct") is None
        text = run("import", str(tmp_path / "ct.zip"), "--name", "meddinov3-ct")
        assert "--base meddinov3-ct" in text
        assert COMMIT in run("info", "meddinov3-ct")
