"""How to talk to the worker. Knows no process and no Qt: bytes go in, bytes come out.

>>> client = WorkerClient(process.write)          # a QProcess, a pipe
>>> job = client.ask(Segment("liver", scan=str(folder), result=str(result)), Listener(done=show))
>>> client.feed(process.readAll().data())         # whenever there is something
>>> client.ended(code, log)                       # when the process is gone
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from meddinov3.errors import MedDINOv3Error
from meddinov3.progress import Progress
from meddinov3.worker.messages import (
    LONGEST_LINE,
    PROTOCOL,
    Cancel,
    Event,
    Lines,
    Request,
    Stop,
    decode_event,
    encode_request,
)

KILLED = (-9, 137)


def _nothing(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class Listener:
    """Whom to tell about a request; exactly one of done, failed and cancelled comes, once."""

    progress: Callable[[Progress], None] = _nothing
    done: Callable[[dict[str, Any]], None] = _nothing
    failed: Callable[[MedDINOv3Error], None] = _nothing
    cancelled: Callable[[], None] = _nothing


@dataclass
class Job:
    """A request on its way.

    Attributes:
        id: as the worker knows it.
        state: ``open``, ``done``, ``failed`` or ``cancelled``.
        result: when done.
        error: when failed.
        details: traceback of a failure, for people who help.
        abandoned: whether it was asked to stop.
    """

    id: int
    listener: Listener = field(repr=False)
    state: str = "open"
    result: dict[str, Any] | None = None
    error: MedDINOv3Error | None = None
    details: str = ""
    abandoned: bool = False


class WorkerClient:
    """One conversation with one worker process.

    Attributes:
        pid: of the process that answers, None before it starts; its program may be a launcher.
        ready: fields of the ``ready`` event, None before it.
        failure: why the process is of no more use, None while it is.
    """

    def __init__(
        self, send: Callable[[bytes], object], on_ready: Callable[[dict[str, Any]], None] = _nothing
    ) -> None:
        """Begin a conversation.

        Args:
            send: writes to the worker's stdin.
            on_ready: told once everything is imported.
        """
        self._send, self._on_ready = send, on_ready
        self._lines = Lines()
        self._jobs: dict[int, Job] = {}
        self._last = 0
        self.pid: int | None = None
        self.ready: dict[str, Any] | None = None
        self.failure: MedDINOv3Error | None = None

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._jobs)

    @property
    def waiting(self) -> int:
        """How many answers are awaited."""
        return len(self._jobs)

    @property
    def wanted(self) -> int:
        """How many answers are awaited of requests that nobody cancelled."""
        return sum(not job.abandoned for job in self._jobs.values())

    def ask(self, request: Request, listener: Listener | None = None) -> Job:
        """Send a request; may be done before the worker is ready.

        Raises:
            MedDINOv3Error: the process is of no more use; start another.
        """
        if self.failure is not None:
            raise self.failure
        if len(encode_request(0, request)) >= LONGEST_LINE - 20:
            raise MedDINOv3Error(
                "bad-request", "The request is too long.", "Name fewer files or labels at a time."
            )
        self._last += 1
        job = self._jobs[self._last] = Job(self._last, listener or Listener())
        self._write(self._last, request)
        return job

    def cancel(self, job: Job) -> None:
        """Ask to stop a request; its listener hears ``cancelled``, or ``done`` if too late."""
        if job.state == "open":
            job.abandoned = True
            self._last += 1
            self._write(self._last, Cancel(job.id))

    def stop(self) -> None:
        """Ask the worker to cancel everything and end."""
        self._last += 1
        self._write(self._last, Stop())

    def feed(self, piece: bytes) -> None:
        """Take what came from the worker's stdout, however it is cut.

        A listener that raises keeps nobody else from hearing; the first such error is raised again
        at the end.
        """
        with _AllHear() as each:
            for line in self._lines.feed(piece):
                event = decode_event(line)
                if event is not None:
                    each(self._hear, event)

    def ended(self, code: int | None, log: str = "") -> None:
        """The process is gone: whatever is open has failed.

        Args:
            code: its exit code, negative for a signal.
            log: the end of its stderr, kept as details.
        """
        if self.failure is None:
            self.failure = _died(code)
        with _AllHear() as each:
            for job in list(self._jobs.values()):
                each(self._close, job, "failed", None, self.failure, log)

    def _write(self, number: int, request: Request) -> None:
        with suppress(OSError):  # the process is gone: ended() says so for every open request
            self._send(encode_request(number, request))

    def _hear(self, event: Event) -> None:
        body = event.body
        if event.kind == "starting":
            self.pid = body.get("pid")
        if event.kind == "starting" and body.get("protocol") != PROTOCOL:
            self.failure = MedDINOv3Error(
                "wrong-version",
                "The segmentation process belongs to another version of MedDINOv3.",
                "Restart Slicer; if that does not help install the extension again.",
            )
            self.stop()
        elif event.kind == "ready":
            self.ready = body
            self._on_ready(body)
        elif event.kind == "failed" and event.id is None:
            self.failure = _error(body)
        job = self._jobs.get(event.id) if event.id is not None else None
        if job is None:
            return
        if event.kind == "progress":
            job.listener.progress(Progress(**body))
        elif event.kind == "done":
            self._close(job, "done", result=body["result"])
        elif event.kind == "cancelled":
            self._close(job, "cancelled")
        elif event.kind == "failed":
            self._close(job, "failed", error=_error(body), details=body.get("details", ""))

    def _close(
        self,
        job: Job,
        state: str,
        result: dict[str, Any] | None = None,
        error: MedDINOv3Error | None = None,
        details: str = "",
    ) -> None:
        del self._jobs[job.id]
        job.state, job.result, job.error, job.details = state, result, error, details
        if error is not None:
            job.listener.failed(error)
        elif result is not None:
            job.listener.done(result)
        else:
            job.listener.cancelled()


class _AllHear:
    """Calls one after another; the first error waits until all were called."""

    def __init__(self) -> None:
        self._first: Exception | None = None

    def __call__(self, tell: Callable[..., None], *what: Any) -> None:
        try:
            tell(*what)
        except Exception as error:
            self._first = self._first or error

    def __enter__(self) -> _AllHear:
        return self

    def __exit__(self, *_: object) -> None:
        if self._first is not None:
            raise self._first


def _error(body: dict[str, Any]) -> MedDINOv3Error:
    return MedDINOv3Error(body["code"], body["message"], body["remedy"])


def _died(code: int | None) -> MedDINOv3Error:
    if code in KILLED:
        return MedDINOv3Error(
            "worker-killed",
            "The segmentation process was ended from outside, perhaps since memory ran out.",
            "Try again with other programs closed, or with a region.",
        )
    return MedDINOv3Error(
        "worker-died",
        f"The segmentation process ended unexpectedly (code {code}).",
        "Try again; if it happens again report it with the log.",
    )
