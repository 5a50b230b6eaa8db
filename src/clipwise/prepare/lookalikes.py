"""Which videos of two parts of a data set show the same pictures: copies in another encoding, container or size.

1. ``clipwise check`` decodes the first frame of every video anyway: 64 bits say where its brightness rises. Videos of the same length
   that agree in two of four bands of these bits, and lie in different parts, are candidates. (Sorting, no comparison of all with all.)
2. Of the candidates, five frames are decoded. What stays the same over the five is taken away, for many videos of one camera share their
   background; the rest, the motion, must correlate, and the pictures as a whole must agree.

Copies that were cut to another length, mirrored or cropped are not found, nor are videos in which nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from clipwise.data.resize import resize_frames
from clipwise.prepare.parallel import Progress, run_jobs
from clipwise.video.decode import open_video

SIDE, POSITIONS = 32, 5
RISE = 2.0  # levels of brightness between neighbors; less is noise of the encoder
LENGTH_TOLERANCE = 0.02
MOTION = 1.0  # levels (root mean square); with less nothing can be said
# Copies of 200 clips of one speaker's mouth, in three other codecs and another size, agree to 0.97 or more, different clips of the same
# word to 0.82; mirrored films of a symmetrical movement to 0.91.
AGREEMENT = 0.95
DIFFERENCE = 8.0  # levels, of the pictures as a whole


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (SIDE, SIDE) float32 brightness."""
    return resize_frames(frame, (SIDE, SIDE)).astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def picture_bits(small: np.ndarray) -> int:
    """Where a thumbnail's brightness rises to the right, as 64 bits: 8 rows of 8 pairs of cells."""
    cells = small.reshape(8, SIDE // 8, 16, SIDE // 16).mean((1, 3))
    rises = cells[:, 1::2] - cells[:, ::2] > RISE
    return int(np.packbits(rises).view(np.uint64)[0])


def candidates(bits: np.ndarray, lengths: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Videos that could be copies of one in another part.

    Args:
        bits: (n,) uint64 of :func:`picture_bits`.
        lengths: (n,) seconds.
        parts: (n,) numbers of the parts.

    Returns:
        (n,) bool.
    """
    found = np.zeros(len(bits), bool)
    for pair in combinations(range(4), 2):
        value = bits & np.uint64(sum(0xFFFF << 16 * band for band in pair))
        # Bands without any rise say nothing (dark edges), unless the whole picture is flat.
        rows = np.flatnonzero((value != 0) | (bits == 0))
        rows = rows[np.lexsort((lengths[rows], value[rows]))]
        if not len(rows):
            continue
        gap = np.diff(lengths[rows]) > LENGTH_TOLERANCE * lengths[rows][1:]
        starts = np.flatnonzero(np.concatenate([[True], gap | (np.diff(value[rows]) != 0)]))
        mixed = np.minimum.reduceat(parts[rows], starts) != np.maximum.reduceat(parts[rows], starts)
        found[rows] |= np.repeat(mixed, np.diff(np.append(starts, len(rows))))
    return found


@dataclass(frozen=True)
class _Look:
    timeout_s: float | None

    def __call__(self, path: str) -> np.ndarray | None:
        """Five thumbnails, evenly spaced: (POSITIONS, SIDE, SIDE) float32."""
        with open_video(path, timeout_s=self.timeout_s) as reader:
            if reader.num_frames < POSITIONS:
                return None
            indices = ((np.arange(POSITIONS) + 0.5) / POSITIONS * reader.num_frames).astype(int)
            return reader.frames(indices, transform=thumbnail)


def find_lookalikes(paths: Sequence[str], bits: Sequence[int], lengths: Sequence[float], parts: Sequence[int], *,
                    workers: int | None = None, timeout_s: float | None = None,
                    progress: Progress | None = None) -> list[tuple[int, int]]:  # fmt: skip
    """Pairs of videos of different parts that look the same.

    Args:
        paths: n videos; ``bits`` of their first frames, ``lengths`` in seconds, ``parts`` numbers of their parts.
        workers: processes, None: one a core.

    Returns:
        Pairs of positions in ``paths``, the smaller first.
    """
    seconds, part = np.asarray(lengths, np.float64), np.asarray(parts)
    rows = np.flatnonzero(candidates(np.asarray(bits, np.uint64), seconds, part)).tolist()
    looks = run_jobs(_Look(timeout_s), [paths[row] for row in rows], workers=workers, progress=progress)
    seen = {row: look for row, look in zip(rows, looks) if isinstance(look, np.ndarray)}
    if not seen:
        return []
    pictures = np.stack(list(seen.values())).reshape(len(seen), POSITIONS, -1)
    return matches(pictures, np.array(list(seen)), seconds, part)


def matches(pictures: np.ndarray, rows: np.ndarray, lengths: np.ndarray, parts: np.ndarray) -> list[tuple[int, int]]:
    """Compares pictures (m, POSITIONS, SIDE²) of the videos ``rows``; only those of about the same length with each other."""
    motion = (pictures - pictures.mean(1, keepdims=True)).reshape(len(rows), -1)
    size = np.linalg.norm(motion, axis=1)
    order = np.argsort(lengths[rows], kind="stable")
    order = order[size[order] > MOTION * np.sqrt(motion.shape[1])]
    motion, pictures, rows = motion[order] / size[order, None], pictures[order], rows[order]
    length = lengths[rows]
    ends = np.searchsorted(length, length * (1 + LENGTH_TOLERANCE), side="right")
    pairs = []
    for first in range(0, len(rows), 512):
        last = min(first + 512, len(rows))
        alike = motion[first:last] @ motion[first : ends[last - 1]].T > AGREEMENT
        a, b = np.nonzero(alike)
        a, b = a + first, b + first
        keep = (a < b) & (b < ends[a]) & (parts[rows[a]] != parts[rows[b]])
        for i, j in zip(a[keep].tolist(), b[keep].tolist()):
            if np.abs(pictures[i] - pictures[j]).mean() < DIFFERENCE:
                pairs.append((min(rows[i], rows[j]), max(rows[i], rows[j])))
    return sorted((int(i), int(j)) for i, j in pairs)
