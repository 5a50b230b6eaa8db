"""A config of OpenTAD's BMN on features that are resized to one length, as a recipe.

Its network has 128 channels in front of the boundary-matching layer, its labels are whole numbers, and its losses have no epsilon: settings of
ours (``matching_dim``, ``bmn.targets``, ``bmn.losses``). Sliding windows count positions of each video's own rate, which windows of a fixed
time do not; they are refused.
"""

from __future__ import annotations

from typing import Any

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

_FIXED: dict[str, tuple[Any, ...]] = {
    "model.projection.type": ("ConvSingleProj",),
    "model.projection.num_convs": (2,),
    "model.projection.conv_cfg.groups": (4,),
    "model.rpn_head.type": ("TemporalEvaluationHead",),
    "model.rpn_head.num_classes": (2,),
    "model.rpn_head.conv_cfg.groups": (4,),
    "model.rpn_head.loss.pos_thresh": (0.5,),
    "model.rpn_head.loss.gt_type": (["startness", "endness"],),
    "model.roi_head.type": ("StandardProposalMapHead",),
    "model.roi_head.proposal_generator.type": ("DenseProposalMap",),
    "model.roi_head.proposal_roi_extractor.type": ("BMNExtractor",),
    "model.roi_head.proposal_head.type": ("PEMHead",),
    "model.roi_head.proposal_head.num_convs": (2,),
    "model.roi_head.proposal_head.num_classes": (2,),
    "model.roi_head.proposal_head.loss.cls_loss.type": ("BalancedBCELoss",),
    "model.roi_head.proposal_head.loss.cls_loss.pos_thresh": (0.9,),
    "model.roi_head.proposal_head.loss.reg_loss.type": ("BalancedL2Loss",),
    "model.roi_head.proposal_head.loss.reg_loss.high_thresh": (0.7,),
    "model.roi_head.proposal_head.loss.reg_loss.low_thresh": (0.3,),
    "post_processing.nms.use_soft_nms": (True,),
    "post_processing.nms.multiclass": (False,),
    "post_processing.nms.iou_threshold": (0,),
    "evaluation.type": ("mAP", "Recall"),
    "evaluation.topk": ([1, 5, 10, 100],),
    "evaluation.max_avg_nr_proposals": (100,),
    "evaluation.tiou_thresholds": ([round(0.5 + 0.05 * i, 2) for i in range(10)],),
    "inference.load_from_raw_predictions": (False,),
    "optimizer.type": ("Adam",),
    "scheduler.type": ("MultiStepLR",),
    "solver.amp": (False,),
    "solver.ema": (False,),
}


def translate_bmn(config: dict[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    """As :func:`clipwise.convert.opentad.translate_opentad`."""
    keys = Keys({key: value for key, value in config.items() if key in READ})
    keys.expect("model.type", "BMN")
    left: list[str] = []
    notes = [
        f"Translated from OpenTAD's {path.rsplit('/', 1)[-1]}.",
        "Its initial weights are Xavier's, ours torch's own; a plateau of a curve counts as peak there; votes are taken among candidates there, "
        "among all cells here; found times are rounded to 0.01 s there.",
    ]
    recipe: dict[str, Any] = {
        "task": "localization",
        "name": path.rsplit("/", 1)[-1].removesuffix(".py"),
        "model": "bmn",
        **_network(keys),
    }
    recipe |= _data(keys, recipe["temporal_dim"], left, notes)
    run = _run(keys, notes)
    recipe["bmn"]["scores"], recipe["val"]["every"] = run.pop("bmn_scores"), run.pop("val_every")
    recipe |= run
    keys.set_aside("inference.test_epoch")
    left += account(keys, config, _FIXED, recipe["val"]["subset"], notes)
    return {**recipe, "notes": notes}, left


def _network(keys: Keys) -> dict[str, Any]:
    hidden = keys.take("model.projection.out_channels")
    head, extractor = "model.roi_head.proposal_head", "model.roi_head.proposal_roi_extractor"
    length, depth = (keys.take(f"{extractor}.{name}") for name in ("tscale", "dscale"))
    matching, map_dim = keys.take(f"{extractor}.out_channels"), keys.take(f"{head}.feat_channels")
    for place, value in (
        ("model.rpn_head.in_channels", hidden), (f"{extractor}.in_channels", hidden), (f"{extractor}.roi_channels", 4 * map_dim),
        (f"{head}.in_channels", matching), ("model.roi_head.proposal_generator.tscale", length),
        ("model.roi_head.proposal_generator.dscale", depth),
    ):  # fmt: skip
        keys.expect(place, value)
    if matching != map_dim:  # the layer behind the map has the extractor's channels, the convolutions the head's
        keys.put(f"{head}.feat_channels", map_dim)
    reg = keys.take(f"{head}.loss.reg_loss.weight", 1.0)
    return {
        "feat_dim": keys.take("model.projection.in_channels"),
        "temporal_dim": length,
        "model_args": {
            "max_duration": depth, "hidden_dim": hidden, "matching_dim": matching, "map_dim": map_dim,
            "boundary_ratio": keys.take(f"{extractor}.prop_extend_ratio", 0.5),
        },
        # its regression term lacks the factor of a half
        "bmn": {"targets": "opentad", "losses": "opentad", "proposals": "paddle", "loss_weights": [1.0, 2.0 * reg, 1.0]},
    }  # fmt: skip


def _data(keys: Keys, length: int, left: list[str], notes: list[str]) -> dict[str, Any]:
    seen: dict[str, dict[str, Any]] = {}
    for name in ("train", "val", "test"):
        part = keys.pull(f"dataset.{name}")
        part.expect("type", "AnetResizeDataset")  # HACS is read by it, too
        part.expect("test_mode", name == "test")
        part.expect("class_agnostic", True)
        part.expect("resize_length", length)
        filtered(part, name, notes)
        found = seen[name] = part_files(part)

        def resizes(kind: str, step: Keys, found: dict[str, Any] = found) -> bool:
            if kind != "ResizeFeat":
                return False
            read_resize(step, found)
            return True

        read_pipeline(part, name, found, left, resizes)
        check_resized(name, found, left)
        left += [f"dataset.{name}.{line}" for line in part.left()]
    train, val = seen["train"], seen["val"]
    left += differences(seen, ("ann_file", "data_path", "block_list", "class_map", "feat_format"))
    notes.append(f"Videos of {train['block_list']} are those without features here.")
    given: dict[str, Any] = {"rescale": "roi_align", "tolerant": True, "train_subset": train["subset_name"]}
    given["allow_missing"] = train["block_list"] is not None
    if train.get("feat_format") not in (None, "npy"):
        given["format"] = train["feat_format"]
    return {
        "features": train["data_path"],
        "annotations": train["ann_file"],
        "input": given,
        "val": {"subset": val["subset_name"]},
    }


def _run(keys: Keys, notes: list[str]) -> dict[str, Any]:
    nms = "post_processing.nms"
    kind, ranked = keys.take("post_processing.score_type", "iou"), keys.take("post_processing.proposal", False)
    rule: dict[str, Any] = {
        "alpha": keys.take(f"{nms}.sigma", 0.5),
        "max_proposals": keys.take(f"{nms}.max_seg_num", 100),
    }
    if kind not in ("iou", "iou*s*e"):
        keys.put("post_processing.score_type", kind)
    if ranked:  # the rule of BSN: a threshold that grows with the segment
        keys.expect(f"{nms}.method", 3)
        low, more = keys.take(f"{nms}.t1", 0.5), keys.take(f"{nms}.t2", 0.4)
        if low + more > 1:
            keys.put(f"{nms}.t2", more)
        rule |= {"low": low, "high": round(min(1.0, low + more), 6)}
    else:  # Gaussian, whatever the overlap
        keys.expect(f"{nms}.method", 2)
        rule |= {"low": 0.0, "high": 0.0}
    lowest = keys.take(f"{nms}.min_score", 0)
    if lowest:
        notes.append(f"{nms}.min_score = {lowest}: weaker proposals stay at the end of the list here.")
    voting = keys.take(f"{nms}.voting_thresh", 0)
    if voting:
        rule |= {"voting": voting, "voting_weights": "score"}
    external_scores(keys, notes)
    clip, epochs = keys.take("solver.clip_grad_norm"), keys.take("scheduler.max_epoch")
    batch = keys.take("solver.train.batch_size")
    recipe: dict[str, Any] = {
        "bmn_scores": "map" if kind == "iou" else "all",
        "nms": rule,
        "epochs": epochs,
        "batch_size": batch,
        "num_workers": keys.take("solver.train.num_workers", 2),
        "optimizer": "adam",
        "lr": keys.take("optimizer.lr"),
        "weight_decay": keys.take("optimizer.weight_decay"),
        "grad_clip": clip,
        "seed": 42,
        "lr_schedule": "step",
        "schedule": {"milestones": keys.take("scheduler.milestones"), "gamma": keys.take("scheduler.gamma", 0.1)},
        "checkpoint": {"every": keys.take("workflow.checkpoint_interval", 1)},
        "log": {"every": keys.take("workflow.logging_interval", 20)},
        "val_every": keys.take("workflow.val_eval_interval", 1),
    }
    if keys.take("optimizer.paramwise", False):
        recipe["optim"] = {"first_stage_decay": 10.0}
    for part in ("val", "test"):
        if (other := keys.take(f"solver.{part}.batch_size", batch)) != batch:
            keys.put(f"solver.{part}.batch_size", other)
    return recipe
