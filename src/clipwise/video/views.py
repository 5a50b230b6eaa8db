"""Several clips of one video in one pass over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipwise.video.reader import FrameSink, Transform, VideoReader


def read_views(
    reader: VideoReader, wanted: Sequence[np.ndarray], transforms: Sequence[Transform | None]
) -> list[np.ndarray]:
    """As ``reader.frames`` for each view, but a frame that several views ask for is decoded once.

    Args:
        wanted: (T,) frame numbers of each view.
        transforms: of each view.

    Raises:
        DecodeError: as ``reader.frames``.
    """
    sink = _Views([FrameSink(reader._check_indices(w), t) for w, t in zip(wanted, transforms)])
    reader._read(np.unique(np.concatenate([s.wanted for s in sink.sinks])), sink)
    return [s.result(reader.name) for s in sink.sinks]


class _Views(FrameSink):
    """Hands each frame to the views that miss it."""

    def __init__(self, sinks: list[FrameSink]):
        self.sinks = sinks
        super().__init__(np.unique(np.concatenate([s.wanted for s in sinks])), None)

    def restart(self) -> None:
        super().restart()
        for sink in self.sinks:
            sink.restart()

    def __call__(self, index: int, frame: np.ndarray) -> None:
        for sink in self.sinks:
            sink(index, frame)
        self.missing.discard(index)
