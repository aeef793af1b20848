"""A run's folder is read by others while it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from meddinov3.run_folder import (
    CONTROL,
    EVENTS,
    LOCK,
    Follower,
    is_running,
    owner,
    owner_pid,
    read_command,
    send_command,
)


def append(folder: Path, text: str) -> None:
    with open(folder / EVENTS, "a", encoding="utf-8", newline="\n") as stream:
        stream.write(text)


def kinds(follower: Follower) -> list[str]:
    return [event["event"] for event in follower.new_events()]


def test_a_run_that_is_not_there_yet_has_no_events(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "run")
    assert kinds(follower) == []
    (tmp_path / "run").mkdir()
    append(tmp_path / "run", '{"event": "start"}\n')
    assert kinds(follower) == ["start"]


def test_each_event_is_read_once_and_a_partial_line_waits(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    append(tmp_path, '{"event": "a"}\n{"event": "b"}\n{"eve')
    assert kinds(follower) == ["a", "b"]
    assert kinds(follower) == []
    append(tmp_path, 'nt": "c"}\n')
    assert kinds(follower) == ["c"]


def test_what_is_no_event_is_skipped(tmp_path: Path) -> None:
    append(tmp_path, '{"event": "cut off by a cra\n[1]\n\n{"event": 3}\nrubbish\n{"event": "a"}\n')
    with open(tmp_path / EVENTS, "ab") as stream:
        stream.write(b"\xff\xfe\n" + b'{"event": "b"}\n')
    assert kinds(Follower(tmp_path)) == ["a", "b"]


def test_a_file_that_became_shorter_is_read_anew(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    append(tmp_path, '{"event": "a"}\n' * 5)
    assert len(kinds(follower)) == 5
    (tmp_path / EVENTS).write_text('{"event": "other"}\n', encoding="utf-8")
    assert kinds(follower) == ["other"]


def test_a_lock_tells_whether_somebody_trains(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    with FileLock(tmp_path / LOCK):
        assert is_running(tmp_path)
    assert not is_running(tmp_path)


def test_commands_arrive(tmp_path: Path) -> None:
    assert read_command(tmp_path) == "go on"
    send_command(tmp_path, "pause")
    assert read_command(tmp_path) == "pause"
    (tmp_path / CONTROL).write_text('{"comm', encoding="utf-8")
    assert read_command(tmp_path) == "go on"


@pytest.mark.parametrize("content", ["", "[]", '{"pid": "x"}', '{"started": 1}'])
def test_an_owner_that_is_not_known(tmp_path: Path, content: str) -> None:
    assert owner_pid(tmp_path) is None
    (tmp_path / "owner.json").write_text(content, encoding="utf-8")
    assert owner_pid(tmp_path) is None
    assert owner(tmp_path) == "of unknown number"


def test_an_owner_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "owner.json").write_text('{"pid": 12, "started": "today"}', encoding="utf-8")
    assert owner_pid(tmp_path) == 12
    assert owner(tmp_path) == "process 12, since today"
