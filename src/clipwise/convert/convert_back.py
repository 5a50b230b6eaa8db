"""Our weights as a file that MMAction2 loads (the names are the same in 0.x and 1.x)."""

import io
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipwise.convert.layouts import rename
from clipwise.convert.traits import shift_of, spans_time
from clipwise.errors import CheckpointError
from clipwise.io.files import atomic_path
from clipwise.models.recognizer import Recognizer


def to_mmaction2(state_dict: Mapping[str, Tensor], model: nn.Module) -> "OrderedDict[str, Tensor]":
    """Our weights under MMAction2's names and shapes (the same in 0.x and 1.x).

    Args:
        state_dict: the model's, or a trained copy of it.
        model: the model that it belongs to; its structure decides the names.

    Raises:
        CheckpointError: a network that MMAction2 does not have (reversed or one-sided shift, shifted projections).
    """
    if not isinstance(model, Recognizer):
        from clipwise.convert.bmn_layouts import bmn_to_mmaction2
        from clipwise.models.bmn import BMN

        if not isinstance(model, BMN):
            raise CheckpointError(
                f"MMAction2 has no {type(model).__name__}, so there is nothing that could load the file."
            )
        args = {"sampling": model.sampling, "layout": model.layout}
        return OrderedDict(bmn_to_mmaction2(state_dict, args))
    shift = shift_of(model)
    for setting, chosen in (
        ("reverse_shift", shift and shift.reverse),
        ("shift_downsample", model.backbone.shift_downsample),
        ("online_shift", shift and shift.online),
    ):
        if chosen:
            raise CheckpointError(
                f"MMAction2 has no network with {setting}=True; it would load the file and score nonsense"
            )
    out: OrderedDict[str, Tensor] = OrderedDict()
    for key, tensor in state_dict.items():
        if key.startswith("backbone."):
            name, volume = _mmaction2_body(key, model)
        else:
            name, volume = _mmaction2_rest(key), not key.startswith(("fc.", "aux_head.fc."))
        if volume and tensor.dim() == 4:
            # (O, I, t, 1) -> (O, I, t, 1, 1); (O, I, k, k) -> (O, I, 1, k, k)
            tensor = tensor.unsqueeze(4 if spans_time(tensor) else 2)
        out[name] = tensor.detach().cpu().contiguous().clone()
    return out


def _mmaction2_body(key: str, model: Recognizer) -> tuple[str, bool]:
    """The name there, and whether a kernel has five extents there."""
    body = model.backbone
    found = re.fullmatch(r"backbone\.layer(\d)\.(\d+)\.(.+)", key)
    if not found:
        return re.sub(r"^backbone\.(conv1|bn1)\.", lambda m: f"backbone.conv1.{m[1][:-1]}.", key), body.is_3d
    stage, index, rest = found.groups()
    block: Any = body.get_submodule(f"layer{stage}.{index}")
    prefix = f"backbone.layer{stage}." + ("net." if body.temporal_pool and stage == "2" else "") + index
    if rest.startswith("non_local."):
        part, leaf = rest.removeprefix("non_local.").rsplit(".", 1)
        pooled = ".0" if isinstance(block.non_local.pool, nn.MaxPool2d) and part in ("g", "phi") else ""
        there = {"out": "conv_out.conv", "bn": "conv_out.bn", "project": "concat_project.conv"}.get(
            part, f"{part}{pooled}.conv"
        )
        return f"{prefix}.non_local_block.{there}.{leaf}", True
    wrapped = block.non_local is not None and not body.is_3d
    in_block = block.shift is not None and block.shift_place == "block"
    prefix += (".block" if wrapped else "") + (".net" if in_block else "")
    net = ".net" if block.shift is not None and not in_block else ""
    rest = re.sub(r"^downsample\.0\.", "downsample.conv.", rest)
    rest = re.sub(r"^downsample\.1\.", "downsample.bn.", rest)
    rest = re.sub(r"^conv1\.", f"conv1.conv{net}.", rest)
    rest = re.sub(r"^conv([23])\.", r"conv\1.conv.", rest)
    rest = re.sub(r"^bn(\d)\.", r"conv\1.bn.", rest)
    return f"{prefix}.{rest}", body.is_3d


def _mmaction2_rest(key: str) -> str:
    rules = (
        (r"^fc\.", "cls_head.fc_cls."),
        (r"^aux_head\.conv\.", "neck.aux_head.conv."),
        (r"^aux_head\.fc\.", "neck.aux_head.fc."),
        (r"^neck\.spatial\.", "neck.spatial_modulation.spatial_modulation.0.0."),
        (r"^neck\.temporal\.(\d)\.conv\.", r"neck.temporal_modulation_ops.\1.conv.conv."),
        (r"^neck\.down\.conv\.", "neck.downsample_ops.0.conv.conv."),
        (r"^neck\.fusion\.", "neck.pyramid_fusion."),
        (r"^neck\.top_down\.", "neck.level_fusion_1."),
        (r"^neck\.bottom_up\.", "neck.level_fusion_2."),
        (r"\.levels\.(\d)\.(conv|bn)\.", r".downsamples.\1.conv.\2."),
        (r"(level_fusion_\d)\.fusion\.", r"\1.fusion_conv."),
    )
    return rename(key, rules)


def save_mmaction2(
    path: str | Path,
    state_dict: Mapping[str, Tensor],
    model: nn.Module,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write a ``.pth`` that MMAction2 0.x and 1.x load: ``{'meta': …, 'state_dict': …}``."""
    archive = io.BytesIO()
    torch.save({"meta": dict(meta or {}), "state_dict": to_mmaction2(state_dict, model)}, archive)
    with atomic_path(path) as temporary:
        temporary.write_bytes(archive.getbuffer())
