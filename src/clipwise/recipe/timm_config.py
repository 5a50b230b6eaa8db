"""From the config.json of a timm model's folder to the keys of a recipe: timm's evaluation transform in our words.

# differs: timm resizes Pillow images, we resize tensors; a pixel may differ by two of 255 levels.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.errors import CheckpointError
from clipwise.io.model_folders import read_settings

_FILTERS = {"bilinear": "antialias", "bicubic": "bicubic"}


def timm_network(folder: Path) -> dict[str, Any]:
    """What builds the network.

    Raises:
        CheckpointError: the file is not timm's.
    """
    config = read_settings(folder, "config.json")
    if "architecture" not in config:
        raise CheckpointError(
            f"{folder / 'config.json'} names no architecture, so it is not a model of timm; try hf:{folder}."
        )
    size = _data(config).get("input_size") or [3, 224, 224]
    return {
        "architecture": config["architecture"],
        "model_args": dict(config.get("model_args") or {}),
        "input_size": list(size),
    }


def timm_classes(folder: Path) -> list[str] | None:
    """Names of the classes; None of a network without a classifier."""
    config = read_settings(folder, "config.json")
    count = int(config.get("num_classes") or 0)
    names = config.get("label_names") or []
    return ([str(name) for name in names] if len(names) == count else [f"LABEL_{i}" for i in range(count)]) or None


def timm_keys(folder: Path) -> dict[str, Any]:
    """What is done to a frame.

    Raises:
        CheckpointError: a setting that is not carried out; it is named.
    """
    data, source = _data(read_settings(folder, "config.json")), str(folder / "config.json")
    _, height, width = data.get("input_size") or (3, 224, 224)
    share, mode = float(data.get("crop_pct") or 0.875), data.get("crop_mode") or "center"
    kind = data.get("interpolation") or "bicubic"
    if kind not in _FILTERS:
        raise CheckpointError(f"{source}: interpolation {kind!r} is not supported; bilinear and bicubic are.")
    given: dict[str, Any] = {"interpolation": _FILTERS[kind]}
    if mode == "center" and height == width:
        resize: Any = math.floor(height / share)
        given["resize_rule"] = "torchvision"
    elif mode == "squash":
        resize = [math.floor(width / share), math.floor(height / share)]
    else:
        raise CheckpointError(
            f"{source}: crop_mode {mode!r} at {height} x {width} is not supported; center (square) and squash are."
        )
    for key, default in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
        given[key] = [float(np.float32(value) * np.float32(255)) for value in data.get(key) or default]
    return {"resize": resize, "crop_size": height if height == width else [width, height], "input": given}


def _data(config: dict[str, Any]) -> dict[str, Any]:
    return dict(config.get("pretrained_cfg") or {})
