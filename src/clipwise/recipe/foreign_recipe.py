"""The recipe of a model of another library, from its own files: preprocessing exactly, the published test protocol, a schedule.

    clipwise train hf:MODEL --data DATA                        fine-tune all of it
    clipwise train hf:MODEL --data DATA model=hf_probe            a linear (or model_args.head=attentive) probe on the frozen encoder
    clipwise test hf:MODEL --data LIST                         as published

The recipe holds the network's settings as well (``model_args.config``), so a checkpoint needs no file but itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipwise.errors import CheckpointError, RecipeError
from clipwise.io.model_folders import PROCESSOR_FILES, model_folder, read_settings
from clipwise.io.plugins import is_foreign
from clipwise.recipe.processors import processor_keys

# Of a config.json: what says nothing about the network.
_NOT_NETWORK = {
    "id2label", "label2id", "_name_or_path", "torch_dtype", "dtype", "transformers_version", "num_labels", "problem_type",
    "_attn_implementation_autoset", "finetuning_task",
}  # fmt: skip
SSV2_CLASSES, DIVING48_CLASSES = 174, 48


# Top-1 and top-5 accuracy of released weights, in percent, as their model cards say.
PUBLISHED = {
    "videomae-base-finetuned-kinetics": (80.9, 94.7),
}


@dataclass(frozen=True)
class Protocol:
    """The views behind an architecture's published numbers.

    Attributes:
        frame_interval: frames from one sampled frame to the next; 0: the frames are spread over the video.
        num_clips, three_crops: views.
        source: where this stands.
        average: of the views' probabilities or scores.
        target_fps: rate at which frames are counted.
    """

    frame_interval: int
    num_clips: int
    three_crops: bool
    source: str
    average: str = "prob"
    target_fps: float | None = None


def published_protocol(config: Mapping[str, Any], num_classes: int | None) -> Protocol | None:
    """How the networks of this architecture were tested, by data set as far as the class count tells it."""
    kind, frames = config.get("model_type"), num_frames_of(config)
    if kind == "videomae" and num_classes == SSV2_CLASSES:
        return Protocol(
            0,
            2,
            True,
            "VideoMAE ssv2.py, scripts/ssv2/*/finetune.sh: frames at the middles and at the starts of equal parts, 2 clips x 3 crops",
        )
    if kind == "videomae":
        return Protocol(
            4, 5, True, "VideoMAE (Tong et al. 2022) section 4, scripts/kinetics: 16x4 frames, 5 clips x 3 crops at 224"
        )
    if kind == "timesformer" and num_classes == SSV2_CLASSES:
        return Protocol(
            0,
            1,
            True,
            "TimeSformer configs/SSv2/TimeSformer_divST_8_224.yaml: frames spread over the video, 1 clip x 3 crops",
        )
    if kind == "timesformer":
        # differs: one clip lies in the middle, as in MMAction2's 77.92 %; facebookresearch/TimeSformer starts it at the beginning
        interval = {8: 32, 16: 16, 96: 4}.get(frames or 8, 32)
        return Protocol(
            interval, 1, True, "TimeSformer configs/Kinetics/*_TEST.yaml: 1 clip x 3 crops", target_fps=30.0
        )
    if kind == "vivit":
        # differs: the three crops are cut from a short side of 224, there from the middle of one of 256
        return Protocol(
            2,
            4,
            True,
            "scenic vivit configs/kinetics400/vivit_base_k400.py: 32x2 frames, 4 clips x 3 crops; train_utils.test_step averages scores",
            "score",
        )
    if kind == "vjepa2" and num_classes == DIVING48_CLASSES:
        return Protocol(
            2,
            4,
            True,
            "V-JEPA 2 configs/inference/*/diving48.yaml: 32x2 frames, 4 clips x 3 crops",
        )
    if kind == "vjepa2" and num_classes == SSV2_CLASSES:
        interval = 2 if frames == 64 else 4  # ViT-g at 384 pixels; ViT-L
        return Protocol(
            interval,
            2,
            True,
            f"V-JEPA 2 configs/inference/*/ssv2.yaml: {frames}x{interval} frames, 2 clips x 3 crops",
        )
    if kind == "vjepa2":
        return Protocol(
            4,
            8,
            True,
            "V-JEPA 2 (Assran et al. 2025), probe on Kinetics-400: 16x4 frames, 8 clips x 3 crops (the paper's; its code has no config of it)",
        )
    return None


def num_frames_of(config: Mapping[str, Any]) -> int | None:
    """Frames of a video network's clip; None of an image network."""
    defaults = {"videomae": 16, "timesformer": 8, "vivit": 32, "vjepa2": 64}
    kind = str(config.get("model_type"))
    if kind not in defaults and "num_frames" not in config:
        return None
    return int(config.get("num_frames") or config.get("frames_per_clip") or defaults.get(kind, 16))


def network_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json without what says nothing about the network."""
    config = read_settings(folder, "config.json")
    return {k: v for k, v in config.items() if k not in _NOT_NETWORK}


def class_names(folder: Path) -> list[str] | None:
    """Names of a folder's classes in their order; None of a network without a classifier."""
    config = read_settings(folder, "config.json")
    if "architecture" in config:
        from clipwise.recipe.timm_config import timm_classes

        return timm_classes(folder)
    if not has_classifier(config):
        return None
    names = config.get("id2label") or {}
    ordered = [str(names[key]) for key in sorted(names, key=int)]
    return ordered or [f"LABEL_{i}" for i in range(int(config.get("num_labels", 2)))]


def has_classifier(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is of a network with class scores."""
    return any("Classification" in str(name) for name in config.get("architectures") or ())


def processor_settings(folder: Path, name: str) -> tuple[dict[str, Any], str]:
    """The settings of a folder's processor, that for videos first, and the file they are from.

    Raises:
        CheckpointError: there is none.
    """
    for file in PROCESSOR_FILES:
        values = read_settings(folder, file)
        if file == "processor_config.json":
            values = values.get("video_processor") or values.get("image_processor") or {}
        if values:
            return values, str(folder / file)
    raise CheckpointError(
        f"{name}: no {' or '.join(PROCESSOR_FILES[1:])} in {folder}, so its preprocessing is unknown."
    )


def foreign_recipe(name: str | Path, overrides: Iterable[str] = (), modern: bool = False) -> dict[str, Any]:
    """The values of a recipe for ``hf:…`` or ``timm:…``.

    Args:
        overrides: ``key=value`` strings, which are not applied here; ``model=hf_probe`` among them chooses a probe's schedule.

    Raises:
        CheckpointError: no such model, or preprocessing that is not supported.
        RecipeError: ``modern``, which is a training recipe for other networks.
    """
    if modern:
        raise RecipeError(
            f"--modern has no effect with {name}, whose recipe is the schedule of fine-tuning; leave it out."
        )
    if not is_foreign(name):
        raise CheckpointError(f"{name} is not a model of another library (hf:…, timm:…).")
    folder = model_folder(name)
    if str(name).startswith("timm:"):
        from clipwise.recipe.timm_config import timm_keys, timm_network

        config, keys = timm_network(folder), timm_keys(folder)
    else:
        config, (settings, source) = network_config(folder), processor_settings(folder, str(name))
        keys = processor_keys(settings, source)
    names = class_names(folder)
    frames, protocol = num_frames_of(config), published_protocol(config, len(names) if names else None)
    sampled = keys.pop("num_segments", None)
    resize, crop = keys["resize"], keys["crop_size"]
    values: dict[str, Any] = {
        "name": Path(str(name).partition(":")[2].partition("?")[0]).name,
        "model": "timm" if str(name).startswith("timm:") else "hf",
        "model_args": {"config": config},
        "init": str(name),
        "crop_size": crop,
        "input": keys["input"],
        "augment": {"resize": resize},
        "val": {"resize": resize, "crop_size": crop},
        "test": {"resize": resize, "crop_size": crop},
        **(_probe_schedule() if {"model=hf_probe", "model=timm_probe"} & set(overrides) else _schedule(config)),
    }
    if sampled:
        values |= {"num_segments": sampled}
        values["test"]["rule"] = "transformers"
    elif frames is None:
        values |= {"num_segments": 8}
    elif protocol and not protocol.frame_interval:
        values |= {"num_segments": frames}
    else:
        values |= {"clip_len": frames, "frame_interval": protocol.frame_interval if protocol else 4}
    if protocol and names and not sampled:
        values["test"] |= {"average_clips": protocol.average, "rule": "mmaction2_1.x"}
        if protocol.three_crops and isinstance(crop, int):
            values["test"] |= {"resize": crop, "crop": "three"}
            values["input"]["resize_rule"] = "short_side_floor"
        if protocol.frame_interval:
            values["test"]["num_clips"] = protocol.num_clips
            if protocol.target_fps:
                values["input"]["target_fps"] = protocol.target_fps
        elif protocol.num_clips == 2:
            values["test"]["twice_sample"] = True
        values["notes"] = [f"test views: {protocol.source}"]
        if figures := PUBLISHED.get(values["name"]):
            values["published"] = {"top1": figures[0], "top5": figures[1]}
    return values


def _schedule(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fine-tuning as VideoMAE and its followers do it (layer decay, drop path, cosine with a warm-up)."""
    return {
        "epochs": 30,
        "batch_size": 8,
        "base_batch_size": 256,
        "auto_scale_lr": True,
        "optimizer": "adamw",
        "lr": 5e-4,
        "weight_decay": 0.05,
        "grad_clip": 1.0,
        "lr_schedule": "cosine",
        "warmup_epochs": 3.0,
        "optim": {"param_groups": "no_norm_bias", "layer_decay": 0.75},
        "schedule": {"by": "iteration", "warmup_start": 0.01},
    }


def _probe_schedule() -> dict[str, Any]:
    return {
        "epochs": 20,
        "batch_size": 16,
        "optimizer": "adamw",
        "lr": 1e-3,
        "weight_decay": 0.01,
        "lr_schedule": "cosine",
        "optim": {"param_groups": "no_norm_bias"},
        "schedule": {"by": "iteration"},
    }
