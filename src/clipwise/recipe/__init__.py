"""The recipe: one strict YAML file that is the whole truth of a run.

There is no inheritance and no hidden default file: what is not written in the YAML has the default in ``keys.py``
(every run), ``recognition_keys.py`` or ``localization_keys.py``. Everyday keys are flat, the others in groups one level deep.
An unknown key stops the run with the nearest known one, its file and line (MMAction2 1.2 accepts ``total_epochs`` or
``optim_wraper`` silently). A key that has no effect beside the others is refused on a command line and warned about
elsewhere. The flat recipes of clipwise 0.1 are read as well (``moved.py``).
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from clipwise.errors import ClipwiseWarning, RecipeError
from clipwise.io.parse import check_schema
from clipwise.io.plugins import is_foreign
from clipwise.recipe.keys import Only, Published, RunRecipe, Strict
from clipwise.recipe.localization_keys import LocalizationRecipe
from clipwise.recipe.recognition_keys import RecognitionRecipe, Source, modern_overrides

__all__ = ["ALIASES", "RECIPES", "LocalizationRecipe", "Published", "Recipe", "RecognitionRecipe", "RunRecipe", "Source",
           "apply_overrides", "current_form", "dump_recipe", "find_recipe", "flatten", "list_recipes", "load_recipe", "make_recipe", "modern_overrides", "scaled_lr"]  # fmt: skip

Recipe = RecognitionRecipe | LocalizationRecipe
GROUPS: dict[type[Recipe], list[str]] = {
    kind: [key for key, field in kind.model_fields.items() if isinstance(field.default, Strict)]
    for kind in (RecognitionRecipe, LocalizationRecipe)
}
MOST_NODES = 1_000_000  # of a YAML document with its references written out
SCHEMA = 1  # of saved recipes; files without one read the same
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


def parse_yaml(text: str, loader: Any = None) -> Any:
    """As ``yaml.load``, with ``yaml.SafeLoader`` or a loader made from it.

    Raises:
        yaml.YAMLError: not YAML; nested too deep; or references that stand for more than a million values.
    """
    loader = loader or yaml.SafeLoader
    try:
        document = loader(text)
        try:
            node = document.get_single_node()
            _size(node, {})
            return None if node is None else document.construct_document(node)
        finally:
            document.dispose()
    except RecursionError:
        raise yaml.YAMLError("nested too deep, or a reference to itself") from None
    except ValueError as error:  # an impossible date, a number of thousands of digits
        raise yaml.YAMLError(str(error).partition(";")[0]) from None


def _size(node: Any, known: dict[int, int]) -> int:
    """How many values a node stands for; ``*references`` count as what they refer to."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        inner = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_size(part, known) for part in inner)
        if known[id(node)] > MOST_NODES:
            raise yaml.YAMLError(f"its references stand for more than {MOST_NODES:,} values")
    return known[id(node)]


def list_recipes(pattern: str = "*") -> list[str]:
    """Names of the packaged recipes, sorted; those of a pattern, as in file names."""
    names = sorted(path.stem for path in RECIPES.rglob("*.yaml"))
    return [name for name in names if fnmatchcase(name.lower(), pattern.lower())]


def find_recipe(name: str | Path) -> Path:
    """The file of a packaged recipe's name or of a path. MMAction2's ``configs/…/NAME.py`` finds the recipe NAME.

    Raises:
        RecipeError: no such file or name; the nearest names are given.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    stem = path.stem if path.suffix == ".py" else path.name
    stem = ALIASES.get(stem, stem)
    if not (path.suffix == ".py" and path.is_file()):  # it may say something else than the recipe of its name
        for packaged in RECIPES.rglob("*.yaml"):
            if packaged.stem == stem:
                return packaged
    from clipwise.recipe.validation_messages import not_a_recipe

    raise RecipeError(not_a_recipe(name, stem, list_recipes()))


def load_recipe(name: str | Path, overrides: Iterable[str] = (), *, modern: bool = False) -> Recipe:
    """Read a recipe strictly.

    Args:
        name: a packaged recipe's name, a YAML file, or a model of another library (``hf:MODEL``, see ``foreign_recipe``).
        overrides: ``key=value`` strings; the value is YAML, a dot reaches into a dictionary
            (``model_args.dropout=0.2``).
        modern: with the modern training recipe, before the overrides.

    Raises:
        RecipeError: an unknown key (with the nearest known one, file and line), a wrong value, or keys that
            contradict each other.
    """
    if is_foreign(name):
        from clipwise.recipe.foreign_recipe import foreign_recipe

        places: dict[str, str] = {}
        overrides = list(overrides)
        values = apply_overrides(foreign_recipe(name, overrides, modern), overrides, places, str(name))
        return make_recipe(values, places, str(name))
    path = find_recipe(name)
    try:
        text = path.read_text(encoding="utf-8")
        values = parse_yaml(text, _Yaml)
        node = yaml.compose(text, Loader=_Yaml)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        from clipwise.recipe.validation_messages import unreadable

        raise RecipeError(unreadable(path, error)) from None
    if not isinstance(values, dict):
        raise RecipeError(
            f"{path}: a recipe is a list of `key: value` lines, but this file holds {'nothing' if values is None else type(values).__name__}."
        )
    where: dict[str, str] = {}
    for key, line in _lines(node, str(path)):
        if key in where:
            raise RecipeError(f"{path}:{line}: key {key!r} is given twice.")
        where[key] = f"{path}:{line}"
    values.setdefault("name", path.stem)
    values = current_form(values, str(path), where)
    if modern:  # what it sets was not asked for key by key, so it has no place
        changes = [*overrides, "warmup_epochs=0"]  # it has a warm-up of its own
        plain = make_recipe(apply_overrides(values, changes, dict(where), str(path)), source=str(path))
        values = apply_overrides(values, modern_overrides(plain), source=str(path))
    values = apply_overrides(values, overrides, where, str(path))
    recipe = make_recipe(values, where, str(path))
    if path != Path(name):
        given = tuple(key for key, place in where.items() if place.startswith("command line"))
        recipe._origin = path.stem, given
    return recipe


def _lines(node: yaml.Node | None, path: str, owner: str = "") -> Iterator[tuple[str, int]]:
    """Each key with its line; of a group's keys with the group's name (``augment.mixup``)."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        yield owner + str(key.value), key.start_mark.line + 1
        if not owner:
            yield from _lines(value, path, f"{key.value}.")


def apply_overrides(
    values: Mapping[str, Any], overrides: Iterable[str], where: dict[str, str] | None = None, source: str = "recipe"
) -> dict[str, Any]:
    """A copy of a recipe's dictionary with ``key=value`` strings applied; ``where`` learns their places."""
    changed = copy.deepcopy(current_form(values, source, where))
    for item in overrides:
        key, equals, raw = item.partition("=")
        if not equals or not key:
            raise RecipeError(f"override {item!r} is not of the form key=value (for example lr=0.02).")
        try:
            value = parse_yaml(raw, _Yaml) if raw.strip() else None
        except yaml.YAMLError:
            raise RecipeError(f"override {item!r}: the value is not valid YAML.") from None
        if _is_old(_kind(changed), key, value):
            from clipwise.recipe.moved import new_key

            key = new_key(_kind(changed), key, f"command line, {item}")
        *owners, last = key.split(".")
        target = changed
        for owner in owners:
            target = target.setdefault(owner, {})
            if not isinstance(target, dict):
                from clipwise.recipe.validation_messages import no_group

                raise RecipeError(f"override {item!r}: {no_group(_kind(changed), key.split('.'), target)}.")
        target[last] = value
        if where is not None:
            where[".".join(key.split(".")[:2])] = f"command line, {item}"
    if where and where.get("epochs", "").startswith("command line") and changed.get("warmup_epochs"):
        from clipwise.recipe.shorter_warmup import shorten_warmup

        shorten_warmup(values, changed, where)
    return changed


def make_recipe(values: Mapping[str, Any], where: Mapping[str, str] | None = None, source: str = "recipe") -> Recipe:
    """Validate a dictionary (a recipe file's content, or the one in a checkpoint's passport).

    Args:
        values: the keys, in groups or in the flat form of clipwise 0.1.
        where: the place of each key, for messages.
        source: the place of everything else.

    Raises:
        RecipeError: all problems at once, each with its place.
    """
    places = dict(where or {})
    values = current_form(values, source, places)
    kind = _kind(values, places.get("task", source))
    try:
        recipe = kind.model_validate(values)
    except ValidationError as error:
        from clipwise.recipe.validation_messages import explain_errors

        raise RecipeError("\n".join(explain_errors(kind, error, values, places, source))) from None
    for key, because, reason in idle_keys(recipe):
        message = f"{places.get(key)}: {key} has no effect with {reason}"
        if places.get(key, "").startswith("command line"):
            raise RecipeError(f"{message}; leave it out.")
        # What a command line switches off (warmup_epochs=0) leaves the file's details behind, which is no mistake.
        if key in places and not places.get(because, "").startswith("command line"):
            warnings.warn(message, ClipwiseWarning, stacklevel=3)
    return recipe


def current_form(
    values: Mapping[str, Any], source: str = "recipe", where: dict[str, str] | None = None
) -> dict[str, Any]:
    """A recipe's dictionary with its keys where they belong today; one of clipwise 0.1 is flat.

    A line (a :class:`ClipwiseWarning`) says what moved.

    Raises:
        RecipeError: its ``schema`` is newer than this version's.
    """
    if "schema" in values:
        values = dict(values)
        check_schema(values.pop("schema"), SCHEMA, (where or {}).get("schema", source), RecipeError)
    kind = _kind(values, (where or {}).get("task", source))
    if any("." in str(key) or _is_old(kind, key, value) for key, value in values.items()):
        from clipwise.recipe.moved import migrate

        return migrate(kind, values, source, where if where is not None else {})
    return dict(values)


def _kind(values: Mapping[str, Any], at: str = "recipe") -> type[Recipe]:
    kinds: dict[str, type[Recipe]] = {"recognition": RecognitionRecipe, "localization": LocalizationRecipe}
    task = values.get("task", "recognition")
    if not isinstance(task, str) or task not in kinds:
        raise RecipeError(f"{at}: task: must be 'recognition' or 'localization', given {task!r}")
    return kinds[task]


def _is_old(kind: type[Recipe], key: Any, value: Any) -> bool:
    """Whether a key is no longer at the top (or unknown); a group's name with a plain value is an old key, too."""
    name = str(key).partition(".")[0]
    if name in kind.model_fields:
        return key == name and name in GROUPS[kind] and isinstance(value, (str, bool))
    return True


def idle_keys(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Keys that were changed but have no effect beside the recipe's other keys: key, the other key, the reason."""
    groups = [("", recipe), *((f"{name}.", getattr(recipe, name)) for name in GROUPS[type(recipe)])]
    for owner, group in groups:
        for name, field in type(group).model_fields.items():
            for only in (m for m in field.metadata if isinstance(m, Only)):
                setting = recipe
                for part in only.key.split("."):
                    setting = getattr(setting, "from_" if part == "from" else part)
                active = setting in only.values if only.values else bool(setting)
                if not active and getattr(group, name) != field.default:
                    needs = f"; it is for {only.key}: {' or '.join(only.values)}" if only.values else ""
                    yield f"{owner}{field.alias or name}", only.key, f"{only.key}: {_yaml_word(setting)}{needs}"


def _yaml_word(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's dictionary with the groups' keys as a command line writes them (``augment.mixup``)."""
    groups = set().union(*GROUPS.values())
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = value if key in groups and isinstance(value, Mapping) else None
        flat.update({key: value} if inner is None else {f"{key}.{name}": v for name, v in inner.items()})
    return flat


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every key written out: the flat ones first, then the groups."""
    values = recipe.model_dump(mode="json")
    order = sorted(values, key=lambda key: (key != "task", key in GROUPS[type(recipe)]))
    ordered = {"schema": SCHEMA} | {key: values[key] for key in order}
    return yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=110)


def scaled_lr(recipe: Recipe, num_devices: int) -> float:
    """Learning rate after the linear scaling rule (Goyal et al. 2017), if the recipe asks for it."""
    if not recipe.auto_scale_lr:
        return recipe.lr
    if recipe.base_batch_size is None:
        raise RecipeError("auto_scale_lr needs base_batch_size: the global batch for which lr is meant.")
    return recipe.lr * recipe.batch_size * recipe.accumulate * num_devices / recipe.base_batch_size
