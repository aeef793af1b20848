"""The segmentation process, kept warm: a QProcess and the conversation with it.

Python's threads starve in an idle Slicer, so Qt's signals carry everything.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import qt
from meddinov3.errors import MedDINOv3Error
from meddinov3.worker.client import Job, Listener, WorkerClient
from meddinov3.worker.messages import Request
from meddinov3.worker.process import log_tail, worker_command
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.jobs.process import endTree
from MedDINOv3SlicerLib.signal import Signal

OFF, STARTING, READY, BUSY, FAILED = "off", "starting", "ready", "busy", "failed"
PATIENCE = 3.0  # seconds for a worker that was told to stop


class Worker:
    """Starts the worker when something is asked, and again after it died.

    Attributes:
        state: ``off``, ``starting``, ``ready``, ``busy`` or ``failed``.
        changed: emitted with the new state.
        log: file with what the worker prints.
        failure: why the last process ended, None if it did as it was told.
        device: what it computes on, in words; "" before it is ready.
    """

    def __init__(
        self,
        python: Callable[[], str],
        environment: Callable[[], Mapping[str, str]],
        log: Path,
    ) -> None:
        """Start nothing yet.

        Args:
            python: the program, asked for at each start, see
                :func:`MedDINOv3SlicerLib.jobs.interpreter.findPython`.
            environment: of the process, likewise.
            log: file, replaced at each start.
        """
        self._python, self._environment, self.log = python, environment, log
        self._process: Any = None
        self._gone: Any = None  # a QProcess must not die in its own signal
        self._client: WorkerClient | None = None
        self._closing = self._retiring = False
        self.state = OFF
        self.changed = Signal()
        self.failure: MedDINOv3Error | None = None
        self.device = ""

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    def ask(self, request: Request, listener: Listener | None = None) -> Job:
        """Send a request, after starting the process if need be.

        Raises:
            MedDINOv3Error: the process cannot be started, or the request is too long.
        """
        if self._retiring and not self.waiting:
            self.close()
        if self._client is None or self._client.failure is not None or self._closing:
            self.kill()
            self._start()
        assert self._client is not None
        job = self._client.ask(request, listener)
        self._tell()
        return job

    def cancel(self, job: Job) -> None:
        """Ask to stop a request; its listener hears of it."""
        if self._client is not None:
            self._client.cancel(job)

    def close(self, wait: float = PATIENCE) -> None:
        """End the process; whatever is open fails or is cancelled.

        Args:
            wait: seconds for it to end by itself, 0 to let it end while life goes on.
        """
        if self._process is None or self._client is None:
            return
        self._closing = True
        self._client.stop()
        self._process.closeWriteChannel()
        if wait > 0 and not self._process.waitForFinished(round(wait * 1000)):
            self.kill()

    def retire(self) -> None:
        """End the process once it has answered what it was asked: it knows old settings."""
        self._retiring = self._client is not None
        self._tell()

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return 0 if self._client is None else self._client.waiting

    @property
    def wanted(self) -> int:
        """Requests without an answer that nobody cancelled."""
        return 0 if self._client is None else self._client.wanted

    def kill(self) -> None:
        """End the process and what it started, at once; whatever is open fails."""
        process, client = self._process, self._client
        if process is None:
            return
        self._closing = True
        if client is not None and client.pid is not None:
            endTree(client.pid)  # the program may be a launcher, which would leave it behind
        process.kill()
        process.waitForFinished(round(PATIENCE * 1000))
        self._end(process, None)

    def logText(self) -> str:
        """The end of the log."""
        return log_tail(self.log)

    def _start(self) -> None:
        try:
            program, *arguments = worker_command(self._python())
            self.log.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MedDINOv3Error(
                "cannot-write",
                _("The folder of the log cannot be made: {reason}.").format(
                    reason=error.strerror or error
                ),
                _("Check free space and permissions of '{folder}'.").format(folder=self.log.parent),
            ) from error
        environment = qt.QProcessEnvironment()
        for name, value in self._environment().items():
            environment.insert(name, value)
        process = qt.QProcess()
        client = WorkerClient(lambda line: process.write(line), self._onReady)
        process.setProcessEnvironment(environment)
        process.setStandardErrorFile(str(self.log))
        process.readyReadStandardOutput.connect(lambda: self._read(process, client))
        process.finished.connect(lambda code, status: self._end(process, code, status))
        process.errorOccurred.connect(lambda error: self._onError(process, client, error))
        self._process, self._client, self._closing, self.failure = process, client, False, None
        self._retiring = False
        self.device = ""
        process.start(program, arguments)
        if client.failure is not None:  # on Windows a missing program is known at once
            raise client.failure
        self._tell()

    def _onReady(self, facts: dict[str, Any]) -> None:
        self.device = str(facts.get("name", ""))
        self._tell()

    def _onError(self, process: Any, client: WorkerClient, error: Any) -> None:
        if error == qt.QProcess.FailedToStart:  # then finished never comes
            client.failure = MedDINOv3Error(
                "worker-not-started",
                _("The segmentation process cannot be started: {reason}.").format(
                    reason=process.errorString()
                ),
                _("Check the Python that is chosen in the settings."),
            )
            self._end(process, None)

    def _read(self, process: Any, client: WorkerClient) -> None:
        try:
            client.feed(process.readAllStandardOutput().data())
        except Exception:  # a listener's; the others heard
            traceback.print_exc()
        if process is self._process:
            self._tell()

    def _end(self, process: Any, code: int | None, status: Any = None) -> None:
        """The process is gone; only the first to say so counts."""
        if process is not self._process:
            return
        client, closing = self._client, self._closing
        assert client is not None
        if code is not None and process.bytesAvailable():
            self._read(process, client)
        if self._gone is not None:
            self._gone.deleteLater()
        self._gone, self._process, self._client, self._closing = process, None, None, False
        # Crashed: what Qt gives as code is the signal's number.
        signalled = status is not None and status == qt.QProcess.CrashExit
        try:
            client.ended(-code if signalled and code is not None else code, self.logText())
        except Exception:  # a listener's
            traceback.print_exc()
        self.failure = None if closing else client.failure
        self._tell()

    def _tell(self) -> None:
        client = self._client
        if client is None:
            state = OFF if self.failure is None else FAILED
        elif client.ready is None:
            state = STARTING
        else:
            state = BUSY if client.busy else READY
        if state != self.state:
            self.state = state
            self.changed.emit(state)
        if self._retiring and client is not None and not client.busy and not self._closing:
            self.close(wait=0)
