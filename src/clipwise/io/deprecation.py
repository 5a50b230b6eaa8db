"""What leaves the public API warns for two minor versions before it goes.

@deprecated("0.3", "clipwise.list_models")
def models(): ...
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])

WARNED_MINORS = 2
DEPRECATED: dict[str, str] = {}
"""Name -> the version that no longer has it; ``tests/unit/test_public.py`` fails when that version has come."""


def removal_version(since: str) -> str:
    """The version without what warns since ``since``: 0.3 and 0.4 warn, 0.5 has it no more."""
    major, minor = (int(part) for part in since.split(".")[:2])
    return f"{major}.{minor + WARNED_MINORS}"


def warn_deprecated(name: str, since: str, instead: str, stacklevel: int = 2) -> None:
    """Warn that ``name`` goes.

    Args:
        name: of a function, argument or key.
        since: version that warned first.
        instead: what to use.
    """
    warnings.warn(
        f"{name} is deprecated since clipwise {since} and will be removed in {removal_version(since)}; use {instead}.",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )


def deprecated(since: str, instead: str) -> Callable[[F], F]:
    """Decorator: a function or method that warns whenever it is called."""

    def mark(function: F) -> F:
        name = f"{function.__module__}.{function.__qualname__}"
        DEPRECATED[name] = removal_version(since)

        @functools.wraps(function)
        def warned(*args: object, **kwargs: object) -> object:
            warn_deprecated(name, since, instead)
            return function(*args, **kwargs)

        return warned  # type: ignore[return-value]

    return mark
