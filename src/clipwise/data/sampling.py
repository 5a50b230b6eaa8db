"""Which frames of a video a model sees: pure functions from a frame count to frame indices.

All functions return 0-based indices, int64, one row a clip: (num_clips, clip_len). A reader of frame folders that
are numbered from 1 adds its own start. Randomness comes only from the ``rng`` that is passed in; a legacy
``numpy.random.RandomState`` replays MMAction2's draws exactly (tests/unit/test_sampling.py holds them against golden
tables of 0.24.1 and 1.2.0).
"""

from typing import Any, Literal, Protocol, get_args

import numpy as np

from clipwise.errors import DataError, RecipeError

Mode = Literal["train", "test"]
Rule = Literal["mmaction2_0.x", "mmaction2_1.x", "transformers"]
OutOfBound = Literal["loop", "repeat_last"]
DENSE_WINDOWS = 10  # in a test with dense sampling: MMAction2's num_sample_positions


class Rng(Protocol):
    """What the data functions draw from: numpy's Generator and its legacy RandomState both fit."""

    def uniform(self, low: Any, high: Any, size: Any = None) -> Any: ...

    def random(self, size: Any = None) -> Any: ...


def draw_integers(rng: Rng, low: int, high: int, size: int | tuple[int, ...] | None = None) -> Any:
    """Integers in [low, high): ``integers`` of a numpy Generator, ``randint`` of a legacy RandomState."""
    draw = getattr(rng, "integers", None) or rng.randint  # type: ignore[attr-defined]
    return draw(low, high, size=size)


def sample_frames(
    num_frames: int,
    *,
    clip_len: int,
    frame_interval: int = 1,
    num_clips: int = 1,
    mode: Mode = "train",
    rule: Rule = "mmaction2_0.x",
    twice_sample: bool = False,
    keep_tail_frames: bool = False,
    temporal_jitter: bool = False,
    out_of_bound: OutOfBound = "loop",
    target_fps: float | None = None,
    fps: float | None = None,
    rng: Rng | None = None,
) -> np.ndarray:
    """Choose ``num_clips`` clips of ``clip_len`` frames that lie ``frame_interval`` frames apart.

    TSN and TSM use ``clip_len=1`` and one "clip" a segment. In train mode one start is drawn in each of ``num_clips``
    equal parts of the video; in test mode the starts are fixed.

    Args:
        num_frames: frames of the video, at least 1.
        clip_len: frames a clip.
        frame_interval: distance of neighboring frames of a clip, in frames.
        num_clips: clips (or segments) a video.
        mode: "train" draws from ``rng``; "test" draws nothing (unless ``temporal_jitter``).
        rule: where test clips start. "mmaction2_0.x": in the middle of equal parts, as the numbers of the seeds were
            made. "mmaction2_1.x": spread from the first to the last possible start. "transformers": at the beginning of equal parts
            (``do_sample_frames`` of its video processors).
        twice_sample: test mode only: a second set of clips at the beginning of each part (TSM's two-clip test).
            Always gives 2 * num_clips clips.
        keep_tail_frames: train mode: parts of fractional length, so that the last frames can be drawn as well.
        temporal_jitter: shift every frame by a random number in [0, frame_interval).
        out_of_bound: indices beyond the end start over ("loop") or stay on the last valid frame of their clip.
        target_fps: sample as if the video had this frame rate (1.x only); ``frame_interval`` counts its frames.
        fps: the video's own rate in frames a second, needed with ``target_fps``.
        rng: needed for train mode and temporal_jitter.

    Returns:
        int64 (num_clips, clip_len); twice as many rows with ``twice_sample``.

    Raises:
        RecipeError: arguments that contradict each other.
        DataError: a video without frames.

    Source: MMAction2 0.24.1 and 1.2.0, SampleFrames; exact, see the golden tables.
    """
    check_sizes(num_frames, clip_len, frame_interval, num_clips)
    if out_of_bound not in ("loop", "repeat_last"):
        raise RecipeError(f"out_of_bound is {out_of_bound!r}; allowed: 'loop' and 'repeat_last'.")
    if rule not in get_args(Rule):
        raise RecipeError(f"The sampling rule is {rule!r}; allowed: {', '.join(map(repr, get_args(Rule)))}.")
    if target_fps is not None and not fps:
        raise RecipeError("target_fps was given without the video's own frame rate: pass fps as well.")
    span = _span(clip_len, frame_interval, mode, rule, None if target_fps is None else float(fps or 0) / target_fps)
    if mode == "train":
        starts = _train_starts(num_frames, span, num_clips, keep_tail_frames, need_rng(rng, "train mode"))
    elif mode == "test" and rule == "mmaction2_0.x":
        starts = _centered_starts(num_frames, span, num_clips, twice_sample)
    elif mode == "test" and rule == "transformers":
        starts = np.arange(num_clips) * num_frames // num_clips
    elif mode == "test":
        from clipwise.data.spread_starts import spread_starts

        starts = spread_starts(num_frames, span, clip_len, num_clips, twice_sample, target_fps is not None)
    else:
        raise RecipeError(f"The sampling mode is {mode!r}; allowed: 'train' and 'test'.")

    if target_fps is None:
        steps = np.arange(clip_len) * frame_interval
    else:
        steps = np.linspace(0, span - 1, clip_len).astype(np.int64)
    frames = starts[:, None] + steps
    if temporal_jitter:
        jitter = draw_integers(need_rng(rng, "temporal_jitter"), 0, frame_interval, frames.size)
        frames = frames + np.asarray(jitter).reshape(frames.shape)
    return wrap_frames(frames, num_frames, out_of_bound)


def _span(clip_len: int, frame_interval: int, mode: str, rule: str, fps_ratio: float | None) -> float:
    """Frames that a clip is taken to cover when its start is chosen."""
    if fps_ratio is not None:
        return max(1.0, clip_len * frame_interval * fps_ratio)
    if mode == "test" and rule == "mmaction2_1.x":
        return (clip_len - 1) * frame_interval + 1
    return clip_len * frame_interval


def _train_starts(num_frames: int, span: float, num_clips: int, keep_tail: bool, rng: Rng) -> np.ndarray:
    free = num_frames - span + 1
    order = np.arange(num_clips)
    if keep_tail:
        if num_frames <= span - 1:
            return np.zeros(num_clips, np.int64)
        part = free / num_clips
        return (order * part + rng.uniform(0, part, num_clips)).astype(np.int64)
    part = free // num_clips
    if part > 0:
        return (order * part + draw_integers(rng, 0, int(part), num_clips)).astype(np.int64)
    if num_frames > max(num_clips, span):
        return np.sort(draw_integers(rng, 0, int(free), num_clips)).astype(np.int64)
    if part == 0:
        return np.around(order * (free / num_clips)).astype(np.int64)
    return np.zeros(num_clips, np.int64)


def _centered_starts(num_frames: int, span: float, num_clips: int, twice: bool) -> np.ndarray:
    """0.x: the middle of each part; ``twice`` adds the beginning of each part."""
    part = (num_frames - span + 1) / num_clips
    if num_frames <= span - 1:
        # differs: MMAction2 0.24 forgets to double here, so the number of views would depend on the video's length
        # and no batch could be stacked. All these clips are equal, so averages over views are not touched.
        return np.zeros(num_clips * (2 if twice else 1), np.int64)
    begins = np.arange(num_clips) * part
    starts = (begins + part / 2).astype(np.int64)
    return np.concatenate([starts, begins.astype(np.int64)]) if twice else starts


def wrap_frames(frames: np.ndarray, num_frames: int, out_of_bound: str) -> np.ndarray:
    """Bring indices beyond the end back into the video; (clips, frames) in and out."""
    if out_of_bound == "loop":
        return (frames % num_frames).astype(np.int64)
    valid = frames < num_frames
    last_valid = np.where(valid, frames, 0).max(axis=1, keepdims=True)
    return np.where(valid, frames, last_valid).astype(np.int64)


def need_rng(rng: Rng | None, purpose: str) -> Rng:
    """The generator, without which there is no chance.

    Raises:
        RecipeError: there is none.
    """
    if rng is None:
        raise RecipeError(
            f"Sampling frames in {purpose} needs a random generator: pass rng=numpy.random.default_rng(seed)."
        )
    return rng


def check_sizes(num_frames: int, clip_len: int, frame_interval: int, num_clips: int) -> None:
    """Refuse what cannot be sampled."""
    if num_frames < 1:
        raise DataError(f"A video with {num_frames} frames has nothing to sample; at least 1 is needed.")
    for name, value in (("clip_len", clip_len), ("frame_interval", frame_interval), ("num_clips", num_clips)):
        if value < 1:
            raise RecipeError(f"{name} is {value}; it must be at least 1.")
