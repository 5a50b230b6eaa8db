"""Frame numbers to seconds and back, for annotation tools that count frames.

Inside, a segment is ``[start, end)`` in seconds from the first frame. Frame ``n`` (from 0) stands for the stretch from its own time stamp
to that of the next frame; at an even rate that is ``[n / rate, (n + 1) / rate)``. Each tool's own base and end are translated at its border.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipwise.errors import DataError

_BROADCAST = [Fraction(1000 * n, 1001) for n in (12, 15, 24, 30, 48, 60, 120, 240)]
_HALF = 0.5 + 1e-6  # rounding half up, for times that a decimal number holds only nearly


def exact_rate(fps: float) -> Fraction:
    """The rate that a decimal stands for: 29.97 is 30000/1001, 23.976 is 24000/1001; others are taken as they are."""
    near = min(_BROADCAST, key=lambda rate: abs(float(rate) - fps))
    return near if abs(float(near) - fps) < 2e-4 * fps and fps != round(fps) else Fraction(fps).limit_denominator(10**6)


class FrameClock:
    """Times of a video's frames: an even rate, or a time stamp for each frame.

    Args:
        rate: frames per second, the average one where ``bounds_s`` is given.
        bounds_s: (n + 1,) time stamps of all frames, and the end of the last one.
        num_frames: frames of the video, where they are known.
    """

    def __init__(self, rate: Fraction, bounds_s: NDArray[np.float64] | None = None, num_frames: int | None = None):
        self.rate, self.bounds_s = rate, bounds_s
        self.num_frames = len(bounds_s) - 1 if bounds_s is not None else num_frames

    @classmethod
    def of_video(cls, reader: Any) -> FrameClock:
        """The clock of an open video, by its time stamps where they are uneven.

        Raises:
            DataError: its frame rate is unknown.
        """
        from clipwise.video.even_rate import uneven_times

        if not reader.fps:
            raise DataError(f"{reader.name}: its frame rate is unknown, so frame numbers have no times. Give --fps.")
        times = uneven_times(reader)
        if times is None:
            return cls(exact_rate(reader.fps), num_frames=reader.num_frames)
        end = max(reader.duration_s, float(times[-1]))
        return cls(Fraction(reader.fps).limit_denominator(10**6), np.append(times, end), reader.num_frames)

    @property
    def duration_s(self) -> float | None:
        """Seconds to the end of the last frame, where the frames were counted."""
        return None if self.num_frames is None else self.seconds(self.num_frames)

    def seconds(self, frame: int) -> float:
        """When frame ``frame`` (from 0) begins; past the last frame, where it would."""
        if self.bounds_s is None or frame >= len(self.bounds_s):
            extra = 0 if self.bounds_s is None else len(self.bounds_s) - 1
            return float((frame - extra) / self.rate) + (0.0 if self.bounds_s is None else float(self.bounds_s[-1]))
        return float(self.bounds_s[max(frame, 0)])

    def frame(self, seconds: float) -> int:
        """The frame boundary nearest to a time; of two equally near the later one."""
        if self.bounds_s is None or seconds >= self.bounds_s[-1]:
            extra = 0 if self.bounds_s is None else len(self.bounds_s) - 1
            rest = seconds - (0.0 if self.bounds_s is None else float(self.bounds_s[-1]))
            return extra + max(0, math.floor(rest * float(self.rate) + _HALF))
        middles = (self.bounds_s[1:] + self.bounds_s[:-1]) / 2
        return int(np.searchsorted(middles, seconds + 1e-9, side="right"))

    def frames(self, start_s: float, end_s: float) -> tuple[int, int]:
        """``[first, end)`` of a segment; at least one frame."""
        first = self.frame(start_s)
        return first, max(first + 1, self.frame(end_s))


def open_clock(path: str | Path) -> FrameClock:
    """The clock of a video file."""
    from clipwise.video.decode import open_video

    with open_video(path) as reader:
        return FrameClock.of_video(reader)


def parse_time(value: Any) -> float:
    """Seconds from a number, a numeric text, or ``[HH:]MM:SS[.fff]``.

    Raises:
        ValueError: none of these, or not finite.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a time")
    if isinstance(value, str) and ":" in value:
        *larger, seconds = value.strip().replace(",", ".").split(":")
        if len(larger) > 2 or not all(part.isdecimal() for part in larger) or not seconds[:1].isdecimal():
            raise ValueError(f"{value!r} is not a time")
        total = 0.0
        for part in larger:
            total = 60 * (total + int(part))
        value = total + float(seconds)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a time")
    return number
