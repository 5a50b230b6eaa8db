"""MMAction2's own configs, read by clipwise without running them: do the values agree, and do the recipes?

    python benchmarks/mmaction2_configs.py CONFIGS [--peer PYTHON] [--perturb]

CONFIGS is the folder ``mmaction/.mim/configs`` of a wheel of MMAction2 (0.24.1 or 1.2.0). With ``--peer``, the python of an
environment with MMEngine, every value is compared with what ``Config.fromfile`` gives. Recognizer configs become recipes; those
that are packaged here too are compared key by key. With ``--perturb``, each key of each of them is changed in turn: the recipe must
change, or the key must be refused or noted by name.
"""

import argparse
import collections
import json
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from clipwise.convert.mmaction2 import READ, recipe_of_config, translate_config
from clipwise.convert.mmaction2.python_config import read_python_config
from clipwise.errors import ClipwiseError
from clipwise.recipe import flatten, load_recipe, make_recipe

PEER = """
import json, sys
from mmengine.config import Config
for line in sys.stdin:
    print(json.dumps(Config.fromfile(line.strip()).to_dict(), default=str, skipkeys=False))
"""
Translate = Callable[[dict, str], tuple[dict, list[str]]]
FAMILIES = ("tsn", "tsm", "slowonly", "tpn")
# Facts and places that no config holds, or that a recipe leaves to the data.
APART = {"name", "paper", "notes", "num_classes", "init_first_conv",
         "train_data", "val_data", "test_data", "data_root", "val.data_root"}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", type=Path)
    parser.add_argument("--peer", help="python of an environment with MMEngine")
    parser.add_argument("--perturb", action="store_true", help="change each key of each config in turn")
    options = parser.parse_args()
    files = sorted(options.configs.rglob("*.py"))
    read: dict[Path, dict] = {}
    for file in files:
        try:
            read[file] = read_python_config(file)
        except ClipwiseError as error:
            print(f"not read: {error}")
    print(f"{len(files)} configs, {len(read)} read")
    if options.peer:
        compare_values(read, options.peer)
    ours = [f for f in files if f.parent.name in FAMILIES and f.parent.parent.name == "recognition"]
    if options.perturb:
        perturb({f.stem: read[f] for f in ours if f in read})
    else:
        translate(ours)


def compare_values(read: dict[Path, dict], peer: str) -> None:
    names = "".join(f"{f}\n" for f in read)
    done = subprocess.run([peer, "-c", PEER], input=names, capture_output=True, text=True, check=True)
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    different = [f for f, t in zip(read, theirs, strict=True) if json.loads(json.dumps(read[f])) != t]
    print(f"{len(read) - len(different)} of them equal to MMEngine's values")
    if different:
        sys.exit(f"different: {', '.join(map(str, different))}")


def translate(files: list[Path]) -> None:
    counts: collections.Counter[str] = collections.Counter()
    packaged: dict[tuple[str, str, str], list[str]] = {}
    for file in files:
        try:
            values, left = recipe_of_config(file)
            recipe = make_recipe(values)
        except ClipwiseError as error:
            counts["not of these models, or without training"] += 1
            print(f"refused: {error}")
            continue
        counts["with settings that have no counterpart" if left else "whole"] += 1
        for line in left:
            print(f"{file.stem}: {line}")
        try:
            ours = flatten(load_recipe(file.name).model_dump())  # by its name: the file itself is no recipe
        except ClipwiseError:
            continue
        counts["packaged here"] += 1
        for key, value in flatten(recipe.model_dump()).items():
            if key not in APART and not key.startswith("published.") and ours[key] != value:
                packaged.setdefault((key, str(value), str(ours[key])), []).append(file.stem)
    for (key, theirs, mine), where in sorted(packaged.items()):
        print(f"{key}: {theirs} there, {mine} here, in {len(where)}: {', '.join(where[:3])}{' …' * (len(where) > 3)}")
    print(f"{len(files)} recognizer configs: {', '.join(f'{n} {what}' for what, n in counts.items())}")


def perturb(configs: dict[str, dict]) -> None:
    """Count what becomes of each changed key, and list those that go unnoticed."""
    total: collections.Counter[str] = collections.Counter()
    for name, config in configs.items():
        for path, outcome in perturbed_outcomes(config):
            total[outcome] += 1
            if outcome in ("silent", "refused without its name"):
                print(f"{outcome}: {name}: {path}")
    counts = ", ".join(f"{count} {outcome}" for outcome, count in total.items() if count)
    print(f"{total.total()} changes of {len(configs)} configs: {counts}, {total['silent']} silent")


def perturbed_outcomes(
    config: dict, translate: Translate = translate_config, known: Collection[str] = READ
) -> Iterator[tuple[str, str]]:
    """(path of a key, what became of its change) for each key of a config; none for a config that is refused as a whole.

    The keys that MMAction2 reads are changed without the config's own shorthand, which would no longer agree with them.

    Args:
        translate: gives a recipe's keys, and what of the config they do not hold.
        known: names that it reads.
    """
    read = {key: value for key, value in config.items() if key in known}
    try:
        make_recipe(translate(config, "config.py")[0])
    except ClipwiseError:
        return
    yield from _outcomes(read, perturbations(read), translate=translate)
    for name in config.keys() - set(known):
        changes = (
            (f"{name}.{path}".rstrip("."), new, {**config, name: changed})
            for path, new, changed in perturbations(config[name])
        )
        yield from _outcomes(config, changes, f"{name} = ", translate)


def _outcomes(
    config: dict,
    changes: Iterable[tuple[str, Any, dict]],
    shorthand: str = "",
    translate: Translate = translate_config,
) -> Iterator[tuple[str, str]]:
    values, left = translate(config, "config.py")
    before, named = make_recipe(values), set(left)
    for path, value, changed in changes:
        key = path.rsplit(".", 1)[-1].split("[")[0]
        try:
            values, left = translate(changed, "config.py")
            new = set(left) ^ named
            whole = shorthand and any(line.startswith(shorthand) for line in new)
            if whole or any(key in line or (key == "type" and str(value) in line) for line in new):
                yield path, "refused by name"
            elif make_recipe(values) == before:
                whole = any(
                    f"{owner.split('[')[0]} = " in line for owner in path.split(".") for line in named
                )  # it was refused as a whole
                yield path, "refused by name" if whole else "refused without its name" if new else "silent"
            else:
                yield path, "changed recipe"
        except ClipwiseError as error:
            named_here = key in str(error) or str(value) in str(error)
            yield path, "refused by name" if named_here else "refused without its name"


def perturbations(value: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, new value, copy of the whole with it) for each leaf, and with a key too many for each dictionary."""
    if isinstance(value, dict):
        for key, inner in value.items():
            for where, new, changed in perturbations(inner, f"{path}.{key}" if path else str(key)):
                yield where, new, {**value, key: changed}
        yield f"{path}.surplus" if path else "surplus", 1, {**value, "surplus": {"of": 1}}
    elif isinstance(value, list | tuple) and value:
        for number, inner in enumerate(value):
            for where, new, changed in perturbations(inner, f"{path}[{number}]"):
                yield where, new, type(value)((*value[:number], changed, *value[number + 1 :]))
    else:
        new = _another(value)
        yield path, new, new


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else 2 * value + 0.125
    if isinstance(value, list | tuple):  # empty
        return [1]
    return f"{value}x" if isinstance(value, str) else "x"


if __name__ == "__main__":
    main()
