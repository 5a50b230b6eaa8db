"""Where MMAction2 1.x starts test clips."""

import numpy as np


def spread_starts(
    num_frames: int, span: float, clip_len: int, num_clips: int, twice: bool, whole_steps: bool
) -> np.ndarray:
    """From the first to the last possible start; single frames lie in the middle of their part."""
    if clip_len == 1:
        begins = np.arange(num_clips) * (num_frames / num_clips)
        starts = (begins + num_frames / num_clips / 2).astype(np.int64)
        return np.concatenate([starts, begins.astype(np.int64)]) if twice else starts
    last = max(num_frames - span, 0)
    if num_clips > 1:
        total = num_clips * (2 if twice else 1)
        step = last / (num_clips - 1)
        if whole_steps:  # with target_fps, as PySlowFast does it
            step = np.floor(step)
        # The second half of a doubled set runs past the end and wraps, as in MMAction2 1.2.
        return np.round(np.arange(total) * step).astype(np.int64)
    middle = int(last // 2)
    # differs: MMAction2 1.2 divides by zero for one clip sampled twice; we add a clip from the beginning.
    return np.array([middle, 0] if twice else [middle], np.int64)
