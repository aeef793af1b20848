"""The wheel, installed where the checkout is out of sight, segments the sample scans."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import DATA, ROOT

STARTER = "hippocampus-mr-tiny"
SCANS = DATA / "msd_hippocampus_mr" / "images"


class Installation:
    """A virtual environment that holds the wheel and nothing of the checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        scripts = "Scripts" if os.name == "nt" else "bin"
        self.python = folder / scripts / ("python.exe" if os.name == "nt" else "python")
        self.command = folder / scripts / ("meddinov3.exe" if os.name == "nt" else "meddinov3")

    def run(self, *command: object, home: Path) -> str:
        """Run a command outside the checkout and return what it prints."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment["MEDDINOV3_HOME"] = str(home)
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Build the wheel and install it beside the dependencies of this interpreter.

    A ``.pth`` file lends this interpreter's packages (torch alone is 3 GB). Python does not
    read the ``.pth`` files of a folder lent this way, so the editable checkout stays hidden.
    """
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("Logic", "training"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    build = [*pip, "wheel", str(folder / "source"), "--no-build-isolation", *offline]
    subprocess.run([*build, "--wheel-dir", str(folder)], check=True)
    shutil.rmtree(folder / "source")
    (wheel,) = folder.glob("*.whl")

    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    found = Installation(environment)
    pip[3:3] = ["--python", str(found.python)]
    subprocess.run([*pip, "install", *offline, str(wheel)], check=True)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = found.run(found.python, "-c", where, home=folder).strip()
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(packages, "lent.pth").write_text("\n".join(sorted(lent)) + "\n", encoding="utf-8")
    return found


def test_packages_come_from_the_wheel(installation: Installation, own_home: Path) -> None:
    code = (
        "import json, sys, meddinov3, meddinov3_training;"
        "print(json.dumps([meddinov3.__file__, meddinov3_training.__file__, sys.path]))"
    )
    *files, path = json.loads(installation.run(installation.python, "-c", code, home=own_home))
    for file in files:
        assert Path(file).is_relative_to(installation.folder)
    assert not [folder for folder in path if Path(folder) in (ROOT / "Logic", ROOT / "training")]


def test_starter_model_is_listed(installation: Installation, own_home: Path) -> None:
    printed = installation.run(installation.command, "models", "list", "--json", home=own_home)
    expected = {"id": STARTER, "starter": True, "problem": "", "clicks": False}
    assert expected in json.loads(printed)["models"]
    assert STARTER in installation.run(installation.command, "models", "list", home=own_home)


def test_sample_scans_are_segmented(
    installation: Installation, own_home: Path, tmp_path: Path
) -> None:
    scans = sorted(SCANS.glob("*.nii.gz"))
    assert scans, "the sample scans are missing from the checkout"
    printed = installation.run(
        installation.command, "segment", *scans, "--output", tmp_path, "--device", "cpu",
        home=own_home,
    )  # fmt: skip
    assert STARTER in printed
    for scan in scans:
        before = sitk.ReadImage(str(scan))
        after = sitk.ReadImage(str(tmp_path / scan.name))
        assert after.GetSize() == before.GetSize()
        for part in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert np.allclose(getattr(after, part)(), getattr(before, part)(), atol=1e-5, rtol=0)
        assert set(np.unique(sitk.GetArrayViewFromImage(after))) == {0, 1, 2}
        name = scan.name.removesuffix(".nii.gz")
        assert (tmp_path / f"{name}.seg.nrrd").is_file()
