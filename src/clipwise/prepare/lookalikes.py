"""Which videos of two parts of a data set show the same frames: copies in another encoding, container or size.

1. ``clipwise check`` decodes the first frame of every video anyway; 8 x 8 cells of it are kept. Videos of about the same length in
   different parts whose cells correlate are candidates.
2. Of the candidates, eight frames are decoded. Their agreement is the correlation of their motion (what changes over the eight frames,
   since many videos of one camera share their background) less three times the distance of the frames themselves.

``python benchmarks/lookalikes.py`` measures how many copies are found and how many pairs are found by mistake. Copies that were cut to
another length, mirrored or cropped are not found, nor are videos in which nothing moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipwise.data.transforms import resize_frames
from clipwise.io.progress import Progress
from clipwise.prepare.parallel import run_jobs
from clipwise.video.decode import open_video

SIDE, CELLS, POSITIONS = 32, 8, 8
LENGTH_TOLERANCE = 0.02
CANDIDATE = 0.985  # correlation of first frames; copies of half the size at CRF 32 have 0.996 or more
FLAT = 2.0  # levels: contrast of a first frame that says nothing
MOTION = 1.0  # levels (root mean square); with less nothing can be said
AGREEMENT = 0.08
MEASURED: dict[str, Any] = {
    "data": "GRID digits: 400 copies, x264 (CRF 23 to 32), VP9, H.265 and MPEG-4, 0.5 to 1 times the size; 62,974 pairs of different clips",
    "copies_found": 0.992,
    "pairs_mistaken": 5.4e-4,
}
"""What ``benchmarks/lookalikes.py --seed 1`` measures; ``check`` prints it. Of copies of half the size at CRF 32 92.5 % are found."""
_BLOCK = 1024  # videos compared at once


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (SIDE, SIDE) float32 brightness."""
    return resize_frames(frame, (SIDE, SIDE)).astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def first_frame_cells(small: np.ndarray) -> bytes:
    """A thumbnail's 8 x 8 mean brightnesses, 64 bytes."""
    part = SIDE // CELLS
    return small.reshape(CELLS, part, CELLS, part).mean((1, 3)).round().astype(np.uint8).tobytes()


def candidates(cells: Sequence[bytes], lengths: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Videos that could be copies of one in another part.

    Args:
        cells: n times :func:`first_frame_cells`.
        lengths: (n,) seconds.
        parts: (n,) numbers of the parts.

    Returns:
        (n,) bool.
    """
    values = np.frombuffer(b"".join(cells), np.uint8).reshape(len(cells), CELLS * CELLS).astype(np.float32)
    flat = values.std(1, keepdims=True) < FLAT  # a black first frame, say: alike among themselves
    vectors = np.concatenate([np.where(flat, 0, _normalized(values)), flat], axis=1, dtype=np.float32)
    found = np.zeros(len(cells), bool)
    for a, b in _pairs(vectors, lengths, parts, CANDIDATE):
        found[a] = found[b] = True
    return found


def _normalized(values: np.ndarray) -> np.ndarray:
    """Rows without their mean, of length 1 (0 where a row is constant)."""
    values = values - values.mean(1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)


def _pairs(
    vectors: np.ndarray, lengths: np.ndarray, parts: np.ndarray, least: float, whole: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (two index arrays) of different parts and about the same length that agree by at least ``least``.

    Agreement is the product of ``vectors`` less three times the distance of the unit vectors ``whole``. Videos are sorted by length, so that
    only those of about the same length are compared, and those of the largest part not with each other.
    """
    order = np.argsort(lengths, kind="stable")
    length, part, vectors = lengths[order], parts[order], vectors[order]
    whole = whole[order] if whole is not None else None
    names, counts = np.unique(part, return_counts=True)
    largest = names[counts.argmax()]
    rows = np.flatnonzero(part != largest)
    for block in range(0, len(rows), _BLOCK):
        row = rows[block : block + _BLOCK]
        low, high = length[row] / (1 + LENGTH_TOLERANCE), length[row] * (1 + LENGTH_TOLERANCE)
        begin, end = np.searchsorted(length, low[0]), np.searchsorted(length, high[-1], side="right")
        for first in range(int(begin), int(end), 8 * _BLOCK):
            last = min(first + 8 * _BLOCK, int(end))
            agreement = vectors[row] @ vectors[first:last].T
            if whole is not None:
                agreement -= 3 * np.sqrt(np.maximum(2 - 2 * whole[row] @ whole[first:last].T, 0))
            at, b = np.divmod(np.flatnonzero(agreement >= least), last - first)
            a, b = row[at], b + first
            keep = (
                (part[a] != part[b])
                & ((part[b] == largest) | (a < b))
                & (length[b] >= low[at])
                & (length[b] <= high[at])
            )
            yield order[a[keep]], order[b[keep]]


@dataclass(frozen=True)
class _Look:
    timeout_s: float | None

    def __call__(self, path: str) -> np.ndarray | None:
        """Eight thumbnails, evenly spaced: (POSITIONS, SIDE, SIDE) float32."""
        with open_video(path, timeout_s=self.timeout_s) as reader:
            if reader.num_frames < POSITIONS:
                return None
            indices = ((np.arange(POSITIONS) + 0.5) / POSITIONS * reader.num_frames).astype(int)
            return reader.frames(indices, transform=thumbnail)


def find_lookalikes(paths: Sequence[str], cells: Sequence[bytes], lengths: Sequence[float], parts: Sequence[int], *,
                    workers: int | None = None, timeout_s: float | None = None,
                    progress: Progress | None = None) -> list[tuple[int, int]]:  # fmt: skip
    """Pairs of videos of different parts that look the same.

    Args:
        paths: n videos; ``cells`` of their first frames, ``lengths`` in seconds, ``parts`` numbers of their parts.
        workers: processes, None: one a core.

    Returns:
        Pairs of positions in ``paths``, the smaller first.
    """
    if not len(paths):
        return []
    seconds, part = np.asarray(lengths, np.float64), np.asarray(parts)
    rows = np.flatnonzero(candidates(cells, seconds, part)).tolist()
    looks = run_jobs(_Look(timeout_s), [paths[row] for row in rows], workers=workers, progress=progress)
    seen = {row: look for row, look in zip(rows, looks) if isinstance(look, np.ndarray)}
    return matches(np.stack(list(seen.values())), np.array(list(seen)), seconds, part) if seen else []


def matches(frames: np.ndarray, rows: np.ndarray, lengths: np.ndarray, parts: np.ndarray) -> list[tuple[int, int]]:
    """Compares thumbnails (m, POSITIONS, SIDE, SIDE) of the videos ``rows``; only those of about the same length with each other."""
    frames = frames.reshape(len(frames), POSITIONS, -1)
    motion = (frames - frames.mean(1, keepdims=True)).reshape(len(frames), -1)
    moving = np.linalg.norm(motion, axis=1) > MOTION * np.sqrt(motion.shape[1])
    motion, frames, rows = motion[moving], frames[moving], rows[moving]
    if not len(rows):
        return []
    motion /= np.linalg.norm(motion, axis=1, keepdims=True)
    whole = _normalized(frames.reshape(len(frames), -1))
    pairs = []
    for a, b in _pairs(motion, lengths[rows], parts[rows], AGREEMENT, whole):
        pairs += [(min(i, j), max(i, j)) for i, j in zip(rows[a].tolist(), rows[b].tolist())]
    return sorted(pairs)
