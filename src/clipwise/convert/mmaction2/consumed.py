"""Settings from which what is understood is taken, so that what is left can be named."""

from __future__ import annotations

from typing import Any

FOLLOWS = "whatever it says, it follows here from other keys, or is about how MMAction2 runs"


class Keys:
    """A nested dictionary from which keys are taken; what is left at the end was not understood."""

    def __init__(self, values: dict[str, Any]):
        self.values = {k: Keys(v) if isinstance(v, dict) else v for k, v in values.items()}

    def take(self, path: str, default: Any = None) -> Any:
        """The value at ``a.b.c``, once, with lists for tuples; ``default`` where there is none."""
        first, _, rest = path.partition(".")
        if rest:
            inner = self.values.get(first)
            return inner.take(rest, default) if isinstance(inner, Keys) else default
        return plain(self.values.pop(first, default))

    def expect(self, fixed: dict[str, Any]) -> None:
        """Take the keys whose values are what they must be."""
        for path, value in fixed.items():
            given = self.take(path, FOLLOWS)
            if FOLLOWS not in (given, value) and given != value:
                self.put(path, given)

    def put(self, path: str, value: Any) -> None:
        first, _, rest = path.partition(".")
        if rest:
            self.values.setdefault(first, Keys({})).put(rest, value)
        else:
            self.values[first] = value

    def left(self, prefix: str = "") -> list[str]:
        """What was not taken, ``a.b = value`` each. ``None`` asks for nothing."""
        found = []
        for key, value in self.values.items():
            if isinstance(value, Keys):
                found += value.left(f"{prefix}{key}.")
            elif value is not None:
                found.append(f"{prefix}{key} = {value!r}")
        return found


def plain(value: Any) -> Any:
    if isinstance(value, Keys):
        return {k: plain(v) for k, v in value.values.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value
