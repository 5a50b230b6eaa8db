"""The layouts of other projects' checkpoints: recognized by their keys, turned into our names.

Each format has one function that renames; shapes are fitted by ``convert``. What the keys tell about the network (where it
shifts, inflates, attends) is kept as "traits", since many of these networks share names and shapes.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from clipwise.convert.traits import Translation, see_shift, told_by_config, traits_of
from clipwise.errors import CheckpointError
from clipwise.io.text import plural


@dataclass(frozen=True)
class Format:
    """One project's checkpoints.

    Attributes:
        name: as people call it.
        recognize: do these keys look like one of its files?
        translate: tensors by foreign name, and the file's other content, to ``Translation``; under ``target`` that holds
            the model, where there is one, and under ``weights_of`` what the user says of the file.
    """

    name: str
    recognize: Callable[[Mapping[str, Tensor]], bool]
    translate: Callable[[Mapping[str, Tensor], Mapping[str, Any]], Translation]


def recognize_format(tensors: Mapping[str, Tensor]) -> Format:
    """The format that these names belong to.

    Raises:
        CheckpointError: none.
    """
    for known in FORMATS:
        if known.recognize(tensors):
            return known
    raise CheckpointError(
        f"this checkpoint's format is not known: {plural(len(tensors), 'tensor')}, the first ones {', '.join(list(tensors)[:4])}. "
        f"Known: {', '.join(f.name for f in FORMATS)}"
    )


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


def rename(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _translate_mmaction2(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    out = Translation()
    for key, tensor in tensors.items():
        if key.startswith("cls_head.new_cls."):
            out.ignored[key] = "TPN's copy of the classifier for testing; the classifier itself is used"
        elif key.startswith("neck."):
            out.put(rename(key, _MMACTION2_NECK), tensor, key)
        elif key.startswith("backbone."):
            out.put(rename(key, _MMACTION2_BODY), tensor, key)
        elif key.startswith("cls_head.fc_cls."):
            out.put(key.replace("cls_head.fc_cls.", "fc."), tensor, key)
        else:
            out.unused.append(key)
    out.traits = traits_of(out.tensors)
    see_shift(out.traits, tensors, r"\.conv1\.conv\.net\.weight$")
    out.traits["told"] = told = told_by_config(meta)
    if out.traits["time"] == "shift" and "num_segments" in told:
        out.traits["num_segments"] = told["num_segments"]
    if out.traits["non_local"] and told.get("non_local"):
        out.traits["non_local"] = told["non_local"]
    return out


def _translate_tsm(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    out = Translation()
    biases = {}
    for key, tensor in tensors.items():
        own = rename(key, _TSM_BODY)
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
            "this TSN/TSM checkpoint is not a ResNet (BNInception or MobileNet?); clipwise has ResNets only. "
            f"Its first keys: {', '.join(list(tensors)[:3])}"
        )
    out.traits = traits_of(out.tensors)
    see_shift(out.traits, tensors, r"\.conv1\.net\.weight$")
    return out


def _translate_tpn(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    out = Translation()
    for key, tensor in tensors.items():
        if key.startswith("necks."):
            out.put(rename(key, _TPN_NECK), tensor, key)
        elif key.startswith("backbone."):
            out.put(key, tensor, key)
        elif key.startswith("cls_head.fc_cls."):
            out.put(key.replace("cls_head.fc_cls.", "fc."), tensor, key)
        elif key.startswith("cls_head.new_cls."):
            out.ignored[key] = "a copy of the classifier for testing"
        else:
            out.unused.append(key)
    out.traits = traits_of(out.tensors)
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
        found = re.fullmatch(r"backbone\.(conv|res(\d)([a-z]\d*)\.(conv(\d)|short))\.(_conv|_batch_norm)\.(\w+)", key)
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
    out.traits = traits_of(out.tensors)
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
    out.traits = traits_of(out.tensors)
    out.notes.append(
        "an image network: the classifier is missing, and kernels over time are inflated (divided by their length)"
    )
    return out


def _translate_clipwise(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    out = Translation()
    for key, tensor in tensors.items():
        out.put(key, tensor, key)
    out.traits = traits_of(out.tensors)
    return out


def _translate_bmn(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    from clipwise.convert.bmn_layouts import convert_bmn, detect_bmn_source, knows_its_length
    from clipwise.models.bmn import BMN

    source = meta.get("weights_of") or detect_bmn_source({"state_dict": tensors, **meta})
    target = meta.get("target")
    sizes = {}
    if isinstance(target, BMN) and not knows_its_length(tensors):  # no weight depends on it, so the model's will do
        sizes = {"temporal_dim": target.temporal_dim, "max_duration": target.max_duration}
    state, args, unused = convert_bmn(tensors, source, **sizes)
    out = Translation(unused=unused, traits={"model": "bmn", "model_args": args})
    for key, tensor in state.items():
        out.put(key, tensor, key)
    out.notes.append(f"boundary-matching network of {source}")
    if sizes:
        out.notes.append(
            f"the file does not tell for how many positions it was trained; taken for {sizes['temporal_dim']}"
        )
    return out


def _translate_one_stage(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Translation:
    from clipwise.convert.one_stage_layouts import translate_one_stage

    return translate_one_stage(tensors, meta)


def _is_one_stage(tensors: Mapping[str, Tensor]) -> bool:
    from clipwise.convert.one_stage_layouts import recognize_one_stage

    return recognize_one_stage(tensors)


_BMN_MARKS = {"x_1d_b.0.weight", "rpn_head.tem.0.0.conv.weight", "ts_conv1.weight", "b_conv1.weight"}

# The first that recognizes the keys is taken. Another module may append to it.
FORMATS: list[Format] = [
    Format(
        "BMN",
        lambda t: any(k.removeprefix("module.").removeprefix("backbone.") in _BMN_MARKS for k in t),
        _translate_bmn,
    ),
    Format("ActionFormer/TriDet", _is_one_stage, _translate_one_stage),
    Format(MMACTION2, lambda t: "backbone.conv1.conv.weight" in t, _translate_mmaction2),
    Format(
        TPN_ORIGINAL,
        lambda t: (
            any(k.startswith("necks.") for k in t) or {"backbone.conv1.weight", "cls_head.fc_cls.weight"} <= set(t)
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
