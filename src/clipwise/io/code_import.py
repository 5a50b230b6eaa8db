"""Functions that do not come with clipwise: found by an installed package's announcement or by their place, and imported.

Loaded when a registry (``clipwise.io.plugins``) does not know a name, or is given a function.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from clipwise.errors import ClipwiseWarning, RecipeError
from clipwise.io.names import nearest_of

OBJECT = "object:"
"""Begins the place of a model that was handed to ``train`` as an object; nothing but its owner can give it again."""


def find_elsewhere(registry: Any, name: str | Callable[..., Any], trusted: bool, foreign: bool = False) -> Any:
    """The entry of a function, of a place, or of a name that a package announces.

    Args:
        registry: the ``Registry`` that asks; what is found is kept in it.
        trusted: whether code may be imported that nobody announced.
        foreign: whether the name means a model of another library.

    Raises:
        RecipeError: unknown (with the nearest name), not to be imported without trust, or it cannot be imported.
    """
    entries = registry.entries
    if not isinstance(name, str):
        known = next((entry for entry in entries.values() if entry.make is name), None)
        return known or registry.add(name, None, {})
    known = next((entry for entry in entries.values() if same_place(entry.place, name)), None)
    if known:
        return known
    for point in importlib.metadata.entry_points(group=registry.group):
        place = point.value.replace(" ", "")
        if name in (point.name, place):
            return _loaded(registry, place, point.name)
    if ":" not in name:
        if name.endswith(".py"):
            raise RecipeError(f"{registry.kind} {name!r} is a file; name the function in it, too: {name}:FUNCTION.")
        known = registry.names()
        own = "None is registered. One of your own is ./FILE.py:FUNCTION, or its name once its module was imported (docs/en/models.md)."
        raise RecipeError(f"there is no {registry.kind} {name!r}. {nearest_of(name, known) if known else own}")
    if foreign and registry.kind == "model":
        raise RecipeError(
            f"model {name!r} is of another library and has a recipe of its own; give it in the recipe's place: clipwise train {name} …"
        )
    if name.startswith(OBJECT):
        kind = name.removeprefix(OBJECT)
        raise RecipeError(
            f"this {registry.kind} was passed to train as an object, a {kind}, which no file can restore. Create it as before and pass it "
            "again: clipwise.load(checkpoint, model=network), also load_model, evaluate and train."
        )
    if not trusted:
        module = name.rpartition(":")[0]
        first = f"import {module}" if not module.endswith(".py") else f"{name} registered"
        raise RecipeError(
            f"{registry.kind} {name!r} is code that does not come with clipwise, so it is imported only if you trust it: "
            f"--trust on the command line; in Python trust=True, or {first} before."
        )
    return _loaded(registry, name)


def _loaded(registry: Any, place: str, name: str | None = None) -> Any:
    """Import a place; what its decorator said about the function stays."""
    function = _import_place(place, registry.kind)
    entry = next((e for e in registry.entries.values() if e.make is function), None)
    if entry is None or (name and name not in registry.by_name):
        entry = registry.add(function, name, entry.options if entry else {})
    return entry


def announced_names(group: str) -> set[str]:
    """Names that installed packages announce in a group of entry points."""
    return {point.name for point in importlib.metadata.entry_points(group=group)}


def usable(registry: Any, names: Iterable[str]) -> Iterator[str]:
    """The names whose packages can be imported; a warning for each of the others."""
    for name in names:
        try:
            registry.find(name)
        except RecipeError as error:
            warnings.warn(f"{name} is left out: {error}", ClipwiseWarning, stacklevel=3)
        else:
            yield name


def place_of(function: Callable[..., Any], name: str | None, registry: Any) -> str:
    """What finds a function again in another process: ``package.module:function`` or ``file.py:function``.

    Raises:
        RecipeError: another function has the name.
    """
    module = function.__module__
    source = getattr(sys.modules.get(module), "_clipwise_source", None)
    if source is None and module == "__main__":  # a script: its file can be named again, "__main__" cannot
        file = getattr(sys.modules[module], "__file__", None)
        source = Path(file).name if file else None
    place = f"{source or module}:{function.__qualname__}"
    if name:
        registry.own(name)  # a name of ours is taken whether or not its module has been imported
    known = registry.by_name.get(name)
    if known is not None and not same_place(known, place):
        owner = "comes with clipwise" if known == name else f"is registered by {known} already"
        kind = registry.kind
        raise RecipeError(
            f'{place}: {kind} {name!r} {owner}. Register it under another name: @register_{kind}(name="…").'
        )
    return place


def same_place(one: str, other: str) -> bool:
    """Equal, or a file and the module that it was imported as."""
    if one == other:
        return True
    (a, x), (b, y) = (place.rpartition(":")[::2] for place in (one, other))
    if x != y or not (a.endswith(".py") or b.endswith(".py")):
        return False
    return _last_part(a) == _last_part(b)


def _last_part(module: str) -> str:
    return Path(module).stem if module.endswith(".py") else module.rpartition(".")[2]


def _import_place(place: str, kind: str) -> Callable[..., Any]:
    module_name, _, function_name = place.rpartition(":")
    if module_name.endswith(".py") and not Path(module_name).is_file():
        raise RecipeError(f"{kind} {place!r}: there is no file {module_name} (looked for in {Path.cwd()}).")
    try:
        if module_name.endswith(".py"):
            module = _import_file(module_name)
        else:
            module = importlib.import_module(module_name)
    except ImportError as error:
        raise RecipeError(
            f"{kind} {place!r} cannot be imported: {error}. Install its package, or start in its folder."
        ) from error
    except Exception as error:  # the code's own
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if isinstance(error, SyntaxError) else f" ({last.filename}, line {last.lineno})"  # else it says so
        raise RecipeError(f"{kind} {place!r} cannot be imported: {type(error).__name__}: {error}{where}.") from error
    function: Any = module
    for part in function_name.split("."):
        if not hasattr(function, part):
            there = sorted(n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__)
            raise RecipeError(f"{kind} {place!r}: {module_name} has no {part!r}. {nearest_of(part, there)}")
        function = getattr(function, part)
    if not callable(function):
        raise RecipeError(f"{kind} {place!r} is a {type(function).__name__}, not a function or class.")
    return function


def _import_file(file: str) -> Any:
    """A module from a file, once a process."""
    path = Path(file).resolve(strict=True)
    name = f"clipwise_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    module._clipwise_source = file  # type: ignore[attr-defined]
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
