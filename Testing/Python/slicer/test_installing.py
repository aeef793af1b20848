"""Setting up: nothing without a yes, everything in words, and a way on after each failure."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cmake_lists import ROOT
from slicer_modules import refusePip

# Imports what fine-tuning imports, with only listed packages and what they need to be found; a
# first time without one of them, to see that it is refused.
ALLOWED = """
import importlib.abc, importlib.machinery, importlib.metadata as metadata, sys
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
skipped, listed, left_out = sys.argv[1].split(","), sys.argv[2].split(","), sys.argv[3]
slicers_own = ["torch", "torchvision", "numpy", "scipy", "SimpleITK", "pydicom", "pillow",
               "packaging", "setuptools", "requests", "highdicom"]
def with_needs(names):
    waiting, found = [*names], set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found or name in skipped:
            continue
        found.add(name)
        try:
            asked = [Requirement(line) for line in metadata.requires(name) or ()]
        except metadata.PackageNotFoundError:
            continue
        waiting += [r.name for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found
owners = metadata.packages_distributions()
class OnlyListed(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        found = [] if top in sys.stdlib_module_names else owners.get(top, [])
        ours = any(n.startswith("meddinov3") for n in found)
        if found and not ours and not {canonicalize_name(n) for n in found} & allowed:
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        raise ModuleNotFoundError(f"not listed: {spec.name}", name=spec.name)
    def exec_module(self, module):
        pass
sys.meta_path.insert(0, OnlyListed())
allowed = with_needs([*(name for name in listed if name != left_out), *slicers_own])
try:
    exec(sys.argv[4])
except ModuleNotFoundError as error:
    print(error)
allowed = with_needs([*listed, *slicers_own])
exec(sys.argv[4])
"""
NEEDED = """
import meddinov3.preview, meddinov3_training.cli, meddinov3_training.curves
import meddinov3_training.evaluation.scores, meddinov3_training.finetune
import meddinov3_training.run_report, meddinov3_training.validation
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from monai.metrics.utils import get_edge_surface_distance
"""


@pytest.fixture
def library(slicer_app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from segment_fakes import module_library

    with module_library(monkeypatch):
        yield


def resource(name: str) -> str:
    return str(ROOT / "Resources" / name)


class Site:
    """Python packages that can be installed; also PyTorchUtils and what asks the person."""

    def __init__(self, **versions: str) -> None:
        self.versions = dict(versions)
        self.requires: dict[str, list[str]] = {}
        self.questions: list[str] = []
        self.answer = True
        self.installed: list[Any] = []
        self.fails: Exception | None = None
        self.extension = self.packaging = True
        self.other = self.pins = ""

    def version(self, name: str) -> str | None:
        return self.versions.get(name)

    def missing(self, asked: Any) -> Any:
        from MedDINOv3SlicerLib.install.packages import findMissing

        return findMissing(asked, self.version, lambda name: self.requires.get(name, []))

    def ask(self, question: str) -> bool:
        self.questions.append(question)
        return self.answer

    def load(self, name: str) -> Any:
        there = {"slicer.packaging": self.packaging, "PyTorchUtils": self.extension}
        if not there[name]:
            raise ModuleNotFoundError(name, name=name)
        return SimpleNamespace(pip_install=self.pip, PyTorchUtilsLogic=lambda: self)

    def pip(self, requirements: list[str], **how: Any) -> None:
        refusePip(requirements, **how)
        self.installed.append((requirements, how))
        self.pins = Path(how["constraints"]).read_text(encoding="utf-8")
        if self.fails:
            print("Collecting something")
            raise self.fails
        for line in [*requirements, *how.get("no_deps_requirements", ())]:
            self.versions[line.partition(">")[0]] = line.partition("=")[2]

    def installTorch(self, askConfirmation: bool, torchVersionRequirement: str) -> Any:
        self.installed.append(("torch", askConfirmation, torchVersionRequirement))
        if self.fails:
            raise self.fails
        self.versions |= {"torch": "2.9.0+cu128", "torchvision": "0.24.0"}
        return object()

    def installer(self) -> Any:
        from MedDINOv3SlicerLib.install.installer import Installer

        return Installer(
            self.ask, resource, lambda: self.other, self.missing, self.load, self.version
        )


TORCH = {"torch": "2.9.0+cu128", "torchvision": "0.24.0"}


def test_first_need_says_what_how_large_and_where_then_installs(library: None) -> None:
    import sysconfig

    site = Site(numpy="2.4.6")
    installer, heard = site.installer(), []
    installer.changed.connect(lambda: heard.append(True))
    assert installer.ensure() is None
    (question,) = site.questions
    for said in ("PyTorch", "3 GB", "timm", "about 10 MB", sysconfig.get_path("purelib")):
        assert said in question
    torch, (packages, how) = site.installed
    assert torch == ("torch", False, ">=2.6"), "asked once, not twice"
    assert "timm>=1.0.28" in packages
    assert "skip_packages" not in how, "it rewrites what other packages declare"
    assert site.pins.splitlines() == ["numpy==2.4.6", "torch==2.9.0+cu128", "torchvision==0.24.0"]
    assert heard
    assert installer.ensure() is None
    assert len(site.questions) == 1, "asked once, then it is there"


def test_no_is_respected(library: None) -> None:
    site = Site()
    site.answer = False
    problem = site.installer().ensure()
    assert problem.code == "declined" and problem.remedy
    assert site.installed == []


def test_missing_pytorch_extension_says_how_to_get_it(library: None) -> None:
    site = Site()
    site.extension = False
    problem = site.installer().ensure()
    assert problem.code == "no-pytorch-extension"
    assert "Extensions Manager" in problem.remedy
    assert site.questions == [] and site.installed == []
    site.versions |= TORCH
    assert site.installer().ensure() is None, "with torch there the extension is not needed"


def test_old_slicer_says_so(library: None) -> None:
    site = Site()
    site.packaging = False
    assert site.installer().ensure().code == "old-slicer"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (
            subprocess.CalledProcessError(1, "pip", "Temporary failure in name resolution"),
            "offline",
        ),
        (OSError(28, "No space left on device"), "disk-full"),
        (PermissionError(13, "Permission denied"), "no-permission"),
        (OSError("[WinError 206] The filename or extension is too long"), "long-path"),
        (subprocess.CalledProcessError(2, "pip"), "not-installed"),
    ],
)
def test_failures_are_told_apart_and_can_be_tried_again(
    library: None, error: Exception, code: str
) -> None:
    site = Site(**TORCH)
    site.fails = error
    installer = site.installer()
    problem = installer.ensure()
    assert problem.code == code and problem.what and problem.remedy
    assert "Collecting something" in problem.details, "what pip said can be copied"
    site.fails = None
    assert installer.ensure() is None


def test_package_of_a_broken_off_installation_is_found(library: None) -> None:
    site = Site(**TORCH, **{"timm": "1.0.31", "safetensors": "0.6", "filelock": "3.20"})
    site.versions |= {"huggingface-hub": "1.0", "platformdirs": "4.5"}
    site.requires["timm"] = ["pyyaml", "torch", "numpy<2", "colorama; sys_platform == 'none'"]
    site.requires["huggingface-hub"] = ["tqdm>=4.42", "click; extra == 'cli'"]
    found = site.installer().missing()
    assert found.packages == ("tqdm>=4.42", "pyyaml")
    assert not found.torch


def test_pip_that_ends_well_without_installing_is_noticed(library: None) -> None:
    site = Site(**TORCH)
    site.pip = lambda requirements, **how: None
    problem = site.installer().ensure()
    assert problem.code == "not-installed" and "Still missing" in problem.details


def test_another_python_gets_nothing(library: None) -> None:
    site = Site()
    site.other = "/opt/environment"
    installer = site.installer()
    assert installer.ensure() is None and not installer.missing()
    assert installer.update().code == "other-python"
    assert site.questions == [] and site.installed == []


def test_fine_tuning_asks_for_its_own_packages_only(library: None) -> None:
    site = Site(**TORCH, numpy="2.4.6")
    installer = site.installer()
    installer.ensure()
    site.installed.clear()
    assert installer.ensure("training") is None
    ((packages, how),) = site.installed
    assert "monai>=1.4" in packages and "timm>=1.0.28" not in packages
    assert how["no_deps_requirements"] == ["batchgeneratorsv2>=0.3.6"], "declares what is large"
    assert "batchgeneratorsv2>=0.3.6" not in packages and "numpy==2.4.6" in site.pins
    assert "Fine-tuning" in site.questions[-1]


def test_the_package_that_comes_alone_can_be_the_only_one(library: None) -> None:
    site = Site(**TORCH)
    installer = site.installer()
    assert installer.ensure("training") is None
    site.installed.clear()
    del site.versions["batchgeneratorsv2"]
    assert installer.ensure("training") is None
    ((packages, how),) = site.installed
    assert packages == ["--no-deps", "batchgeneratorsv2>=0.3.6"]
    assert "no_deps_requirements" not in how


def test_update_keeps_what_is_slicers(library: None) -> None:
    site = Site(**TORCH, numpy="2.4.6", timm="1.0.28", batchgeneratorsv2="0.3.6")
    assert site.installer().update() is None
    ((packages, how),) = site.installed
    assert packages == ["--upgrade", "timm"]
    assert how["no_deps_requirements"] == ["--upgrade", "batchgeneratorsv2"]
    assert "numpy==2.4.6\n" in site.pins and "torch==2.9.0+cu128\n" in site.pins


def test_versions_are_listed_without_importing(library: None) -> None:
    found = Site(**TORCH, timm="1.0.31").installer().versions()
    assert found["torch"] == "2.9.0+cu128" and found["timm"] == "1.0.31"
    assert found["monai"] == ""


def test_training_list_has_what_training_imports(library: None) -> None:
    from MedDINOv3SlicerLib.install.packages import LEFT_OUT, readLists
    from packaging.requirements import Requirement

    lines = readLists([resource("requirements.txt"), resource("requirements-training.txt")])
    names = [Requirement(line).name for line in lines]

    command = [sys.executable, "-c", ALLOWED, ",".join(LEFT_OUT), ",".join(names)]
    done = subprocess.run([*command, "scikit-image", NEEDED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "not listed: skimage" in done.stdout, "the check sees what is not listed"
