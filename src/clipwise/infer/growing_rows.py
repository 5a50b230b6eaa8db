"""Features of a video that are computed while they are read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import DataError
from clipwise.io.text import plural


class GrowingRows:
    """The (n, F) features of a video, of which those that are asked for are computed, in order.

    Args:
        count, feat_dim: n, F.
        parts: the rows, some at a time.
    """

    ndim = 2

    def __init__(self, count: int, feat_dim: int, parts: Iterator[NDArray[np.float32]]):
        self.values, self.known, self.parts = np.zeros((count, feat_dim), np.float32), 0, parts
        self.shape = self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        stop = min(len(self) if rows.stop is None else rows.stop, len(self))
        while self.known < stop:
            part = next(self.parts, None)
            if part is None:
                raise DataError(f"the video ended after {self.known} of {plural(len(self), 'feature')}.")
            self.values[self.known : self.known + len(part)] = part
            self.known += len(part)
        return self.values[rows]
