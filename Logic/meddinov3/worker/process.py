"""The worker as a child process of plain Python: for scripts, benchmarks and tests.

In Slicer the child is a QProcess instead, since Python's threads starve there; the command, the
log and the conversation are the same.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from meddinov3.errors import MedDINOv3Error
from meddinov3.worker.client import Job, Listener, WorkerClient
from meddinov3.worker.messages import Request

ENTRY = Path(__file__).with_name("__main__.py")
TAIL = 8192  # bytes of the log kept as details
PATIENCE = 70.0  # seconds until a worker that was told to stop is ended: it may be writing a file


def worker_command(python: str = sys.executable) -> list[str]:
    """Program and arguments that start the worker, whatever that Python's search path is."""
    return [python, str(ENTRY)]


def log_tail(path: Path) -> str:
    """The end of a worker's log."""
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, path.stat().st_size - TAIL))
            return stream.read(TAIL).decode("utf-8", "replace")
    except OSError:
        return ""


class WorkerProcess:
    """A running worker; use it in a ``with`` statement.

    Attributes:
        client: the conversation; its listeners are called on a thread of their own.
    """

    def __init__(
        self,
        log: Path,
        command: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process; returns before it is ready.

        Args:
            log: file for what it prints, replaced.
            command: as :func:`worker_command`, which is the default.
            environment: of the process; this one's by default.

        Raises:
            MedDINOv3Error: it cannot be started.
        """
        self._log = log
        own: dict[str, Any] = {"start_new_session": True}  # Ctrl-C is for the parent
        if sys.platform == "win32":
            own = {"creationflags": subprocess.CREATE_NO_WINDOW}
        try:
            with open(log, "wb") as stream:
                self._process = subprocess.Popen(
                    list(command or worker_command()),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stream,
                    env=dict(environment) if environment is not None else None,
                    bufsize=0,
                    **own,
                )
        except OSError as error:
            raise MedDINOv3Error(
                "worker-not-started",
                f"The segmentation process cannot be started: {error.strerror or error}.",
                "Check the Python that is chosen in the settings.",
            ) from error
        self._answered = threading.Condition(threading.RLock())
        self.client = WorkerClient(self._write)
        self._reader = threading.Thread(target=self._read_all, name="worker", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, request: Request, listener: Listener | None = None) -> Job:
        """See :meth:`WorkerClient.ask`."""
        with self._answered:
            return self.client.ask(request, listener)

    def cancel(self, job: Job) -> None:
        """See :meth:`WorkerClient.cancel`."""
        with self._answered:
            self.client.cancel(job)

    def wait(self, job: Job, seconds: float | None = None) -> Job:
        """Wait until a request is answered.

        Raises:
            TimeoutError: it took longer.
        """
        with self._answered:
            if not self._answered.wait_for(lambda: job.state != "open", seconds):
                raise TimeoutError
        return job

    def result(self, request: Request, seconds: float | None = None) -> dict[str, Any]:
        """Ask and wait.

        Raises:
            MedDINOv3Error: the request failed.
            TimeoutError: it took longer.
        """
        job = self.wait(self.ask(request), seconds)
        if job.error is not None:
            raise job.error
        return job.result or {}

    def close(self) -> int:
        """Close stdin, wait for the end, insist if it does not come; returns the exit code."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        self._reader.join(PATIENCE)
        return code

    def kill(self) -> None:
        """End the process and what it started, at once."""
        if self._process.poll() is None:
            end_tree(self._process.pid)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
        except ValueError as error:  # closed
            raise OSError(str(error)) from error

    def _read_all(self) -> None:
        assert self._process.stdout is not None
        try:
            while piece := self._process.stdout.read(65536):
                with self._answered:
                    try:
                        self.client.feed(piece)
                    except Exception:  # a listener's; whoever waits must still get an answer
                        traceback.print_exc()
                    self._answered.notify_all()
        finally:
            code = self._process.wait()
            with self._answered:
                try:
                    self.client.ended(code, log_tail(self._log))
                finally:
                    self._answered.notify_all()


def end_tree(pid: int) -> None:
    """End a worker and its children: in Slicer its program is a launcher, the real one a child."""
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(pid)], capture_output=True, check=False)
        return
    import os
    import signal

    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # a session of its own, see start_new_session
