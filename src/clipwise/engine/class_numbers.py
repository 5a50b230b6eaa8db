"""Training lists whose classes have numbers but no names, or other numbers than the recipe says."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipwise.data.lists import VideoList
from clipwise.errors import DataError
from clipwise.io.text import plural


def check_numbers(videos: VideoList, num_classes: int | None, source: str, log: Any) -> None:
    """Report numbers that no video has, where neither names nor ``num_classes`` of the recipe say that there are such classes.

    Raises:
        DataError: more classes without a video than with one; or another number of names than ``num_classes``.
    """
    if names := videos.classes:
        raise DataError(
            f"{source} has {plural(len(names), 'class', 'classes')} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''}), but num_classes is "
            f"{num_classes}. Set num_classes={len(names)}."
        )
    if num_classes or videos.multi_label or videos.num_classes is None:
        return
    seen = np.unique(videos.labels)
    unused = videos.num_classes - len(seen)
    text = f"{source} has no class names and the labels {', '.join(map(str, seen[:5]))}{', …' if len(seen) > 5 else ''}"
    if unused > len(seen):
        raise DataError(
            f"{text}: of {plural(videos.num_classes, 'class', 'classes')} {plural(unused, 'has', 'have')} no video. Number the classes from 0 on, put their names into classes.txt "
            f"beside the list, or set num_classes={videos.num_classes} to train all outputs."
        )
    if unused:
        log.say(f"{text}: {unused} of {plural(videos.num_classes, 'class', 'classes')} have no training video.")
