"""Names to colours and codes."""

from __future__ import annotations

import pytest
from meddinov3.labels import default_colour
from meddinov3.terminology import _table, named_label
from pydicom.sr.codedict import codes


@pytest.mark.parametrize(
    ("name", "code", "side"),
    [
        ("liver", "10200004", None),
        ("kidney_left", "64033007", "Left"),
        ("Right Kidney", "64033007", "Right"),
        ("lungs", "39607008", None),
        ("Left ventricle", "87878005", None),
        ("tumour", "108369006", None),
    ],
)
def test_common_names_get_their_snomed_code(name: str, code: str, side: str | None) -> None:
    label = named_label(name, 7, 0)
    assert (label.name, label.value, label.type.value) == (name, 7, code)
    assert (label.modifier.meaning if label.modifier else None) == side


def test_unknown_names_stay_tissue_with_a_free_colour() -> None:
    label = named_label("my blob left", 3, 4)
    assert label.type.meaning == "Tissue"
    assert label.colour == default_colour(4)
    assert label.modifier is not None


def test_a_pair_differs_in_colour() -> None:
    assert named_label("kidney_left", 1, 0).colour != named_label("kidney_right", 2, 1).colour


def test_every_code_is_one_that_dicom_lists_under_that_meaning() -> None:
    found = (getattr(codes.SCT, keyword) for keyword in codes.SCT.dir())
    listed = {(code.value, code.meaning) for code in found}
    for name, entry in _table().items():
        assert (entry["code"], entry["meaning"]) in listed, name
        assert all(0 <= part <= 255 for part in entry["colour"])
