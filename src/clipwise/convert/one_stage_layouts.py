"""Weights of ActionFormer and TriDet, of their published code and of OpenTAD, by name.

OpenTAD's files hold the same networks under other names, but not the same function: it masks the padding once more after norm and
activation, leaves the heads' last convolutions unmasked, and has another epsilon in the norms outside of the blocks. That is the
model's setting ``padding``, which neither names nor shapes show in our model; it follows from whose names the file has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clipwise.convert.traits import Translation
from clipwise.errors import CheckpointError
from clipwise.io.foreign import WEIGHTS_TAKEN

_OPENTAD = [  # to the published name
    (r"^projection\.embed\.(\d+)\.conv\.", r"backbone.embd.\1.conv."),
    (r"^projection\.embed\.(\d+)\.norm\.", r"backbone.embd_norm.\1."),
    (r"^projection\.(stem|branch)\.", r"backbone.\1."),
    (r"^rpn_head\.cls_convs\.(\d+)\.conv\.", r"cls_head.head.\1.conv."),
    (r"^rpn_head\.cls_convs\.(\d+)\.norm\.", r"cls_head.norm.\1."),
    (r"^rpn_head\.cls_(start|end)_convs\.(\d+)\.conv\.", r"\1_head.head.\2.conv."),
    (r"^rpn_head\.cls_(start|end)_convs\.(\d+)\.norm\.", r"\1_head.norm.\2."),
    (r"^rpn_head\.reg_convs\.(\d+)\.conv\.", r"reg_head.head.\1.conv."),
    (r"^rpn_head\.reg_convs\.(\d+)\.norm\.", r"reg_head.norm.\1."),
    (r"^rpn_head\.cls_head\.", "cls_head.cls_head.conv."),
    (r"^rpn_head\.cls_(start|end)_head\.", r"\1_head.cls_head.conv."),
    (r"^rpn_head\.reg_head\.", "reg_head.offset_head.conv."),
    (r"^rpn_head\.scale\.", "reg_head.scale."),
    (r"^rpn_head\.loss_normalizer$", "loss_norm"),
]
_PUBLISHED_MARK, _OPENTAD_MARK = "backbone.embd.0.conv.weight", "projection.embed.0.conv.weight"

_RULES = [
    (r"^module\.", ""),
    (r"^backbone\.embd\.(\d+)\.conv\.", r"backbone.embed.layers.\1.conv."),
    (r"^backbone\.embd_norm\.(\d+)\.", r"backbone.embed.layers.\1.norm."),
    (r"^neck\.fpn_norms\.", "backbone.norms."),
    (r"\.attn\.(query|key|value)_conv\.conv\.", r".attention.\1.conv."),
    (r"\.attn\.(query|key|value)_norm\.", r".attention.\1.norm."),
    (r"\.attn\.(query|key|value)\.", r".attention.\1.linear."),
    (r"\.attn\.proj\.", ".attention.out."),
    (r"\.ln(\d)\.", r".norm\1."),
    (r"\.mlp\.3\.", ".mlp.2."),
    (r"\.drop_path_(attn|out)\.scale$", ".residual1.scale"),
    (r"\.drop_path_mlp\.scale$", ".residual2.scale"),
    (r"\.ln\.", ".norm."),
    (r"\.gn\.", ".group_norm."),
    (r"\.psi\.", ".gate."),
    (r"\.fc\.", ".point."),
    (r"\.convw\.", ".near."),
    (r"\.convkw\.", ".far."),
    (r"\.global_fc\.", ".mean_gate."),
    (r"^(cls|start|end|reg)_head\.head\.(\d+)\.conv\.", r"\1_head.layers.\2.conv."),
    (r"^(cls|start|end|reg)_head\.norm\.(\d+)\.", r"\1_head.layers.\2.norm."),
    (r"^(cls|start|end)_head\.cls_head\.conv\.", r"\1_head.last."),
    (r"^reg_head\.offset_head\.conv\.", "reg_head.last."),
    (r"^cls_head\.", "classes."),
    (r"^start_head\.", "starts."),
    (r"^end_head\.", "ends."),
]
_SCALE = re.compile(r"^(?:module\.)?reg_head\.scale\.(\d+)\.scale$")


def one_stage_name(name: str, distances: str) -> str:
    """Our name of a published tensor.

    Args:
        distances: what the model calls its regression head: "distances" (ActionFormer) or "bins" (TriDet).
    """
    for pattern, ours in _RULES:
        name = re.sub(pattern, ours, name)
    return re.sub(r"^reg_head\.", f"{distances}.", name)


def convert_one_stage(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights of ActionFormer or TriDet under our names and in our shapes.

    Args:
        state: parameter name to tensor, with or without ``module.``.
    """
    distances = "bins" if any("start_head." in name for name in state) else "distances"
    scales = {int(match[1]): value for name, value in state.items() if (match := _SCALE.match(name))}
    found = {f"{distances}.scales": torch.stack([scales[i] for i in sorted(scales)])} if scales else {}
    for name, value in state.items():
        if _SCALE.match(name):
            continue
        ours = one_stage_name(name, distances)
        norm = re.search(r"norm\w*\.(?:\d+\.)?(weight|bias)$", ours) and value.dim() == 3  # (1, C, 1) there
        found[ours] = value.flatten() if norm else value
    return found


def recognize_one_stage(tensors: Mapping[str, Any]) -> bool:
    """Whether these are names of ActionFormer or TriDet, published or OpenTAD's."""
    return any(f"{prefix}{mark}" in tensors for mark in (_PUBLISHED_MARK, _OPENTAD_MARK) for prefix in ("", "module."))


def one_stage_settings(tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """The model, and the settings of it that a file's names and shapes show, ``padding`` among them.

    Raises:
        CheckpointError: neither of the two networks.
    """
    named, opentad = _published_names(tensors)
    return _settings(convert_one_stage(named), opentad)


def translate_one_stage(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    """A file of ActionFormer or TriDet under our names."""
    named, opentad = _published_names(tensors)
    state = convert_one_stage(named)
    model, args = _settings(state, opentad)
    out = Translation(traits={"model": model, "model_args": args})
    origins = {one_stage_name(theirs, "bins" if model == "tridet" else "distances"): key for key, theirs in
               zip(tensors, named)}  # fmt: skip
    for name, tensor in state.items():
        out.put(name, tensor, origins.get(name, "rpn_head.scale.*" if opentad else "reg_head.scale.*"))
    target = meta.get("target")
    norm = getattr(target, "loss_norm", None)
    if "loss_norm" not in state:
        known = norm.clone() if isinstance(norm, Tensor) and not norm.is_meta else torch.zeros(())
        out.defaults["loss_norm"] = known
        out.notes.append(
            "the running number of positive points is not in such files: further training starts with the recipe's"
        )
    whose = "OpenTAD's" if opentad else "the published"
    out.notes.append(f"{whose} {model}: padding={args['padding']!r}")
    if used := meta.get(WEIGHTS_TAKEN):
        out.notes.append(f"weights of {used} are taken, as the projects' own evaluation does")
    if getattr(target, "padding", None) is not None:
        out.notes.append(
            f"names and shapes do not show {_hidden(target)}: the recipe's are kept, make sure that they are the file's"
        )
    return out


def _published_names(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The tensors by published names, in their order, and whether they had OpenTAD's."""
    plain = {name.removeprefix("module."): value for name, value in tensors.items()}
    if _OPENTAD_MARK not in plain:
        return plain, False
    named = {}
    for name, value in plain.items():
        theirs = name
        for pattern, published in _OPENTAD:
            theirs = re.sub(pattern, published, theirs)
        if theirs in named:
            raise CheckpointError(f"two names of the file stand for {theirs!r}, one of them {name!r}")
        named[theirs] = value
    return named, True


def _settings(state: Mapping[str, Tensor], opentad: bool) -> tuple[str, dict[str, Any]]:
    model = "tridet" if "bins.last.weight" in state else "actionformer"
    head = "bins" if model == "tridet" else "distances"
    try:
        args: dict[str, Any] = {
            "feat_dim": state["backbone.embed.layers.0.conv.weight"].shape[1],
            "num_classes": state["classes.last.weight"].shape[0],
            "width": state["backbone.embed.layers.1.conv.weight"].shape[0],
            "head_width": state["classes.last.weight"].shape[1],
            "num_levels": len(state[f"{head}.scales"]),
            "num_stem": 1 + max((int(found[1]) for name in state if (found := re.match(r"backbone\.stem\.(\d+)\.", name))), default=-1),
            "padding": "opentad" if opentad else "published",
        }  # fmt: skip
        if model == "tridet":
            args["mlp_width"] = state["backbone.branch.0.mlp.0.weight"].shape[0]
            args["window"] = state["backbone.branch.0.near.weight"].shape[2]
            args["num_bins"] = state["bins.last.weight"].shape[0] // 2 - 1
    except KeyError as missing:
        raise CheckpointError(
            f"this looks like the weights of {model}, but {missing} (our name) is missing in it; the file is incomplete, or of a variant "
            "that is not here"
        ) from None
    return model, args


def _hidden(model: Any) -> str:
    """What of a model's settings changes its results but no name or shape."""
    found: dict[str, Any] = {"temporal_dim": model.temporal_dim, "positions": model.backbone.embed.table is not None}
    attention = getattr(model.backbone.stem[0] if len(model.backbone.stem) else None, "attention", None)
    if attention is not None:
        blocks = [*model.backbone.stem[:1], *model.backbone.branch]
        windows = [-1 if b.attention.reach is None else 2 * b.attention.reach + 1 for b in blocks]
        found |= {"num_heads": attention.heads, "window": windows[0] if len(set(windows)) == 1 else windows}
    return ", ".join(f"{key}={value!r}" for key, value in found.items())
