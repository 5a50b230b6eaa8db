"""MMAction2's own configs, read by clipwise without running them: do the values agree, and do the recipes?

    python benchmarks/mmaction2_configs.py CONFIGS [--peer PYTHON]

CONFIGS is the folder ``mmaction/.mim/configs`` of a wheel of MMAction2 (0.24.1 or 1.2.0). With ``--peer``, the python of an
environment with MMEngine, every value is compared with what ``Config.fromfile`` gives. Recognizer configs become recipes; those
that are packaged here too are compared key by key.
"""

import argparse
import collections
import json
import subprocess
import sys
from pathlib import Path

from clipwise.convert.mmaction2 import recipe_of_config
from clipwise.convert.mmaction2.python_config import read_python_config
from clipwise.errors import ClipwiseError
from clipwise.recipe import load_recipe, make_recipe

PEER = """
import json, sys
from mmengine.config import Config
for line in sys.stdin:
    print(json.dumps(Config.fromfile(line.strip()).to_dict(), default=str, skipkeys=False))
"""
FAMILIES = ("tsn", "tsm", "slowonly", "tpn")
# Facts and places that no config holds, or that a recipe leaves to the data.
APART = {"name", "paper", "published", "notes", "num_train_samples", "num_classes", "init_first_conv",
         "train_data", "val_data", "test_data", "data_root", "val_data_root"}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", type=Path)
    parser.add_argument("--peer", help="python of an environment with MMEngine")
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
    translate([f for f in files if f.parent.name in FAMILIES and f.parent.parent.name == "recognition"])


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
            ours = load_recipe(file.name).model_dump()  # by its name: the file itself is no recipe
        except ClipwiseError:
            continue
        counts["packaged here"] += 1
        for key, value in recipe.model_dump().items():
            if key not in APART and ours[key] != value:
                packaged.setdefault((key, str(value), str(ours[key])), []).append(file.stem)
    for (key, theirs, mine), where in sorted(packaged.items()):
        print(f"{key}: {theirs} there, {mine} here, in {len(where)}: {', '.join(where[:3])}{' …' * (len(where) > 3)}")
    print(f"{len(files)} recognizer configs: {', '.join(f'{n} {what}' for what, n in counts.items())}")


if __name__ == "__main__":
    main()
