"""The window reader: every frame at its time, exactly the frames of a plain read, and no more memory than a window needs."""

import numpy as np
import pytest

from clipwise.data.clip_spec import ClipSpec
from clipwise.infer.windows import FrameGrid, read_windows, sliding_starts
from clipwise.recipe import make_recipe
from clipwise.video.backends import ArrayReader


class Stamped(ArrayReader):
    """Frame i shows the color i, at a given time."""

    def __init__(self, stamps, fps=25.0):
        super().__init__(
            np.zeros((len(stamps), 16, 16, 3), np.uint8) + np.arange(len(stamps), dtype=np.uint8)[:, None, None, None]
        )
        self.stamps = np.asarray(stamps, float)
        self.fps = fps
        self.read = []

    def pts_s(self, indices):
        return self.stamps[np.asarray(indices)]

    def frames(self, indices, transform=None):
        self.read += list(indices)
        return super().frames(indices, transform)


def spec_of(**keys) -> ClipSpec:
    values = {"model": "slowonly_tiny", "num_classes": 2, "test": {"resize": 16, "crop_size": 16}, **keys}
    recipe = make_recipe(values)
    return ClipSpec.from_recipe(recipe.model_dump(), "test")


def test_starts_cover_the_end():
    assert sliding_starts(10, 4, 3).tolist() == [0, 3, 6]
    assert sliding_starts(11, 4, 3).tolist() == [0, 3, 6, 7]
    assert sliding_starts(3, 4, 3).tolist() == [0]


def test_a_steady_video_is_its_own_grid():
    grid = FrameGrid(Stamped(np.arange(50) / 25 + np.tile([0, 0.0004], 25)))  # a container's rounding
    assert (grid.length, grid.rate) == (50, 25.0)
    assert grid.frames([-3, 0, 7, 49, 60]).tolist() == [0, 0, 7, 49, 49]
    half = FrameGrid(Stamped(np.arange(50) / 25), 12.5)
    assert (half.length, half.frames([0, 1, 24]).tolist()) == (25, [0, 2, 48])
    assert grid.span(0.5, 0.9) == (12, 11)  # frames 12 to 22 touch 0.5 s to 0.9 s (12.5 to 22.5)


def test_an_uneven_video_is_looked_at_by_its_time_stamps():
    """Ten frames a second for 2 s, a still of 5 s, ten a second again: at 6.9 s the still is shown, at 7.1 s frame 21."""
    stamps = [*np.arange(20) / 10, *(7.0 + np.arange(20) / 10)]
    grid = FrameGrid(Stamped(stamps, 40 / 9))
    assert grid.rate == pytest.approx(40 / 9)
    assert grid.length == 40
    tens = FrameGrid(Stamped(stamps, 40 / 9), 10)
    assert tens.length == 90
    assert tens.frames([19, 20, 45, 69, 70, 71, 89]).tolist() == [19, 19, 19, 19, 20, 21, 39]
    window = tens.window(spec_of(clip_len=4, frame_interval=1), 68, 4)
    assert (window.start_s, window.end_s) == (6.8, 7.2)
    assert window.frames.ravel().tolist() == [19, 19, 20, 21]


@pytest.mark.parametrize(
    "keys", [{"clip_len": 4, "frame_interval": 2}, {"clip_len": 1, "num_segments": 4, "sampling": "uniform"}]
)
def test_clips_are_the_plain_read_of_each_window(keys):
    reader, spec = Stamped(np.arange(60) / 25), spec_of(**keys)
    grid = FrameGrid(reader)
    spans = [(40, 12), (0, 8), (3, 30), (52, 8)]  # in no order, overlapping
    clips = dict(read_windows(reader, spec, [grid.window(spec, *span) for span in spans]))
    assert len(reader.read) == len(set(reader.read))  # each frame once
    for number, (start, length) in enumerate(spans):
        part = ArrayReader(reader.frames(range(start, start + length)))
        part.fps = 25.0
        expected, _ = spec.read(part, np.random.default_rng(0))
        np.testing.assert_array_equal(clips[number], expected)
