"""Functions by name, clipwise's own or a stranger's.

    MODELS = Registry("model", "clipwise.models")
    @MODELS.register                       # by its name, once its module was imported
    MODELS.find("my_package.nets:my_net")  # by its place; imported only where code is trusted
    MODELS.find("./my_net.py:my_net")

A recipe or a checkpoint that names a function does not import it: only an installed package that announces the function
(an entry point of the registry's group), a module imported before, or ``trust=True`` (``--trust``) does. What does not come with
clipwise is found by ``clipwise.io.code_import``.
"""

from __future__ import annotations

import fnmatch
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar

_TRUSTED: ContextVar[bool] = ContextVar("trusted", default=False)


@contextmanager
def trusting(trust: bool = True) -> Iterator[None]:
    """Inside, code that a recipe or a checkpoint names may be imported; ``trust=False`` changes nothing."""
    token = _TRUSTED.set(trust or _TRUSTED.get())
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def is_foreign(name: Any) -> bool:
    """Whether a recipe's or checkpoint's name means a model of another library (``clipwise.io.model_folders``)."""
    library, _, model = str(name).partition(":")
    # hf:/FOLDER is one; hf://org/name (io.hub) is not, though a Path of it looks alike
    local = model[:2] != "//" and os.path.isdir(model.partition("?")[0])
    return library == "timm" or (library == "hf" and (model[:1] != "/" or local))


def is_trusted() -> bool:
    """Whether the caller allowed foreign code."""
    return _TRUSTED.get()


def at_place(place: str) -> Any:
    """What clipwise itself has at ``package.module:name``, imported now."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


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
        own: imports the modules of clipwise that may register a name; of None, all that register.

    Attributes:
        entries: by place.
        by_name: places by name.
        every: all registries of the process.
    """

    every: ClassVar[list[Registry]] = []

    def __init__(self, kind: str, group: str, own: Callable[[str | None], Any] = lambda name: None):
        self.kind, self.group, self.own = kind, group, own
        Registry.every.append(self)
        self.entries: dict[str, Entry] = {}
        self.by_name: dict[str, str] = {}

    def register(self, function: Callable[..., Any] | None = None, *, name: str | None = None, **options: Any) -> Any:
        """Decorator for a function or class; registered again (a cell run twice) it replaces itself.

        Raises:
            RecipeError: another function has the name.
        """

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            self.add(function, name or function.__name__, options)
            return function

        return add if function is None else add(function)

    def add(self, function: Callable[..., Any], name: str | None, options: Mapping[str, Any]) -> Entry:
        """Keep a function by its place, and by its name if it has been given one."""
        place = function.__qualname__
        if function.__module__.partition(".")[0] != "clipwise":
            from clipwise.io.code_import import place_of

            place = place_of(function, name, self)
        entry = Entry(name or place, place, function, dict(options))
        self.entries[place] = entry
        if name:
            self.by_name[name] = place
        return entry

    def names(self, pattern: str = "*") -> list[str]:
        """All names, with those that installed packages announce, sorted; ``pattern`` as in file names."""
        from clipwise.io.code_import import announced_names

        self.own(None)
        listed = {name for name, place in self.by_name.items() if self.entries[place].options.get("listed", True)}
        return sorted(fnmatch.filter({*listed, *announced_names(self.group)}, pattern))

    def find(self, name: str | Callable[..., Any]) -> Entry:
        """The function of a name or of a place; a function stands for itself.

        Raises:
            RecipeError: unknown (with the nearest name), not to be imported without trust, or it cannot be imported.
        """
        if isinstance(name, str) and name not in self.by_name:
            self.own(name)
        if isinstance(name, str) and name in self.by_name:
            return self.entries[self.by_name[name]]
        from clipwise.io.code_import import find_elsewhere

        self.own(None)
        return find_elsewhere(self, name, is_trusted(), is_foreign(name))
