"""Names, values, colours and codes of structures."""

from __future__ import annotations

import colorsys
from itertools import pairwise

import pytest
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import (
    ANATOMICAL_STRUCTURE,
    Code,
    Label,
    choose,
    default_colour,
)

LIVER = Label("Liver", 1, (1, 1, 1))
KIDNEY = Label("left kidney", 5, (2, 2, 2))
TUMOUR = Label("tumour", 12, (3, 3, 3))
LABELS = (LIVER, KIDNEY, TUMOUR)


class TestChoose:
    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (None, LABELS),
            (["Liver"], (LIVER,)),
            (["liver"], (LIVER,)),
            (["LEFT KIDNEY"], (KIDNEY,)),
            ([" tumour "], (TUMOUR,)),
            (["12"], (TUMOUR,)),
            (["5", "Liver"], (LIVER, KIDNEY)),
            (["tumour", "Liver"], (LIVER, TUMOUR)),
            (["Liver", "1", "liver"], (LIVER,)),
        ],
    )
    def test_by_name_or_value_in_the_models_order(
        self, wanted: list[str] | None, expected: tuple[Label, ...]
    ) -> None:
        assert choose(LABELS, wanted) == expected

    @pytest.mark.parametrize("wanted", [["spleen"], ["Liver", "spleen"], ["2"], ["kidney"], []])
    def test_an_unknown_label_is_an_error_that_lists_the_known(self, wanted: list[str]) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            choose(LABELS, wanted)
        assert caught.value.code == "unknown-label"
        assert "Liver, left kidney, tumour" in caught.value.remedy

    def test_the_error_names_what_is_unknown_and_nothing_else(self) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            choose(LABELS, ["Liver", "spleen", "colon"])
        assert "'spleen', 'colon'" in caught.value.message
        assert "Liver" not in caught.value.message

    def test_names_that_differ_in_case_alone_stay_apart(self) -> None:
        """Such as IVC and ivc: the exact name is that label, not its namesake."""
        upper, lower = Label("GTV", 1, (1, 1, 1)), Label("gtv", 2, (2, 2, 2))
        assert choose((upper, lower), ["GTV"]) == (upper,)
        assert choose((upper, lower), ["gtv"]) == (lower,)

    def test_a_name_that_is_a_number_is_a_name_first(self) -> None:
        """Teeth and vertebrae are often called by numbers that are not their values."""
        tooth, other = Label("11", 1, (1, 1, 1)), Label("12", 11, (2, 2, 2))
        assert choose((tooth, other), ["11"]) == (tooth,)
        assert choose((tooth, other), ["12"]) == (other,)


class TestColours:
    def test_sixty_labels_have_sixty_colours(self) -> None:
        colours = [default_colour(n) for n in range(60)]
        assert len(set(colours)) == 60
        assert all(0 <= part <= 255 and isinstance(part, int) for c in colours for part in c)

    def test_sixty_colours_can_be_told_apart_by_numbers(self) -> None:
        """No two lie within 10 of 255 steps in every channel."""
        colours = [default_colour(n) for n in range(60)]
        for n, one in enumerate(colours):
            for other in colours[:n]:
                assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 10, (one, other)

    def test_neighbours_differ_clearly_in_hue(self) -> None:
        hues = [colorsys.rgb_to_hsv(*(v / 255 for v in default_colour(n)))[0] for n in range(60)]
        for one, other in pairwise(hues):
            assert min((one - other) % 1, (other - one) % 1) > 0.3

    def test_none_is_the_background_or_hard_to_see_on_a_scan(self) -> None:
        for n in range(60):
            assert max(default_colour(n)) > 150
            assert max(default_colour(n)) - min(default_colour(n)) > 80  # no grey


class TestTerminology:
    def test_is_the_string_that_slicer_writes(self) -> None:
        """As read back from Slicer 5.12.3: reference/slicer-verified.md, section 5."""
        label = Label("x", 1, (0, 0, 0), ANATOMICAL_STRUCTURE, Code("SCT", "10200004", "Liver"))
        assert label.terminology == (
            "Segmentation category and type - 3D Slicer General Anatomy list"
            "~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^"
            "~Anatomic codes - DICOM master list~^^~^^"
        )

    def test_a_side_is_the_modifier(self) -> None:
        kidney, left = Code("SCT", "64033007", "Kidney"), Code("SCT", "7771000", "Left")
        label = Label("x", 1, (0, 0, 0), ANATOMICAL_STRUCTURE, kidney, left)
        parts = label.terminology.split("~")
        assert parts[1:4] == [
            "SCT^123037004^Anatomical Structure",
            "SCT^64033007^Kidney",
            "SCT^7771000^Left",
        ]
        assert len(parts) == 7

    def test_without_a_code_it_is_tissue(self) -> None:
        assert (
            "~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~" in Label("x", 1, (0, 0, 0)).terminology
        )
