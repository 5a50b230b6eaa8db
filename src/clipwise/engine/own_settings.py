"""A resumed run keeps its own settings, whatever the packaged recipe of its name says today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipwise.engine.log import RunLog
from clipwise.errors import RecipeError
from clipwise.models.localizer_rules import keep_settled, settled_args
from clipwise.recipe import Recipe, load_recipe, make_recipe

# Where the data lie is given each time (--data), and what follows from them is read again.
_OF_THIS_CALL = frozenset(
    ("train_data", "val_data", "test_data", "data_root", "features", "annotations", "num_classes", "feat_dim", "name")
)


def with_own_settings(recipe: Recipe, stored: Mapping[str, Any], log: RunLog) -> Recipe:
    """The recipe with the settings of the run that it resumes wherever the caller gave none.

    Only for a packaged recipe: who resumes by a file of their own means what it says.

    Args:
        recipe: as it was asked for.
        stored: the recipe in the run's checkpoint.
    """
    if recipe.origin is None or stored.get("name") != recipe.name or stored.get("task", "recognition") != recipe.task:
        return recipe
    try:
        before = make_recipe(stored).model_dump(mode="json")
    except RecipeError:  # of a later version; check_resume says what differs
        return recipe
    packaged, words = recipe.origin
    today = load_recipe(packaged)
    plain, now = _parts(today.model_dump(mode="json")), _parts(recipe.model_dump(mode="json"))
    given = {part for part in now.keys() | plain.keys() if now.get(part, ...) != plain.get(part, ...)}
    given |= {part for part in now if any(word == ".".join(part) or word == part[0] for word in words)}
    own = _parts(before)
    replaced = _OF_THIS_CALL.union(words)
    settings = {part: value for part, value in own.items() if part not in given and part[0] not in replaced}
    settings |= {part: value for part, value in now.items() if part in given or part[0] in _OF_THIS_CALL}
    if recipe.task == "localization":  # with what the run found in its data
        today = keep_settled(today, before)
        plain = _parts({**today.model_dump(mode="json"), "model_args": settled_args(today)})
    changed = sorted(
        f"{'.'.join(part)} {settings[part]} (now {plain.get(part, 'not there')})"
        for part in settings.keys() - given
        if settings[part] != plain.get(part, ...) and part[0] not in (*_OF_THIS_CALL, "published", "notes")
    )
    changed += sorted(f"no {'.'.join(part)} (now {plain[part]})" for part in plain.keys() - settings.keys() - given)
    if changed:
        log.say(f"resuming with the run's own settings, which differ from those of {packaged}: {', '.join(changed)}")
    return make_recipe(_joined(settings))


def _parts(values: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """A recipe's dictionary by (key,) and (group, key), the dictionary of the model's arguments like a group."""
    parts: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        inner = value if isinstance(value, Mapping) and value else None
        parts.update({(key,): value} if inner is None else {(key, name): each for name, each in inner.items()})
    return parts


def _joined(parts: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part, value in parts.items():
        if len(part) == 1:
            values.setdefault(part[0], value)
        else:
            owner = values.get(part[0])
            values[part[0]] = {**owner, part[1]: value} if isinstance(owner, dict) else {part[1]: value}
    return values
