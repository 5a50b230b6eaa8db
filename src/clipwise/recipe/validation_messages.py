"""What a recipe's key allows, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}


def find_key(model: type[BaseModel], place: Sequence[str | int]) -> tuple[type[BaseModel], list[str | int], bool]:
    """The innermost key on the way to a wrong value.

    Args:
        model: the recipe's class.
        place: keys and positions as pydantic's error lists them; what follows the key (the position in a tuple, the
            member of a union) is not taken.

    Returns:
        The class that has (or lacks) the key, the way to it, and whether the class knows it.
    """
    owner, end = model, 1
    for i, part in enumerate(place[:-1]):
        field = owner.model_fields.get(str(part))
        inner = field and next(filter(_is_model, _parts(field.annotation)), None)
        if inner:
            # a list of models has a position before the next key
            following = i + 1 + isinstance(place[i + 1], int)
            if following < len(place):
                owner, end = inner, following + 1
    return owner, list(place[:end]), str(place[end - 1]) in owner.model_fields


def allowed(field: FieldInfo) -> str:
    """What a key may be: ``a number above 0, or null``."""
    return _words(field.annotation, field.metadata)


def given(values: Any, way: Iterable[str | int]) -> str:
    """What stands at a key, as YAML writes it where Python would not."""
    for part in way:
        values = values[part]
    return "null" if values is None else str(values).lower() if isinstance(values, bool) else repr(values)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _parts(kind: Any) -> list[Any]:
    """A type and those inside its brackets."""
    return [kind, *(inner for part in get_args(kind) for inner in _parts(part))]


def _words(kind: Any, limits: Iterable[Any] = ()) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words(parts[0], [*parts[1:], *limits])
    if origin in (Union, UnionType):
        return ", or ".join(_words(part, limits if part is not NoneType else ()) for part in parts)
    if origin is Literal:
        return _listed([repr(part) for part in parts])
    if origin is list:
        return f"a list (each {_words(parts[0])})"
    if origin is tuple:
        return f"a list of {len(parts)} (each {_words(parts[0])})"
    if origin in (dict, Mapping) or _is_model(kind):
        return "a dictionary"
    return f"{_NAMES.get(kind, kind.__name__)}{_range(limits)}"


def _range(limits: Iterable[Any]) -> str:
    flat = [one for limit in limits for one in (limit.metadata if isinstance(limit, FieldInfo) else [limit])]
    found = {name: getattr(limit, name) for limit in flat for name in ("ge", "gt", "le", "lt") if hasattr(limit, name)}
    if "ge" in found and "le" in found:
        return f" from {found['ge']} to {found['le']}"
    words = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
    return "".join(f"{' and' if i else ''} {words[name]} {limit}" for i, (name, limit) in enumerate(found.items()))


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
