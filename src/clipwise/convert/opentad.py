"""A config of OpenTAD (ActionFormer or TriDet on padded or resized features; BMN in ``opentad_bmn``) as a recipe.

The same rule as for MMAction2's configs: every key is taken over, or must have the one value that this package computes with, or is
noted, or is refused by name. The files are read, not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipwise.convert.mmaction2 import write_translated
from clipwise.convert.mmaction2.consumed import Keys
from clipwise.convert.opentad_keys import (
    READ,
    account,
    check_resized,
    differences,
    external_scores,
    filtered,
    part_files,
    read_pipeline,
    read_resize,
)
from clipwise.errors import RecipeError

_FIXED: dict[str, tuple[Any, ...]] = {
    "model.projection.type": ("Conv1DTransformerProj", "TriDetProj"),
    "model.projection.conv_cfg.kernel_size": (3,),
    "model.projection.conv_cfg.proj_pdrop": (0,),
    "model.projection.norm_cfg": ({"type": "LN"},),
    "model.projection.norm_cfg.type": ("LN",),
    "model.projection.downsample_type": ("max",),
    "model.neck.type": ("FPNIdentity",),
    "model.rpn_head.type": ("ActionFormerHead", "TriDetHead"),
    "model.rpn_head.num_convs": (2,),
    "model.rpn_head.cls_prior_prob": (0.01,),
    "model.rpn_head.prior_generator.type": ("PointGenerator",),
    "model.rpn_head.loss_normalizer_momentum": (0.9,),
    "model.rpn_head.center_sample": ("radius",),
    "model.rpn_head.boundary_kernel_size": (3,),
    "model.rpn_head.loss.cls_loss.type": ("FocalLoss",),
    "model.rpn_head.loss.reg_loss.type": ("DIOULoss",),
    "model.rpn_head.loss.iou_rate.type": ("GIOULoss",),
    "optimizer.type": ("AdamW",),
    "optimizer.paramwise": (True,),
    "scheduler.type": ("LinearWarmupCosineAnnealingLR",),
    "evaluation.type": ("mAP",),
    "inference.load_from_raw_predictions": (False,),
}
_DATASETS = ("ThumosPaddingDataset", "EpicKitchensPaddingDataset", "AnetPaddingDataset")
_RESIZED = "AnetResizeDataset"


def is_opentad(config: Mapping[str, Any]) -> bool:
    """Whether a config has OpenTAD's parts and not MMAction2's."""
    return {"model", "dataset", "solver"} <= set(config)


def convert_opentad(
    config: dict[str, Any], path: str | Path, out: str | Path, *, partial: bool = False
) -> tuple[list[str], list[str]]:
    """Write the recipe of a config as YAML.

    Args:
        config: its resolved values.
        path: its name, for messages.

    Returns:
        The recipe's notes, and what of the config has no counterpart.

    Raises:
        RecipeError: not one of the two models; or something has no counterpart and ``partial`` does not allow it.
    """
    try:
        recipe, left = translate_opentad(config, str(path))
    except (TypeError, AttributeError, KeyError, IndexError, ValueError) as error:
        raise RecipeError(f"{path}: not in the form of OpenTAD's configs ({type(error).__name__}: {error}).") from error
    return write_translated(recipe, left, path, out, partial)


def translate_opentad(config: dict[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    """The recipe's keys, and what of the config they do not hold (``key = value`` each)."""
    kind = config["model"].get("type")
    if kind == "BMN":
        from clipwise.convert.opentad_bmn import translate_bmn

        return translate_bmn(config, path)
    if kind not in ("ActionFormer", "TriDet"):
        raise RecipeError(f"{path}: model.type is {kind!r}; configs of ActionFormer, TriDet and BMN become recipes.")
    keys = Keys({key: value for key, value in config.items() if key in READ})
    keys.expect("model.type", kind)
    notes = [
        f"Translated from OpenTAD's {Path(path).name}.",
        "There annotated times are cut to whole frames, and the best candidates are taken over all levels together; here times stay, "
        "and candidates are counted level by level.",
    ]
    recipe: dict[str, Any] = {"task": "localization", "name": Path(path).stem, "model": kind.lower()}
    left: list[str] = []
    recipe |= _network(keys, kind)
    data = {part: keys.pull(f"dataset.{part}") for part in ("train", "val", "test")}
    _data(data, recipe, left, notes)
    _run(keys, recipe, notes)
    recipe["points"].setdefault("min_length", 0.0 if kind == "ActionFormer" else 0.05)
    left += account(keys, config, _FIXED, recipe["val"]["subset"], notes)
    return {**recipe, "notes": notes}, left


def _network(keys: Keys, kind: str) -> dict[str, Any]:
    """The model and its assignment of points."""
    width = keys.take("model.projection.out_channels")
    layers, stem, branch = keys.take("model.projection.arch")
    if layers != 2:
        keys.put("model.projection.arch", [layers, stem, branch])
    for place, value in (
        ("model.neck.in_channels", width), ("model.neck.out_channels", width), ("model.neck.num_levels", branch + 1),
        ("model.rpn_head.in_channels", width), ("model.rpn_head.prior_generator.strides", [2**i for i in range(branch + 1)]),
    ):  # fmt: skip
        keys.expect(place, value)
    classes = keys.take("model.rpn_head.num_classes")
    args = {
        "padding": "opentad",
        "width": width,
        "head_width": keys.take("model.rpn_head.feat_channels"),
        "num_levels": branch + 1,
        "num_stem": stem,
        "drop_path": keys.take("model.projection.path_pdrop", 0.0),
        "positions": keys.take("model.projection.use_abs_pe", False),
    }
    points = {
        "ranges": keys.take("model.rpn_head.prior_generator.regression_range"),
        "radius": keys.take("model.rpn_head.center_sample_radius"),
        "label_smoothing": keys.take("model.rpn_head.label_smoothing", 0.0),
        "distance_weight": keys.take("model.rpn_head.loss_weight", 1.0),
        "loss_norm": keys.take("model.rpn_head.loss_normalizer", 100),
    }
    if kind == "ActionFormer":
        args |= {
            "num_heads": keys.take("model.projection.attn_cfg.n_head"),
            "window": keys.take("model.projection.attn_cfg.n_mha_win_size"),
            "feature_dropout": keys.take("model.projection.input_pdrop", 0.0),
        }
    else:
        windows = keys.take("model.projection.sgp_win_size")
        if len(set(windows[1:])) != 1 or len(windows) != branch + 1:
            keys.put("model.projection.sgp_win_size", windows)
        elif windows[0] != windows[1]:  # the first one's blocks are the stem's, which have 1
            keys.aside.append(f"model.projection.sgp_win_size[0] = {windows[0]}, which plays no part")
        args |= {
            "mlp_width": keys.take("model.projection.sgp_mlp_dim"),
            "window": windows[-1],
            "reach": keys.take("model.projection.k"),
            "conv_std": keys.take("model.projection.init_conv_vars", 0),
            "input_noise": keys.take("model.projection.input_noise", 0.0),
            "num_bins": keys.take("model.rpn_head.num_bins", 16),
        }
        points["iou_power"] = keys.take("model.rpn_head.iou_weight_power", 0.2)
    return {
        "published": {"num_classes": classes},
        "feat_dim": keys.take("model.projection.in_channels"),
        "temporal_dim": keys.take("model.projection.max_seq_len"),
        "model_args": args,
        "points": points,
    }


def _data(parts: dict[str, Keys], recipe: dict[str, Any], left: list[str], notes: list[str]) -> None:
    """Files, subsets and crops; what val and test say must be what train says."""
    seen: dict[str, dict[str, Any]] = {}
    length = recipe["temporal_dim"]
    for name, part in parts.items():
        kind = part.take("type")
        if kind not in (*_DATASETS, _RESIZED):
            part.put("type", kind)
        part.expect("test_mode", name == "test")
        filtered(part, name, notes)
        stride, sample = part.take("feature_stride"), part.take("sample_stride", 1)
        found = seen[name] = {
            **part_files(part),
            "type": kind,
            "feature_stride * sample_stride": stride and stride * sample,
            "offset_frames": part.take("offset_frames"),
            "fps": part.take("fps"),
            "class_agnostic": part.take("class_agnostic", False),
        }
        if kind == _RESIZED:
            part.expect("resize_length", length)

        def steps(kind: str, step: Keys, found: dict[str, Any] = found, train: bool = name == "train") -> bool:
            if kind == "ResizeFeat" and found["type"] == _RESIZED:
                read_resize(step, found)
            elif kind == "Padding" and not train:  # to what the network pads anyway
                step.expect("length", length)
            elif kind == "RandomTrunc" and train:
                step.expect("trunc_len", length)
                recipe["points"] |= {"min_inside": step.take("trunc_thresh"), "crop": step.take("crop_ratio")}
            else:
                return False
            return True

        read_pipeline(part, name, found, left, steps)
        if found["type"] == _RESIZED:
            check_resized(name, found, left)
        left += [f"dataset.{name}.{line}" for line in part.left()]
    train, val = seen["train"], seen["val"]
    left += differences(seen, [key for key in train if key not in ("subset_name", "tool")])
    recipe |= {"features": train["data_path"], "annotations": train["ann_file"]}
    recipe["input"] = {
        "tolerant": True,
        "train_subset": train["subset_name"],
        "allow_missing": train["block_list"] is not None,
    }
    if train["type"] == _RESIZED:
        recipe["input"] |= {"rescale": "roi_align", "time_base": "starts"}
    else:
        clip = train["offset_frames"] and 2 * train["offset_frames"]
        recipe["input"] |= {
            "rescale": "none",
            "time_base": "strides",
            "stride": train["feature_stride * sample_stride"],
            "clip_frames": clip,
        }
        if train["fps"] not in (None, -1):
            recipe["input"]["feature_fps"] = train["fps"]
    if train["class_agnostic"]:  # nothing is too weak to be a candidate there
        recipe["points"] |= {"class_agnostic": True, "min_candidate": 0.0}
        recipe["model_args"]["num_classes"] = recipe.pop("published")["num_classes"]
    if train.get("feat_format") not in (None, "npy"):
        recipe["input"]["format"] = train["feat_format"]
    recipe["val"] = {"subset": val["subset_name"]}
    notes.append(
        f"Videos of {train['block_list']} are those without features here; classes are sorted by name, not by {train['class_map']}."
    )


def _run(keys: Keys, recipe: dict[str, Any], notes: list[str]) -> None:
    """Optimization, post-processing and bookkeeping."""
    kind = "hard"
    nms = "post_processing.nms"
    threshold = keys.take(f"{nms}.iou_threshold")
    if keys.take(f"{nms}.use_soft_nms", True):
        kind = "gaussian"
        if threshold:
            notes.append(f"post_processing.nms.iou_threshold = {threshold} plays no part in soft-NMS.")
    multiclass, voting = keys.take(f"{nms}.multiclass", True), keys.take(f"{nms}.voting_thresh", 0)
    recipe["nms"] = {
        "method": kind, "alpha": keys.take(f"{nms}.sigma", 0.5), "max_proposals": keys.take(f"{nms}.max_seg_num"),
        "min_score": keys.take(f"{nms}.min_score", 0.001), "class_wise": multiclass, "voting_weights": "score",
    }  # fmt: skip
    if kind == "hard":
        recipe["nms"]["threshold"] = threshold
    if voting and multiclass:
        notes.append(f"post_processing.nms.voting_thresh = {voting} plays no part class by class.")
    elif voting:
        recipe["nms"]["voting"] = voting
    recipe["points"]["candidates"] = keys.take("post_processing.pre_nms_topk", 2000)
    recipe["points"].setdefault("min_candidate", keys.take("post_processing.pre_nms_thresh", 0.001))
    external_scores(keys, notes)
    recipe["val"] |= {
        "tious": keys.take("evaluation.tiou_thresholds"), "batch_size": keys.take("solver.val.batch_size"),
        "every": keys.take("workflow.val_eval_interval", 1),
    }  # fmt: skip
    keys.expect("solver.test.batch_size", recipe["val"]["batch_size"])
    recipe |= {
        "seed": 42,
        "epochs": keys.take("scheduler.max_epoch"),
        "batch_size": keys.take("solver.train.batch_size"),
        "num_workers": keys.take("solver.train.num_workers", 2),
        "optimizer": "adamw",
        "lr": keys.take("optimizer.lr"),
        "weight_decay": keys.take("optimizer.weight_decay"),
        "grad_clip": keys.take("solver.clip_grad_norm"),
        "amp": "fp16" if keys.take("solver.amp", False) else "no",
        "optim": {"param_groups": "no_norm_bias"},
        "lr_schedule": "cosine",
        "warmup_epochs": keys.take("scheduler.warmup_epoch"),
        "schedule": {"by": "iteration", "warmup_start": 0, "warmup_to_last": True, "after_warmup": True,
                     "min_lr": keys.take("scheduler.eta_min", 1e-8)},
        "checkpoint": {"every": keys.take("workflow.checkpoint_interval", 1)},
        "log": {"every": keys.take("workflow.logging_interval", 20)},
    }  # fmt: skip
    if keys.take("solver.ema", False):
        recipe["ema_decay"] = 0.999
        recipe["optim"]["ema_ramp"] = False
