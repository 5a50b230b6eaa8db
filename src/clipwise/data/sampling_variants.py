"""Rules of sampling other than equal parts of the video: TSM's dense windows, and PaddleCV's whole parts.

As in :mod:`clipwise.data.sampling`: 0-based indices, int64, (num_clips, clip_len), random only through ``rng``.
"""

from typing import Any, Literal

import numpy as np

from clipwise.data.sampling import (
    DENSE_WINDOWS,
    Mode,
    OutOfBound,
    Rng,
    check_sizes,
    draw_integers,
    need_rng,
    wrap_frames,
)


def sample_by_name(spec: Any, num_frames: int, count: int, mode: Mode, rng: Rng, pickled: bool) -> np.ndarray:
    """Frame numbers of a ``ClipSpec`` whose sampling is "dense" or "paddle"; ``pickled``: the frames lie in a pickle."""
    if spec.sampling == "paddle":
        source: Literal["pkl", "mp4"] = "pkl" if pickled else "mp4"
        return paddle_sample_frames(
            num_frames, num_segments=count, segment_len=spec.clip_len, mode=mode, source=source, rng=rng
        )
    return dense_sample_frames(
        num_frames,
        clip_len=spec.clip_len,
        frame_interval=spec.frame_interval,
        num_clips=count,
        num_sample_positions=spec.num_clips if spec.num_segments else DENSE_WINDOWS,
        mode=mode,
        out_of_bound=spec.out_of_bound,
        rng=rng,
    )


def dense_sample_frames(
    num_frames: int,
    *,
    clip_len: int = 1,
    frame_interval: int = 1,
    num_clips: int = 8,
    sample_range: int = 64,
    num_sample_positions: int = 10,
    mode: Mode = "train",
    out_of_bound: OutOfBound = "loop",
    rng: Rng | None = None,
) -> np.ndarray:
    """Equal steps within one window of ``sample_range`` frames; ten windows in test mode.

    Returns:
        int64 (num_clips, clip_len) in train mode, (num_sample_positions * num_clips, clip_len) in test mode, window
        by window.

    Source: TSM's dense sampling as in MMAction2 DenseSampleFrames (the last window is never drawn in training).
    """
    check_sizes(num_frames, clip_len, frame_interval, num_clips)
    positions = max(1, 1 + num_frames - sample_range)
    if mode == "train":
        first = 0 if positions == 1 else draw_integers(need_rng(rng, "train mode"), 0, positions - 1)
        windows = np.array([first], dtype=np.int64)
    else:
        windows = np.linspace(0, positions - 1, num_sample_positions).astype(np.int64)
    steps = np.arange(num_clips) * (sample_range // num_clips)
    starts = ((windows[:, None] + steps) % num_frames).reshape(-1)
    frames = starts[:, None] + np.arange(clip_len) * frame_interval
    return wrap_frames(frames, num_frames, out_of_bound)


def paddle_sample_frames(
    num_frames: int,
    *,
    num_segments: int = 3,
    segment_len: int = 1,
    mode: Mode = "train",
    source: Literal["pkl", "mp4"] = "pkl",
    rng: Rng | None = None,
) -> np.ndarray:
    """Frames of PaddleCV's TSN reader: one start in each of ``num_segments`` parts of whole length.

    Args:
        source: its two readers center test clips differently: ``(d - segment_len) // 2`` in pickled frames,
            ``(d - 1) // 2`` in video files, with d the length of a part.

    Returns:
        int64 (num_segments, segment_len); indices wrap at the end.

    Source: PaddlePaddle/models release/1.7, PaddleCV/video, kinetics_reader (specification A3).
    """
    check_sizes(num_frames, segment_len, 1, num_segments)
    part = num_frames // num_segments
    starts = np.arange(num_segments) * part
    if part == 0:
        starts = np.arange(num_segments)
    elif part >= segment_len:
        if mode == "train":
            source_of_chance = need_rng(rng, "train mode")
            starts = starts + draw_integers(source_of_chance, 0, part - segment_len + 1, num_segments)
        else:
            starts = starts + (part - (segment_len if source == "pkl" else 1)) // 2
    return ((starts[:, None] + np.arange(segment_len)) % num_frames).astype(np.int64)
