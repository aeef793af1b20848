"""Transfers that break off, are stopped, or find the disk full; and how they are taken up again."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import CHUNK, LATER, Hub, fetch, kept_bytes, left, library_alone, refusal
from meddinov3 import hub_transfer
from meddinov3.backbone_file import read_backbone
from meddinov3.catalogue import CatalogueEntry, find_entry
from meddinov3.errors import Cancelled
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


class TestBrokenOff:
    @pytest.fixture
    def cut(self, hub: Hub) -> Hub:
        """Breaks once in the middle, and is then out of order."""
        hub.cut, hub.cuts, hub.refuse_after_cut = len(hub.content) // 2, 1, 503
        return hub

    def test_the_next_pull_transfers_only_the_rest(
        self, entry: CatalogueEntry, cut: Hub, own_home: Path
    ) -> None:
        error = refusal(entry, cut)
        assert error.code == "hub-busy" and "are kept" in error.message
        kept = kept_bytes(own_home)
        assert 0 < kept <= cut.cut
        assert not (own_home / "backbones").exists()
        cut.refuse_after_cut = 0
        cut.asked.clear()
        fetch(entry, cut)
        (transfer,) = cut.transfers
        assert transfer.range == f"bytes={kept}-"
        assert left(own_home) == []

    def test_short_breaks_are_bridged(self, entry: CatalogueEntry, hub: Hub) -> None:
        hub.cut, hub.cuts = len(hub.content) // 2, 1
        fetch(entry, hub)
        assert [bool(a.range) for a in hub.transfers] == [False, True]

    def test_a_line_that_stays_dead_is_given_up(
        self, entry: CatalogueEntry, hub: Hub, own_home: Path
    ) -> None:
        hub.cut, hub.cuts = len(hub.content) // 2, 99
        error = refusal(entry, hub)
        assert error.code == "cut-off" and "are kept" in error.message
        assert "Pull again" in error.remedy and "models import" in error.remedy
        assert kept_bytes(own_home) > 0
        assert 2 < len(hub.transfers) < 20

    def test_a_server_that_ignores_ranges(self, entry: CatalogueEntry, cut: Hub) -> None:
        refusal(entry, cut)
        cut.refuse_after_cut, cut.ignores_ranges = 0, True
        fetch(entry, cut)

    def test_what_is_left_of_other_content_is_not_mixed_in(
        self, entry: CatalogueEntry, cut: Hub, data: Path, own_home: Path
    ) -> None:
        refusal(entry, cut)
        assert kept_bytes(own_home)
        cut.refuse_after_cut, cut.commit = 0, LATER
        cut.content = (data / "reference_checkpoints" / "dinov3_qkv_bias.pth").read_bytes()
        cut.asked.clear()
        described = read_backbone(fetch(entry, cut)).description
        assert [a.range for a in cut.transfers] == [""]
        assert described.origin == "dinov3"
        assert left(own_home) == []

    def test_stopped_and_taken_up_again(
        self, entry: CatalogueEntry, hub: Hub, own_home: Path
    ) -> None:
        answers = iter([False, False, True])
        with pytest.raises(Cancelled):
            fetch(entry, hub, stop=lambda: next(answers))
        assert kept_bytes(own_home) == 2 * CHUNK
        assert find_backbone(entry.id) is None
        hub.asked.clear()
        fetch(entry, hub, stop=lambda: False)
        assert [a.range for a in hub.transfers] == [f"bytes={2 * CHUNK}-"]

    def test_two_at_once(self, entry: CatalogueEntry, hub: Hub) -> None:
        codes = []

        def again(_: Progress) -> None:
            if not codes:
                codes.append(refusal(entry, hub, name="other").code)

        fetch(entry, hub, report=again)
        assert codes == ["busy"]


class TestNoSpace:
    def test_is_seen_before_the_transfer(
        self, entry: CatalogueEntry, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = shutil.disk_usage("/")._replace(free=1000)
        monkeypatch.setattr(hub_transfer.shutil, "disk_usage", lambda _: usage)
        error = refusal(entry, hub)
        assert error.code == "no-space" and "MEDDINOV3_HOME" in error.remedy
        assert not hub.transfers

    def test_while_writing(
        self, entry: CatalogueEntry, hub: Hub, own_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Full:
            """A file on a disk that fills up."""

            def __init__(self, stream: object) -> None:
                self.stream = stream

            def __getattr__(self, name: str) -> object:
                return getattr(self.stream, name)

            def write(self, chunk: bytes) -> int:
                if self.stream.tell() >= 3 * CHUNK:  # type: ignore[attr-defined]
                    raise OSError(errno.ENOSPC, "No space left on device")
                return self.stream.write(chunk)  # type: ignore[attr-defined]

        sink = hub_transfer._Sink
        monkeypatch.setattr(
            hub_transfer, "_Sink", lambda stream, *rest: sink(Full(stream), *rest)  # type: ignore[arg-type]
        )  # fmt: skip
        error = refusal(entry, hub)
        assert error.code == "no-space" and "disk is full" in error.message
        assert kept_bytes(own_home) == 3 * CHUNK
        monkeypatch.setattr(hub_transfer, "_Sink", sink)
        hub.asked.clear()
        fetch(entry, hub)
        assert [a.range for a in hub.transfers] == [f"bytes={3 * CHUNK}-"]

    def test_while_converting_the_download_is_kept(
        self, entry: CatalogueEntry, hub: Hub, own_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("meddinov3.bundle.save_file", full)
            assert refusal(entry, hub).code == "cannot-write"
        assert [path.name for path in left(own_home)] == ["model.pth"]
        hub.asked.clear()
        fetch(entry, hub)
        assert not hub.transfers, "it was here already"

    def test_a_place_that_cannot_be_written(
        self, entry: CatalogueEntry, hub: Hub, own_home: Path
    ) -> None:
        (own_home / "downloads").write_text("in the way")
        assert refusal(entry, hub).code == "cannot-write"


def test_the_lock_stays_the_same_file(entry: CatalogueEntry, hub: Hub, own_home: Path) -> None:
    """Whoever waits has it open; a new file of that name would let a third in."""
    lock = own_home / "downloads" / f".{entry.id}.lock"
    lock.parent.mkdir()
    lock.touch()
    waiting = lock.stat()
    fetch(entry, hub)
    assert lock.stat().st_ino == waiting.st_ino
