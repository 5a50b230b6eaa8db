"""Some entries of a ``VideoList``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from clipwise.data.videolist import Ragged, VideoList


def entries_at(videos: VideoList, indices: Iterable[int]) -> VideoList:
    """The entries at ``indices``, in that order; numbers, or a mask (N,)."""
    chosen = np.asarray(list(indices) if not isinstance(indices, np.ndarray) else indices)
    if chosen.dtype == bool:
        chosen = np.flatnonzero(chosen)
    chosen = chosen.astype(np.int64)
    sizes = np.diff(videos.ends)[chosen]

    def pick(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[chosen]

    return replace(
        videos,
        text=b"".join(videos.text[videos.ends[i] : videos.ends[i + 1]] for i in chosen),
        ends=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        single_labels=pick(videos.single_labels),
        many_labels=_rows_at(videos.many_labels, chosen),
        frame_counts=pick(videos.frame_counts),
        frame_offsets=pick(videos.frame_offsets),
        spans_s=pick(videos.spans_s),
        positives=_rows_at(videos.positives, chosen),
    )


def _rows_at(ragged: Ragged | None, chosen: np.ndarray) -> Ragged | None:
    if ragged is None:
        return None
    rows = [ragged[i] for i in chosen]
    values = np.concatenate(rows) if rows else ragged.values[:0]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return replace(ragged, values=values, starts=starts)
