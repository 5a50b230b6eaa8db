"""What a class becomes when its clip is mirrored: "from left to right" is "from right to left" then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from clipwise.errors import RecipeError

# Classes not named keep their label (0-based indices of the published class orders: Jester's and Something-Something V1's
# *-labels.csv, V2's labels.json).
FLIP_LABEL_MAPS: dict[str, dict[int, int]] = {
    "jester": {0: 1, 1: 0, 6: 7, 7: 6},
    "sthv1": {2: 4, 4: 2, 30: 41, 41: 30, 52: 66, 66: 52},
    "sthv2": {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166},
}
LabelT = TypeVar("LabelT", int, np.ndarray, None)


def flip_label(label: LabelT, swaps: Mapping[int, int] | str) -> LabelT:
    """The label of a mirrored clip.

    Args:
        label: a class index, or a multi-hot vector over the classes.
        swaps: {class: class of the mirrored clip}, or a name in ``FLIP_LABEL_MAPS``.

    Raises:
        RecipeError: there is no such name.
    """
    if isinstance(swaps, str):
        if swaps not in FLIP_LABEL_MAPS:
            known = ", ".join(FLIP_LABEL_MAPS)
            raise RecipeError(f"flip_label_map is {swaps!r}; known: {known}, or give {{class: class}}.")
        swaps = FLIP_LABEL_MAPS[swaps]
    if label is None:
        return label
    if isinstance(label, np.ndarray):
        mirrored = label.copy()
        for source, target in swaps.items():
            mirrored[target] = label[source]
        return mirrored
    return swaps.get(int(label), label)
