"""CMake configures, builds and installs the extension, and the installed module opens.

Slicer's own macros are not here: those in slicer_cmake/ copy what the real ones copy.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bare_python import open_bare
from cmake_lists import LISTS, ROOT, listed

MACROS = Path(__file__).parent / "slicer_cmake"
INSIDE = Path("lib", "Slicer-5.12", "qt-scripted-modules")


def cmake() -> str:
    """The program, of this Python or of the machine; without it or a compiler the test skips."""
    beside = shutil.which("cmake", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("cmake")
    # project() looks for compilers, although nothing is compiled.
    if found is None or not (shutil.which("c++") or sys.platform == "win32"):
        pytest.skip("needs cmake and a C++ compiler")
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([cmake(), *command], capture_output=True, text=True)


def configure(source: Path, build: Path) -> subprocess.CompletedProcess[str]:
    return run("-S", str(source), "-B", str(build), f"-DSlicer_DIR={MACROS}")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension's ``qt-scripted-modules``, installed."""
    folder = tmp_path_factory.mktemp("extension")
    for done in (
        configure(ROOT, folder / "build"),
        run("--build", str(folder / "build")),
        run("--install", str(folder / "build"), "--prefix", str(folder / "Slicer")),
    ):
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "Slicer" / INSIDE


def test_every_listed_file_is_installed_and_nothing_else(installed: Path) -> None:
    there = {p.relative_to(installed).as_posix() for p in installed.rglob("*") if p.is_file()}
    assert there == {file for folder in LISTS for file in listed(folder)}
    for folder in LISTS:
        for file in listed(folder):
            assert (installed / file).read_bytes() == (ROOT / folder / file).read_bytes()


def test_only_the_module_lies_where_slicer_looks_for_modules(installed: Path) -> None:
    # Each .py directly in the folder is taken for a module.
    assert [p.name for p in installed.glob("*.py")] == ["MedDINOv3Slicer.py"]


def test_installed_module_opens_from_the_installed_tree(
    installed: Path, tmp_path: Path, own_home: Path
) -> None:
    seen = open_bare(installed / "MedDINOv3Slicer.py", tmp_path)
    assert seen["added"] == []
    assert not seen["torch"]
    assert Path(str(seen["engine"])).parents[1] == installed
    assert Path(str(seen["icon"])).is_relative_to(installed)


def test_missing_file_stops_the_build(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(X NONE)\nfind_package(Slicer REQUIRED)\n"
        "slicerMacroBuildScriptedModule(NAME X SCRIPTS X.py)\n",
        encoding="utf-8",
    )
    assert configure(source, tmp_path / "build").returncode == 0
    assert run("--build", str(tmp_path / "build")).returncode != 0
    (source / "X.py").touch()
    assert run("--build", str(tmp_path / "build")).returncode == 0
