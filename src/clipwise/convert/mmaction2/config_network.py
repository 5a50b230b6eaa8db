"""The network of an MMAction2 config: model, its arguments, the weights that it starts from."""

from __future__ import annotations

from typing import Any

from clipwise.convert.mmaction2.consumed import Keys
from clipwise.convert.zoo import CATALOGUE
from clipwise.errors import RecipeError

FAMILIES = {  # backbone: our family, the head that it has, the head's dropout where the config is silent
    "ResNet": ("tsn", "TSNHead", 0.4),
    "ResNetTSM": ("tsm", "TSMHead", 0.8),
    "ResNet3dSlowOnly": ("slowonly", "I3DHead", 0.5),
}
BODY_ARGS = {  # key of the backbone, ours of the same name: MMAction2's default, in which families it has a meaning
    "norm_eval": (False, "tsn tsm slowonly"),
    "partial_bn": (False, "tsn tsm"),
    "frozen_stages": (-1, "tsn tsm slowonly"),
    "shift_div": (8, "tsm"),
    "shift_place": ("blockres", "tsm"),
    "temporal_pool": (False, "tsm"),
    "with_pool1": (True, "slowonly"),
    "with_pool2": (False, "slowonly"),
    "inflate": ([0, 0, 1, 1], "slowonly"),
    "inflate_style": ("3x1x1", "slowonly"),
}
BODY_FIXED = {  # what must hold for the body to be ours
    "num_stages": 4, "base_channels": 64, "strides": [1, 2, 2, 2], "spatial_strides": [1, 2, 2, 2], "temporal_strides": [1, 1, 1, 1],
    "dilations": [1, 1, 1, 1], "style": "pytorch", "lateral": False, "conv1_kernel": [1, 7, 7], "conv1_stride_s": 2,
    "conv1_stride_t": 1, "pool1_stride_s": 2, "pool1_stride_t": 1, "is_shift": True, "zero_init_residual": True, "pretrained2d": True,
    "torchvision_pretrain": True, "norm_cfg.requires_grad": True, "act_cfg.type": "ReLU", "act_cfg.inplace": True,
    "non_local_cfg.norm_cfg.type": "BN3d", "non_local_cfg.norm_cfg.requires_grad": True,
}  # fmt: skip
NECK_FIXED = {
    "in_channels": [1024, 2048],
    "out_channels": 1024,
    "upsample_cfg": {"scale_factor": [1, 1, 1]},
    "downsample_cfg": {"downsample_scale": [1, 1, 1]},
    "spatial_modulation_cfg": {"in_channels": [1024, 2048], "out_channels": 2048},
    "level_fusion_cfg": {"in_channels": [1024, 1024], "mid_channels": [1024, 1024], "out_channels": 2048,
                         "downsample_scales": [[1, 1, 1], [1, 1, 1]]},
}  # fmt: skip
NON_LOCAL = [[0, 0, 0], [1, 0, 1, 0], [1, 0, 1, 0, 1, 0], [0, 0, 0]]  # where SlowOnly's and TSM's blocks stand


def translate_model(model: Keys, path: str, notes: list[str]) -> dict[str, Any]:
    """The recipe's keys of ``config.model``; what is left in ``model`` has no counterpart.

    Raises:
        RecipeError: another network than TSN, TSM, SlowOnly and TPN.
    """
    if (whole := model.take("type")) == "BMN":
        raise RecipeError(
            f"{path}: BMN configs are not translated; choose a recipe of `clipwise recipes` (bmn_…) and give features=… annotations=…"
        )
    kind, head, neck = model.take("backbone.type"), model.take("cls_head.type"), model.take("neck.type")
    family, usual_head, dropout = FAMILIES.get(kind, ("", "", 0.0))
    body = family
    if neck == "TPN" and body in ("tsm", "slowonly"):
        family, usual_head, dropout = f"tpn_{family}", "TPNHead", 0.4
    if head != usual_head or neck not in (None, "TPN"):
        raise RecipeError(
            f"{path}: a model of {kind}, {neck or 'no neck'} and {head} is not in clipwise, which has TSN (ResNet, TSNHead), TSM "
            "(ResNetTSM, TSMHead), SlowOnly (ResNet3dSlowOnly, I3DHead) and TPN (TPNHead) on the last two."
        )
    if whole != ("Recognizer3D" if body == "slowonly" else "Recognizer2D"):
        model.put("type", whole)
    depth = model.take("backbone.depth", 50)
    recipe: dict[str, Any] = {
        "model": f"{family}_r{depth}",
        "model_args": _body(model, body),
        "num_classes": model.take("cls_head.num_classes"),
        "grad_checkpointing": bool(model.take("backbone.with_cp", False)),
        "multi_label": bool(model.take("cls_head.multi_class", False)),
        "label_smoothing": model.take("cls_head.label_smooth_eps", 0.0),
        "max_views": model.take("test_cfg.max_testing_views"),
    }
    recipe["init"] = _weights(model, str(depth))
    recipe["model_args"] |= _non_local(model, recipe)
    _head(model, family, dropout, recipe, notes)
    if neck:
        _neck(model, recipe)
    recipe["sync_bn"] = (norm := model.take("backbone.norm_cfg.type", "BN")) == "SyncBN"
    if norm not in ("BN", "BN2d", "BN3d", "SyncBN"):
        model.put("backbone.norm_cfg.type", norm)
    wide = 2048 if depth in (50, 101, 152) else 512
    model.expect("backbone.out_indices", [2, 3] if neck else [3])
    model.expect("cls_head.in_channels", wide)
    model.expect("backbone.conv_cfg", None, {"type": "Conv3d" if body == "slowonly" else "Conv"})
    for key, value in BODY_FIXED.items():
        model.expect(f"backbone.{key}", value)
    return recipe


def _body(model: Keys, family: str) -> dict[str, Any]:
    """The settings of the body that differ from MMAction2's defaults, which are ours too."""
    args = {}
    for key, (usual, families) in BODY_ARGS.items():
        if family not in families.split():
            model.expect(f"backbone.{key}", usual)
        elif (value := model.take(f"backbone.{key}", usual)) != usual:
            args[key] = value
    return args


def _non_local(model: Keys, recipe: dict[str, Any]) -> dict[str, Any]:
    blocks = model.take("backbone.non_local") or [0]
    if blocks == NON_LOCAL:
        recipe["model"] += "_nl"
        found = {
            "non_local": model.take("backbone.non_local_cfg.mode", "embedded_gaussian"),
            "non_local_use_scale": model.take("backbone.non_local_cfg.use_scale", True),
        }
        if not model.take("backbone.non_local_cfg.sub_sample", False):
            found["non_local_sub_sample"] = False
        return found
    if any(any(b) if isinstance(b, list) else b for b in blocks):
        model.put("backbone.non_local", blocks)
    return {}


def _head(model: Keys, family: str, dropout: float, recipe: dict[str, Any], notes: list[str]) -> None:
    args = recipe["model_args"]
    args["dropout"] = model.take("cls_head.dropout_ratio", dropout)
    usual = 0.001 if family == "tsm" else 0.01
    if (std := model.take("cls_head.init_std", usual)) != usual:
        args["fc_std"] = std
    model.expect("cls_head.spatial_type", "avg")
    model.expect("cls_head.consensus", {"type": "AvgConsensus", "dim": 1})
    model.expect("cls_head.is_shift", True)
    if (pooled := model.take("cls_head.temporal_pool", False)) != args.get("temporal_pool", False):
        model.put("cls_head.temporal_pool", pooled)
    model.expect("cls_head.loss_cls", {"type": "CrossEntropyLoss"}, {"type": "CrossEntropyLoss", "loss_weight": 1.0})
    model.set_aside("cls_head.topk", [1, 5])
    given = model.take("cls_head.average_clips")
    averaging = model.take("test_cfg.average_clips") if given is None else given
    if averaging is None:
        # TSN's head averages raw scores over everything that it is given; the 3-D recognizer returns each view's.
        averaging = "none" if family.endswith("slowonly") else "score"
    recipe["average_clips"] = averaging
    model.expect("test_cfg.feature_extraction", False)
    if family.startswith("tpn"):  # a 1×1 convolution before the mean gives what the linear layer gives after it
        model.set_aside("test_cfg.fcn_test", True)
        if args["dropout"] != 0.5:
            notes.append(f"dropout {args['dropout']} applies to TPN's auxiliary head too; MMAction2's is fixed at 0.5.")


def _neck(model: Keys, recipe: dict[str, Any]) -> None:
    args = recipe["model_args"]
    if (flow := model.take("neck.flow_type", "cascade")) != "cascade":
        args["flow"] = flow
    if (scales := model.take("neck.temporal_modulation_cfg.downsample_scales", [8, 8])) != [8, 8]:
        args["temporal_scales"] = scales
    auxiliary = model.pull("neck.aux_head_cfg")
    if not auxiliary.values:
        args["aux_weight"] = 0.0
    elif (weight := auxiliary.take("loss_weight", 0.5)) != 0.5:
        args["aux_weight"] = weight
    auxiliary.expect("out_channels", recipe["num_classes"])
    auxiliary.expect("loss_cls", {"type": "CrossEntropyLoss"})
    for key, value in auxiliary.values.items():
        model.put(f"neck.aux_head_cfg.{key}", value)
    for key, value in NECK_FIXED.items():
        model.expect(f"neck.{key}", value)


def _weights(model: Keys, depth: str) -> str | None:
    """``init`` of the pretrained weights: torchvision's first version by its name here, anything else by its address."""
    weights = model.take("backbone.pretrained")
    if (inner := model.pull("backbone.init_cfg")).values:
        if weights is None and inner.take("type") == "Pretrained" and "prefix" not in inner.values:
            weights = inner.take("checkpoint")
        for key, value in inner.values.items():
            model.put(f"backbone.init_cfg.{key}", value)
    if weights is None:
        return None
    scheme, _, rest = str(weights).partition("://")
    if scheme in ("torchvision", "modelzoo") and rest == f"resnet{depth}":
        return "imagenet"
    if scheme in ("http", "https") or "://" not in str(weights):
        return name_of_weights(str(weights))
    model.put("backbone.pretrained", weights)
    return None


def name_of_weights(address: str) -> str:
    """The zoo's name of published weights, or the address (or path) itself."""
    return next((name for name, weights in CATALOGUE.items() if weights.url == address), address)
