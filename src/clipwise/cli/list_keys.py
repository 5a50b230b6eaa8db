"""``lists.…=…`` on the command lines of commands without a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clipwise.errors import RecipeError
from clipwise.recipe import apply_overrides, make_recipe


def list_keys(words: Sequence[str]) -> dict[str, Any]:
    """The keys of a recipe that say how lists are read, of a command's ``lists.fps=25`` words, for ``data.lists.read_part``.

    Raises:
        RecipeError: another key, or a value that is none.
    """
    for word in words:
        if not word.startswith(("lists.", "data_root=", "multi_label=")):
            raise RecipeError(f"{word}: without a recipe only lists.…, data_root and multi_label have an effect.")
    where: dict[str, str] = {}
    values = apply_overrides({"name": "lists", "model": "lists"}, words, where)
    recipe = make_recipe(values, where).model_dump()
    return {key: recipe[key] for key in ("lists", "data_root", "multi_label")}
