"""The recipe: one flat, strict YAML file that is the whole truth of a run.

There is no inheritance and no hidden default file: what is not written in the YAML has the default that stands in
``keys.py`` (``RecognitionRecipe``: TSN, TSM, SlowOnly, TPN) or ``localization.py`` (``LocalizationRecipe``: BMN). An
unknown key stops the run and names the nearest known one, with file and line (MMAction2 1.2 accepts ``total_epochs``
or ``optim_wraper`` silently).
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from clipwise.errors import RecipeError
from clipwise.recipe.keys import Published, RecognitionRecipe, RunRecipe, Source
from clipwise.recipe.localization_keys import LocalizationRecipe
from clipwise.recipe.modern import modern_overrides
from clipwise.recipe.validation_messages import allowed, find_key, given

__all__ = [
    "ALIASES",
    "RECIPES",
    "LocalizationRecipe",
    "Published",
    "Recipe",
    "RecognitionRecipe",
    "RunRecipe",
    "Source",
    "apply_overrides",
    "dump_recipe",
    "find_recipe",
    "list_recipes",
    "load_recipe",
    "make_recipe",
    "modern_overrides",
    "nearest",
    "scaled_lr",
]

Recipe = RecognitionRecipe | LocalizationRecipe
RECIPES = Path(__file__).parents[1] / "recipes"

# Other names under which the field knows a packaged recipe.
ALIASES = {
    "slowonly_r50_8x8x1_256e_kinetics400_flow": "slowonly_r50_8x8x1_196e_kinetics400_flow",
    "slowonly_k400_pretrained_r50_4x16x1_120e_gym99_flow": "slowonly_kinetics_pretrained_r50_4x16x1_120e_gym99_flow",
    "tsn_r50_dense_1x1x5_50e_kinetics400_rgb": "tsn_r50_dense_1x1x5_100e_kinetics400_rgb",
}


class _Yaml(yaml.SafeLoader):
    """YAML 1.2's scalars: `no` is a word, not false, and `1e-4` a number, not a word."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML wants it so
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Yaml.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?)$|^[-+]?\.(inf|nan)$"),
    list("-+.0123456789"),
)


def _parse_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Yaml)  # a SafeLoader


def nearest(key: str, known: Iterable[str]) -> str:
    """``, did you mean 'x'?`` for a mistyped key, or an empty string when nothing is near."""
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def list_recipes() -> list[str]:
    """Names of the packaged recipes, sorted."""
    return sorted(path.stem for path in RECIPES.rglob("*.yaml"))


def find_recipe(name: str | Path) -> Path:
    """The file of a packaged recipe's name or of a path. MMAction2's ``configs/…/NAME.py`` finds the recipe NAME.

    Raises:
        RecipeError: no such file or name; the nearest names are given.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise RecipeError(f"recipe file {path} does not exist. Give a YAML file, or a name from `clipwise recipes`.")
    if path.suffix == ".py" and path.is_file():  # it may say something else than the recipe of its name
        raise RecipeError(
            f"{path} is a config of MMAction2, not a recipe. Make it one: clipwise convert {path} --out {path.stem}.yaml"
        )
    stem = path.stem if path.suffix == ".py" else path.name
    stem = ALIASES.get(stem, stem)
    matches = [p for p in RECIPES.rglob("*.yaml") if p.stem == stem]
    if matches:
        return matches[0]
    raise RecipeError(
        f"recipe {str(name)!r} is not known{nearest(stem, list_recipes()) or '.'} Give a YAML file, or a name from `clipwise recipes`."
    )


def load_recipe(name: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe strictly.

    Args:
        name: a packaged recipe's name or a YAML file.
        overrides: ``key=value`` strings; the value is YAML, a dot reaches into a dictionary
            (``model_args.dropout=0.2``).

    Raises:
        RecipeError: an unknown key (with the nearest known one, file and line), a wrong value, or keys that
            contradict each other.
    """
    path = find_recipe(name)
    text = path.read_text(encoding="utf-8")
    try:
        values = _parse_yaml(text)
        node = yaml.compose(text, Loader=_Yaml)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RecipeError(f"{at}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(values, dict):
        raise RecipeError(
            f"{path}: a recipe is a list of `key: value` lines, but this file holds {'nothing' if values is None else type(values).__name__}."
        )
    lines = {}
    for key_node, _ in node.value if node else ():
        if key_node.value in lines:
            raise RecipeError(f"{path}:{key_node.start_mark.line + 1}: key {key_node.value!r} is given twice.")
        lines[key_node.value] = key_node.start_mark.line + 1
    where = {key: f"{path}:{line}" for key, line in lines.items()}
    values.setdefault("name", path.stem)
    values = apply_overrides(values, overrides, where)
    return make_recipe(values, where, str(path))


def apply_overrides(
    values: Mapping[str, Any], overrides: Iterable[str], where: dict[str, str] | None = None
) -> dict[str, Any]:
    """A copy of a recipe's dictionary with ``key=value`` strings applied; ``where`` learns their places."""
    changed = copy.deepcopy(dict(values))
    for item in overrides:
        key, equals, raw = item.partition("=")
        if not equals or not key:
            raise RecipeError(f"override {item!r} is not of the form key=value (for example lr=0.02).")
        try:
            value = _parse_yaml(raw) if raw.strip() else None
        except yaml.YAMLError:
            raise RecipeError(f"override {item!r}: the value is not valid YAML.") from None
        *owners, last = key.split(".")
        target = changed
        for owner in owners:
            target = target.setdefault(owner, {})
            if not isinstance(target, dict):
                raise RecipeError(f"override {item!r}: {owner} is not a dictionary.")
        target[last] = value
        if where is not None:
            where[key.split(".")[0]] = f"command line, {item}"
    return changed


def make_recipe(values: Mapping[str, Any], where: Mapping[str, str] | None = None, source: str = "recipe") -> Recipe:
    """Validate a dictionary (a recipe file's content, or the one in a checkpoint's passport).

    Raises:
        RecipeError: all problems at once, each with its place.
    """
    where = where or {}
    kinds: dict[str, type[Recipe]] = {"recognition": RecognitionRecipe, "localization": LocalizationRecipe}
    task = values.get("task", "recognition")
    if not isinstance(task, str) or task not in kinds:
        at = where.get("task", source)
        raise RecipeError(f"{at}: task: must be 'recognition' or 'localization', given {task!r}")
    kind = kinds[task]
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        problems = []
        for e in error.errors():
            place = e["loc"]
            at = where.get(str(place[0]) if place else "", source)
            if not place:  # keys that contradict each other
                problems.append(f"{at}: {re.sub('^Value error, ', '', e['msg'])}")
                continue
            owner, way, known = find_key(kind, place)
            name = ".".join(map(str, way))
            if not known:
                problems.append(f"{at}: unknown key {way[-1]!r}{nearest(str(way[-1]), owner.model_fields)}")
            elif e["type"] == "missing" and len(way) == len(place):
                problems.append(f"{at}: key {name!r} is missing")
            else:
                wanted = allowed(owner.model_fields[str(way[-1])])
                problems.append(f"{at}: {name}: must be {wanted}, given {given(values, way)}")
        raise RecipeError("\n".join(dict.fromkeys(problems))) from None


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every key written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def scaled_lr(recipe: Recipe, num_devices: int) -> float:
    """Learning rate after the linear scaling rule (Goyal et al. 2017), if the recipe asks for it."""
    if not recipe.auto_scale_lr:
        return recipe.lr
    if recipe.base_batch_size is None:
        raise RecipeError("auto_scale_lr needs base_batch_size: the global batch for which lr is meant.")
    return recipe.lr * recipe.batch_size * recipe.accumulate * num_devices / recipe.base_batch_size
