"""What a click costs besides the network, from volume node to named segments in the scene.

    python Testing/Benchmarks/module_overhead.py [--labels 5 60] [--device cuda]

As worker_overhead.py, but through the Slicer module's own logic on Slicer's libraries
(slicer-core) and the tests' stand-in for its window; slices are not drawn. The second request
counts, the first warms up.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from worker_overhead import GRID, NETWORK, make_model, phantom

ROOT = Path(__file__).resolve().parents[2]


def timed(logic: Any, scan: Any, model: Path, device: str) -> dict[str, float]:
    """Seconds by part of one click."""
    segmenting = logic.segmenting
    access, answers, placing = segmenting._access, [], []
    place, done = access.placeResult, segmenting._onDone

    def placed(*arguments: Any, **named: Any) -> Any:
        begin = time.perf_counter()
        node = place(*arguments, **named)
        placing.append(time.perf_counter() - begin)
        return node

    def answered(job: Any, running: Any, answer: dict[str, Any]) -> None:
        answers.append(answer["seconds"])
        done(job, running, answer)

    access.placeResult, segmenting._onDone = placed, answered
    begin = time.perf_counter()
    try:
        node = logic.segment(scan, str(model), device=device)
    finally:
        access.placeResult, segmenting._onDone = place, done
    total = time.perf_counter() - begin
    logic.scene.RemoveNode(node)
    (inside,), (segments,) = answers, placing
    rest = total - sum(inside.values()) - segments
    return {**inside, "segments made and named": segments, "handing over, messages": rest}


def main() -> None:
    """Print one table for each number of labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 60])
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    for part in ("Testing/Python/slicer", "MedDINOv3Slicer"):
        sys.path.append(str(ROOT / part))
    from slicer_app import boot

    app = boot()
    from MedDINOv3SlicerLib.module_logic import ModuleLogic
    from MedDINOv3SlicerLib.scene.volumes import addVolume

    scan = addVolume(app.scene, phantom(), GRID, "CT")
    with tempfile.TemporaryDirectory() as place:
        os.environ["MEDDINOV3_HOME"] = place
        logic = ModuleLogic(app.scene, lambda question: False)
        try:
            for labels in arguments.labels:
                model = Path(place) / f"model{labels}"
                make_model(model, labels)
                timed(logic, scan, model, arguments.device)
                parts = timed(logic, scan, model, arguments.device)
                print(f"\n{labels} labels\n\n| part | seconds |\n|---|---|")
                for part, seconds in parts.items():
                    print(f"| {part} | {seconds:.2f} |")
                overhead = sum(s for part, s in parts.items() if part not in NETWORK)
                print(f"| all but network and decide | {overhead:.2f} |", flush=True)
        finally:
            logic.close()


if __name__ == "__main__":
    main()
