"""BMN weights of other code bases, there and back.

JJBOY's and MMAction2's checkpoints have the same keys and the same shapes, but belong to two different networks: they
sample a wider or narrower span of each proposal, and lay the map out as start × end or duration × start, so that the
3×3 convolutions have learnt other neighbors. Weights of one in the other run without complaint and score nonsense.
Hence the source must be named, and where the file still holds its ``sample_mask`` the name is checked against it.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from clipwise.errors import CheckpointError
from clipwise.io.text import plural
from clipwise.models.boundary_matching import Layout, Sampling, sampling_operator

Source = Literal["mmaction2", "jjboy", "opentad", "paddle"]

CONVENTIONS: dict[Source, tuple[Sampling, Layout]] = {
    "mmaction2": ("mmaction2", "duration_start"),
    "jjboy": ("jjboy", "start_end"),  # also the Ascend ModelZoo port
    "opentad": ("mmaction2", "duration_start"),
    "paddle": ("mmaction2", "duration_start"),
}

# our module -> (JJBOY and MMAction2, OpenTAD, Paddle)
_EXTRACTOR = "roi_head.proposal_roi_extractor"
_MODULES: dict[str, tuple[str, str, str]] = {
    "base.conv1": ("x_1d_b.0", "projection.convs.0.conv", "b_conv1"),
    "base.conv2": ("x_1d_b.2", "projection.convs.1.conv", "b_conv2"),
    "start.conv": ("x_1d_s.0", "rpn_head.tem.0.0.conv", "ts_conv1"),
    "start.score": ("x_1d_s.2", "rpn_head.tem.0.1.conv", "ts_conv2"),
    "end.conv": ("x_1d_e.0", "rpn_head.tem.1.0.conv", "te_conv1"),
    "end.score": ("x_1d_e.2", "rpn_head.tem.1.1.conv", "te_conv2"),
    "proposal.reduce": ("x_1d_p.0", f"{_EXTRACTOR}.reduce_dim.0", "p_conv1"),
    "proposal.matching": ("x_3d_p.0", f"{_EXTRACTOR}.conv3d.0", "p_conv3d1"),
    "proposal.squeeze": ("x_2d_p.0", f"{_EXTRACTOR}.conv2d.0", "p_conv2d1"),
    "proposal.conv1": ("x_2d_p.2", "roi_head.proposal_head.head.0.0", "p_conv2d2"),
    "proposal.conv2": ("x_2d_p.4", "roi_head.proposal_head.head.1.0", "p_conv2d3"),
    "proposal.score": ("x_2d_p.6", "roi_head.proposal_head.head.2", "p_conv2d4"),
}
_COLUMN: dict[Source, int] = {"mmaction2": 0, "jjboy": 0, "opentad": 1, "paddle": 2}
_MASKS = ("sample_mask", "bm_mask")
_PREFIXES = ("module.", "backbone.", "model.")


def convert_bmn(
    source_state_dict: Mapping[str, Any],
    source: Source,
    temporal_dim: int | None = None,
    max_duration: int | None = None,
) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """Rename and reshape the weights of another code base.

    Args:
        source_state_dict: parameter name to tensor (or numpy array); prefixes such as ``module.`` are dropped.
        source: whose weights these are; see :func:`detect_bmn_source`.
        temporal_dim, max_duration: L and D that the weights were trained for. Files of MMAction2 and JJBOY tell it by
            their mask; for the others it must be given.

    Returns:
        state dict of :class:`~clipwise.models.bmn.BMN`; arguments that build the model; names in the source that were
        not used. Masks count as used: the model computes its own.

    Raises:
        CheckpointError: unknown source, missing names, a mask that belongs to another source, an unknown length.
    """
    _check_source(source)
    tensors = _strip_prefixes(source_state_dict)
    column = _COLUMN[source]
    expected = {f"{theirs[column]}.{kind}" for theirs in _MODULES.values() for kind in ("weight", "bias")}
    missing = sorted(expected - tensors.keys())
    if missing:
        raise CheckpointError(
            f"these are not the weights of a BMN of {source}: {len(missing)} of {plural(len(expected), 'name')} are missing "
            f"({', '.join(missing[:4])}{', …' if len(missing) > 4 else ''})"
        )
    state: dict[str, Tensor] = {}
    for ours, theirs in _MODULES.items():
        weight, bias = (tensors[f"{theirs[column]}.{kind}"].clone() for kind in ("weight", "bias"))
        if ours == "proposal.matching":  # (O, C, N, 1, 1), OpenTAD (O, C, N, 1) -> (C, N, O)
            weight = weight.flatten(2).permute(1, 2, 0).contiguous()
        elif ours == "proposal.squeeze":
            weight = weight.flatten(1)
        elif ours == "proposal.score" and source == "opentad":  # classification first, regression second
            weight, bias = weight.flip(0), bias.flip(0)
        state[f"{ours}.weight"], state[f"{ours}.bias"] = weight, bias

    sampling, layout = CONVENTIONS[source]
    matching = state["proposal.matching.weight"]
    if "sample_mask" in tensors:
        length, duration = _check_mask(tensors["sample_mask"], matching.shape[1], source)
        for name, given, found in (
            ("temporal_dim", temporal_dim, length),
            ("max_duration", max_duration, duration),
        ):
            if given is not None and given != found:
                raise CheckpointError(f"{name}={given} was given, but the mask in the file is for {name}={found}")
        temporal_dim, max_duration = length, duration
    elif "bm_mask" in tensors and temporal_dim is None:
        max_duration, temporal_dim = tensors["bm_mask"].shape
    if temporal_dim is None:
        raise CheckpointError(
            f"the weights of {source} do not tell how many positions they were trained for; give temporal_dim "
            "(100 for the usual ActivityNet features, 128 in OpenTAD) and max_duration if it is smaller"
        )
    args = {
        "feat_dim": state["base.conv1.weight"].shape[1] * 4,
        "temporal_dim": temporal_dim,
        "max_duration": temporal_dim if max_duration is None else max_duration,
        "hidden_dim": state["base.conv1.weight"].shape[0],
        "matching_dim": matching.shape[0],
        "map_dim": state["proposal.squeeze.weight"].shape[0],
        "num_samples": matching.shape[1],
        "sampling": sampling,
        "layout": layout,
    }
    return state, args, sorted(tensors.keys() - expected - set(_MASKS))


def detect_bmn_source(checkpoint: Mapping[str, Any]) -> Source:
    """Say whose BMN a checkpoint holds, from its names and, for JJBOY against MMAction2, from its mask or meta data.

    Args:
        checkpoint: what the file holds: a state dict, or a dictionary with ``state_dict`` and perhaps ``meta``.

    Raises:
        CheckpointError: no BMN, or one that could be JJBOY's as well as MMAction2's.
    """
    state = checkpoint.get("state_dict", checkpoint)
    tensors = _strip_prefixes(state)
    if "rpn_head.tem.0.0.conv.weight" in tensors:
        return "opentad"
    if "ts_conv1.weight" in tensors:
        return "paddle"
    if "x_1d_b.0.weight" not in tensors:
        raise CheckpointError(
            "this checkpoint holds no BMN: none of x_1d_b.0.weight (MMAction2, JJBOY), rpn_head.tem.0.0.conv.weight "
            "(OpenTAD), ts_conv1.weight (Paddle) is among its names"
        )
    if "bm_mask" in tensors:
        return "mmaction2"
    if "sample_mask" in tensors:
        candidates: tuple[Source, ...] = ("mmaction2", "jjboy")
        for source in candidates:
            if _mask_fits(tensors["sample_mask"], tensors["x_3d_p.0.weight"].shape[2], source):
                return source
    meta = checkpoint.get("meta")
    if isinstance(meta, Mapping) and any(k.startswith(("mmengine", "mmaction", "mmcv")) for k in meta):
        return "mmaction2"
    raise CheckpointError(
        "these BMN weights could be JJBOY's or MMAction2's: names and shapes are the same, but the two networks "
        "differ in sampling and map layout and cannot use each other's weights. The file holds neither a known "
        "sample_mask nor MMAction2's meta data; say which: `clipwise convert … --weights-of jjboy` or mmaction2"
    )


def shown_settings(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which OpenTAD's network differs from MMAction2's; empty for files of others."""
    tensors = _strip_prefixes({name: value for name, value in state_dict.items() if "proposal_roi_extractor" in name})
    reduce = tensors.get(f"{_EXTRACTOR}.reduce_dim.0.weight")
    return {} if reduce is None else {"matching_dim": reduce.shape[0]}


def knows_its_length(state_dict: Mapping[str, Any]) -> bool:
    """Whether a checkpoint holds a mask, which tells L and D."""
    return any(mask in _strip_prefixes(state_dict) for mask in _MASKS)


def export_bmn(
    state_dict: Mapping[str, Tensor],
    target: Source,
    model_args: Mapping[str, Any] | None = None,
    include_masks: bool = False,
) -> dict[str, Tensor]:
    """Name and shape our weights as another code base does; the inverse of :func:`convert_bmn`.

    Args:
        state_dict: of :class:`~clipwise.models.bmn.BMN`.
        target: whose names to use.
        model_args: arguments the model was built with. With them a model of another sampling or layout than
            the target's is refused.
        include_masks: add ``sample_mask`` (and MMAction2's ``bm_mask``), for a strict load there; 128 MB at
            100 × 100. Needs ``model_args``.

    Raises:
        CheckpointError: names missing in ``state_dict``, or a model that the target cannot run.
    """
    _check_source(target)
    missing = sorted(f"{m}.{k}" for m in _MODULES for k in ("weight", "bias") if f"{m}.{k}" not in state_dict)
    if missing:
        raise CheckpointError(f"this is not a state dict of our BMN: {', '.join(missing[:4])} are missing")
    sampling, layout = CONVENTIONS[target]
    args = dict(model_args or {})
    for name, needed in (("sampling", sampling), ("layout", layout)):
        if args.get(name, needed) != needed:
            raise CheckpointError(
                f"a BMN with {name}={args[name]!r} cannot run in {target}, which has {name}={needed!r}; "
                "it would load without complaint and score nonsense"
            )
    out: dict[str, Tensor] = {}
    for ours, theirs in _MODULES.items():
        weight, bias = state_dict[f"{ours}.weight"].clone(), state_dict[f"{ours}.bias"].clone()
        if ours == "proposal.matching":
            weight = weight.permute(2, 0, 1).contiguous()[..., None]
            weight = weight if target == "opentad" else weight[..., None]
        elif ours == "proposal.squeeze":
            weight = weight[..., None, None]
        elif ours == "proposal.score" and target == "opentad":
            weight, bias = weight.flip(0), bias.flip(0)
        name = theirs[_COLUMN[target]]
        out[f"{name}.weight"], out[f"{name}.bias"] = weight, bias
    if include_masks:
        if target in ("opentad", "paddle"):
            raise CheckpointError(f"include_masks was asked for, but checkpoints of {target} hold no mask")
        length = args.get("temporal_dim")
        if length is None:
            raise CheckpointError("include_masks needs model_args with temporal_dim, to compute the mask")
        duration = args.get("max_duration") or length
        out["sample_mask"] = sample_mask(length, duration, state_dict["proposal.matching.weight"].shape[1], target)
        if target == "mmaction2":
            position = torch.arange(length)
            out["bm_mask"] = (position[:duration, None] + position < length).float()
    return out


def bmn_to_mmaction2(
    state_dict: Mapping[str, Tensor], model_args: Mapping[str, Any] | None = None, include_masks: bool = False
) -> dict[str, Tensor]:
    """Our weights under MMAction2's names; see :func:`export_bmn`."""
    return export_bmn(state_dict, "mmaction2", model_args, include_masks)


def sample_mask(temporal_dim: int, max_duration: int, num_samples: int, source: Source) -> Tensor:
    """(L, N·D·L): the references' dense mask, bit for bit, axes time, sample, map row, map column."""
    sampling, layout = CONVENTIONS[source]
    operator = sampling_operator(temporal_dim, max_duration, num_samples, sampling=sampling, layout=layout)
    mask = torch.zeros(temporal_dim, num_samples, max_duration * temporal_dim)
    mask[:, :, operator.cell] = operator.dense(torch.float32).view(-1, temporal_dim, num_samples).permute(1, 2, 0)
    return mask.flatten(1)


def _check_mask(mask: Tensor, num_samples: int, source: Source) -> tuple[int, int]:
    """L and D of a stored mask, after checking that it is the one of ``source``."""
    if mask.dim() != 2 or mask.shape[1] % (num_samples * mask.shape[0]):
        raise CheckpointError(
            f"sample_mask has shape {tuple(mask.shape)}; (L, {num_samples}·D·L) is expected with {num_samples} samples"
        )
    length = mask.shape[0]
    if not _mask_fits(mask, num_samples, source):
        sources: tuple[Source, ...] = ("mmaction2", "jjboy")
        other = [s for s in sources if s != source and _mask_fits(mask, num_samples, s)]
        whose = f"it is {other[0]}'s" if other else "it is neither MMAction2's nor JJBOY's (other options?)"
        raise CheckpointError(
            f"source={source!r} was given, but the sample_mask in the file is not {source}'s; {whose}. The two "
            "networks have the same names and shapes and cannot use each other's weights"
        )
    return length, mask.shape[1] // (num_samples * length)


def _mask_fits(mask: Tensor, num_samples: int, source: Source) -> bool:
    length = mask.shape[0]
    duration = mask.shape[1] // (num_samples * length)
    if CONVENTIONS[source][1] == "start_end" and duration != length:
        return False
    return torch.equal(mask.float().cpu(), sample_mask(length, duration, num_samples, source))


def _strip_prefixes(state: Mapping[str, Any]) -> dict[str, Tensor]:
    names = list(state)
    cut = 0
    while names and (prefix := next((p for p in _PREFIXES if all(n[cut:].startswith(p) for n in names)), "")):
        cut += len(prefix)
    return {name[cut:]: torch.as_tensor(value) for name, value in state.items()}


def _check_source(source: str) -> None:
    if source not in get_args(Source):
        raise CheckpointError(
            f"source was {source!r}; use one of {', '.join(map(repr, get_args(Source)))}. JJBOY's and MMAction2's "
            "checkpoints have the same names and shapes but are not interchangeable, so this cannot be guessed"
        )
