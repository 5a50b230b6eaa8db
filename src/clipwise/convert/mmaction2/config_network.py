"""The network of a config: model, its arguments, where its weights start."""

from __future__ import annotations

from typing import Any

from clipwise.convert.mmaction2.consumed import FOLLOWS, Keys
from clipwise.errors import RecipeError

FAMILIES = {  # backbone: our family, the heads that it may have, the head's dropout where the config is silent
    "ResNet": ("tsn", ("TSNHead",), 0.4),
    "ResNetTSM": ("tsm", ("TSMHead",), 0.8),
    "ResNet3dSlowOnly": ("slowonly", ("I3DHead",), 0.5),
}
MODEL_ARGS = {  # key of the config's model: key of model_args, what it is where the config is silent
    "backbone.norm_eval": ("norm_eval", False),
    "backbone.partial_bn": ("partial_bn", False),
    "backbone.frozen_stages": ("frozen_stages", -1),
    "backbone.shift_div": ("shift_div", 8),
    "backbone.shift_place": ("shift_place", "blockres"),
    "backbone.temporal_pool": ("temporal_pool", False),
    "backbone.with_pool1": ("with_pool1", True),
    "backbone.with_pool2": ("with_pool2", False),
    "backbone.inflate": ("inflate", [0, 0, 1, 1]),
    "backbone.inflate_style": ("inflate_style", "3x1x1"),
    "neck.flow_type": ("flow", "cascade"),
    "neck.temporal_modulation_cfg.downsample_scales": ("temporal_scales", [8, 8]),
    "neck.aux_head_cfg.loss_weight": ("aux_weight", 0.5),
}
MODEL_FIXED = {  # what must hold for the network to be ours
    "backbone.lateral": False,
    "backbone.conv1_kernel": [1, 7, 7],
    "backbone.conv1_stride_t": 1,
    "backbone.pool1_stride_t": 1,
    "backbone.style": "pytorch",
    "backbone.is_shift": True,
    "cls_head.spatial_type": "avg",
    "cls_head.consensus": {"type": "AvgConsensus", "dim": 1},
    "cls_head.is_shift": True,
    "neck.upsample_cfg": {"scale_factor": [1, 1, 1]},
    "neck.downsample_cfg": {"downsample_scale": [1, 1, 1]},
} | dict.fromkeys(
    ("data_preprocessor.type", "data_preprocessor.format_shape", "backbone.out_indices", "backbone.num_segments",
     "backbone.non_local_cfg.norm_cfg", "backbone.norm_cfg.requires_grad", "cls_head.type", "cls_head.in_channels",
     "cls_head.num_segments", "cls_head.temporal_pool", "test_cfg.fcn_test", "neck.in_channels", "neck.out_channels",
     "neck.spatial_modulation_cfg", "neck.level_fusion_cfg", "neck.aux_head_cfg.out_channels"), FOLLOWS)  # fmt: skip
NON_LOCAL = [[0, 0, 0], [1, 0, 1, 0], [1, 0, 1, 0, 1, 0], [0, 0, 0]]  # where SlowOnly's and TSM's blocks stand


def translate_model(model: Keys, path: str) -> dict[str, Any]:
    if (whole := model.take("type")) == "BMN":
        raise RecipeError(
            f"{path}: BMN's configs are not translated; take a recipe of `clipwise recipes` (bmn_…) and give it features=…, annotations=…"
        )
    kind, head, neck = model.take("backbone.type"), model.take("cls_head.type"), model.take("neck.type")
    family, heads, dropout = FAMILIES.get(kind, ("", (), 0.0))
    if neck == "TPN" and family in ("tsm", "slowonly"):
        family, heads, dropout = f"tpn_{family}", ("TPNHead",), 0.4
    if head not in heads or neck not in (None, "TPN"):
        raise RecipeError(
            f"{path}: a model of {kind}, {neck or 'no neck'} and {head} is not in clipwise, which has TSN (ResNet, TSNHead), TSM "
            "(ResNetTSM, TSMHead), SlowOnly (ResNet3dSlowOnly, I3DHead) and TPN (TPNHead) on the last two."
        )
    if whole not in ("Recognizer2D", "Recognizer3D"):
        model.put("type", whole)
    name = f"{family}_r{model.take('backbone.depth', 50)}"
    args: dict[str, Any] = {"dropout": model.take("cls_head.dropout_ratio", dropout)}
    std = model.take("cls_head.init_std", usual_std := 0.001 if family == "tsm" else 0.01)
    if std != usual_std:
        args["fc_std"] = std
    for theirs, (ours, usual) in MODEL_ARGS.items():
        value = model.take(theirs, usual)
        if value != usual:
            args[ours] = value
    blocks = model.take("backbone.non_local") or [0]
    if blocks == NON_LOCAL:
        name += "_nl"
        args["non_local"] = model.take("backbone.non_local_cfg.mode", "embedded_gaussian")
        args["non_local_use_scale"] = model.take("backbone.non_local_cfg.use_scale", True)
        sub_sample = model.take("backbone.non_local_cfg.sub_sample", False)
        if not sub_sample:
            args["non_local_sub_sample"] = False
    elif any(any(b) if isinstance(b, list) else b for b in blocks):
        model.put("backbone.non_local", blocks)
    weights = model.take("backbone.pretrained")
    if isinstance(weights, str) and (weights.startswith("torchvision://resnet") or "/models/resnet" in weights):
        weights = "imagenet"
    norm = model.take("backbone.norm_cfg.type", "BN")
    if norm not in ("BN", "BN2d", "BN3d", "SyncBN"):
        model.put("backbone.norm_cfg.type", norm)
    if (averaging := model.take("cls_head.average_clips") or model.take("test_cfg.average_clips")) is None:
        # TSN's head averages raw scores over everything that it is given; the 3-D recognizer returns each view's.
        averaging = "none" if family.endswith("slowonly") else "score"
    return {
        "model": name,
        "model_args": args,
        "num_classes": model.take("cls_head.num_classes"),
        "init": weights,
        "init_first_conv": "random" if model.take("backbone.in_channels", 3) != 3 and weights else None,
        "grad_checkpointing": bool(model.take("backbone.with_cp", False)),
        "sync_bn": norm == "SyncBN",
        "multi_label": bool(model.take("cls_head.multi_class", False)),
        "average_clips": averaging,
        "max_views": model.take("test_cfg.max_testing_views"),
        "label_smoothing": model.take("cls_head.label_smooth_eps", 0.0),
    }
