"""Weights on a full disk: one sentence, and nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import describe, make_bundle

WRITE = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
from meddinov3.bundle import read_bundle, write_bundle
from meddinov3.checkpoints.importing import import_file
from meddinov3.errors import MedDINOv3Error
description, network = read_bundle(Path({bundle!r}))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for write in (
    lambda: write_bundle(Path({target!r}), description, network),
    lambda: import_file(Path({checkpoint!r}), "new"),
):
    try:
        write()
    except MedDINOv3Error as error:
        print(error.code)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files there")
def test_weights(tmp_path: Path, data: Path, own_home: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny", describe("a"))
    script = WRITE.format(
        path=[entry for entry in sys.path if entry],
        bundle=str(bundle),
        target=str(tmp_path / "models" / "new"),
        checkpoint=str(data / "reference_checkpoints" / "model.pth"),
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["cannot-write"] * 2, done.stderr
    assert not list((tmp_path / "models").iterdir())
    assert not list((own_home / "backbones").iterdir())
