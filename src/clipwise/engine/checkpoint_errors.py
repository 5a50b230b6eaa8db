"""The checkpoint in a folder, and why a file can't be used as one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from clipwise.data.videolist import is_video
from clipwise.errors import CheckpointError

_KINDS = {
    ".yaml": "a recipe",
    ".yml": "a recipe",
    ".txt": "a list",
    ".csv": "a list",
    ".json": "a file of results or annotations",
    ".npy": "a file of features",
    ".npz": "a file of features",
}


def checkpoint_in(folder: Path) -> Path:
    """The checkpoint that a folder stands for: a run's best (else last), the model of a copy from the hub, or the only one.

    Raises:
        CheckpointError: there is none, or which one is not clear.
    """
    inside = sorted(folder.glob("*.safetensors"))
    for name in ("best", "last", "model"):
        if (path := folder / f"{name}.safetensors") in inside:
            return path
    if len(inside) == 1:
        return inside[0]
    names = ", ".join(path.name for path in inside[:6]) + (", …" if len(inside) > 6 else "")
    raise CheckpointError(
        f"{folder} is a folder with several checkpoints and none named best, last or model: {names}. Give one of them."
        if inside
        else f"{folder} is a folder without a .safetensors file. Give a checkpoint, or the folder of a run."
    )


def check_file(path: Path) -> Path:
    """The checkpoint that a path means; refuse what is not there, and files that are something else by their names.

    Raises:
        CheckpointError: says what it is, and what to do.
    """
    if path.is_dir():
        return checkpoint_in(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist.")
    if path.suffix in (".pth", ".pt", ".pdparams", ".tar", ".pkl"):
        raise CheckpointError(
            f"{path} is not a clipwise checkpoint. Convert it first: clipwise convert {path} --recipe RECIPE --out NAME.safetensors"
        )
    if what := _KINDS.get(path.suffix.lower()) or ("a video" if is_video(path.name) else None):
        raise CheckpointError(
            f"{path} is {what}, not a checkpoint (.safetensors). Order: clipwise predict CKPT INPUT, clipwise test [RECIPE] CKPT."
        )
    if path.suffix in (".onnx", ".pt2", ".xml"):
        raise CheckpointError(
            f"{path} is an exported file. `clipwise predict`, `test` and `localize` take its network; what is asked for here needs the "
            "checkpoint (.safetensors) that it was made from."
        )
    return path


def mismatch(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Which keys of a model's state and of given tensors do not match, in words."""
    missing = [k for k in own if k not in given]
    unused = [k for k in given if k not in own]
    shapes = [
        f"{k} {tuple(given[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own
        if k in given and given[k].shape != own[k].shape
    ]

    def some(keys: list[str]) -> str:
        return f"{len(keys)} ({', '.join(keys[:4])}{', …' if len(keys) > 4 else ''})" if keys else "0"

    return f"{some(missing)} keys missing, {some(unused)} unknown, {some(shapes)} of another shape"
