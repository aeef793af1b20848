"""Recipes for the paper's four benchmarks: what to download, how to convert, what to expect."""

from __future__ import annotations

from meddinov3.errors import MedDINOv3Error

from meddinov3_training.recipes.amos22 import AMOS22, AMOS22_CT
from meddinov3_training.recipes.btcv import BTCV
from meddinov3_training.recipes.kits23 import KITS23
from meddinov3_training.recipes.lits import LITS
from meddinov3_training.recipes.recipe import Recipe

RECIPES = {recipe.id: recipe for recipe in (AMOS22, AMOS22_CT, BTCV, KITS23, LITS)}


def find_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        MedDINOv3Error: there is none.
    """
    try:
        return RECIPES[name.lower()]
    except KeyError as error:
        raise MedDINOv3Error(
            "no-recipe", f"There is no recipe '{name}'.", f"Recipes are {', '.join(RECIPES)}."
        ) from error
