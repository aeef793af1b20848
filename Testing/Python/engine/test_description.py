"""``model.json``: what is written is what is read, and older files stay readable."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from conftest import describe
from meddinov3.description import (
    Channel,
    ModelDescription,
    NetworkDescription,
    Purpose,
    Sampling,
)
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import SliceOrientation
from meddinov3.intensity import IntensityScheme
from meddinov3.labels import ANATOMICAL_STRUCTURE, TISSUE, Code, Label

# A file of format 1 with every field it may have. Never edit it: later versions must read it.
FORMAT_1 = """{
  "format": 1,
  "id": "kidneys-ct",
  "name": "Nieren, groß",
  "network": {
    "backbone": "vit_base_patch16_dinov3",
    "outputs": 3,
    "overrides": {"depth": 12, "num_reg_tokens": 4},
    "norm_eps": 1e-06,
    "rope_precision": "bf16",
    "backbone_source": "MedDINOv3-ViTB-16-CT-3M",
    "backbone_hash": "ab12"
  },
  "channels": [
    {"name": "CT", "intensity": {"kind": "ct", "clip": [-160.0, 240], "mean": 40, "std": 95.5,
                                 "mask": "none"}},
    {"name": "MR", "intensity": {"kind": "zscore", "clip": null, "mean": 0.0, "std": 1.0,
                                 "mask": "nonzero"}}
  ],
  "labels": [
    {"name": "left kidney", "value": 1, "colour": [185, 102, 83],
     "category": {"scheme": "SCT", "value": "123037004", "meaning": "Anatomical Structure"},
     "type": {"scheme": "SCT", "value": "64033007", "meaning": "Kidney"},
     "modifier": {"scheme": "SCT", "value": "7771000", "meaning": "Left"}},
    {"name": "cyst", "value": 7, "colour": [0, 255, 1],
     "category": {"scheme": "SCT", "value": "85756007", "meaning": "Tissue"},
     "type": {"scheme": "SCT", "value": "85756007", "meaning": "Tissue"}, "modifier": null}
  ],
  "sampling": {
    "orientation": {"code": "RAS", "slice_axis": "A"},
    "spacing": [0.75, 0.8],
    "patch": [512, 448],
    "slice_offsets": [-2.0, 0, 2.0],
    "mirror_axes": [0, 1]
  },
  "purpose": {"modality": "CT", "body_part": "abdomen", "trained_on": "boxes",
              "extent": [120.5, 300.0, 290.0]},
  "regions": false,
  "ignore_label": 255,
  "summary": "Finds kidneys.",
  "licence": "CC BY-SA 4.0",
  "attribution": "A. N. Other",
  "training": {"dataset_hash": "ff", "epochs": 3, "nested": {"rates": [0.1, 0.01]}},
  "scores": {"left kidney": {"dice": 0.93}},
  "weights_sha256": "cd34"
}
"""

MEANING_OF_FORMAT_1 = ModelDescription(
    id="kidneys-ct",
    name="Nieren, groß",
    network=NetworkDescription(
        "vit_base_patch16_dinov3",
        3,
        {"depth": 12, "num_reg_tokens": 4},
        1e-6,
        "bf16",
        "MedDINOv3-ViTB-16-CT-3M",
        "ab12",
    ),
    channels=(
        Channel("CT", IntensityScheme("ct", (-160.0, 240.0), 40.0, 95.5)),
        Channel("MR", IntensityScheme("zscore", mask="nonzero")),
    ),
    labels=(
        Label(
            "left kidney",
            1,
            (185, 102, 83),
            ANATOMICAL_STRUCTURE,
            Code("SCT", "64033007", "Kidney"),
            Code("SCT", "7771000", "Left"),
        ),
        Label("cyst", 7, (0, 255, 1), TISSUE, TISSUE),
    ),
    sampling=Sampling(
        SliceOrientation("RAS", "A"), (0.75, 0.8), (512, 448), (-2.0, 0.0, 2.0), (0, 1)
    ),
    purpose=Purpose("CT", "abdomen", "boxes", (120.5, 300.0, 290.0)),
    ignore_label=255,
    summary="Finds kidneys.",
    licence="CC BY-SA 4.0",
    attribution="A. N. Other",
    training={"dataset_hash": "ff", "epochs": 3, "nested": {"rates": [0.1, 0.01]}},
    scores={"left kidney": {"dice": 0.93}},
    weights_sha256="cd34",
)


def changed(**fields: Any) -> str:
    """The file above with some fields replaced; a double underscore reaches into an object."""
    content = json.loads(FORMAT_1)
    for key, value in fields.items():
        *parents, last = key.split("__")
        place = content
        for parent in parents:
            place = place[int(parent) if isinstance(place, list) else parent]
        place[last] = value
    return json.dumps(content)


def without(*names: str) -> str:
    content = json.loads(FORMAT_1)
    for name in names:
        del content[name]
    return json.dumps(content)


def refusal(text: str) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        ModelDescription.from_json(text)
    return caught.value


class TestMigration:
    def test_format_1_means_what_it_meant(self) -> None:
        assert ModelDescription.from_json(FORMAT_1) == MEANING_OF_FORMAT_1

    def test_fields_that_may_be_absent_in_format_1(self) -> None:
        text = without(
            "sampling", "purpose", "regions", "ignore_label", "summary", "licence",
            "attribution", "training", "scores", "weights_sha256",
        )  # fmt: skip
        read = ModelDescription.from_json(text)
        assert read.sampling == Sampling(SliceOrientation("LPS", "S"), None, None, (0.0,), ())
        assert read.purpose == Purpose("", "", "scans", None)
        assert (read.regions, read.ignore_label, read.licence) == (False, None, "")
        assert (read.training, read.scores, read.weights_sha256) == ({}, {}, "")

    def test_channels_times_offsets_is_what_the_network_takes(self) -> None:
        assert MEANING_OF_FORMAT_1.network_channels == 6

    def test_the_training_patch_in_tokens_spans_the_rope_grid(self) -> None:
        assert MEANING_OF_FORMAT_1.sampling.rope_grid == (32.0, 28.0)
        assert Sampling().rope_grid is None


class TestRoundTrip:
    @pytest.mark.parametrize(
        "description",
        [
            MEANING_OF_FORMAT_1,
            describe("a", "b"),
            describe("a", channels=("T1", "T2"), regions=True),
            describe("hippocampus", intensity=IntensityScheme.meddinov3_ct()),
        ],
        ids=["every field", "plain", "regions", "CT"],
    )
    def test_reading_gives_back_what_was_written(self, description: ModelDescription) -> None:
        read = ModelDescription.from_json(description.to_json())
        assert read == description
        assert read.to_json() == description.to_json()

    def test_numbers_keep_every_digit(self) -> None:
        scheme = IntensityScheme("ct", (-1 / 3, 1e-17), 65.1084213256836, 178.01663208007812)
        description = describe("a", intensity=scheme)
        assert ModelDescription.from_json(description.to_json()).channels[0].intensity == scheme

    def test_whole_numbers_are_read_as_the_floats_they_stand_for(self) -> None:
        read = ModelDescription.from_json(changed(sampling__spacing=[1, 2]))
        assert read.sampling.spacing == (1.0, 2.0)
        assert all(isinstance(part, float) for part in read.sampling.spacing or ())

    def test_the_text_is_for_people_too(self) -> None:
        text = MEANING_OF_FORMAT_1.to_json()
        assert "Nieren, groß" in text
        assert text.startswith('{\n  "format": 1,\n')
        assert text.endswith("}\n")


class TestRefused:
    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "3", "{}", '{"id": "x"}'])
    def test_what_is_no_description(self, text: str) -> None:
        error = refusal(text)
        assert error.code == "bad-description"
        assert error.remedy

    @pytest.mark.parametrize("version", [2, 99])
    def test_a_later_format_asks_for_an_update(self, version: int) -> None:
        error = refusal(changed(format=version, future_field=[1, 2]))
        assert error.code == "later-format"
        assert str(version) in error.message
        assert "Update" in error.remedy

    @pytest.mark.parametrize("version", [0, -1, "1", 1.5, None])
    def test_a_format_that_never_was(self, version: object) -> None:
        assert refusal(changed(format=version)).code in ("later-format", "bad-description")

    @pytest.mark.parametrize("place", ["extra", "network__extra", "labels__0__extra"])
    def test_an_unknown_field_is_named(self, place: str) -> None:
        """It may change what the model means, so it is not passed over."""
        error = refusal(changed(**{place: 1}))
        assert error.code == "bad-description"
        assert "'extra'" in error.message

    @pytest.mark.parametrize("name", ["id", "name", "network", "channels", "labels"])
    def test_a_missing_field_is_named(self, name: str) -> None:
        error = refusal(without(name))
        assert error.code == "bad-description"
        assert name in error.message

    @pytest.mark.parametrize(
        "fields",
        [
            {"name": 5},
            {"network": "vit_base"},
            {"network__outputs": "3"},
            {"network__outputs": True},
            {"labels": {}},
            {"labels__0__colour": [1, 2]},
            {"labels__0__value": 1.5},
            {"sampling__spacing": 0.75},
            {"sampling__patch": [512, 448.5]},
            {"purpose__extent": [1, 2]},
            {"regions": 0},
            {"network__overrides": {"depth": "twelve"}},
            {"network__overrides": {"checkpoint_path": "weights.pth"}},
            {"network__overrides": {"depth": [12]}},
        ],
        ids=str,
    )
    def test_a_value_of_the_wrong_type(self, fields: dict[str, Any]) -> None:
        assert refusal(changed(**fields)).code == "bad-description"

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"sampling__orientation__code": "XYZ"}, "bad-orientation"),
            ({"channels__0__intensity__kind": "magic"}, "bad-intensity-scheme"),
            ({"purpose__trained_on": "slices"}, "bad-description"),
        ],
    )
    def test_a_word_that_is_none_of_those_known(self, fields: dict[str, Any], code: str) -> None:
        assert refusal(changed(**fields)).code == code

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"network__outputs": 4}, "4 outputs for 3"),
            ({"regions": True}, "3 outputs for 2"),
            ({"labels__1__name": "left kidney"}, "share a name"),
            ({"labels__1__value": 1}, "share a value"),
            ({"labels__1__value": 0}, "outside 1 to 65535"),
            ({"labels__1__value": 65536}, "outside 1 to 65535"),
            ({"channels": []}, "no input channels"),
            ({"labels": [], "network__outputs": 1}, "no labels"),
            ({"labels__0__colour": [1, 2, 999]}, "no such colour"),
            ({"network__norm_eps": -1.0}, "norm_eps"),
            ({"sampling__spacing": [0.0, 1.0]}, "spacing"),
            ({"sampling__spacing": [-0.75, 0.75]}, "spacing"),
            ({"sampling__patch": [0, 512]}, "patch"),
            ({"sampling__slice_offsets": []}, "no slice offsets"),
            ({"sampling__mirror_axes": [0, 0]}, "mirror_axes"),
            ({"sampling__mirror_axes": [5]}, "mirror_axes"),
            ({"purpose__extent": [0.0, 10.0, 10.0]}, "extent"),
        ],
        ids=str,
    )
    def test_a_model_that_contradicts_itself(self, fields: dict[str, Any], words: str) -> None:
        error = refusal(changed(**fields))
        assert error.code == "bad-description"
        assert "kidneys-ct" in error.message
        assert words in error.message

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
    def test_numbers_that_json_does_not_have(self, number: str) -> None:
        text = json.dumps(json.loads(changed()) | {"training": {"loss": 0}})
        assert refusal(text.replace('"loss": 0', f'"loss": {number}')).code == "bad-description"

    def test_the_same_holds_for_descriptions_made_in_python(self) -> None:
        network = dataclasses.replace(MEANING_OF_FORMAT_1.network, outputs=9)
        with pytest.raises(MedDINOv3Error) as caught:
            dataclasses.replace(MEANING_OF_FORMAT_1, network=network)
        assert caught.value.code == "bad-description"
