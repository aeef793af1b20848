"""The module opened in a Python that knows nothing of this checkout, as in a fresh Slicer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

# Opens the module as Slicer would, in a Python that has no installed meddinov3: -S leaves out
# the editable checkout, and the site-packages given here are searched last. Packages that are
# said to be absent cannot be imported, and the records of the installation do not know them.
BARE = """
import importlib.metadata, importlib.util, json, sys
from pathlib import Path
file, tests, packages = map(Path, sys.argv[1:4])
absent = sys.argv[4:]
sys.modules.update(dict.fromkeys(absent))
version = importlib.metadata.version
def version_here(name):
    if name.replace("-", "_") in absent:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = version_here
sys.path[:] = [str(file.parent), *sys.path[1:], str(tests), str(packages)]
import slicer_app
booted = slicer_app.boot()
before = list(sys.path)
import MedDINOv3Slicer
module, widget = booted.open_module(MedDINOv3Slicer, file)
booted.app.processEvents()
page, parts = widget.workspace, widget.logic.parts
import meddinov3
from MedDINOv3SlicerLib.resources import resourcePath
assert not module.parent.icon.isNull()
seen = {
    "torch": sys.modules.get("torch") is not None,
    "engine": meddinov3.__file__,
    "training": importlib.util.find_spec("meddinov3_training").origin,
    "added": sys.path[len(before):],
    "kept": sys.path[:len(before)] == before,
    "icon": resourcePath("Icons/MedDINOv3Slicer.png"),
    "models": [model.id for model in parts.segmentation.models().models],
    "status": page.setup.ui.statusLabel.text,
    "setUp": page.setup.ui.setUpButton.isVisibleTo(page.setup.widget),
    "process": parts.worker.running,
    "calls": len(booted.packaging.calls),
}
widget.exit()
widget.cleanup()
assert not booted.taken_complaints()
print(json.dumps(seen))
"""


def open_bare(file: Path, folder: Path, *absent: str) -> dict[str, Any]:
    """What a bare Python sees after opening the module; `absent` packages are not there."""
    packages = sysconfig.get_path("purelib")
    command = [sys.executable, "-S", "-c", BARE, str(file), str(HERE), packages, *absent]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
