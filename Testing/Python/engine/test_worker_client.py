"""The conversation with the worker, without a process: bytes in, bytes out."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from meddinov3.errors import MedDINOv3Error
from meddinov3.progress import Progress
from meddinov3.worker.client import Job, Listener, WorkerClient
from meddinov3.worker.failures import explain
from meddinov3.worker.messages import (
    PROTOCOL,
    Event,
    Inspect,
    Lines,
    Load,
    Segment,
    decode_request,
    encode_event,
    encode_request,
    failure,
)


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.listener = Listener(
            self.said.append,
            self.said.append,
            lambda error: self.said.append(error.code),
            lambda: self.said.append("cancelled"),
        )


def conversation() -> tuple[WorkerClient, list[dict[str, Any]]]:
    sent: list[dict[str, Any]] = []
    client = WorkerClient(lambda line: sent.append(json.loads(line)))
    client.feed(encode_event(Event("starting", None, {"protocol": PROTOCOL})))
    return client, sent


def asked() -> tuple[WorkerClient, Job, Heard]:
    client, _ = conversation()
    heard = Heard()
    return client, client.ask(Inspect(), heard.listener), heard


PROGRESS = Event("progress", 1, {"phase": "p", "done": 1, "total": 2, "seconds_left": None})


def test_a_request_and_its_answer() -> None:
    client, job, heard = asked()
    assert client.busy
    client.feed(encode_event(PROGRESS))
    client.feed(encode_event(Event("done", 1, {"result": {"device": "cpu"}})))
    assert heard.said == [Progress("p", 1, 2), {"device": "cpu"}]
    assert job.state == "done" and not client.busy
    client.feed(encode_event(PROGRESS))  # too late: nobody hears it
    client.ended(0)
    assert len(heard.said) == 2


@given(st.lists(st.integers(1, 40), max_size=20))
def test_however_the_bytes_are_cut(cuts: list[int]) -> None:
    client, _, heard = asked()
    text = b"noise\n" + encode_event(PROGRESS) * 3 + encode_event(Event("cancelled", 1))
    for cut in cuts:
        client.feed(text[:cut])
        text = text[cut:]
    client.feed(text)
    assert heard.said == [Progress("p", 1, 2)] * 3 + ["cancelled"]


def test_cancel_names_the_request() -> None:
    client, sent = conversation()
    job = client.ask(Load("m"))
    client.cancel(job)
    assert sent[-1]["do"] == "cancel" and sent[-1]["target"] == job.id == sent[0]["id"]
    client.feed(encode_event(Event("cancelled", job.id)))
    client.cancel(job)
    assert len(sent) == 2


def test_when_the_process_is_gone_everything_open_has_failed_once() -> None:
    client, sent = conversation()
    heard = [Heard(), Heard()]
    jobs = [client.ask(Inspect(), each.listener) for each in heard]
    client.ended(-9, "the log")
    client.ended(-9)
    assert [each.said for each in heard] == [["worker-killed"]] * 2
    assert jobs[0].details == "the log"
    with pytest.raises(MedDINOv3Error):
        client.ask(Inspect())
    assert len(sent) == 2


def test_a_reason_given_before_the_end_is_kept() -> None:
    client, job, heard = asked()
    client.feed(encode_event(failure(None, MedDINOv3Error("not-set-up", "No timm.", "Set up."))))
    client.ended(2)
    assert heard.said == ["not-set-up"]
    assert job.error is not None and job.error.remedy == "Set up."


def test_a_listener_that_raises_keeps_nobody_from_hearing() -> None:
    client, _ = conversation()

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    other = Heard()
    client.ask(Inspect(), Listener(done=fails, failed=fails))
    client.ask(Inspect(), other.listener)
    done = [encode_event(Event("done", number, {"result": {}})) for number in (1, 2)]
    with pytest.raises(ZeroDivisionError):
        client.feed(b"".join(done))
    assert other.said == [{}]
    last = Heard()
    client.ask(Inspect(), Listener(failed=fails))
    client.ask(Inspect(), last.listener)
    with pytest.raises(ZeroDivisionError):
        client.ended(1)
    assert last.said == ["worker-died"]


def test_a_request_too_long_to_be_read_is_refused() -> None:
    client, sent = conversation()
    with pytest.raises(MedDINOv3Error):
        client.ask(Segment("m", labels=("x" * 5_000_000,)))
    assert sent == [] and not client.busy


def test_another_version_is_refused() -> None:
    sent: list[bytes] = []
    client = WorkerClient(sent.append)
    client.feed(encode_event(Event("starting", None, {"protocol": PROTOCOL + 1})))
    assert client.failure is not None and client.failure.code == "wrong-version"
    assert b"stop" in sent[-1]


def test_a_broken_pipe_is_told_by_the_end_only() -> None:
    def broken(_: bytes) -> None:
        raise BrokenPipeError

    client, heard = WorkerClient(broken), Heard()
    client.ask(Inspect(), heard.listener)
    assert heard.said == []
    client.ended(1)
    assert heard.said == ["worker-died"]


def test_requests_survive_the_wire() -> None:
    for request in (
        Load("m", "cuda:1", "bf16"),
        Segment("m", files={"CT": "Lunge größer.nii"}, labels=("a", "b"), minimum_ml=2, batch=3),
    ):
        assert decode_request(encode_request(7, request)) == (7, request)
    assert b"\n" not in encode_request(1, Load("two\nlines")).rstrip(b"\n")


def test_lines_are_whole() -> None:
    lines = Lines()
    assert list(lines.feed(b"a")) == []
    assert list(lines.feed(b"b\nc\n\nd")) == [b"ab", b"c", b""]
    assert list(lines.feed(b"\n")) == [b"d"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MedDINOv3Error("weights-altered", "m", "r"), "weights-altered"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out-of-memory"),
        (MemoryError(), "out-of-memory"),
        (
            RuntimeError("CUDA error: no kernel image is available for execution on the device"),
            "no-kernel",
        ),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "gpu-failed"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "disk-full"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "internal"),
        (KeyError("x"), "internal"),
        (RuntimeError(""), "internal"),
    ],
)
def test_every_exception_becomes_a_sentence(error: Exception, code: str) -> None:
    found = explain(error)
    assert found.code == code
    assert found.message and found.remedy
    assert "\n" not in found.message
