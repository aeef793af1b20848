"""What is shipped: CMake lists, the wheel and the files on disk agree, and imports go one way."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from cmake_lists import LISTS, ROOT, listed, variable

PACKAGES = {"meddinov3": ROOT / "Logic", "meddinov3_training": ROOT / "training"}
SLICER = {"slicer", "qt", "ctk", "vtk", "vtkmodules", "PythonQt", "MedDINOv3SlicerLib"}
HEAVY = {"torch", "torchvision", "timm", "meddinov3_training"}
SLICERS_OWN = {"torch", "torchvision", "simpleitk", "numpy", "scipy", "vtk", "pydicom", "requests"}
REQUIREMENTS = ("Resources/requirements.txt", "Resources/requirements-training.txt")
LIMIT = 0.2  # seconds, from DESIGN.md: opening the module must not be felt

# Processor time equals waiting time on an idle machine, and other jobs do not disturb it.
IMPORT = """
import sys, time
start = time.process_time()
import meddinov3.model_store, meddinov3.description, meddinov3.errors
import meddinov3.worker.client, meddinov3.worker.exchange
import meddinov3.cases.library, meddinov3.cases.change
print(time.process_time() - start, "torch" in sys.modules)
"""


def files_below(folder: Path, *parts: str) -> set[str]:
    """Files to ship below `parts` of `folder`, relative to `folder`."""
    return {
        path.relative_to(folder).as_posix()
        for part in parts
        for path in ((folder / part).rglob("*") if (folder / part).is_dir() else [folder / part])
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize(
    ("folder", "parts"),
    [
        ("Logic", ("meddinov3",)),
        ("training", ("meddinov3_training",)),
        ("MedDINOv3Slicer", ("MedDINOv3Slicer.py", "MedDINOv3SlicerLib")),
        (
            ".",
            ("Resources/Icons", "Resources/SampleData", "Resources/UI", *REQUIREMENTS),
        ),  # pictures stay on the web
    ],
)
def test_cmake_lists_every_file_once(folder: str, parts: tuple[str, ...]) -> None:
    files, on_disk = listed(folder), files_below(ROOT / folder, *parts)
    unlisted = sorted(on_disk - set(files))
    absent = sorted(set(files) - on_disk)
    assert unlisted == [], "files that an installed extension would lack"
    assert absent == [], "files that CMake would not find"
    assert len(set(files)) == len(files)


def test_cmake_lists_python_as_scripts_and_data_as_resources() -> None:
    for folder, names in LISTS.items():
        for name in names:
            endings = {Path(file).suffix for file in variable(folder, name)}
            # The script macro takes a name without ending for a script and appends .py.
            assert "" not in endings
            assert (endings == {".py"}) == name.endswith("SCRIPTS"), name


def test_extension_names_and_addresses_agree() -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.findall(r"^project\((\w+)\)", text, re.MULTILINE) == ["MedDINOv3"]
    (home,) = variable(".", "EXTENSION_HOMEPAGE")
    assert re.fullmatch(r"https://github\.com/\w+/Slicer\w+", home), "the index asks for Slicer..."
    raw = home.replace("github.com", "raw.githubusercontent.com") + "/main/"
    screenshots = " ".join(variable(".", "EXTENSION_SCREENSHOTURLS")).split()
    for address in (*variable(".", "EXTENSION_ICONURL"), *screenshots):
        assert address.startswith(raw)
        assert (ROOT / address.removeprefix(raw)).is_file()


def test_slicer_asks_for_the_versions_that_the_wheel_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    asked = [line for line in lines if line and not line.startswith("#")]
    assert asked == [line for line in sorted(project["dependencies"]) if line in asked]
    names = {re.split(r"\W*[<>=]", line)[0].lower() for line in asked}
    assert names == {"filelock", "huggingface-hub", "platformdirs", "safetensors", "timm"}
    assert not names & SLICERS_OWN


def imported(folder: Path) -> dict[str, set[str]]:
    """Top names that each Python file below `folder` imports anywhere."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        names = found.setdefault(path.relative_to(ROOT).as_posix(), set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").partition(".")[0])
    assert found
    return found


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("Logic/meddinov3", SLICER | {"meddinov3_training"}),
        ("training/meddinov3_training", SLICER),
        ("MedDINOv3Slicer", HEAVY),
    ],
)
def test_imports_go_one_way(folder: str, forbidden: set[str]) -> None:
    wrong = {file: names & forbidden for file, names in imported(ROOT / folder).items()}
    assert not {file: names for file, names in wrong.items() if names}


def test_what_slicer_imports_is_quick_and_without_torch() -> None:
    seconds = []
    for _ in range(3):
        command = [sys.executable, "-c", IMPORT]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        elapsed, torch = done.stdout.split()
        assert torch == "False"
        seconds.append(float(elapsed))
    assert min(seconds) < LIMIT, "python -X importtime says which import costs it"


def test_wheel_holds_every_file_of_both_packages(tmp_path: Path) -> None:
    # Built from a copy: setuptools would leave folders in the checkout and reuse old ones.
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in PACKAGES.values():
        shutil.copytree(folder, source / folder.name, ignore=ignore)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    command = "-m pip wheel . --no-deps --no-build-isolation --no-index --quiet --wheel-dir"
    subprocess.run([sys.executable, *command.split(), str(tmp_path)], cwd=source, check=True)
    (wheel,) = tmp_path.glob("meddinov3_slicer-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
        assert "meddinov3 = meddinov3_training.cli:main" in archive.read(entry_points).decode()
    on_disk = set().union(*(files_below(folder, name) for name, folder in PACKAGES.items()))
    assert names == on_disk
    assert names == {*listed("Logic"), *listed("training")}
