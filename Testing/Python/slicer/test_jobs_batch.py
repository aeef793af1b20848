"""Several orders one after another, and the Python that computes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from meddinov3.errors import MedDINOv3Error
from meddinov3.progress import Progress

pytest_plugins = ("jobs_bed",)


class Starter:
    """Starts jobs that end only when told to."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []

    def start(self, order: Any) -> Any:
        from MedDINOv3SlicerLib.jobs.segment_job import SegmentJob

        self.jobs.append(SegmentJob(order.title, lambda _job: None))
        return self.jobs[-1]


class Run:
    """A batch of three files, begun."""

    def __init__(self, jobs: SimpleNamespace) -> None:
        order = jobs.orders.FileOrder
        names = ("a", "b", "c")
        self.app = jobs.app
        self.orders = [order({"CT": Path(n)}, (Path(f"{n}.seg.nrrd"),), "m") for n in names]
        self.starter, self.progress, self.ends = Starter(), [], []
        self.batch = jobs.batch.Batch(self.starter, self.orders)
        self.batch.progressed.connect(self.progress.append)
        self.batch.finished.connect(self.ends.append)
        self.batch.start()
        self.turn()

    def turn(self) -> None:
        self.app.app.processEvents()
        self.app.app.processEvents()


@pytest.fixture
def run(slicer_app: Any, jobs: SimpleNamespace) -> Run:
    return Run(jobs)


def problem(code: str) -> Any:
    from MedDINOv3SlicerLib.problem import Problem

    return Problem("It failed.", "Try again.", "", code)


def test_one_that_fails_keeps_nobody_else_from_being_done(run: Run) -> None:
    assert len(run.starter.jobs) == 1
    run.starter.jobs[0].progress(Progress("segmenting", 1, 2))
    assert (run.progress[-1].number, run.progress[-1].total) == (1, 3)
    assert run.progress[-1].share == pytest.approx(1 / 6) and run.progress[-1].title == "a"
    run.starter.jobs[0].finish("A")
    run.turn()
    run.starter.jobs[1].fail(problem("no-scan"))
    run.turn()
    run.starter.jobs[2].finish("C")
    run.turn()
    (outcome,) = run.ends
    assert outcome.done == [(run.orders[0], "A"), (run.orders[2], "C")]
    assert [(order, why.code) for order, why in outcome.failures] == [(run.orders[1], "no-scan")]
    assert outcome.skipped == [] and not run.batch.running


def test_what_would_stop_every_scan_stops_the_batch(run: Run) -> None:
    run.starter.jobs[0].fail(problem("not-set-up"))
    run.turn()
    (outcome,) = run.ends
    assert len(outcome.failures) == 1 and outcome.skipped == run.orders[1:]


def test_cancelled_what_is_done_stays(run: Run) -> None:
    run.starter.jobs[0].finish("A")
    run.turn()
    run.batch.cancel()
    run.turn()
    (outcome,) = run.ends
    assert outcome.done == [(run.orders[0], "A")] and outcome.skipped == run.orders[1:]
    assert run.starter.jobs[1].state == "cancelled" and len(run.starter.jobs) == 2


def test_cancelled_between_two(run: Run) -> None:
    run.starter.jobs[0].finish("A")
    run.batch.cancel()
    run.turn()
    (outcome,) = run.ends
    assert outcome.skipped == run.orders[1:] and len(run.starter.jobs) == 1


def test_a_scan_that_was_removed_is_skipped(run: Run) -> None:
    for number in range(3):
        run.starter.jobs[number].cancel()
        run.turn()
    assert run.ends[0].skipped == run.orders


def test_a_folder_becomes_orders(jobs: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a_0000.nrrd", "b.seg.nrrd", "notes.txt", ".hidden.nii"):
        (tmp_path / name).touch()
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1.dcm").touch()
    (tmp_path / "empty").mkdir()
    make = jobs.folder_orders.folderOrders
    orders, present = make(tmp_path, None, "m", ("CT",), device="cpu")
    assert [order.title for order in orders] == ["a_0000.nrrd", "series"]
    assert orders[0].outputs == (tmp_path / "a.seg.nrrd",) and orders[0].device == "cpu"
    assert present == [tmp_path / "b.seg.nrrd"]
    orders, present = make(tmp_path, tmp_path / "out", "m", ("CT",))
    assert len(orders) == 3 and present == []
    assert orders[1].outputs == (tmp_path / "out" / "b.seg.nrrd",)
    assert len(make(tmp_path, None, "m", ("CT",), again=True)[0]) == 3


def test_channels_are_found_by_nnunets_names(jobs: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "single.nii.gz"):
        (tmp_path / name).touch()
    orders, _ = jobs.folder_orders.folderOrders(tmp_path, None, "m", ("T1", "T2"))
    (order,) = orders
    assert order.files == {"T1": tmp_path / "a_0000.nii.gz", "T2": tmp_path / "a_0001.nii.gz"}
    (tmp_path / "a_0001.nii.gz").unlink()
    with pytest.raises(MedDINOv3Error, match="no file for T2"):
        jobs.folder_orders.folderOrders(tmp_path, None, "m", ("T1", "T2"))


@pytest.mark.parametrize(
    "names", [("a.nii", "a.nrrd"), ("A.nii", "a_0000.nii"), ("a.nii", "A.mha")]
)
def test_results_of_one_name_are_refused(
    jobs: SimpleNamespace, tmp_path: Path, names: tuple[str, str]
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(MedDINOv3Error, match="one name"):
        jobs.folder_orders.folderOrders(tmp_path, None, "m", ("CT",))


def test_a_folder_without_scans_is_refused(jobs: SimpleNamespace, tmp_path: Path) -> None:
    for folder, code in ((tmp_path, "no-scan"), (tmp_path / "none", "no-folder")):
        with pytest.raises(MedDINOv3Error) as caught:
            jobs.folder_orders.folderOrders(folder, None, "m", ("CT",))
        assert caught.value.code == code


def test_slicers_own_python_is_found_or_the_chosen_one(
    jobs: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = jobs.interpreter.findPython
    name = "PythonSlicer.exe" if sys.platform == "win32" else "PythonSlicer"
    own = tmp_path / "bin" / name
    own.parent.mkdir()
    own.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "SlicerApp-real"))
        with pytest.raises(MedDINOv3Error) as caught:
            find()
        assert caught.value.code == "no-python", "Slicer itself would open a second window"
        jobs.app.app.slicerHome = str(tmp_path)
        assert find() == str(own)
        jobs.app.app.slicerHome = ""
    assert find() == sys.executable, "as in a build without launcher"
    monkeypatch.setenv("PATH", str(own.parent))
    assert find() == str(own)
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").touch()
    assert find(str(tmp_path / "env")) == str(tmp_path / "env" / "bin" / "python")
    assert find(str(own)) == str(own)
    with pytest.raises(MedDINOv3Error, match="There is no Python at"):
        find(str(tmp_path / "none"))


def test_processes_get_the_environment_from_before_slicer(
    jobs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"PATH": "/bin", "PYTHONPATH": "/elsewhere", "PYTHONHOME": "/slicer"}
    monkeypatch.setattr(jobs.interpreter.slicer.util, "startupEnvironment", lambda: before)
    monkeypatch.setenv("MEDDINOV3_HOME", "/mine")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/slicer/lib")
    found = jobs.interpreter.childEnvironment()
    assert found["PATH"] == "/bin" and found["MEDDINOV3_HOME"] == "/mine"
    assert not {"PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH"} & set(found)


def test_the_end_of_a_training_is_read_from_its_log(jobs: SimpleNamespace) -> None:
    read = jobs.training_log.problemFromLog
    told = read("lines\nError: The dataset is torn.\nWhat to do: Mend it.\n", 1)
    assert (told.what, told.remedy) == ("The dataset is torn.", "Mend it.")
    missing = read(
        "Traceback (most recent call last):\n x\nModuleNotFoundError: No module 'monai'\n"
    )
    assert missing.code == "not-set-up" and "monai" in missing.what
    assert "memory" in read("", -9).what
    died = read("nothing of use", 1)
    assert died.code == "training-died" and died.details == "nothing of use"
