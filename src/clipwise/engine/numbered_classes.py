"""Training lists whose classes have numbers, but no names."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipwise.data.lists import VideoList
from clipwise.errors import DataError


def check_numbers(videos: VideoList, source: str, log: Any) -> None:
    """Report numbers that no video has; refuse a list where most of them are.

    Raises:
        DataError: more classes without a video than with one.
    """
    assert videos.num_classes is not None
    seen = np.unique(videos.labels)
    unused = videos.num_classes - len(seen)
    text = f"{source} has no class names and the labels {', '.join(map(str, seen[:5]))}{', …' if len(seen) > 5 else ''}"
    if unused > len(seen):
        raise DataError(
            f"{text}: of {videos.num_classes} classes {unused} have no video. Number the classes from 0 on, put their names into classes.txt "
            f"beside the list, or set num_classes={videos.num_classes} to train all outputs."
        )
    if unused:
        log.say(f"{text}: {unused} of {videos.num_classes} classes have no training video.")
