"""A training run killed again and again; its weights must be those of a run left in peace.

    python Testing/Benchmarks/kill_runs.py [--kills 50] [--seed 0]

Every other kill waits for a checkpoint that is half-written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "Python"
sys.path[:0] = [str(TESTS), str(TESTS / "training")]

from killed_runs import killed_often, straight, weights_of  # noqa: E402
from short_runs import narrow_base  # noqa: E402
from synthetic_dataset import write_dataset  # noqa: E402


def main() -> None:
    """Kill, continue, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kills, hits, number, same = 0, 0, 0, True
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        dataset, base = write_dataset(root / "d", 3), narrow_base(root / "base", "x", "y")
        expected = straight(dataset, base, root / "straight")
        while kills < arguments.kills:
            wanted = min(10, arguments.kills - kills)
            run = root / f"run{number}"
            done, hit = killed_often(dataset, base, run, wanted, arguments.seed + number)
            kills, hits, number = kills + done, hits + hit, number + 1
            same = same and weights_of(run) == expected
            print(
                f"{kills} kills, {hits} while a checkpoint was written, equal: {same}", flush=True
            )
    sys.exit(not same)


if __name__ == "__main__":
    main()
