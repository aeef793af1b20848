"""What is chosen in the module is kept in the scene, typed, and survives closing and saving."""

from __future__ import annotations

from pathlib import Path

import pytest
from scene_stage import Stage, grid_of

pytest_plugins = ("scene_fixtures",)
DEFAULTS = {
    "model": "", "labels": None, "quality": "standard", "device": "auto", "show3d": False,
    "library": "", "caseId": "", "base": "", "runName": "", "budgetMinutes": 30.0,
    "roi": None, "segmentation": None, "volumes": (),
}  # fmt: skip
CHOSEN = {
    "model": 'lung "fine" <ct> & mr', "labels": ("Leber, groß", "b|c"), "quality": "best",
    "device": "cuda", "show3d": True, "library": "C:\\Users\\Ä\\cases", "caseId": "case_0003",
    "base": "vit-b", "runName": "mine", "budgetMinutes": 12.5,
}  # fmt: skip


def test_a_new_scene_has_the_defaults(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.parameters import Parameters

    parameters = Parameters.of(stage.scene)
    assert {name: getattr(parameters, name) for name in DEFAULTS} == DEFAULTS
    assert Parameters.of(stage.scene).node is parameters.node


def test_closing_the_scene_brings_the_defaults_back(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.parameters import Parameters

    parameters = Parameters.of(stage.scene)
    for name, value in CHOSEN.items():
        setattr(parameters, name, value)
    parameters.volumes = [stage.volume(grid_of("LPS"))]
    stage.scene.Clear(0)
    assert Parameters.of(stage.scene).node is parameters.node
    assert {name: getattr(parameters, name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("bundle", [True, False], ids=["mrb", "mrml"])
def test_choices_are_saved_with_the_scene(stage: Stage, tmp_path: Path, bundle: bool) -> None:
    from MedDINOv3SlicerLib.scene.parameters import Parameters

    parameters = Parameters.of(stage.scene)
    for name, value in CHOSEN.items():
        setattr(parameters, name, value)
    first, third = stage.volume(grid_of("LPS"), name="a"), stage.volume(grid_of("LPS"), name="c")
    parameters.volumes = [first, None, third]
    parameters.roi = stage.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    other = stage.save_and_load(tmp_path / "saved", bundle)
    loaded = Parameters.of(other.scene)
    assert {name: getattr(loaded, name) for name in CHOSEN} == CHOSEN
    assert [node and node.GetName() for node in loaded.volumes] == ["a", None, "c"]
    assert loaded.roi.GetName() == "box"


def test_no_label_at_all_is_not_every_label(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.parameters import Parameters

    parameters = Parameters.of(stage.scene)
    parameters.labels = ()
    assert parameters.labels == ()
    parameters.labels = None
    assert parameters.labels is None


def test_removed_nodes_are_no_longer_chosen(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.parameters import Parameters

    parameters = Parameters.of(stage.scene)
    first, second = stage.volume(grid_of("LPS")), stage.volume(grid_of("LPS"))
    parameters.volumes = [first, second]
    stage.scene.RemoveNode(second)
    assert [node for node in parameters.volumes if node is not None] == [first]
    parameters.volumes = [first]
    assert parameters.volumes == (first,)


def test_garbled_values_give_the_defaults(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.parameters import Parameters

    parameters = Parameters.of(stage.scene)
    for name, text in (("labels", "[1"), ("budgetMinutes", "long"), ("quality", "superb")):
        parameters.node.SetParameter(name, text)
        assert getattr(parameters, name) == DEFAULTS[name]
