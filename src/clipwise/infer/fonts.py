"""Fonts for drawing on frames and charts: the named one, the system's, or the one inside Pillow (Latin letters)."""

from __future__ import annotations

import os
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from clipwise.errors import ClipwiseError, ClipwiseWarning

_UNUSUAL = ("bold", "italic", "oblique", "mono", "light", "thin", "black", "condensed", "serif", "emoji", "symbol")
_FIRST = ("dejavusans", "notosans-regular", "arial", "helvetica", "segoeui")
_named: list[Path] = []
_warned: set[str] = set()


@dataclass(frozen=True)
class Font:
    """A font file; ``path`` is None for the font inside Pillow."""

    path: Path | None

    def at(self, size: float) -> Any:
        """As a ``PIL.ImageFont.FreeTypeFont``."""
        return _open(self.path, size)

    @property
    def family(self) -> str:
        return str(self.at(16).getname()[0])

    def missing(self, text: str) -> str:
        """The characters of a text that the font does not have."""
        font = self.at(16)
        absent = _ink(font, "\U0010fffd")
        return "".join(c for c in sorted(set(text)) if not c.isspace() and _ink(font, c) in (absent, b""))

    def drawable(self, text: str) -> str:
        """The text with what is missing replaced: letters by those without their accents, others by ``?``."""
        table: dict[str, str | int | None] = {}
        for c in self.missing(text):
            plain = "".join(p for p in unicodedata.normalize("NFKD", c) if not unicodedata.combining(p))
            table[c] = plain if plain and not self.missing(plain) else "?"
        return text.translate(str.maketrans(table))


def use_font(path: str | Path) -> None:
    """Look for characters in this font first (``--font``).

    Raises:
        ClipwiseError: not a font file.
    """
    try:
        _open(Path(path), 16)
    except OSError as error:
        raise ClipwiseError(
            f"--font {path}: not a font file that can be opened ({error}). Give a .ttf, .otf or .ttc."
        ) from None
    _named[:] = [Path(path)]
    find_font.cache_clear()


@lru_cache(maxsize=256)
def find_font(text: str = "") -> Font:
    """A font that has all characters of a text.

    Where no font has all of them the one that lacks the fewest is taken, and a warning names the missing characters.
    """
    best, absent = Font(None), text
    for path in [*_named, *_system_fonts(), None]:
        try:
            missing = Font(path).missing(text)
        except OSError:  # not a font after all
            continue
        if not missing:
            return Font(path)
        if len(missing) < len(absent):
            best, absent = Font(path), missing
    absent = "".join(c for c in absent if best.drawable(c) == "?")
    if absent and absent not in _warned:
        _warned.add(absent)
        warnings.warn(
            f"no font on this machine has {absent}; drawn as '?'. Install a font with these characters (Debian: "
            "fonts-noto-cjk for Chinese, Japanese, Korean) or name one with --font FILE.",
            ClipwiseWarning,
            stacklevel=2,
        )
    return best


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[Path, ...]:
    """Font files of this machine, plain sans-serif ones first."""

    def order(path: Path) -> tuple[bool, bool, bool, str]:
        name = path.stem.lower()
        return name not in _FIRST, any(w in name for w in _UNUSUAL), "sans" not in name, name

    files = (f for folder in _font_folders() for f in folder.rglob("*") if f.suffix.lower() in (".ttf", ".otf", ".ttc"))
    return tuple(sorted(files, key=order))


def _font_folders() -> Iterator[Path]:
    home = Path.home()
    if sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"
        yield Path(os.environ.get("LOCALAPPDATA", home)) / "Microsoft/Windows/Fonts"
    elif sys.platform == "darwin":
        yield from (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
    else:
        yield from (
            Path("/usr/share/fonts"),
            Path("/usr/local/share/fonts"),
            home / ".local/share/fonts",
            home / ".fonts",
        )


@lru_cache(maxsize=256)
def _open(path: Path | None, size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size) if path is None else ImageFont.truetype(str(path), size)


def _ink(font: Any, character: str) -> bytes:
    mask = font.getmask(character)
    return bytes(mask) + repr(mask.size).encode() if any(mask) else b""
