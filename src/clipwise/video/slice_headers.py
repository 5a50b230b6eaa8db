"""Headers of H.264 slices: whether frames follow each other as the standard says (ITU-T H.264, 7.3.2, 7.3.3, 7.4.3).

Frames that no other needs are left out on the way to another one, and groups that nobody asks for are not read. A plain decode is led
astray by a damaged header there: it refuses the frame, gives frames in another order, or takes a number for a gap and has other references.
"""

from __future__ import annotations

from bisect import bisect
from typing import NamedTuple

HEADER_BYTES = 64  # of a slice: longer headers are looked at as far as that


class Bits:
    """Reads a unit bit by bit; its text holds them as 0 and 1, in which Python finds the next 1 fastest."""

    def __init__(self, data: bytes):
        self.text = bin(int.from_bytes(b"\1" + data.replace(b"\0\0\3", b"\0\0"), "big"))[3:]
        self.at = 0

    def take(self, count: int) -> int:
        """The next ``count`` bits as a number; EOFError: there are fewer."""
        at, self.at = self.at, self.at + count
        if self.at > len(self.text):
            raise EOFError
        return int(self.text[at : self.at], 2) if count else 0

    def golomb(self, most: int = 1 << 32) -> int:
        """The next Exp-Golomb number; ValueError: it is more than ``most``."""
        one = self.text.find("1", self.at)
        if one < 0:
            raise EOFError
        value = self.take(2 * (one - self.at) + 1) - 1
        if value > most:
            raise ValueError(value)
        return value

    def signed(self) -> int:
        """The next signed Exp-Golomb number."""
        code = self.golomb()
        return code + 1 >> 1 if code & 1 else -(code >> 1)


class Sets(NamedTuple):
    """What a picture set and its sequence set tell of a slice's header."""

    number_bits: int  # of a frame's number
    place_bits: int  # of its place in the order of display; 0: not stored
    fields: bool  # a frame may be coded as two fields
    both_fields: bool
    arithmetic: bool
    references: tuple[int, int]
    weighted: tuple[bool, bool]  # P, B
    quality: int
    deblocking: bool


def _sequence(bits: Bits, high: bool) -> tuple[int, int, bool]:
    """The first three of ``Sets``."""
    if high:
        chroma, _, _, scales = bits.golomb(), bits.golomb(), bits.golomb(), bits.take(2) & 1
        if chroma not in (1, 2) or scales:
            raise ValueError
    number_bits, kind = bits.golomb() + 4, bits.golomb()
    place_bits = bits.golomb() + 4 if kind == 0 else 0
    references, gaps, _, _ = bits.golomb(), bits.take(1), bits.golomb(), bits.golomb()
    if kind == 1 or gaps or references > 16:
        raise ValueError
    return number_bits, place_bits, not bits.take(1)


def _pictures(bits: Bits, sequences: dict[int, tuple[int, int, bool]]) -> Sets:
    number_bits, place_bits, fields = sequences[bits.golomb()]
    arithmetic, both_fields, groups = bits.take(1) > 0, bits.take(1) > 0, bits.golomb()
    references = bits.golomb(31) + 1, bits.golomb(31) + 1
    weighted = bits.take(1) > 0, bits.take(2) == 1
    quality, _, _ = 26 + bits.signed(), bits.signed(), bits.signed()
    deblocking, _, redundant = bits.take(1) > 0, bits.take(1), bits.take(1)
    if groups or redundant:
        raise ValueError
    return Sets(number_bits, place_bits, fields, both_fields, arithmetic, references, weighted, quality, deblocking)


class SliceHeaders:
    """Looks at the first slice of each frame in turn; at nothing where the stream uses what encoders of today do not."""

    def __init__(self, extra: bytes):
        self.known: dict[int, Sets] = {}
        self.last: int | None = None  # number of the last frame that others need
        self.order = 0  # its place in the order of display
        self.shown: list[tuple[int, int]] = []  # sorted places and time stamps since a frame that forgets all before
        try:
            self._read_sets(extra)
        except (EOFError, IndexError, KeyError, ValueError):
            self.known.clear()

    def _read_sets(self, extra: bytes) -> None:
        """Takes what an ``avcC`` record holds; ValueError: not for us."""
        sequences: dict[int, tuple[int, int, bool]] = {}
        at = 5
        for mask in (31, 255):
            count, at = extra[at] & mask, at + 1
            for _ in range(count):
                end = at + 2 + int.from_bytes(extra[at : at + 2], "big")
                bits, at = Bits(extra[at + 3 : end]), end
                if mask == 31:
                    profile, name = bits.take(24) >> 16, bits.golomb()
                    sequences[name] = _sequence(bits, high=profile not in (66, 77, 88))
                else:
                    name = bits.golomb()
                    self.known[name] = _pictures(bits, sequences)

    def look(self, data: bytes, stamp: int) -> str | None:
        """What is strange about a frame, by the first bytes of its first slice; ``stamp``: its presentation time stamp."""
        if not self.known:
            return None
        try:
            return self._look(Bits(data[1:]), data[0] & 0x60 > 0, data[0] & 31 == 5, stamp)
        except (ValueError, KeyError):
            return "begins as no frame of this stream does"
        except EOFError:
            return "holds less than the header of a frame" if len(data) < HEADER_BYTES else None

    def _look(self, bits: Bits, needed: bool, first: bool, stamp: int) -> str | None:
        bits.golomb(0)
        kind, sets = bits.golomb(9) % 5, self.known[bits.golomb()]
        number = bits.take(sets.number_bits)
        field = sets.fields and bits.take(1) and bits.take(1) + 1
        if first:
            bits.golomb(65535)
        place = bits.take(sets.place_bits)
        last, self.last = self.last, number if needed else self.last
        if first:
            self.order = 0
            self.shown.clear()
        if number if first else last is not None and (number - last) % (1 << sets.number_bits) > 1:
            return f"is frame {number} by its header, after {last}"
        if sets.place_bits:
            half = 1 << sets.place_bits - 1
            order = self.order + (place - self.order + half) % (2 * half) - half  # the nearest with these last bits
            if needed:
                self.order = order
            at = bisect(self.shown, (order, stamp))
            if (at and self.shown[at - 1][1] >= stamp) or (at < len(self.shown) and self.shown[at][1] <= stamp):
                return "has another place in the order of display than its time stamp says"
            self.shown.insert(at, (order, stamp))
            if sets.both_fields and not field:
                bits.signed()
        if kind < 3:
            _check_rest(bits, sets, kind, needed, first)
        return None


def _check_rest(bits: Bits, sets: Sets, kind: int, needed: bool, first: bool) -> None:
    """Reads what follows the place in the order of display (``kind``: 0 P, 1 B, 2 I); ValueError: it cannot be so."""
    if kind == 1:
        bits.take(1)
    if kind < 2:
        references = sets.references
        if bits.take(1):
            references = (bits.golomb(31) + 1, bits.golomb(31) + 1 if kind else 1)
        for most in references[: kind + 1]:
            if bits.take(1):
                for _ in range(most + 1):
                    if bits.golomb(3) == 3:
                        break
                    bits.golomb()
                else:
                    raise ValueError
        if sets.weighted[kind]:
            bits.golomb(7), bits.golomb(7)
            for _ in range(sum(references[: kind + 1])):
                for values in (2, 4):
                    if bits.take(1):
                        [bits.signed() for _ in range(values)]
    if first:
        bits.take(2)
    elif needed and bits.take(1):
        while command := bits.golomb(6):
            for _ in range((0, 1, 1, 2, 1, 0, 1)[command]):
                bits.golomb()
    if sets.arithmetic and kind < 2:
        bits.golomb(2)
    if not -48 <= sets.quality + bits.signed() <= 51:
        raise ValueError
    if sets.deblocking and bits.golomb(2) != 1 and max(abs(bits.signed()), abs(bits.signed())) > 6:
        raise ValueError
