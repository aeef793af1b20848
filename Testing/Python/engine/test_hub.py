"""Pulling from a hub that behaves, misbehaves, or is not there. No test leaves this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import (
    COMMIT,
    LATER,
    Hub,
    fetch,
    left,
    library_alone,
    refusal,
)
from meddinov3 import hub_transfer
from meddinov3.backbone_file import read_backbone
from meddinov3.catalogue import CatalogueEntry, entry_of, find_entry
from meddinov3.description import BackboneDescription, HubFile
from meddinov3.errors import Cancelled, MedDINOv3Error
from meddinov3.hub import moved_on, pull
from meddinov3.model_store import find_backbone
from meddinov3.progress import Progress


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with library_alone(monkeypatch, tmp_path):
        yield


@pytest.fixture
def entry() -> CatalogueEntry:
    found = find_entry("meddinov3-ct")
    assert found is not None
    return found


@pytest.fixture
def hub(data: Path, entry: CatalogueEntry) -> Iterator[Hub]:
    with Hub.holding(entry.repository, data / "reference_checkpoints" / "model.pth") as running:
        yield running


class TestPulled:
    def test_as_an_import_by_hand_with_its_origin_recorded(
        self, entry: CatalogueEntry, hub: Hub, own_home: Path
    ) -> None:
        made = pull(entry, endpoint=hub.address)
        assert made.folder == own_home / "backbones" / "meddinov3-ct" == find_backbone(entry.id)
        described = read_backbone(made.folder).description
        digest = hashlib.sha256(hub.content).hexdigest()
        assert described.hub == HubFile(entry.repository, "model.pth", COMMIT, digest) == made.hub
        assert (described.origin, described.licence) == ("meddinov3", entry.licence)
        assert entry_of(described) == entry
        assert left(own_home) == []

    def test_the_commit_that_was_named_is_the_one_transferred(
        self, entry: CatalogueEntry, hub: Hub
    ) -> None:
        fetch(entry, hub)
        resolved = [a.path.split("/resolve/")[1] for a in hub.asked if "/resolve/" in a.path]
        assert resolved == ["main/model.pth", f"{COMMIT}/model.pth"]
        assert len(hub.transfers) == 1
        assert len(hub.asked) == 3, "a question, and a transfer with its redirect; nothing else"

    def test_the_token_stays_with_the_hub_and_no_telemetry(
        self, entry: CatalogueEntry, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        fetch(entry, hub)
        assert {a.token for a in hub.asked if "/resolve/" in a.path} == {"Bearer hf_secret"}
        assert {a.token for a in hub.transfers} == {""}
        assert not any("torch" in a.agent or "agent/" in a.agent for a in hub.asked)

    def test_the_environment_names_the_hub(
        self, entry: CatalogueEntry, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_ENDPOINT", hub.address + "/")
        pull(entry)
        assert hub.transfers

    def test_a_file_kept_in_git_itself(self, entry: CatalogueEntry, hub: Hub) -> None:
        hub.small = True
        described = read_backbone(fetch(entry, hub)).description
        assert described.hub is not None
        assert described.hub.sha256 == hashlib.sha256(hub.content).hexdigest()

    def test_a_revision_and_a_name_of_ones_own(self, entry: CatalogueEntry, hub: Hub) -> None:
        hub.commit = LATER
        described = read_backbone(fetch(entry, hub, "older", revision=COMMIT)).description
        assert described.id == "older"
        assert described.hub is not None and described.hub.revision == COMMIT

    def test_progress_ends_at_the_whole(
        self, entry: CatalogueEntry, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hub_transfer, "MILLION", 1000)
        seen: list[Progress] = []
        fetch(entry, hub, report=seen.append)
        size = len(hub.content) // 1000
        assert [p.done for p in seen] == sorted(p.done for p in seen)
        assert len(seen) > 3 and seen[-1].done == seen[-1].total == size
        assert seen[-1].seconds_left == 0


class TestOffline:
    def test_what_was_pulled_works_without_the_hub(
        self, entry: CatalogueEntry, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = fetch(entry, hub)
        address, count = hub.address, len(hub.asked)
        hub.stop()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert find_backbone(entry.id) == folder
        assert read_backbone(folder).mask_token is not None
        with pytest.raises(MedDINOv3Error) as caught:
            pull(entry, endpoint=address)
        assert caught.value.code == "exists"
        assert len(hub.asked) == count

    @pytest.mark.parametrize("value", ["1", "yes", "ON"])
    def test_connections_forbidden(
        self, entry: CatalogueEntry, hub: Hub, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        error = refusal(entry, hub)
        assert error.code == "offline" and "HF_HUB_OFFLINE" in error.remedy
        assert hub.asked == []

    def test_has_the_hub_moved_on(self, entry: CatalogueEntry, hub: Hub) -> None:
        described = read_backbone(fetch(entry, hub)).description
        assert moved_on(described, endpoint=hub.address) is None
        hub.commit = LATER
        assert moved_on(described, endpoint=hub.address) is None, "a new page, the same weights"
        hub.content += b"more"
        listing = moved_on(described, endpoint=hub.address)
        assert listing is not None and listing.revision == LATER
        by_hand = dataclasses.replace(described, hub=None)
        with pytest.raises(MedDINOv3Error, match="by hand"):
            moved_on(by_hand, endpoint=hub.address)


class TestWrongContent:
    def test_a_changed_byte(self, entry: CatalogueEntry, hub: Hub, own_home: Path) -> None:
        hub.flip = len(hub.content) // 2
        error = refusal(entry, hub)
        assert error.code == "hash-differs"
        assert left(own_home) == []
        assert not (own_home / "backbones").exists()
        hub.flip = None
        fetch(entry, hub)

    def test_a_changed_byte_of_a_file_kept_in_git(
        self, entry: CatalogueEntry, hub: Hub, own_home: Path
    ) -> None:
        hub.small, hub.flip = True, 1000
        assert refusal(entry, hub).code == "hash-differs"
        assert left(own_home) == []

    def test_a_byte_that_changed_on_the_disk_between_two_pulls(
        self, entry: CatalogueEntry, hub: Hub, own_home: Path
    ) -> None:
        answers = iter([False, False, True])
        with pytest.raises(Cancelled):
            fetch(entry, hub, stop=lambda: next(answers))
        (part,) = left(own_home)
        content = bytearray(part.read_bytes())
        content[17] ^= 1
        part.write_bytes(content)
        assert refusal(entry, hub).code == "hash-differs"
        assert left(own_home) == []

    def test_another_file_than_the_catalogue_lists(self, entry: CatalogueEntry, hub: Hub) -> None:
        pinned = dataclasses.replace(entry, revision=COMMIT, sha256="0" * 64)
        error = refusal(pinned, hub)
        assert error.code == "hash-differs" and "catalogue" in error.message
        assert not hub.transfers
        right = dataclasses.replace(pinned, sha256=hub.etag)
        assert fetch(right, hub).is_dir()

    def test_no_backbone_in_the_file(self, entry: CatalogueEntry, hub: Hub, own_home: Path) -> None:
        hub.content = b"no torch file at all"
        assert refusal(entry, hub).code == "damaged-checkpoint"
        assert left(own_home) == []


class TestRefusedByTheHub:
    @pytest.mark.parametrize(
        ("status", "code", "expected"),
        [
            (401, "", "not-authorised"),
            (401, "RepoNotFound", "not-authorised"),
            (401, "GatedRepo", "gated"),
            (403, "GatedRepo", "gated"),
            (403, "", "gated"),
            (404, "RepoNotFound", "no-repository"),
            (404, "EntryNotFound", "no-file"),
            (404, "RevisionNotFound", "no-revision"),
            (404, "", "no-repository"),
            (407, "", "proxy"),
            (429, "", "hub-busy"),
            (503, "", "hub-busy"),
            (418, "", "hub-refused"),
        ],
    )
    def test_reason_and_remedy(
        self, entry: CatalogueEntry, hub: Hub, own_home: Path, status: int, code: str,
        expected: str,
    ) -> None:  # fmt: skip
        hub.refuse = (status, code)
        error = refusal(entry, hub, name="mine")
        assert error.code == expected
        assert f"{hub.address}/{entry.repository}/resolve/main/model.pth" in error.remedy
        assert "meddinov3 models import model.pth --name mine" in error.remedy
        if expected == "gated":
            assert entry.page in error.remedy and "HF_TOKEN" in error.remedy
        assert left(own_home) == []

    def test_a_revision_that_is_none(self, entry: CatalogueEntry, hub: Hub) -> None:
        error = refusal(entry, hub, revision="refs/v9")
        assert error.code == "no-revision" and "'refs/v9'" in error.message
        assert hub.asked[0].path.endswith("/resolve/refs%2Fv9/model.pth")

    def test_a_login_page_instead_of_the_hub(self, entry: CatalogueEntry, hub: Hub) -> None:
        hub.portal = True
        assert refusal(entry, hub).code == "not-a-hub"


class TestNoConnection:
    def test_nobody_there(self, entry: CatalogueEntry, hub: Hub) -> None:
        address = hub.address
        hub.stop()
        with pytest.raises(MedDINOv3Error) as caught:
            pull(entry, endpoint=address)
        assert caught.value.code == "no-network"
        assert "models import model.pth --name meddinov3-ct" in caught.value.remedy

    def test_no_secure_connection(self, entry: CatalogueEntry, hub: Hub) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            pull(entry, endpoint=hub.address.replace("http:", "https:"))
        assert caught.value.code == "tls" and "certificate" in caught.value.remedy

    def test_a_proxy_that_refuses(
        self, entry: CatalogueEntry, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.refuse = (407, "")  # what it says to CONNECT does not matter: it is no proxy
        monkeypatch.setenv("HTTPS_PROXY", hub.address)
        with pytest.raises(MedDINOv3Error) as caught:
            pull(entry, endpoint="https://hub.invalid")
        assert caught.value.code == "proxy" and "HTTPS_PROXY" in caught.value.remedy

    @pytest.mark.parametrize("address", ["huggingface.co", "ftp://hub", "http://"])
    def test_an_address_that_is_none(self, entry: CatalogueEntry, address: str) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            pull(entry, endpoint=address)
        assert caught.value.code == "bad-endpoint"


def test_before_the_set_up(
    entry: CatalogueEntry, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert refusal(entry, hub).code == "not-set-up"


class TestNames:
    @pytest.mark.parametrize("name", ["../up", "A B"])
    def test_a_name_that_is_none(self, entry: CatalogueEntry, hub: Hub, name: str) -> None:
        assert refusal(entry, hub, name=name).code == "bad-name"
        assert hub.asked == []

    def test_a_name_in_use(self, entry: CatalogueEntry, hub: Hub) -> None:
        fetch(entry, hub)
        count = len(hub.asked)
        assert refusal(entry, hub).code == "exists"
        assert len(hub.asked) == count
        assert fetch(entry, hub, "second").name == "second"


def test_descriptions_written_before_pulling_are_read(entry: CatalogueEntry, hub: Hub) -> None:
    path = fetch(entry, hub) / "backbone.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content.pop("hub")["revision"] == COMMIT
    assert BackboneDescription.from_json(json.dumps(content)).hub is None


def test_what_a_killed_pull_left_is_swept(entry: CatalogueEntry, hub: Hub, own_home: Path) -> None:
    left_over = own_home / "backbones" / ".0123abcd.partial"
    left_over.mkdir(parents=True)
    os.utime(left_over, (0, 0))
    with pytest.raises(MedDINOv3Error):
        pull(dataclasses.replace(entry, repository="nobody/nothing"), endpoint=hub.address)
    assert not left_over.exists()
