"""What goes wrong around the worker: crashes, kills, noise, slow readers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from meddinov3.errors import MedDINOv3Error
from meddinov3.worker.exchange import Exchange
from meddinov3.worker.messages import Inspect, Load, encode_request
from meddinov3.worker.process import WorkerProcess, worker_command
from workers import LONG, environment, log_of, misbehaving, request, tiny, worker


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny(tmp_path)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    with Exchange(tmp_path) as opened:
        yield opened


class TestDeath:
    def test_a_crash_is_told_and_the_next_worker_works(
        self, tmp_path: Path, bundle: Path, exchange: Exchange
    ) -> None:
        with worker(tmp_path, "ctypes.string_at(0)") as process:
            job = process.wait(process.ask(request(bundle, exchange)), LONG)
            assert job.state == "failed" and job.error is not None
            assert job.error.code == "worker-died" and job.error.remedy
            assert "Segmentation fault" in job.details or sys.platform == "win32"
            with pytest.raises(MedDINOv3Error):
                process.ask(Inspect("cpu"))
        with worker(tmp_path) as process:
            process.result(request(bundle, exchange), LONG)

    def test_a_kill_is_told(self, tmp_path: Path, bundle: Path, exchange: Exchange) -> None:
        with worker(tmp_path, "time.sleep(600)") as process:
            jobs = [process.ask(request(bundle, exchange)) for _ in range(3)]
            process.kill()
            states = [process.wait(job, LONG).state for job in jobs]
            assert states == ["failed"] * 3
            codes = {job.error.code for job in jobs if job.error}
            assert codes == {"worker-killed" if sys.platform != "win32" else "worker-died"}

    @pytest.mark.parametrize(
        "error",
        [
            "ImportError('No module named timm')",
            "OSError('[WinError 126] timm.dll')",
            "RuntimeError('operator timm::nms does not exist')",
        ],
    )
    def test_a_package_that_does_not_load_is_named(self, tmp_path: Path, error: str) -> None:
        (tmp_path / "timm.py").write_text(f"raise {error}")
        parts = {"PYTHONPATH": os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])}
        process = WorkerProcess(tmp_path / "log", worker_command(), {**environment(), **parts})
        with process, pytest.raises(MedDINOv3Error) as caught:
            process.result(Inspect("cpu"), LONG)
        assert caught.value.code == "not-set-up" and "timm" in caught.value.message

    def test_a_program_that_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            WorkerProcess(tmp_path / "log", worker_command(str(tmp_path / "python")))
        assert caught.value.code == "worker-not-started"

    def test_an_exception_that_nobody_foresaw_is_a_sentence(
        self, tmp_path: Path, bundle: Path, exchange: Exchange
    ) -> None:
        with worker(tmp_path, "raise ZeroDivisionError('by nought')") as process:
            job = process.wait(process.ask(request(bundle, exchange)), LONG)
            assert job.error is not None and job.error.code == "internal"
            assert "ZeroDivisionError" in job.details
            process.result(Inspect("cpu"), LONG)

    def test_a_failed_gpu_ends_the_process_after_saying_so(
        self, tmp_path: Path, bundle: Path, exchange: Exchange
    ) -> None:
        body = "raise RuntimeError('CUDA error: unspecified launch failure')"
        with worker(tmp_path, body) as process:
            first, second = (process.ask(request(bundle, exchange)) for _ in range(2))
            process.wait(second, LONG)
        assert first.error is not None and first.error.code == "gpu-failed"
        assert second.state == "failed"


class TestNoise:
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
    def test_a_log_that_cannot_be_written_ends_nothing(self, tmp_path: Path) -> None:
        with WorkerProcess(Path("/dev/full"), worker_command(), environment()) as process:
            with pytest.raises(MedDINOv3Error) as caught:
                process.result(Load("no such model", "cpu"), LONG)
            assert caught.value.code == "no-model"
            process.result(Inspect("cpu"), LONG)

    def test_what_libraries_and_children_print_goes_to_the_log(
        self, tmp_path: Path, bundle: Path, exchange: Exchange
    ) -> None:
        body = r"""
        print("from print")
        os.write(1, b"from descriptor\n")
        sys.__stdout__.write("from the old stdout\n")
        sys.__stdout__.flush()
        child = "import sys; print('from a child', repr(sys.stdin.read()))"
        subprocess.run([sys.executable, "-c", child], check=True, timeout=60)
        """
        with worker(tmp_path, body) as process:
            process.result(request(bundle, exchange), LONG)
        for text in ("print", "descriptor", "the old stdout", "a child ''"):
            assert f"from {text}" in log_of(tmp_path)

    def test_ten_megabytes_of_log_and_a_slow_reader(
        self, tmp_path: Path, bundle: Path, exchange: Exchange
    ) -> None:
        """Nobody reads events until the segmentation is there; the log is no pipe."""
        body = """
        for line in range(100_000):
            print("x" * 104)
        for step in range(3000):  # more than a pipe holds, without and with coalescing
            options["report"](server.Progress("phase", 1, 1))
            server.last_worker._out.send(server.Event("remark", None, {"text": "y" * 100}))
        """
        command = misbehaving(tmp_path, body)
        script = Path(command[1])
        text = script.read_text().replace(
            "server.segment = segment",
            "server.segment = segment\n"
            "begin = server.Worker.__init__\n"
            "def init(self, *a):\n"
            "    begin(self, *a)\n"
            "    server.last_worker = self\n"
            "server.Worker.__init__ = init",
        )
        script.write_text(text)
        asked = request(bundle, exchange)
        result = Path(asked.result) / "label_map.npy"
        with (
            open(tmp_path / "worker.log", "wb") as log,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
            ) as process,
        ):
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(encode_request(1, asked))
            process.stdin.flush()
            end = time.monotonic() + LONG
            while not result.is_file() and time.monotonic() < end:
                time.sleep(0.1)
            assert result.is_file(), "a reader that waits must not hold the work up"
            events = []
            for line in process.stdout:
                events.append(json.loads(line))
                if events[-1]["event"] in ("done", "failed"):
                    break
            process.stdin.close()
            assert process.wait(LONG) == 0
        assert events[-1]["event"] == "done", events[-1]
        assert sum(e["event"] == "remark" for e in events) == 3000
        assert len(log_of(tmp_path)) > 10_000_000
