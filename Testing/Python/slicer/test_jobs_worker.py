"""The worker behind a QProcess: started when needed, again after it died, ended with Slicer."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jobs_bed import LONG, environment, misbehaving_python
from meddinov3.errors import MedDINOv3Error
from meddinov3.worker.client import Listener
from meddinov3.worker.messages import FreeMemory, Inspect

pytest_plugins = ("jobs_bed",)
Answers = list[tuple[str, Any]]
STARTING = 'print(\'{"event":"starting","id":null,"protocol":1,"pid":%d}\' % os.getpid())'
READY = 'print(\'{"event":"ready","id":null,"device":"cpu","name":"CPU","versions":{}}\')'


@pytest.fixture
def make(jobs: SimpleNamespace, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    made = []

    def worker(python: str = sys.executable) -> Any:
        made.append(jobs.worker.Worker(lambda: python, environment, tmp_path / "logs" / "w.log"))
        return made[-1]

    yield worker
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def shared(jobs: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real worker, which takes seconds to start, for tests that leave it of use."""
    log = tmp_path_factory.mktemp("shared") / "w.log"
    worker = jobs.worker.Worker(lambda: sys.executable, environment, log)
    yield worker
    worker.close()


def listener(answers: Answers) -> Listener:
    return Listener(
        done=lambda result: answers.append(("done", result)),
        failed=lambda error: answers.append(("failed", error.code)),
        cancelled=lambda: answers.append(("cancelled", None)),
    )


def test_it_starts_when_asked_says_how_it_is_and_ends_with_slicer(
    make: Callable[..., Any], jobs: Any
) -> None:
    worker, states, answers = make(), [], []
    worker.changed.connect(states.append)
    assert worker.state == "off" and not worker.running
    worker.ask(Inspect("cpu"), listener(answers))
    jobs.app.wait_until(lambda: answers and worker.state == "ready", LONG)
    assert answers[0][1]["device"] == "cpu"
    assert states == ["starting", "busy", "ready"]
    assert "CPU" in worker.device
    assert "Inspect 1: done" in worker.logText()
    pid = worker._client.pid
    jobs.app.app.aboutToQuit.connect(lambda: worker.close())
    jobs.app.app.aboutToQuitNow()
    assert not worker.running and not jobs.process.isAlive(pid)
    assert states[-1] == "off" and worker.failure is None


def test_it_is_started_again_after_it_was_killed(shared: Any, jobs: Any) -> None:
    worker, answers = shared, []
    worker.ask(Inspect("cpu"), listener(answers))
    jobs.app.wait_until(lambda: answers, LONG)
    first = worker._client.pid
    job = worker.ask(Inspect("cpu"), listener(answers))
    os.kill(first, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
    jobs.app.wait_until(lambda: worker.state == "failed", LONG)
    assert job.state in ("failed", "done") and not worker.running
    assert worker.failure.code in ("worker-killed", "worker-died") and worker.failure.remedy
    answers.clear()
    worker.ask(Inspect("cpu"), listener(answers))
    jobs.app.wait_until(lambda: answers, LONG)
    assert answers[0][0] == "done" and worker._client.pid != first


def test_a_program_that_is_not_there_is_told(
    make: Callable[..., Any], jobs: Any, tmp_path: Path
) -> None:
    worker, answers = make(str(tmp_path / "none")), []
    try:
        worker.ask(FreeMemory(), listener(answers))
    except MedDINOv3Error as error:  # known at once
        answers.append(("failed", error.code))
    jobs.app.wait_until(lambda: answers, LONG)
    assert answers == [("failed", "worker-not-started")]
    assert worker.state == "failed" and "settings" in worker.failure.remedy


posix = pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")


@posix
def test_garbage_on_stdout_is_passed_over(
    make: Callable[..., Any], jobs: Any, tmp_path: Path
) -> None:
    body = f"""
import os, sys
{STARTING}
print("Hello from a library"); print("[1, 2"); print('{{"event": 3}}'); print("\\x00\\xff")
sys.stdout.flush()
{READY}
sys.stdout.flush()
sys.stdin.readline()
print('{{"event":"done","id":99,"result":{{}}}}')
print('garbage{{"event":"done"}}')
print('{{"event":"done","id":1,"result":{{"a":1}}}}', flush=True)
sys.stdin.read()
"""
    worker, answers = make(misbehaving_python(tmp_path, body)), []
    worker.ask(FreeMemory(), listener(answers))
    jobs.app.wait_until(lambda: answers, LONG)
    assert answers == [("done", {"a": 1})]


@posix
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("import sys; print('broken torch', file=sys.stderr); sys.exit(3)", "worker-died"),
        ("import os; os.kill(os.getpid(), 9)", "worker-killed"),
        ("import os; os.kill(os.getpid(), 11)", "worker-died"),
        ("print('{\"event\":\"starting\",\"id\":null,\"protocol\":77}', flush=True);"
         "input()", "wrong-version"),
        ("print('{\"event\":\"failed\",\"id\":null,\"code\":\"not-set-up\",\"message\":\"a\","
         "\"remedy\":\"b\"}', flush=True); raise SystemExit(2)", "not-set-up"),
    ],
)  # fmt: skip
def test_a_worker_that_dies_leaves_nobody_waiting(
    make: Callable[..., Any], jobs: Any, tmp_path: Path, body: str, code: str
) -> None:
    worker, answers = make(misbehaving_python(tmp_path, body)), []
    job = worker.ask(Inspect("cpu"), listener(answers))
    jobs.app.wait_until(lambda: answers, LONG)
    assert answers == [("failed", code)]
    assert job.error.remedy
    jobs.app.wait_until(lambda: not worker.running, LONG)
    assert worker.state == "failed"
    if "torch" in body:
        assert "broken torch" in job.details


@posix
def test_one_that_does_not_end_is_ended(
    make: Callable[..., Any], jobs: Any, tmp_path: Path
) -> None:
    """As PythonSlicer does, the program starts the real one, which here is deaf."""
    deaf = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"{STARTING}\n{READY}\n"
        "import sys; sys.stdout.flush()\n"
        "time.sleep(1000)\n"
    )
    (tmp_path / "deaf.py").write_text(deaf)
    deaf_file = str(tmp_path / "deaf.py")
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, {deaf_file!r}])"
    worker = make(misbehaving_python(tmp_path, launcher))
    worker.ask(FreeMemory())
    jobs.app.wait_until(lambda: worker.state == "busy", LONG)
    pid = worker._client.pid
    worker.close(wait=0.3)
    assert worker.state == "off"
    jobs.app.wait_until(lambda: not jobs.process.isAlive(pid), LONG)


def test_a_listener_that_fails_keeps_nothing_from_going_on(
    shared: Any, jobs: Any, capsys: Any
) -> None:
    def broken(_answer: object) -> None:
        raise RuntimeError("a panel's fault")

    worker, answers = shared, []
    worker.ask(FreeMemory(), Listener(done=broken))
    worker.ask(FreeMemory(), listener(answers))
    jobs.app.wait_until(lambda: answers, LONG)
    assert answers[0][0] == "done" and "a panel's fault" in capsys.readouterr().err


def test_one_that_retires_answers_first(make: Callable[..., Any], jobs: Any) -> None:
    worker, answers = make(), []
    worker.ask(Inspect("cpu"), listener(answers))
    worker.retire()
    assert worker.running and worker.waiting == 1
    jobs.app.wait_until(lambda: answers and not worker.running, LONG)
    assert [kind for kind, _ in answers] == ["done"] and worker.failure is None
    worker.ask(Inspect("cpu"), listener(answers))
    assert worker.running, "a new one knows the new settings"
