"""From a model folder's image or video processor (preprocessor_config.json, …) to the keys of a recipe.

What the processor class of transformers does with a frame, on its torchvision backend, is carried out by our own transforms: size
rule, resampling with anti-aliasing, center crop, rescaling and normalization (joined in one step, as there), sampling of frames.
Every setting is taken over, or has no effect on pixels, or is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from clipwise.errors import CheckpointError

_HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_CROPPED: dict[str, Any] = {"size": {"shortest_edge": 224}, "crop_size": 224, "do_center_crop": True, "resample": 2}
_SQUARE: dict[str, Any] = {"size": {"height": 224, "width": 224}, "do_center_crop": False, "resample": 2}

# What a class does where the file does not say it (transformers 5.23). Names without Processor, Image, Video, Fast, Pil.
DEFAULTS: dict[str, dict[str, Any]] = {
    "VideoMAE": {**_CROPPED, **_HALF},
    "Timesformer": {**_CROPPED, **_HALF},
    "Vivit": {**_CROPPED, **_HALF, "size": {"shortest_edge": 256}, "rescale_factor": 1 / 127.5, "offset": True},
    "VJEPA2": {**_CROPPED, **_IMAGENET, "size": {"shortest_edge": 292}, "crop_size": 256},
    "Bit": {**_CROPPED, **_OPENAI, "resample": 3},
    "CLIP": {**_CROPPED, **_OPENAI, "resample": 3},
    "ViT": {**_SQUARE, **_HALF},
    "Siglip": {**_SQUARE, **_HALF, "resample": 3},
    "DINOv3ViT": {**_SQUARE, **_IMAGENET},
}
_ALWAYS = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "offset": False}
_USED = {
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "offset", "do_normalize",
    "image_mean", "image_std", "do_sample_frames", "num_frames", "fps",
}  # fmt: skip
# Nothing that changes the pixels of an RGB frame.
_IDLE = {
    "image_processor_type", "video_processor_type", "feature_extractor_type", "processor_class", "_processor_class", "auto_map",
    "do_convert_rgb", "data_format", "input_data_format", "default_to_square", "model_input_names", "return_metadata",
    "return_tensors", "disable_grouping", "device", "video_metadata", "_valid_processor_keys", "image_seq_length", "image_token",
}  # fmt: skip
_RESAMPLE = {2: "antialias", 3: "bicubic"}
_FILTERS = {0: "nearest", 1: "Lanczos", 4: "box", 5: "Hamming"}


def processor_family(settings: Mapping[str, Any], source: str) -> str:
    """The processor's class, as :data:`DEFAULTS` calls it.

    Raises:
        CheckpointError: none is named, or it is not known.
    """
    keys = ("video_processor_type", "image_processor_type", "feature_extractor_type")
    name = next((str(settings[key]) for key in keys if settings.get(key)), "")
    family = name
    for ending in ("Fast", "Pil", "Processor", "FeatureExtractor", "Image", "Video"):
        family = family.removesuffix(ending)
    if family not in DEFAULTS:
        raise CheckpointError(
            f"{source}: preprocessing of {name or 'a processor without a name'} is not known. Known: {', '.join(sorted(DEFAULTS))}."
        )
    return family


def processor_keys(settings: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What a processor does to a frame, as keys of a recipe.

    Args:
        settings: of the processor's file.
        source: the file, for messages.

    Returns:
        ``resize`` and ``crop_size`` (an int or [width, height], or None) and the group ``input``; for a processor that samples
        frames also ``num_segments``.

    Raises:
        CheckpointError: a setting that is not carried out; it is named.
    """
    family = processor_family(settings, source)
    values = {**_ALWAYS, **DEFAULTS[family], **{k: v for k, v in settings.items() if v is not None}}
    left = [k for k, v in settings.items() if k not in _USED | _IDLE and v not in (None, False)]
    if left:
        raise CheckpointError(f"{source}: {left[0]}: {settings[left[0]]!r} is not supported.")
    if family == "VJEPA2":  # its class computes this one, whatever the file says
        values["size"] = {"shortest_edge": int(_sides(values["crop_size"], source)[0] * 256 / 224)}
    keys: dict[str, Any] = {"input": {}}
    keys["resize"], rule = _resize(values["size"], family, source) if values["do_resize"] else (None, None)
    if rule:
        keys["input"]["resize_rule"] = rule
    keys["input"]["interpolation"] = _interpolation(values, family, source)
    crop = _sides(values["crop_size"], source) if values["do_center_crop"] else keys["resize"]
    if crop is None or (isinstance(crop, int) and not values["do_center_crop"]):
        raise CheckpointError(f"{source}: frames are neither cropped nor resized to one size.")
    keys["crop_size"] = crop[0] if not isinstance(crop, int) and crop[0] == crop[1] else list(crop)
    mean, std = _normalization(values)
    keys["input"]["mean"], keys["input"]["std"] = mean, std
    if values.get("do_sample_frames"):
        if values.get("fps") or not values.get("num_frames"):
            raise CheckpointError(f"{source}: do_sample_frames without num_frames, or with fps, is not supported.")
        keys["num_segments"] = int(values["num_frames"])
    return keys


def _resize(size: Any, family: str, source: str) -> tuple[Any, str | None]:
    if isinstance(size, int):  # files of older versions
        size = {"height": size, "width": size} if "height" in DEFAULTS[family]["size"] else {"shortest_edge": size}
    given = {k: v for k, v in size.items() if v is not None}
    if set(given) == {"shortest_edge"}:
        return int(given["shortest_edge"]), "short_side_floor"
    if set(given) == {"height", "width"}:
        return [int(given["width"]), int(given["height"])], None
    raise CheckpointError(f"{source}: size {given} is not supported; shortest_edge, or height and width, are.")


def _sides(size: Any, source: str) -> tuple[int, int]:
    """(width, height)."""
    if isinstance(size, int):
        return size, size
    if not {"height", "width"} <= set(size):
        raise CheckpointError(f"{source}: crop_size {size} needs height and width.")
    return int(size["width"]), int(size["height"])


def _interpolation(values: Mapping[str, Any], family: str, source: str) -> str:
    resample = int(values["resample"])
    if resample not in _RESAMPLE:
        raise CheckpointError(
            f"{source}: resample {resample} ({_FILTERS.get(resample, 'unknown')}) is not supported; 2 (bilinear) and 3 (bicubic) are."
        )
    if family == "DINOv3ViT":  # resizes after the rescaling, so nothing is rounded
        if resample != 2:
            raise CheckpointError(f"{source}: {family} with resample {resample} is not supported; 2 (bilinear) is.")
        return "float"
    return _RESAMPLE[resample]


def _normalization(values: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Mean and deviation in units of pixels, in the float32 arithmetic in which torchvision's backend joins the two steps."""
    one = np.float32(1)
    mean = np.asarray(values["image_mean"] if values["do_normalize"] else [0.0] * 3, np.float32)
    std = np.asarray(values["image_std"] if values["do_normalize"] else [1.0] * 3, np.float32)
    if values["do_rescale"]:
        scale = np.float32(1.0 / values["rescale_factor"])
        # ViViT: pixels · factor - 1 before the normalization
        mean, std = (mean + one if values["offset"] else mean) * scale, std * scale
    return [float(v) for v in mean], [float(v) for v in std]
