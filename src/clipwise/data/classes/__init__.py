"""Class names of public data sets, one a line in the order of the labels.

| file | from |
|---|---|
| kinetics400 | torchvision's list of categories; alphabetical, as MMAction2's label map |
| kinetics600 | TensorFlow's list (MoViNet); alphabetical, as the other two |
| kinetics700, sthv1, jester, gym99 | MMAction2's label maps |
| thumos14 | the data set's list of detection classes; alphabetical, as ActionFormer's labels |

All are alphabetical or in the data set's own order, which is the order of the published networks' outputs. What no list
is known for is printed as a number; ``clipwise convert --classes FILE`` gives names of your own.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["class_names", "class_names_for"]

_FOLDER = Path(__file__).parent
# What a recipe's name says about its data set; "kinetics_rgb" stands for Kinetics-400 in TPN's names.
_IN_NAME = {
    "kinetics400": "kinetics400",
    "kinetics600": "kinetics600",
    "kinetics700": "kinetics700",
    "kinetics_rgb": "kinetics400",
    "sthv1": "sthv1",
    "jester": "jester",
    "gym99": "gym99",
    "thumos14": "thumos14",
}


def class_names(data_set: str) -> list[str] | None:
    """The names of a data set's classes, or None where no list is known."""
    path = _FOLDER / f"{data_set}.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else None


def class_names_for(recipe: str, num_classes: int) -> list[str] | None:
    """Names for the outputs of a published network, by its recipe's name.

    Outputs beyond the data set's classes (GYM99's networks have 400) are called by their number. None where nothing is
    known, or where the network has fewer outputs than the data set has classes.
    """
    names = next((class_names(data) for part, data in _IN_NAME.items() if part in recipe), None)
    if names is None or num_classes < len(names):
        return None
    return names + [str(i) for i in range(len(names), num_classes)]
