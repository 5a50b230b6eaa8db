"""Inputs that are far outside of what a localizer was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipwise.io.text import plural

_FAR = 2.0  # an input so many times the longest of training, or its share of the shortest, is another kind of video


def describe_unlike(
    trained_on: Mapping[str, Any], window_s: float | None, length: int | None, duration_s: float, positions: int
) -> str | None:
    """Why an input is far outside of what a network was trained on, as a sentence; None if it is not.

    Args:
        trained_on: the passport's "times": ``video_s``, the shortest, median and longest training video, and ``feature_step_s``;
            empty for checkpoints of 0.1.
        window_s: None if videos go in as a whole.
        length: L of a network with a fixed number of positions.
        duration_s, positions: of the input and its features.
    """
    step, wanted = duration_s / positions, trained_on.get("feature_step_s")
    if wanted and not wanted / _FAR <= step <= wanted * _FAR and (window_s is not None or length is None):
        return (
            f"its features are {step:.3g} s apart, the network was trained on {wanted:.3g} s: what is found means little. "
            "Extract them as those of the training were."
        )
    if window_s is not None or length is None:
        return None
    advice = "Train with window_s=auto for videos of any length, or cut the video."
    if "video_s" in trained_on:
        low, _, high = trained_on["video_s"]
        if duration_s > _FAR * high or duration_s < low / _FAR:
            return (
                f"it has {duration_s:.4g} s, the network was trained on whole videos of {low:.4g} to {high:.4g} s "
                f"(each as {length} positions): what is found means little. {advice}"
            )
    elif positions > 8 * length:
        return (
            f"its {plural(positions, 'position is', 'positions are')} squeezed into the network's {length}; unless it was trained on such "
            f"long videos, what is found means little. {advice}"
        )
    return None
