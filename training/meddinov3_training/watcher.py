"""The one who watches a run: told what is done and what went wrong, obeyed whatever is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from meddinov3.errors import Cancelled, MedDINOv3Error
from meddinov3.progress import Progress, ProgressCallback, StopQuestion

from meddinov3_training.distributed import Group
from meddinov3_training.run import CONFIG, Run

PAUSE = 0.5  # seconds between looks at the command while pausing
HEAD_START = 0.5  # seconds that the first process has for telling an error that all run into


def stop_question(run: Run) -> StopQuestion:
    """Whether the watcher wants a stop; asked in the thread that got it, it waits out a pause.

    Other threads are not held: they run dry, since this one gives them no more to do.
    """
    mine = threading.current_thread()

    def stop() -> bool:
        wanted = run.command()
        if wanted == "pause" and threading.current_thread() is mine:
            what = run.phase
            run.tell("paused", what=what)
            while wanted == "pause":
                time.sleep(PAUSE)
                wanted = run.command()
            if wanted != "stop":
                run.tell("resumed", what=what)
        return wanted == "stop"

    return stop


def progress_told(run: Run) -> ProgressCallback:
    """A callback that tells every step of a preparation with the time left."""

    def report(progress: Progress) -> None:
        run.tell("preparing", what=progress.phase, done=progress.done, total=progress.total,
                 left=progress.seconds_left and round(progress.seconds_left))  # fmt: skip

    return report


@contextmanager
def end_told(run: Run, group: Group | None = None) -> Iterator[None]:
    """Tell why the block ended early: nothing comes after that, and the watcher must know.

    An error that every process of a group runs into is told once, by the first one; one of
    another process alone by that process, since the first only sees it go.

    Args:
        run: opened; closed at the end.
        group: the processes of the run.
    """
    group = group or Group()
    try:
        yield
    except Cancelled:
        if run.last_event != "stopped":
            run.tell("stopped", model=None, what=run.phase, text=_stopped(run))
        raise
    except KeyboardInterrupt:
        if run.last_event != "interrupted":
            run.tell("interrupted", step=None, what=run.phase, kept=(run.folder / CONFIG).is_file())
        raise
    except MedDINOv3Error as error:
        _tell(run, group, error.code, error.message, error.remedy)
        raise
    except Exception as error:
        _tell(
            run,
            group,
            "internal",
            f"{type(error).__name__}: {error}",
            "Please report it with the log; --resume goes on from the last checkpoint.",
        )
        raise
    finally:
        run.close()


def _stopped(run: Run) -> str:
    when = f"Stopped while {run.phase}" if run.phase else "Stopped before it began"
    rest = "add --resume to go on" if (run.folder / CONFIG).is_file() else "start it again"
    return f"{when}: there is no model yet; {rest}."


def _tell(run: Run, group: Group, code: str, message: str, remedy: str) -> None:
    if group.world == 1:
        run.tell("error", code=code, message=message, remedy=remedy)
        return
    if not group.first:
        time.sleep(HEAD_START)
    if run.end_is_told():  # what this one ran into is that the other has gone
        return
    named = f"Process {group.rank} of {group.world}: {message}" if group.rank else message
    run.tell_anyway("error", code=code, message=named, remedy=remedy, process=group.rank)
