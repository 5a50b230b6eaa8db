"""Headers of H.264 slices: whether frames follow each other as the standard says (ITU-T H.264, 7.3.2, 7.3.3, 7.4.3).

A frame that no other frame needs is left out on the way to another one, and groups of frames that nobody asks for are not read at all.
Where a header there is damaged, a plain decode is led astray all the same: it refuses the frame, so that all later ones have other
numbers, or takes the frame's number for a gap and has other references from then on.
"""

from __future__ import annotations

from bisect import bisect

HEADER_BYTES = 64  # of a slice: longer headers are looked at as far as that
# Profiles whose sequence sets tell of the chroma format.
_HIGH = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


class Bits:
    """Reads a unit bit by bit, without the bytes that keep start codes out of it."""

    def __init__(self, data: bytes):
        # As text: Python finds the next 1 in it faster than by arithmetic.
        self.text = bin(int.from_bytes(b"\1" + data.replace(b"\0\0\3", b"\0\0"), "big"))[3:]
        self.at = 0

    def take(self, count: int) -> int:
        """The next ``count`` bits as a number.

        Raises:
            EOFError: there are fewer.
        """
        at = self.at
        self.at = at + count
        if self.at > len(self.text):
            raise EOFError
        return int(self.text[at : self.at], 2) if count else 0

    def golomb(self, most: int = 1 << 32) -> int:
        """The next Exp-Golomb number.

        Raises:
            ValueError: it is larger than ``most``.
        """
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


class Sequence:
    """What a sequence set tells of the headers of slices.

    Attributes:
        name: number of the set.
        planes: color planes are coded apart.
        chroma: there are color planes.
        number_bits: of a frame's number.
        place_bits: of a frame's place in the order of display; 0: not stored.
        deltas: differences of places that a slice may store instead.
        fields: a frame may be coded as two fields.
        depth: bits of a brightness beyond 8.
    """

    def __init__(self, bits: Bits):
        profile, _ = bits.take(8), bits.take(16)
        self.name, self.planes, chroma, self.depth = bits.golomb(), False, 1, 0
        if profile in _HIGH:
            chroma = bits.golomb()
            self.planes = chroma == 3 and bool(bits.take(1))
            self.depth = bits.golomb()
            bits.golomb()
            bits.take(1)
            if bits.take(1):
                for at in range(8 if chroma != 3 else 12):
                    _skip_scaling_list(bits, 16 if at < 6 else 64)
        self.chroma = chroma > 0 and not self.planes
        self.number_bits = bits.golomb() + 4
        kind, self.place_bits, self.deltas = bits.golomb(), 0, False
        if kind == 0:
            self.place_bits = bits.golomb() + 4
        elif kind == 1:
            self.deltas = not bits.take(1)
            bits.golomb()
            bits.golomb()
            for _ in range(bits.golomb(255)):
                bits.golomb()
        bits.golomb()
        bits.take(1)
        bits.golomb()
        bits.golomb()
        self.fields = not bits.take(1)


def _skip_scaling_list(bits: Bits, size: int) -> None:
    if not bits.take(1):
        return
    last = 8
    for _ in range(size):
        last = (last + bits.signed()) & 255
        if not last:
            return


class PictureSet:
    """What a picture set tells of the headers of slices; names as in the standard."""

    def __init__(self, bits: Bits, sequences: dict[int, Sequence]):
        self.name, self.sequence = bits.golomb(), sequences[bits.golomb()]
        self.arithmetic, self.both_fields = bits.take(1), bits.take(1)
        self.groups = bits.golomb()
        if self.groups:
            return
        self.references = (bits.golomb(31) + 1, bits.golomb(31) + 1)
        self.weights_p, self.weights_b = bits.take(1), bits.take(2) == 1
        self.quality = 26 + bits.signed()
        bits.signed()
        bits.signed()
        self.deblocking, _, self.redundant = bits.take(1), bits.take(1), bits.take(1)


class SliceHeaders:
    """Looks at the first slice of each frame in turn.

    Attributes:
        known: picture sets by number.
    """

    def __init__(self, extra: bytes):
        self.known: dict[int, PictureSet] = {}
        self.last: int | None = None  # number of the last frame that others need
        self.order = 0  # place in the order of display of the last such frame
        self.shown: list[
            tuple[int, int]
        ] = []  # place and time stamp of the frames since the last one that forgets all before, sorted
        try:
            self._read_sets(extra)
        except (EOFError, IndexError, KeyError, ValueError):
            self.known.clear()

    def _read_sets(self, extra: bytes) -> None:
        """Takes what an ``avcC`` record holds."""
        sequences: dict[int, Sequence] = {}
        at = 5
        for mask in (31, 255):
            count, at = extra[at] & mask, at + 1
            for _ in range(count):
                end = at + 2 + int.from_bytes(extra[at : at + 2], "big")
                bits = Bits(extra[at + 3 : end])
                if mask == 31:
                    sequence = Sequence(bits)
                    sequences[sequence.name] = sequence
                else:
                    pictures = PictureSet(bits, sequences)
                    self.known[pictures.name] = pictures
                at = end

    def look(self, data: bytes, stamp: int) -> str | None:
        """What is strange about a frame.

        Args:
            data: the first bytes of its first slice, from the unit's header on.
            stamp: its presentation time stamp.
        """
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
        kind = bits.golomb(9) % 5
        pictures = self.known[bits.golomb()]
        sequence = pictures.sequence
        bits.take(2 * sequence.planes)
        number = bits.take(sequence.number_bits)
        field = sequence.fields and bits.take(1)
        if field:
            bits.take(1)
        if first:
            bits.golomb(65535)
        place = bits.take(sequence.place_bits)
        last, self.last = self.last, number if needed else self.last
        if first:
            self.order = 0
            self.shown.clear()
        if number if first else last is not None and (number - last) % (1 << sequence.number_bits) > 1:
            return f"is frame {number} by its header, after {last}"
        if sequence.place_bits:
            half = 1 << sequence.place_bits - 1
            order = self.order + (place - self.order + half) % (2 * half) - half  # the nearest with these last bits
            if needed:
                self.order = order
            at = bisect(self.shown, (order, stamp))
            if (at and self.shown[at - 1][1] >= stamp) or (at < len(self.shown) and self.shown[at][1] <= stamp):
                return "has another place in the order of display than its time stamp says"
            self.shown.insert(at, (order, stamp))
        if not pictures.groups and kind < 3:
            _check_rest(bits, pictures, kind, needed, first, bool(field))
        return None


def _check_rest(bits: Bits, pictures: PictureSet, kind: int, needed: bool, first: bool, field: bool) -> None:
    """Reads what follows the place in the order of display (``kind``: 0 P, 1 B, 2 I).

    Raises:
        ValueError: it cannot be so.
    """
    sequence = pictures.sequence
    differences = sequence.deltas + (
        pictures.both_fields and not field and (sequence.deltas or sequence.place_bits > 0)
    )
    for _ in range(differences):
        bits.signed()
    if pictures.redundant:
        bits.golomb(127)
    if kind == 1:
        bits.take(1)
    if kind < 2:
        references = pictures.references
        if bits.take(1):
            references = (bits.golomb(31) + 1, bits.golomb(31) + 1 if kind else 1)
        for at in range(kind + 1):
            if bits.take(1):
                for _ in range(references[at] + 1):
                    if bits.golomb(3) == 3:
                        break
                    bits.golomb()
                else:
                    raise ValueError
        if pictures.weights_b if kind else pictures.weights_p:
            _skip_weights(bits, sequence.chroma, references[: kind + 1])
    if first:
        bits.take(2)
    elif needed and bits.take(1):
        while command := bits.golomb(6):
            for _ in range((0, 1, 1, 2, 1, 0, 1)[command]):
                bits.golomb()
    if pictures.arithmetic and kind < 2:
        bits.golomb(2)
    if not -6 * sequence.depth <= pictures.quality + bits.signed() <= 51:
        raise ValueError
    if pictures.deblocking and bits.golomb(2) != 1:
        for _ in range(2):
            if not -6 <= bits.signed() <= 6:
                raise ValueError


def _skip_weights(bits: Bits, chroma: bool, references: tuple[int, ...]) -> None:
    bits.golomb(7)
    if chroma:
        bits.golomb(7)
    for count in references:
        for _ in range(count):
            for values in (2, 4)[: 1 + chroma]:
                if bits.take(1):
                    for _ in range(values):
                        bits.signed()
