"""Nearest names: what somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like a mistyped one, or None when none is near.

    Args:
        cutoff: similarity (0 to 1) below which a name is no candidate.
    """
    plain = {word.lower(): word for word in known}
    close = difflib.get_close_matches(name.lower(), list(plain), n=1, cutoff=cutoff)
    return plain[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean 'x'?`` for a mistyped name, or an empty string when nothing is near."""
    close = nearest(name, known, cutoff)
    return f"; did you mean {close!r}?" if close else ""


def nearest_of(word: str, known: list[str]) -> str:
    """``Did you mean 'x'? Known: …``."""
    match = nearest(str(word), known)
    hint = f"Did you mean {match!r}? " if match else ""
    return f"{hint}Known: {', '.join(known)}"
