"""Trainings that outlive Slicer: started, looked at, steered, found again, and never called done
when they are not."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import describe, make_bundle
from jobs_bed import LONG, environment
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import find_model, read_description
from meddinov3.run_folder import owner_pid

TRAINING_TESTS = str(Path(__file__).parents[1] / "training")
if TRAINING_TESTS not in sys.path:
    sys.path.append(TRAINING_TESTS)
from synthetic_dataset import write_dataset  # noqa: E402

pytest_plugins = ("jobs_bed",)
ENDS = ("done", "stopped", "interrupted", "failed", "ended")
QUICK = {"batch": 2, "spacing": (1.0, 1.0)}


class Bed:
    """Trainings in a folder of their own, on a tiny dataset."""

    def __init__(self, jobs: SimpleNamespace, folder: Path) -> None:
        self.jobs, self.app, self.folder = jobs, jobs.app, folder
        self.dataset = write_dataset(folder / "cases", 4)
        self.base = make_bundle(folder / "base", describe("x", "y"))
        self.trainings = self.fresh()

    def fresh(self, **options: Any) -> Any:
        """As another Slicer would see them."""
        make = self.jobs.trainings.Trainings
        return make(lambda: sys.executable, environment, folder=self.folder / "runs", **options)

    def order(self, *, name: str = "Mine", minutes: float = 10.0, **advanced: Any) -> Any:
        return self.jobs.training_command.TrainingOrder(
            self.dataset, str(self.base), name, minutes, "cpu", QUICK | advanced
        )

    def until(self, training: Any, *states: str) -> Any:
        """Look again and again, as the panel does."""
        seen: list[Any] = []

        def there() -> bool:
            training.insist()
            seen.append(training.status())
            return seen[-1].state in states

        self.app.wait_until(there, LONG)
        return seen[-1]


@pytest.fixture
def bed(jobs: SimpleNamespace, tmp_path: Path) -> Iterator[Bed]:
    made = Bed(jobs, tmp_path)
    yield made
    for training in made.trainings.list():
        training.end()


def test_a_training_runs_to_its_end_and_its_model_is_kept(bed: Bed, own_home: Path) -> None:
    training = bed.trainings.start(bed.order(steps=25))
    assert training.serial == "0001" and training.status().state == "starting"
    status = bed.until(training, *ENDS)
    assert (status.state, status.problem) == ("done", None), training.log()
    losses = [point for point in training.curve() if point.loss is not None]
    assert losses and all(0 < point.step <= 25 for point in losses)
    assert (status.cases, status.heldOut, status.step, status.share) == (3, 1, 25, 1.0)
    (score,) = status.caseScores
    assert set(score.dice) == {"ball", "box"} and 0 <= score.mean <= 1
    assert status.scores["held_out_cases"] == 1 and status.device == "cpu"
    from MedDINOv3SlicerLib.model_shelf import ModelShelf

    kept = ModelShelf().keep(training.model, training.order.modelId, training.order.name)
    description = read_description(find_model("mine"))
    assert (description.id, description.name) == ("mine", "Mine")
    (found,) = bed.fresh().list()
    assert found.status() == status and found.curve() == training.curve()
    assert bed.fresh().running() is None
    bed.trainings.remove(training)
    assert bed.trainings.list() == [] and not training.folder.exists()
    assert find_model("mine") == kept and kept.is_dir()


def test_it_is_paused_gone_on_with_found_again_and_stopped(bed: Bed) -> None:
    training = bed.trainings.start(bed.order(steps=100_000))
    training.pause()  # before it can hear
    bed.until(training, "paused")
    (found,) = bed.fresh().list()
    assert found.status().state == "paused" and found.wanted == "pause"
    step = found.status().step
    with pytest.raises(MedDINOv3Error) as caught:
        bed.trainings.start(bed.order())
    assert caught.value.code == "training-running"
    with pytest.raises(MedDINOv3Error):
        bed.trainings.remove(found)
    bed.fresh().goOn(found)
    bed.app.wait_until(lambda: found.status().step > step, LONG)
    assert bed.trainings.running().serial == training.serial
    found.stop()
    status = bed.until(found, *ENDS)
    assert (status.state, status.problem) == ("stopped", None), found.log()
    assert training.status().state == "stopped" and training.model is not None
    assert not training.canGoOn()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_killed_one_is_a_failure_and_can_go_on(bed: Bed) -> None:
    training = bed.trainings.start(bed.order(steps=60, **{"checkpoint-every": "0s"}))
    bed.app.wait_until(lambda: training.status().step >= 20, LONG)
    os.kill(owner_pid(training.run), signal.SIGKILL)
    status = bed.until(training, *ENDS)
    problem = status.problem
    assert status.state == "failed" and problem.code == "training-killed"
    assert "memory" in problem.what and "Go on" in problem.remedy
    (found,) = bed.fresh().list()
    assert found.status().state == "failed", "also for a Slicer that did not start it"
    bed.fresh().goOn(found)
    assert found.status().running
    assert bed.until(found, "done", "failed").state == "done", found.log()
    assert [point.step for point in found.curve()] == sorted({p.step for p in found.curve()})


def test_one_that_is_ended_leaves_no_process(bed: Bed) -> None:
    training = bed.trainings.start(bed.order(steps=100_000))
    bed.until(training, "preparing", "training")
    pid = owner_pid(training.run)
    training.end()
    assert training.status().state == "ended" and training.model is None
    bed.app.wait_until(lambda: not bed.jobs.process.isAlive(pid), LONG)
    assert training.canGoOn()


def refuse() -> str:
    raise MedDINOv3Error("no-python", "There is no Python.", "Choose another.")


@pytest.mark.parametrize(
    ("fault", "code"),
    [("no base", "no-model"), ("no python", "no-python"), ("budget", "budget-too-small"),
     ("program missing", "not-started")],
)  # fmt: skip
def test_one_that_cannot_train_says_why(bed: Bed, fault: str, code: str) -> None:
    order = bed.order(minutes=0.02) if fault == "budget" else bed.order(steps=3)
    if fault == "no base":
        bed.base = bed.folder / "nothing"
        order = bed.order(steps=3)
    if fault == "no python":
        bed.trainings._python = refuse
    if fault == "program missing":
        bed.trainings._python = lambda: str(bed.folder / "none")
    training = bed.trainings.start(order)
    status = bed.until(training, *ENDS)
    problem = status.problem
    assert (status.state, problem.code) == ("failed", code), training.log()
    assert problem.what and problem.remedy and "--budget" not in problem.remedy
    assert training.status().state == "failed" and training.model is None


def test_wrong_orders_are_refused_before_anything_is_written(bed: Bed) -> None:
    command = bed.jobs.training_command
    for order, code in (
        (bed.order(nonsense=1), "bad-settings"),
        (bed.order(minutes=0.0), "bad-settings"),
        (command.TrainingOrder(bed.folder, str(bed.base), "a", 1.0), "no-dataset"),
    ):
        with pytest.raises(MedDINOv3Error) as caught:
            bed.trainings.start(order)
        assert caught.value.code == code
    assert not (bed.folder / "runs").exists()


def test_the_order_becomes_a_command(bed: Bed) -> None:
    command = bed.jobs.training_command
    order = bed.order(name="Späte Leber", minutes=1.5, mirror=False, frozen=True, context=(-2, 0))
    made = command.startCommand(Path("entry.py"), order, Path("run"))
    assert made[:3] == ["entry.py", "finetune", str(bed.dataset)]
    text = " ".join(made)
    assert "--budget 90s" in text and "--hold-out=1" in text and "--name sp-te-leber" in text
    assert "--no-mirror" in made and "--frozen" in made and "--context=-2,0" in made
    assert command.TrainingOrder.fromJson(order.toJson()).toJson() == order.toJson()


@pytest.mark.parametrize(("cases", "held"), [(1, 0), (3, 0), (4, 1), (9, 1), (10, 2), (31, 6)])
def test_cases_are_held_out_where_there_are_four_or_more(
    jobs: SimpleNamespace, cases: int, held: int
) -> None:
    assert jobs.training_command.heldOut(cases) == held


def test_the_worker_gives_up_its_memory_first(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[Callable[[], None]] = []
    trainings = bed.fresh(freeMemory=waiting.append)
    training = trainings.start(bed.order(steps=100_000))
    assert training.status().state == "waiting" and len(waiting) == 1
    waiting[0]()
    waiting[0]()
    assert training.status().state == "starting"
    training.end()
    monkeypatch.setattr(bed.jobs.trainings, "FREEING", 30)
    second = trainings.start(bed.order(steps=100_000))  # a worker that never answers
    bed.until(second, "starting")
    second.end()


def test_one_that_was_never_started_is_no_completed_one(bed: Bed) -> None:
    training = bed.fresh(freeMemory=lambda _then: None).start(bed.order())
    long_ago = time.time() - 1000
    os.utime(training.folder / "order.json", (long_ago, long_ago))
    status = bed.trainings.list()[0].status()
    assert status.state == "failed" and "never started" in status.problem.what


def test_folders_that_hold_no_training_are_left_alone(bed: Bed) -> None:
    for name, content in (("0001", "{"), ("0002", "[]"), ("notes", None)):
        (bed.folder / "runs" / name).mkdir(parents=True)
        if content is not None:
            (bed.folder / "runs" / name / "order.json").write_text(content)
    assert bed.trainings.list() == []
    assert bed.trainings._new(bed.order()).serial == "0003"
