"""What a person changed in a proposal, against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import random_grid
from meddinov3.cases.change import changes
from meddinov3.cases.records import changed
from meddinov3.grid import Grid
from meddinov3.terminology import named_label

GRID = Grid((4, 3, 2), (2.0, 5.0, 10.0), (0.0, 0.0, 0.0), np.eye(3))  # 0.1 ml a voxel
LABELS = [named_label(name, value, 0) for name, value in (("a", 1), ("b", 2), ("c", 300))]


def test_by_hand() -> None:
    before, after = np.zeros((2, 2, 3, 4), np.uint16)
    before[0, 0] = (1, 1, 1, 0)
    after[0, 0] = (0, 1, 2, 1)
    before[1, 2, 0] = 7  # no label of ours
    found = changes(before, after, LABELS, GRID)
    a, b, c = found["a"], found["b"], found["c"]
    assert (a.added, a.removed) == (1, 2)
    assert (a.added_ml, a.removed_ml) == pytest.approx((0.1, 0.2))
    assert a.dice == pytest.approx(2 * 1 / (3 + 2))
    assert (b.added, b.removed, b.dice) == (1, 0, 0.0)
    assert (c.added, c.removed, c.dice) == (0, 0, 1.0), "empty before and after is unchanged"
    assert changed(found)["a"].dice == a.dice


@pytest.mark.parametrize("seed", range(5))
def test_equals_dice_of_masks(seed: int) -> None:
    grid, random = random_grid(seed), np.random.default_rng(seed)
    before, after = random.integers(0, 4, (2, *grid.shape)).astype(np.uint8)
    for label in (named_label("x", 1, 0), named_label("y", 3, 0)):
        one, two = before == label.value, after == label.value
        found = changes(before, after, [label], grid)[label.name]
        assert found.dice == pytest.approx(2 * (one & two).sum() / (one.sum() + two.sum()))
        assert (found.added, found.removed) == ((two & ~one).sum(), (one & ~two).sum())
        assert found.added_ml == pytest.approx(found.added * np.prod(grid.spacing) / 1000)


def test_other_shapes_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        changes(np.zeros((2, 2, 2), np.uint8), np.zeros((1, 2, 2), np.uint8), LABELS, GRID)
