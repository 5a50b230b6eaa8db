"""The flat recipes of clipwise 0.1: where each key is now. Imported only when such a recipe or override is met."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from clipwise.errors import ClipwiseWarning, RecipeError
from clipwise.recipe.keys import RunRecipe

# 0.1's flat key -> the key today. A key of one task only is moved for the task that has its new place.
MOVED = {
    "num_train_samples": "published.num_train_samples",
    "momentum": "optim.momentum",
    "nesterov": "optim.nesterov",
    "betas": "optim.betas",
    "param_groups": "optim.param_groups",
    "layer_decay": "optim.layer_decay",
    "fused": "optim.fused",
    "loss_scale": "optim.loss_scale",
    "milestones": "schedule.milestones",
    "gamma": "schedule.gamma",
    "min_lr": "schedule.min_lr",
    "schedule_by": "schedule.by",
    "warmup_start": "schedule.warmup_start",
    "shift_schedule": "schedule.after_warmup",
    "parallel": "parallel.mode",
    "static_graph": "parallel.static_graph",
    "checkpoint_every": "checkpoint.every",
    "checkpoint_every_steps": "checkpoint.every_steps",
    "keep_checkpoints": "checkpoint.keep",
    "log_every": "log.every",
    "trackers": "log.trackers",
    "hang_warning_s": "log.hang_warning_s",
    "validate_every": "val.every",
    "eval_batch_size": "val.batch_size",
    # recognition
    "list_format": "lists.format",
    "class_power": "lists.class_power",
    "soft_labels": "lists.soft_labels",
    "val_data_root": "val.data_root",
    "mean": "input.mean",
    "std": "input.std",
    "interpolation": "input.interpolation",
    "fused_resize": "input.fused_resize",
    "resize_rule": "input.resize_rule",
    "target_fps": "input.target_fps",
    "out_of_bound": "input.out_of_bound",
    "keep_tail_frames": "input.keep_tail_frames",
    "filename_tmpl": "input.filename_tmpl",
    "start_index": "input.start_index",
    "decode_timeout_s": "input.decode_timeout_s",
    "train_resize": "augment.resize",
    "train_crop": "augment.crop",
    "crop_area": "augment.crop_area",
    "crop_ratio": "augment.crop_ratio",
    "crop_scales": "augment.crop_scales",
    "num_fixed_crops": "augment.num_fixed_crops",
    "max_scale_gap": "augment.max_scale_gap",
    "flip": "augment.flip",
    "flip_label_map": "augment.flip_label_map",
    "color_jitter": "augment.color_jitter",
    "rand_augment": "augment.randaugment",
    "random_erasing": "augment.random_erasing",
    "mixup": "augment.mixup",
    "cutmix": "augment.cutmix",
    "label_smoothing": "augment.label_smoothing",
    "val_resize": "val.resize",
    "val_crop": "val.crop",
    "val_crop_size": "val.crop_size",
    "precise_bn_samples": "val.precise_bn_samples",
    "test_num_segments": "test.num_segments",
    "test_num_clips": "test.num_clips",
    "twice_sample": "test.twice_sample",
    "test_rule": "test.rule",
    "test_resize": "test.resize",
    "test_crop": "test.crop",
    "test_crop_size": "test.crop_size",
    "average_clips": "test.average_clips",
    "max_views": "test.max_views",
    "distill_from": "distill.from",
    "distill_weight": "distill.weight",
    "distill_temperature": "distill.temperature",
    # localization
    "feature_format": "input.format",
    "rescale": "input.rescale",
    "time_base": "input.time_base",
    "in_memory": "input.in_memory",
    "train_subset": "input.train_subset",
    "video_info": "input.video_info",
    "tolerant": "input.tolerant",
    "drop_last": "input.drop_last",
    "val_annotations": "val.annotations",
    "val_subset": "val.subset",
    "targets": "bmn.targets",
    "losses": "bmn.losses",
    "loss_weights": "bmn.loss_weights",
    "proposals": "bmn.proposals",
    "soft_nms_alpha": "nms.alpha",
    "soft_nms_low": "nms.low",
    "soft_nms_high": "nms.high",
    "num_proposals": "nms.max_proposals",
}
# One flat key whose new place depends on the task.
_ALLOW_MISSING = {"recognition": "test.allow_missing", "localization": "input.allow_missing"}
# Keys that a localization recipe of 0.1 accepted and that never had an effect there.
_WITHOUT_EFFECT = {"localization": ("test_data", "val_data_root")}


def place_of(kind: type[RunRecipe], key: str) -> str | None:
    """Where a flat key of 0.1 is now in a recipe of this kind; None if it never was one of its keys."""
    task = "localization" if "nms" in kind.model_fields else "recognition"
    place = _ALLOW_MISSING[task] if key == "allow_missing" else MOVED.get(key)
    if place is None:
        return None
    group, _, name = place.partition(".")
    fields = type(kind.model_fields[group].default).model_fields if group in kind.model_fields else {}
    return place if any(name in (key, field.alias) for key, field in fields.items()) else None


def new_key(kind: type[RunRecipe], key: str, at: str) -> str:
    """The key of today for an override's; a line says so. An unknown key stays as it is."""
    place = place_of(kind, key)
    if place is None:
        return key
    warnings.warn(f"{at}: {key} is {place} now", ClipwiseWarning, stacklevel=4)
    return place


def migrate(kind: type[RunRecipe], values: Mapping[str, Any], source: str, where: dict[str, str]) -> dict[str, Any]:
    """A copy with 0.1's flat keys in their groups; a line says which they were.

    Args:
        where: the place of each key; learns the new names.

    Raises:
        RecipeError: a key is given in both forms.
    """
    task = "localization" if "nms" in kind.model_fields else "recognition"
    gone = [key for key in _WITHOUT_EFFECT.get(task, ()) if key in values]
    moves = _moves(kind, values)
    for key, place in (_dotted(values) | moves).items():
        group, _, name = place.partition(".")
        if group not in moves and isinstance(values.get(group), dict) and name in values[group]:
            now = f"{key} is {place} now, which" if key in moves else key
            raise RecipeError(f"{where.get(key, source)}: {now} is given as well; keep one.")
        if key in where:
            where[place] = where[key]
    changed = in_groups(kind, {key: value for key, value in values.items() if key not in gone})
    # A run's own file lists every key: those that were set come first.
    said = [
        f"{key} is {place} now"
        for key, place in sorted(moves.items(), key=lambda m: _is_default(kind, m[0], m[1], values))
    ]
    said += [f"{key} never had an effect" for key in gone if values[key] is not None]
    if said:
        more = f", and {len(said) - 4} more (`clipwise explain … --keys` writes the new form)" if len(said) > 4 else ""
        warnings.warn(f"{source}: {', '.join(said[:4])}{more}", ClipwiseWarning, stacklevel=4)
    return changed


def _is_default(kind: type[RunRecipe], key: str, place: str, values: Mapping[str, Any]) -> bool:
    group, _, name = place.partition(".")
    owner = kind.model_fields[group].default
    fields = type(owner).model_fields
    default = next(field.default for inner, field in fields.items() if name in (inner, field.alias))
    return values[key] == (list(default) if isinstance(default, tuple) else default)


def in_groups(kind: type[RunRecipe], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with 0.1's flat keys, and dotted ones (``augment.mixup``), in their groups; nothing is logged.

    For code that collects a recipe's keys in one flat dictionary.
    """
    places = _dotted(values) | _moves(kind, values)
    grouped: dict[str, Any] = {
        key: dict(value) if isinstance(value, dict) else value for key, value in values.items() if key not in places
    }
    for key, place in places.items():
        group, _, name = place.partition(".")
        owner = grouped.setdefault(group, {})
        if isinstance(owner, dict):  # else a wrong value, which is reported as such
            owner[name] = values[key]
    return grouped


def _dotted(values: Mapping[str, Any]) -> dict[str, str]:
    """Keys written as on a command line (``augment.mixup: 0.2``)."""
    return {key: key for key in values if "." in str(key)}


def _moves(kind: type[RunRecipe], values: Mapping[str, Any]) -> dict[str, str]:
    """The flat keys among these, each with its place; a group of today may have the name of a flat key (`parallel`)."""
    return {
        key: place
        for key, value in values.items()
        if (place := place_of(kind, key)) and not (key in kind.model_fields and isinstance(value, dict))
    }
