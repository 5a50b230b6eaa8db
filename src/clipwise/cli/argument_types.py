"""Words of a command line as values, for argparse."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence


def count(text: str) -> int:
    """For argparse: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def count_or_zero(text: str) -> int:
    """For argparse: a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def finite(text: str) -> float:
    """For argparse: a number, not nan or inf."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def positive(text: str) -> float:
    """For argparse: a number above 0."""
    if (value := finite(text)) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def not_negative(text: str) -> float:
    """For argparse: a number of at least 0."""
    if (value := finite(text)) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate ``key=value`` words from the others."""
    overrides = [w for w in words if "=" in w and not w.startswith("-")]
    return [w for w in words if w not in overrides], overrides
