"""What the names and shapes of a checkpoint tell about its network; the names are ours (``convert_formats``)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from clipwise.errors import CheckpointError, RecipeError
from clipwise.io.text import plural
from clipwise.models.non_local import NonLocal
from clipwise.models.recognizer import Recognizer
from clipwise.models.registry import model_arguments
from clipwise.models.resnet import DEPTHS
from clipwise.models.tpn import TPN
from clipwise.models.tsm import TemporalShift


@dataclass
class Translation:
    """A checkpoint under our names.

    Attributes:
        tensors: our name to tensor, the shape still foreign.
        origin: our name to foreign name.
        ignored: foreign names that no model needs, with the reason.
        unused: foreign names without a counterpart.
        traits: what the keys tell about the network (see ``traits_of``).
        notes: sentences for the report.
        defaults: our name to value, of tensors that such files never have and no result depends on.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    traits: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    defaults: dict[str, Tensor] = field(default_factory=dict)

    def put(self, own: str, tensor: Tensor, foreign: str) -> None:
        if own in self.tensors:
            raise CheckpointError(f"the keys {self.origin[own]!r} and {foreign!r} both name {own!r}")
        self.tensors[own], self.origin[own] = tensor, foreign


def traits_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What names and shapes tell: depth, channels, classes, inflation ("time"), attention, neck."""
    if "backbone.conv1.weight" not in tensors:
        raise CheckpointError(
            f"the checkpoint has no first convolution; its first keys: {', '.join(list(tensors)[:4])}"
        )
    stem = tensors["backbone.conv1.weight"]
    blocks: dict[int, int] = {}
    for key in tensors:
        if found := re.match(r"backbone\.layer(\d)\.(\d+)\.", key):
            stage = int(found[1])
            blocks[stage] = max(blocks.get(stage, 0), int(found[2]) + 1)
    kind = "bottleneck" if "backbone.layer1.0.conv3.weight" in tensors else "basic"
    counts = tuple(blocks.get(stage, 0) for stage in (1, 2, 3, 4))
    depths = [d for d, spec in DEPTHS.items() if spec[:2] == (kind, counts) and spec[2][0] == stem.shape[0]]
    if not depths:
        raise CheckpointError(
            f"a ResNet with {counts} {kind} blocks and {plural(stem.shape[0], 'stem channel')} is not supported"
        )

    inflate, style = [], "3x1x1"
    for stage in (1, 2, 3, 4):
        first, second = (tensors.get(f"backbone.layer{stage}.0.conv{i}.weight") for i in (1, 2))
        over_time = [w is not None and spans_time(w) for w in (first, second)]
        inflate.append(int(any(over_time)))
        if over_time[1]:
            style = "3x3x3"
    non_local = None
    attention = {key.split(".non_local.")[1] for key in tensors if ".non_local." in key}
    if attention:
        non_local = "embedded_gaussian" if "theta.weight" in attention else "gaussian"
        non_local = "concatenation" if "project.weight" in attention else non_local
    video_kernels = stem.dim() == 5 or any(inflate)
    return {
        "depth": depths[0],
        "in_channels": stem.shape[1],
        "num_classes": tensors["fc.weight"].shape[0] if "fc.weight" in tensors else None,
        "time": "inflate" if video_kernels else None,  # None: not visible so far
        "inflate": tuple(inflate),
        "inflate_style": style,
        "non_local": non_local,
        "non_local_sub_sample": True,
        "neck": any(key.startswith("neck.") for key in tensors),
    }


def config_text(meta: Mapping[str, Any]) -> str | None:
    """The training config inside a checkpoint of MMAction2: ``meta.config`` in 0.x, ``meta.cfg`` in 1.x."""
    inner = meta.get("meta")
    found = (inner.get(key) for key in ("config", "cfg")) if isinstance(inner, Mapping) else ()
    return next((text for text in found if isinstance(text, str) and "_base_" not in text), None)


def told_by_config(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The network's settings by the config inside a checkpoint, under our names; empty where there is none that can be read."""
    from clipwise.convert.mmaction2.config_network import translate_model
    from clipwise.convert.mmaction2.consumed import Keys
    from clipwise.convert.mmaction2.python_config import read_config_text

    text = config_text(meta)
    if text is None:
        return {}
    try:
        model = Keys(read_config_text(text, "meta.config")).pull("model")
        segments = {"num_segments": model.take("backbone.num_segments", 8)}
        recipe = translate_model(model, "meta.config", [])
        return {**model_arguments(recipe["model"]), **recipe["model_args"], **segments}
    except (RecipeError, TypeError, AttributeError, KeyError, ValueError):
        return {}


def hidden_settings(model: nn.Module) -> dict[str, Any]:
    """The settings of a recognizer that neither names nor shapes of its weights show, and that change its scores."""
    if not isinstance(model, Recognizer):
        return {}
    body = model.backbone
    found: dict[str, Any] = {}
    if shift := shift_of(model):
        found |= {"shift_div": shift.div, "num_segments": model.num_segments}
    if body.is_3d:
        found |= {"with_pool1": body.with_pool1, "with_pool2": body.with_pool2}
    attention = next((module for module in body.modules() if isinstance(module, NonLocal)), None)
    if attention is not None:
        found["non_local"] = attention.mode
        if attention.mode == "embedded_gaussian":
            found["non_local_use_scale"] = attention.scale != 1.0
    if isinstance(model, TPN):
        scales = [int(op.scale) for op in model.neck.temporal]  # type: ignore[arg-type]
        found |= {"flow": model.neck.flow, "temporal_scales": scales}
    return found


def shift_of(model: Recognizer) -> TemporalShift | None:
    """One of a TSM's shifts, which are all alike."""
    return next((module for module in model.modules() if isinstance(module, TemporalShift)), None)


def spans_time(weight: Tensor) -> bool:
    """(O, I, t, k, k) or our (O, I, t, 1) with t > 1."""
    if weight.dim() == 5:
        return weight.shape[2] > 1
    return weight.dim() == 4 and weight.shape[2] > 1 and weight.shape[3] == 1


def see_shift(traits: dict[str, Any], tensors: Mapping[str, Tensor], wrapped: str) -> None:
    """Where MMAction2's and TSM's names show the shift: wrapped convolutions, blocks, stages."""
    if traits["non_local"]:
        pooled = r"(non_local_block|\.nl)\.g\.0\."
        traits["non_local_sub_sample"] = any(re.search(pooled, key) for key in tensors)
    if traits["time"] == "inflate":
        return
    in_conv = any(re.search(wrapped, key) for key in tensors)
    in_block = any(re.search(r"layer\d\.(net\.)?\d+\.(block\.)?net\.", key) for key in tensors)
    traits["time"] = "shift" if in_conv or in_block else "none"
    traits["shift_place"] = "block" if in_block else "blockres"
    traits["shift_downsample"] = False
    traits["temporal_pool"] = any(re.search(r"layer2\.net\.\d+\.", key) for key in tensors)
