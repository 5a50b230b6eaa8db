"""Functions by name, clipwise's own or a stranger's, and when a stranger's code may be imported.

    MODELS = Registry("model", "clipwise.models")
    @MODELS.register                       # by its name, once its module was imported
    MODELS.find("my_package.nets:my_net")  # by its place; imported only where code is trusted
    MODELS.find("./my_net.py:my_net")

A recipe or a checkpoint that names a function does not import it: only an installed package that announces the function
(an entry point of the registry's group), a module imported before, or ``trust=True`` (``--trust``) does.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipwise.errors import RecipeError
from clipwise.io.names import nearest

_TRUSTED: ContextVar[bool] = ContextVar("trusted", default=False)


@contextmanager
def trusting(trust: bool = True) -> Iterator[None]:
    """Inside, code that a recipe or a checkpoint names may be imported; ``trust=False`` changes nothing."""
    token = _TRUSTED.set(trust or _TRUSTED.get())
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def is_trusted() -> bool:
    """Whether the caller allowed foreign code."""
    return _TRUSTED.get()


@dataclass(frozen=True)
class Entry:
    """A registered function.

    Attributes:
        name: how recipes call it.
        place: what finds it again in another process: ``package.module:function``, ``file.py:function``, or for what comes
            with clipwise the name.
        make: the function or class.
        options: what was said about it when it was registered.
    """

    name: str
    place: str
    make: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)


class Registry:
    """Functions of one kind.

    Args:
        kind: what they make, for messages ("model").
        group: of entry points by which installed packages announce theirs.
        own: imports the modules of clipwise that register theirs; called when a name is first looked for.
    """

    def __init__(self, kind: str, group: str, own: Callable[[], Any] = lambda: None):
        self.kind, self.group = kind, group
        self._own: Callable[[], Any] | None = own
        self._entries: dict[str, Entry] = {}  # by place
        self._names: dict[str, str] = {}  # name -> place

    def register(self, function: Callable[..., Any] | None = None, *, name: str | None = None, **options: Any) -> Any:
        """Decorator for a function or class; registered again (a cell run twice) it replaces itself.

        Raises:
            RecipeError: another function has the name.
        """

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            self._add(function, name or function.__name__, options)
            return function

        return add if function is None else add(function)

    def _add(self, function: Callable[..., Any], name: str | None, options: Mapping[str, Any]) -> Entry:
        """Keep a function by its place, and by its name if it has been given one."""
        place = _place_of(function)
        entry = Entry(name or place, place, function, dict(options))
        known = self._names.get(name) if name else None
        if known is not None and not _same_place(known, place):
            owner = "comes with clipwise" if known == name else f"is registered by {known} already"
            raise RecipeError(
                f'{place}: {self.kind} {name!r} {owner}. Register it under another name: @register_{self.kind}(name="…").'
            )
        self._entries[place] = entry
        if name:
            self._names[name] = place
        return entry

    def names(self, pattern: str = "*") -> list[str]:
        """All names, with those that installed packages announce, sorted; ``pattern`` as in file names."""
        self._load_own()
        return sorted(fnmatch.filter({*self._names, *(point.name for point in self._announced())}, pattern))

    def find(self, name: str | Callable[..., Any]) -> Entry:
        """The function of a name or of a place; a function stands for itself.

        Raises:
            RecipeError: unknown (with the nearest name), not to be imported without trust, or it cannot be imported.
        """
        self._load_own()
        if not isinstance(name, str):
            known = next((entry for entry in self._entries.values() if entry.make is name), None)
            return known or self._add(name, None, {})
        if name in self._names:
            return self._entries[self._names[name]]
        known = next((entry for entry in self._entries.values() if _same_place(entry.place, name)), None)
        if known:
            return known
        for point in self._announced():
            if name in (point.name, point.value.replace(" ", "")):
                return self._loaded(point.value.replace(" ", ""), point.name)
        if ":" not in name:
            raise RecipeError(f"there is no {self.kind} {name!r}. {nearest_of(name, self.names())}")
        if not is_trusted():
            module = name.rpartition(":")[0]
            first = f"import {module}" if not module.endswith(".py") else f"{name} registered"
            raise RecipeError(
                f"{self.kind} {name!r} is code that does not come with clipwise, and it is not imported without your word. If you "
                f"trust it, allow it: --trust on the command line; in Python trust=True, or {first} before."
            )
        return self._loaded(name)

    def _loaded(self, place: str, name: str | None = None) -> Entry:
        """Import a place; what its decorator said about the function stays."""
        function = _import_place(place, self.kind)
        entry = next((e for e in self._entries.values() if e.make is function), None)
        if entry is None or (name and name not in self._names):
            entry = self._add(function, name, entry.options if entry else {})
        return entry

    def _announced(self) -> list[importlib.metadata.EntryPoint]:
        return list(importlib.metadata.entry_points(group=self.group))

    def _load_own(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            own()


def nearest_of(word: str, known: list[str]) -> str:
    """``Did you mean 'x'? Known: …``."""
    match = nearest(str(word), known, cutoff=0.5)
    hint = f"Did you mean {match!r}? " if match else ""
    return f"{hint}Known: {', '.join(known)}"


def _place_of(function: Callable[..., Any]) -> str:
    """See :class:`Entry`."""
    module, name = function.__module__, function.__qualname__
    if module == "clipwise" or module.startswith("clipwise."):
        return name
    source = getattr(sys.modules.get(module), "_clipwise_source", None)
    if source is None and module == "__main__":  # a script: its file can be named again, "__main__" cannot
        file = getattr(sys.modules[module], "__file__", None)
        source = Path(file).name if file else None
    return f"{source or module}:{name}"


def _same_place(one: str, other: str) -> bool:
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
    try:
        if module_name.endswith(".py"):
            module = _import_file(module_name)
        else:
            module = importlib.import_module(module_name)
        function: Any = module
        for part in function_name.split("."):
            function = getattr(function, part)
    except FileNotFoundError:
        raise RecipeError(f"{kind} {place!r}: there is no file {module_name} (looked for in {Path.cwd()}).") from None
    except AttributeError as error:
        raise RecipeError(f"{kind} {place!r} cannot be used: {error}.") from error
    except ImportError as error:
        raise RecipeError(
            f"{kind} {place!r} cannot be imported: {error}. Install its package, or start in its folder."
        ) from error
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
