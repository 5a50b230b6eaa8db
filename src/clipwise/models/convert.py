"""Weights of other projects, by name, there and back.

    checkpoint = read_foreign_checkpoint("tsm_r50.pth")
    name, args = guess_model(checkpoint)
    model = create_model(name, **args)
    load_converted(model, convert_state_dict(checkpoint, model))

A format is recognised by its keys. Each has one function that turns its names into ours; shapes are fitted afterwards (our
kernels drop extents of one). What the keys tell about the network — where it shifts, inflates, attends — is compared with
the model, since many of these networks share names and shapes and would load into one another without complaint.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipwise.errors import CheckpointError
from clipwise.models import create_model, list_models
from clipwise.models.foreign import ForeignCheckpoint, read_foreign_checkpoint, split_checkpoint
from clipwise.models.init import inflate_kernel, load_imagenet
from clipwise.models.recognizer import Recognizer
from clipwise.models.resnet import DEPTHS
from clipwise.models.tpn import TPN

__all__ = [
    "FORMATS",
    "ConversionReport",
    "ForeignCheckpoint",
    "Format",
    "Translation",
    "convert_state_dict",
    "guess_model",
    "load_converted",
    "load_imagenet",
    "read_foreign_checkpoint",
    "save_mmaction2",
    "to_mmaction2",
]


@dataclass
class Translation:
    """A checkpoint under our names.

    Attributes:
        tensors: our name to tensor, the shape still foreign.
        origin: our name to foreign name.
        ignored: foreign names that no model needs, with the reason.
        unused: foreign names without a counterpart.
        traits: what the keys tell about the network (see ``_traits``).
        notes: sentences for the report.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    traits: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def put(self, own: str, tensor: Tensor, foreign: str) -> None:
        if own in self.tensors:
            raise CheckpointError(f"the keys {self.origin[own]!r} and {foreign!r} both name {own!r}")
        self.tensors[own], self.origin[own] = tensor, foreign


@dataclass(frozen=True)
class Format:
    """One project's checkpoints.

    Attributes:
        name: as people call it.
        recognise: do these keys look like one of its files?
        translate: tensors by foreign name, and the file's other content, to ``Translation``.
    """

    name: str
    recognise: Callable[[Mapping[str, Tensor]], bool]
    translate: Callable[[Mapping[str, Tensor], Mapping[str, Any]], Translation]


@dataclass
class ConversionReport:
    """The result of a conversion; nothing is loaded yet.

    Attributes:
        state_dict: our name to tensor, in the model's shapes; complete if ``complete``.
        matched: (foreign name, our name).
        missing: names of the model that the file does not have.
        unused: names of the file that the model does not have.
        mismatched: names with both shapes, where they differ.
        conflicts: why the file belongs to another network, although names and shapes may fit.
        ignored: names of the file that are not needed, with the reason.
        notes: what else is worth saying.
        source_format: the recognised format.
    """

    state_dict: dict[str, Tensor]
    matched: list[tuple[str, str]]
    missing: list[str]
    unused: list[str]
    mismatched: list[str]
    conflicts: list[str]
    ignored: dict[str, str]
    notes: list[str]
    source_format: str

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unused or self.mismatched or self.conflicts)

    def summary(self) -> str:
        """The whole report as text."""
        lines = [
            f"format: {self.source_format}; {len(self.matched)} tensors matched, {len(self.missing)} missing, "
            f"{len(self.unused)} unused, {len(self.mismatched)} of another shape, {len(self.ignored)} ignored"
        ]
        lines += [f"another network: {text}" for text in self.conflicts]
        lines += [f"missing: {name}" for name in self.missing]
        lines += [f"unused: {name}" for name in self.unused]
        lines += [f"shape: {text}" for text in self.mismatched]
        lines += [f"ignored: {name} ({why})" for name, why in self.ignored.items()]
        lines += [f"note: {text}" for text in self.notes]
        return "\n".join(lines)


Source = Mapping[str, Any] | ForeignCheckpoint


def convert_state_dict(source: Source, model: nn.Module | str, **model_args: Any) -> ConversionReport:
    """Put a foreign checkpoint's tensors under the names and into the shapes of a model.

    Args:
        source: what ``read_foreign_checkpoint`` returned, or a state dict with foreign names.
        model: a model, or the name of one, with ``model_args``.

    Raises:
        CheckpointError: the format is not recognised.
    """
    if isinstance(model, str):
        with torch.device("meta"):
            model = create_model(model, **model_args)
    tensors, meta = split_checkpoint(source)
    known = recognise_format(tensors)
    translation = known.translate(tensors, meta)
    own = model.state_dict()

    state: dict[str, Tensor] = {}
    matched, mismatched, unused = [], [], list(translation.unused)
    for name, tensor in translation.tensors.items():
        foreign = translation.origin[name]
        if name not in own:
            unused.append(foreign)
            continue
        fitted = _fit(tensor, own[name].shape, inflate=known.name == TORCHVISION)
        if fitted is None:
            mismatched.append(f"{foreign} {tuple(tensor.shape)} -> {name} {tuple(own[name].shape)}")
            continue
        state[name] = fitted.contiguous()
        matched.append((foreign, name))
    notes = list(translation.notes)
    counters = [n for n in own if n.endswith("num_batches_tracked") and n not in translation.tensors]
    for name in counters:
        state[name] = torch.zeros((), dtype=torch.long)
    if counters:
        notes.append(
            f"{len(counters)} num_batches_tracked are not in the file and start at 0; inference does not use them"
        )
    shapes = {text.split(" -> ")[1].split(" ")[0] for text in mismatched}
    missing = [name for name in own if name not in state and name not in shapes]
    return ConversionReport(
        state_dict={name: state[name] for name in own if name in state},
        matched=matched,
        missing=missing,
        unused=unused,
        mismatched=mismatched,
        conflicts=_conflicts(known.name, translation.traits, model),
        ignored=translation.ignored,
        notes=notes,
        source_format=known.name,
    )


def load_converted(model: nn.Module, report: ConversionReport, partial: bool = False) -> None:
    """Copy converted weights into a model.

    Args:
        partial: load what fits although something is missing, unused or of another shape.

    Raises:
        CheckpointError: the match is not complete and ``partial`` is not set; names and counts are listed. Or nothing fits.
    """
    if not report.matched:
        raise CheckpointError(f"nothing of this {report.source_format} checkpoint fits {_describe(model)}")
    if not report.complete and not partial:
        parts = list(report.conflicts)
        for label, names in (
            ("missing in the file", report.missing),
            ("in the file but not in the model", report.unused),
            ("of another shape", report.mismatched),
        ):
            if names:
                listed = ", ".join(names[:6]) + (f", … {len(names) - 6} more" if len(names) > 6 else "")
                parts.append(f"{len(names)} {label}: {listed}")
        raise CheckpointError(
            f"this {report.source_format} checkpoint does not fit {_describe(model)}: {len(report.matched)} tensors match; "
            + "; ".join(parts)
            + ". Choose the model that the file was made for, or allow a partial match (--partial)"
        )
    # the report's tensors may share memory with the source: load_state_dict copies
    model.load_state_dict(report.state_dict, strict=report.complete)


def recognise_format(tensors: Mapping[str, Tensor]) -> Format:
    """The format that these names belong to.

    Raises:
        CheckpointError: none.
    """
    for known in FORMATS:
        if known.recognise(tensors):
            return known
    raise CheckpointError(
        f"this checkpoint's format is not known: {len(tensors)} tensors, the first ones {', '.join(list(tensors)[:4])}. "
        f"Known: {', '.join(f.name for f in FORMATS)}"
    )


def guess_model(source: Source) -> tuple[str, dict[str, Any]]:
    """The model, and its settings, that a checkpoint was probably made for.

    Names and shapes tell depth, channels, classes, shift, inflation, attention, neck. MMAction2's ``meta.config`` tells the
    number of segments where it is there. Not visible: the frames of SlowOnly, whether the attention was scaled, and embedded
    Gaussian against dot product.

    Raises:
        CheckpointError: unknown format, or a network that this zoo does not have.
    """
    tensors, meta = split_checkpoint(source)
    known = recognise_format(tensors)
    traits = known.translate(tensors, meta).traits
    if "model" in traits:
        return traits["model"], traits["model_args"]
    time = traits["time"]
    family = {"inflate": "slowonly", "shift": "tsm"}.get(time, "tsn")
    depth = traits["depth"]
    args: dict[str, Any] = {}
    if traits["num_classes"] is not None:
        args["num_classes"] = traits["num_classes"]
    if traits["in_channels"] != 3:
        args["in_channels"] = traits["in_channels"]
    if family == "tsm":
        usual = {"shift_place": "blockres", "num_segments": 8}
        for key in ("shift_place", "shift_downsample", "reverse_shift", "temporal_pool", "num_segments"):
            if traits.get(key) and traits[key] != usual.get(key):
                args[key] = traits[key]
    if family == "slowonly":
        if tuple(traits["inflate"]) != (0, 0, 1, 1):
            args["inflate"] = list(traits["inflate"])
        if traits["inflate_style"] != "3x1x1":
            args["inflate_style"] = traits["inflate_style"]
    if traits["non_local"]:
        args["non_local"] = traits["non_local"]
        if not traits["non_local_sub_sample"]:
            args["non_local_sub_sample"] = False
    prefix = "tpn_" if traits["neck"] else ""
    name = f"{prefix}{family}_{'tiny' if depth == 'tiny' else f'r{depth}'}"
    if name not in list_models():
        raise CheckpointError(
            f"the checkpoint looks like {name}, which is not in this zoo: {', '.join(list_models())}"
        )
    return name, args


# --- names ------------------------------------------------------------------------------------------------------------------

MMACTION2 = "MMAction2"
TSM_ORIGINAL = "TSN/TSM original"
TPN_ORIGINAL = "TPN original"
PADDLE1 = "Paddle 1.x"
PADDLE2 = "PaddleVideo 2.x"
TORCHVISION = "torchvision/timm ResNet"
CLIPWISE = "clipwise"

_MMACTION2_NECK = (
    (r"^neck\.spatial_modulation\.spatial_modulation\.0\.0\.", "neck.spatial."),
    (r"^neck\.temporal_modulation_ops\.(\d)\.conv\.conv\.", r"neck.temporal.\1.conv."),
    (r"^neck\.downsample_ops\.0\.conv\.conv\.", "neck.down.conv."),
    (r"^neck\.level_fusion_1\.", "neck.top_down."),
    (r"^neck\.level_fusion_2\.", "neck.bottom_up."),
    (r"\.downsamples\.(\d)\.conv\.(conv|bn)\.", r".levels.\1.\2."),
    (r"\.fusion_conv\.(conv|bn)\.", r".fusion.\1."),
    (r"^neck\.pyramid_fusion\.", "neck.fusion."),
    (r"^neck\.aux_head\.conv\.(conv|bn)\.", r"aux_head.conv.\1."),
    (r"^neck\.aux_head\.fc\.", "aux_head.fc."),
)
_MMACTION2_BODY = (
    (r"^(backbone\.layer\d)\.net\.(\d+)\.", r"\1.\2."),  # temporal pool wraps a stage
    (r"^(backbone\.layer\d\.\d+)\.block\.", r"\1."),  # non-local wraps a block
    (r"^(backbone\.layer\d\.\d+)\.net\.", r"\1."),  # shift_place="block" wraps a block
    (r"\.conv(\d)\.conv\.net\.", r".conv\1."),  # shift wraps a convolution
    (r"\.non_local_block\.(g|theta|phi)(\.0)?\.conv\.", r".non_local.\1."),
    (r"\.non_local_block\.conv_out\.conv\.", ".non_local.out."),
    (r"\.non_local_block\.conv_out\.bn\.", ".non_local.bn."),
    (r"\.non_local_block\.concat_project\.conv\.", ".non_local.project."),
    (r"\.downsample\.conv\.", ".downsample.0."),
    (r"\.downsample\.bn\.", ".downsample.1."),
    (r"\.conv(\d)\.conv\.", r".conv\1."),
    (r"\.conv(\d)\.bn\.", r".bn\1."),
)
_TSM_BODY = (
    (r"^base_model\.", "backbone."),
    *_MMACTION2_BODY[:3],
    (r"\.conv(\d)\.net\.", r".conv\1."),
    (r"\.nl\.(g|theta|phi)(\.0)?\.", r".non_local.\1."),
    (r"\.nl\.W\.0\.", ".non_local.out."),
    (r"\.nl\.W\.1\.", ".non_local.bn."),
)
# Mind the first two: the original's "op2" is the top-down path. Swapped, the file loads as well and scores nonsense.
_TPN_NECK = (
    (r"^necks\.level_fusion_op2\.", "neck.top_down."),
    (r"^necks\.level_fusion_op\.", "neck.bottom_up."),
    (r"^necks\.spatial_modulation\.spatial_modulation\.0\.0\.", "neck.spatial."),
    (r"^necks\.temporal_modulation_ops\.(\d)\.conv\.", r"neck.temporal.\1.conv."),
    (r"^necks\.downsampling_ops\.0\.conv\.", "neck.down.conv."),
    (r"\.ops\.(\d)\.conv\.", r".levels.\1.conv."),
    (r"\.ops\.(\d)\.norm\.", r".levels.\1.bn."),
    (r"\.fusion_conv\.0\.", ".fusion.conv."),
    (r"\.fusion_conv\.1\.", ".fusion.bn."),
    (r"^necks\.pyramid_fusion_op\.0\.", "neck.fusion.conv."),
    (r"^necks\.pyramid_fusion_op\.1\.", "neck.fusion.bn."),
    (r"^necks\.aux_head\.convs\.(conv|bn)\.", r"aux_head.conv.\1."),
    (r"^necks\.aux_head\.fc\.", "aux_head.fc."),
)


def _rename(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _translate_mmaction2(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    out = Translation()
    for key, tensor in tensors.items():
        if key.startswith("cls_head.new_cls."):
            out.ignored[key] = "TPN's copy of the classifier for testing; the classifier itself is used"
        elif key.startswith("neck."):
            out.put(_rename(key, _MMACTION2_NECK), tensor, key)
        elif key.startswith("backbone."):
            out.put(_rename(key, _MMACTION2_BODY), tensor, key)
        elif key.startswith("cls_head.fc_cls."):
            out.put(key.replace("cls_head.fc_cls.", "fc."), tensor, key)
        else:
            out.unused.append(key)
    out.traits = _traits(out.tensors)
    _see_shift(out.traits, tensors, r"\.conv1\.conv\.net\.weight$")
    text = _config_text(meta)
    if out.traits["time"] == "shift" and (found := re.search(r"num_segments\s*=\s*(\d+)", text)):
        out.traits["num_segments"] = int(found.group(1))
    if out.traits["non_local"] and (found := re.search(r"mode\s*=\s*['\"](\w+)['\"]", text)):
        out.traits["non_local"] = found.group(1)
    return out


def _config_text(meta: Mapping[str, Any]) -> str:
    """The training config as text: ``meta.config`` in 0.x, ``meta.cfg`` in 1.x."""
    inner = meta.get("meta")
    if not isinstance(inner, Mapping):
        return ""
    return "\n".join(str(inner[key]) for key in ("config", "cfg") if key in inner)


def _translate_tsm(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    out = Translation()
    biases = {}
    for key, tensor in tensors.items():
        own = _rename(key, _TSM_BODY)
        if key.startswith(("new_fc.", "base_model.fc.")):
            out.put("fc." + key.rsplit(".", 1)[1], tensor, key)
        elif own.endswith("non_local.out.bias"):
            biases[own] = (key, tensor)
        elif key.startswith("base_model."):
            out.put(own, tensor, key)
        else:
            out.unused.append(key)
    for own, (key, bias) in biases.items():
        # a bias before a norm is a shift of the norm's mean; our convolution has none
        mean = own.replace("out.bias", "bn.running_mean")
        if mean not in out.tensors:
            raise CheckpointError(f"the file has {key!r} but not the running mean of the norm after it")
        out.tensors[mean] = out.tensors[mean] - bias
        out.ignored[key] = "folded into the running mean of the norm after it"
    if not any(key.startswith("backbone.layer1.") for key in out.tensors):
        raise CheckpointError(
            "this TSN/TSM checkpoint is not a ResNet (BNInception or MobileNet?); this zoo has ResNets only. "
            f"Its first keys: {', '.join(list(tensors)[:3])}"
        )
    out.traits = _traits(out.tensors)
    _see_shift(out.traits, tensors, r"\.conv1\.net\.weight$")
    return out


def _translate_tpn(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    out = Translation()
    for key, tensor in tensors.items():
        if key.startswith("necks."):
            out.put(_rename(key, _TPN_NECK), tensor, key)
        elif key.startswith("backbone."):
            out.put(key, tensor, key)
        elif key.startswith("cls_head.fc_cls."):
            out.put(key.replace("cls_head.fc_cls.", "fc."), tensor, key)
        elif key.startswith("cls_head.new_cls."):
            out.ignored[key] = "a copy of the classifier for testing"
        else:
            out.unused.append(key)
    out.traits = _traits(out.tensors)
    if out.traits["time"] is None:
        # its 2-D body shifts in the forward pass, before the first block's projection too; the keys do not show it
        out.traits.update(time="shift", shift_place="blockres", shift_downsample=True, temporal_pool=False)
    return out


_PADDLE_CONVS = {"branch2a": "1", "branch2b": "2", "branch2c": "3"}
_PADDLE1_NORM = {"scale": "weight", "offset": "bias", "mean": "running_mean", "variance": "running_var"}
_PADDLE2_NORM = {"weight": "weight", "bias": "bias", "_mean": "running_mean", "_variance": "running_var"}


def _paddle_block(letters: str) -> int:
    """'a', 'b', 'c' … or 'a', 'b1', 'b2' … -> 0, 1, 2 …"""
    return ord(letters) - ord("a") if len(letters) == 1 else int(letters[1:])


def _translate_paddle1(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    out = Translation()
    for key, tensor in tensors.items():
        if key in ("fc_0.w_0", "fc_0.b_0"):
            weight = key == "fc_0.w_0"
            out.put("fc.weight" if weight else "fc.bias", tensor.T if weight else tensor, key)
        elif key == "conv1_weights":
            out.put("backbone.conv1.weight", tensor, key)
        elif found := re.fullmatch(r"bn_conv1_(scale|offset|mean|variance)", key):
            out.put(f"backbone.bn1.{_PADDLE1_NORM[found[1]]}", tensor, key)
        elif found := re.fullmatch(r"res(\d)([a-z]\d*)_(branch\w+)_weights", key):
            prefix = f"backbone.layer{int(found[1]) - 1}.{_paddle_block(found[2])}"
            part = "downsample.0" if found[3] == "branch1" else f"conv{_PADDLE_CONVS[found[3]]}"
            out.put(f"{prefix}.{part}.weight", tensor, key)
        elif found := re.fullmatch(r"bn(\d)([a-z]\d*)_(branch\d[abc]?)_(scale|offset|mean|variance)", key):
            prefix = f"backbone.layer{int(found[1]) - 1}.{_paddle_block(found[2])}"
            part = "downsample.1" if found[3] == "branch1" else f"bn{_PADDLE_CONVS[found[3]]}"
            out.put(f"{prefix}.{part}.{_PADDLE1_NORM[found[4]]}", tensor, key)
        elif re.search(r"(velocity|learning_rate|beta\d_pow|moment|@LR_DECAY|global_step)", key):
            out.ignored[key] = "state of the optimizer"
        else:
            out.unused.append(key)
    return _finish_paddle(out)


def _translate_paddle2(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    if any(key.startswith(("backbone.conv1_1.", "backbone.bb_")) for key in tensors):
        raise CheckpointError(
            "this is a PP-TSN or PP-TSM checkpoint (ResNet-vd: three-layer stem, averaging shortcuts); this zoo has the "
            "papers' ResNets only"
        )
    out = Translation()
    for key, tensor in tensors.items():
        if key in ("head.fc.weight", "head.fc.bias"):
            out.put(key.removeprefix("head."), tensor.T if key.endswith("weight") else tensor, key)
            continue
        found = re.fullmatch(
            r"backbone\.(conv|res(\d)([a-z]\d*)\.(conv(\d)|short))\.(_conv|_batch_norm)\.(\w+)", key
        )
        if not found:
            out.unused.append(key)
            continue
        norm = found[6] == "_batch_norm"
        leaf = _PADDLE2_NORM.get(found[7], found[7]) if norm else found[7]
        if found[1] == "conv":
            own = f"backbone.{'bn1' if norm else 'conv1'}"
        else:
            own = f"backbone.layer{int(found[2]) - 1}.{_paddle_block(found[3])}."
            if found[4] == "short":
                own += f"downsample.{int(norm)}"
            else:
                own += f"{'bn' if norm else 'conv'}{int(found[5]) + 1}"
        out.put(f"{own}.{leaf}", tensor, key)
    return _finish_paddle(out)


def _finish_paddle(out: Translation) -> Translation:
    out.traits = _traits(out.tensors)
    out.notes.append(
        "Paddle's TSN and TSM have the same names; for a TSM file choose a tsm model with reverse_shift=True (its shift runs "
        "the other way)"
    )
    return out


def _translate_torchvision(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    out = Translation()
    for key, tensor in tensors.items():
        if key.startswith("fc."):
            out.ignored[key] = "ImageNet's classifier"
        else:
            out.put(f"backbone.{key}", tensor, key)
    out.traits = _traits(out.tensors)
    out.notes.append(
        "an image network: the classifier is missing, and kernels over time are inflated (divided by their length)"
    )
    return out


def _translate_clipwise(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    out = Translation()
    for key, tensor in tensors.items():
        out.put(key, tensor, key)
    out.traits = _traits(out.tensors)
    return out


def _translate_bmn(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    from clipwise.models.bmn_convert import convert_bmn, detect_bmn_source

    source = detect_bmn_source({"state_dict": tensors, **meta})
    state, args, unused = convert_bmn(tensors, source)
    out = Translation(unused=unused, traits={"model": "bmn", "model_args": args})
    for key, tensor in state.items():
        out.put(key, tensor, key)
    out.notes.append(f"boundary-matching network of {source}")
    return out


_BMN_MARKS = {"x_1d_b.0.weight", "rpn_head.tem.0.0.conv.weight", "ts_conv1.weight", "b_conv1.weight"}

# The first that recognises the keys is taken. Another module may append to it.
FORMATS: list[Format] = [
    Format(
        "BMN",
        lambda t: any(k.removeprefix("module.").removeprefix("backbone.") in _BMN_MARKS for k in t),
        _translate_bmn,
    ),
    Format(MMACTION2, lambda t: "backbone.conv1.conv.weight" in t, _translate_mmaction2),
    Format(
        TPN_ORIGINAL,
        lambda t: (
            any(k.startswith("necks.") for k in t)
            or {"backbone.conv1.weight", "cls_head.fc_cls.weight"} <= set(t)
        ),
        _translate_tpn,
    ),
    Format(TSM_ORIGINAL, lambda t: any(k.startswith("base_model.") for k in t), _translate_tsm),
    Format(PADDLE1, lambda t: {"conv1_weights", "bn_conv1_scale"} <= set(t), _translate_paddle1),
    Format(PADDLE2, lambda t: any("._batch_norm." in k for k in t), _translate_paddle2),
    Format(CLIPWISE, lambda t: {"backbone.conv1.weight", "fc.weight"} <= set(t), _translate_clipwise),
    Format(
        TORCHVISION,
        lambda t: {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"} <= set(t),
        _translate_torchvision,
    ),
]


# --- shapes and traits ------------------------------------------------------------------------------------------------------


def _fit(value: Tensor, shape: torch.Size, *, inflate: bool) -> Tensor | None:
    """The value in a shape that differs by extents of one only (or inflated over time); None if it can't be."""
    if value.shape == shape:
        return value
    if value.dim() == 5 and len(shape) == 4:
        for dim in (2, 4):  # (O, I, 1, k, k) -> (O, I, k, k); (O, I, t, 1, 1) -> (O, I, t, 1)
            if value.shape[dim] == 1 and value.squeeze(dim).shape == shape:
                return value.squeeze(dim)
    if inflate and value.dim() == 4:
        if value.shape[1] != shape[1]:
            return (
                value.mean(1, keepdim=True).expand(-1, shape[1], -1, -1)
                if value.shape[2:] == shape[2:]
                else None
            )
        return inflate_kernel(value, shape)
    return None


def _traits(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
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
            f"a ResNet with {counts} {kind} blocks and {stem.shape[0]} stem channels is not in this zoo"
        )

    inflate, style = [], "3x1x1"
    for stage in (1, 2, 3, 4):
        first, second = (tensors.get(f"backbone.layer{stage}.0.conv{i}.weight") for i in (1, 2))
        over_time = [w is not None and _spans_time(w) for w in (first, second)]
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


def _spans_time(weight: Tensor) -> bool:
    """(O, I, t, k, k) or our (O, I, t, 1) with t > 1."""
    if weight.dim() == 5:
        return weight.shape[2] > 1
    return weight.dim() == 4 and weight.shape[2] > 1 and weight.shape[3] == 1


def _see_shift(traits: dict[str, Any], tensors: Mapping[str, Tensor], wrapped: str) -> None:
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


def _conflicts(source_format: str, traits: Mapping[str, Any], model: nn.Module) -> list[str]:
    """Differences that names and shapes alone would let pass."""
    if "model" in traits:
        args = traits["model_args"]
        return [
            f"the file's network has {key}={args[key]!r}, the model {getattr(model, key)!r}"
            for key in ("sampling", "layout", "temporal_dim", "max_duration")
            if key in args and hasattr(model, key) and getattr(model, key) != args[key]
        ]
    if not isinstance(model, Recognizer):
        return [f"the file holds a recogniser, the model is {_describe(model)}"]
    out = []
    body = model.backbone
    shifts = body.shift_div > 0
    if traits["time"] == "shift" and not shifts:
        out.append("the file's network shifts channels over time (TSM), the model does not")
    if traits["time"] == "none" and shifts:
        out.append("the file's network does not mix time (TSN), the model shifts (TSM)")
    if traits["time"] == "inflate" and not body.is_3d:
        out.append("the file's network convolves over time (SlowOnly), the model does not")
    if traits["time"] in ("none", "shift") and body.is_3d:
        out.append("the file's network works on single frames (TSN or TSM), the model is a SlowOnly")
    if traits["neck"] and not isinstance(model, TPN):
        out.append("the file's network has TPN's neck, the model has none")
    if shifts and traits["time"] == "shift":
        for key in ("shift_place", "shift_downsample", "temporal_pool"):
            if getattr(body, key) != traits[key]:
                out.append(f"the file's network has {key}={traits[key]!r}, the model {getattr(body, key)!r}")
    if shifts and source_format in (PADDLE1, PADDLE2) and not body.reverse_shift:
        out.append("Paddle's shift runs the other way: make the model with reverse_shift=True")
    if shifts and source_format in (MMACTION2, TSM_ORIGINAL, TPN_ORIGINAL) and body.reverse_shift:
        out.append("the model was made with reverse_shift=True, which only Paddle's files need")
    return out


def _describe(model: nn.Module) -> str:
    if not isinstance(model, Recognizer):
        return type(model).__name__
    return f"{type(model).__name__} (ResNet-{model.backbone.depth}, {model.num_classes} classes)"


# --- and back ---------------------------------------------------------------------------------------------------------------


def to_mmaction2(state_dict: Mapping[str, Tensor], model: nn.Module) -> "OrderedDict[str, Tensor]":
    """Our weights under MMAction2's names and shapes (the same in 0.x and 1.x).

    Args:
        state_dict: the model's, or a trained copy of it.
        model: the model that it belongs to; its structure decides the names.

    Raises:
        CheckpointError: a network that MMAction2 does not have (reversed shift, shifted projections).
    """
    if not isinstance(model, Recognizer):
        from clipwise.models.bmn_convert import bmn_to_mmaction2

        args = {"sampling": model.sampling, "layout": model.layout}
        return OrderedDict(bmn_to_mmaction2(state_dict, args))
    body = model.backbone
    for setting in ("reverse_shift", "shift_downsample"):
        if getattr(body, setting):
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
            tensor = tensor.unsqueeze(4 if _spans_time(tensor) else 2)
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
    return _rename(key, rules)


def save_mmaction2(
    path: str | Path,
    state_dict: Mapping[str, Tensor],
    model: nn.Module,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write a ``.pth`` that MMAction2 0.x and 1.x load: ``{'meta': …, 'state_dict': …}``."""
    torch.save({"meta": dict(meta or {}), "state_dict": to_mmaction2(state_dict, model)}, path)
