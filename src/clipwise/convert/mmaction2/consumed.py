"""Settings of a foreign config, each of which must be understood once; what is left can be named."""

from __future__ import annotations

from typing import Any

_ABSENT = object()


class Keys:
    """A nested dictionary from which keys are taken.

    Attributes:
        aside: ``path = value`` of keys that do not change what is computed and have another value than usual.
    """

    def __init__(self, values: dict[str, Any], aside: list[str] | None = None):
        self.aside: list[str] = [] if aside is None else aside
        self.values = {k: Keys(v, self.aside) if isinstance(v, dict) else v for k, v in values.items()}

    def take(self, path: str, default: Any = None) -> Any:
        """The value at ``a.b.c``, removed, with lists for tuples; ``default`` where there is none."""
        first, _, rest = path.partition(".")
        if rest:
            inner = self.values.get(first)
            return inner.take(rest, default) if isinstance(inner, Keys) else default
        return plain(self.values.pop(first, default))

    def pull(self, path: str) -> Keys:
        """The dictionary at ``path``, removed; an empty one where there is none (or None)."""
        found = self.take(path)
        if found is not None and not isinstance(found, dict):
            self.put(path, found)
        return Keys(found if isinstance(found, dict) else {}, self.aside)

    def expect(self, path: str, *allowed: Any) -> None:
        """Take the key if its value is one of those allowed; otherwise it is left, to be refused."""
        given = self.take(path, _ABSENT)
        if given is not _ABSENT and not any(_same(given, value) for value in allowed):
            self.put(path, given)

    def set_aside(self, path: str, *usual: Any) -> None:
        """Take a key that does not change what is computed; note it if its value is not one of the usual ones."""
        given = self.take(path, _ABSENT)
        if given is not _ABSENT and not any(_same(given, value) for value in usual):
            self.aside.append(f"{path} = {given!r}")

    def put(self, path: str, value: Any) -> None:
        first, _, rest = path.partition(".")
        if rest:
            if not isinstance(self.values.get(first), Keys):
                self.values[first] = Keys({}, self.aside)
            self.values[first].put(rest, value)
        else:
            self.values[first] = Keys(value, self.aside) if isinstance(value, dict) else value

    def left(self, prefix: str = "") -> list[str]:
        """What was not taken, ``a.b = value`` each."""
        found = []
        for key, value in self.values.items():
            if isinstance(value, Keys):
                found += value.left(f"{prefix}{key}.")
            else:
                found.append(f"{prefix}{key} = {shown(value)}")
        return found


def shown(value: Any) -> str:
    """A value as text of at most a line."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} …"


def _same(given: Any, value: Any) -> bool:
    # True == 1: a switch is not a count
    return isinstance(given, bool) == isinstance(value, bool) and given == value


def plain(value: Any) -> Any:
    if isinstance(value, Keys):
        return {k: plain(v) for k, v in value.values.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value
