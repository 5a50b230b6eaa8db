"""Weights of ActionFormer's and TriDet's published code, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

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
