"""Weights of other projects, by name, there and back.

    checkpoint = read_foreign_checkpoint("tsm_r50.pth")
    name, args = guess_model(checkpoint)
    model = create_model(name, **args)
    load_converted(model, convert_state_dict(checkpoint, model))

A format is recognized by its keys. Each has one function that turns its names into ours; shapes are fitted afterwards (our
kernels drop extents of one). What the keys tell about the network — where it shifts, inflates, attends — is compared with
the model, since many of these networks share names and shapes and would load into one another without complaint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clipwise.convert.convert_back import save_mmaction2, to_mmaction2
from clipwise.convert.layouts import (
    CLIPWISE,
    FORMATS,
    MMACTION2,
    PADDLE1,
    PADDLE2,
    TORCHVISION,
    TPN_ORIGINAL,
    TSM_ORIGINAL,
    Format,
    Translation,
    recognize_format,
)
from clipwise.convert.traits import hidden_settings, shift_of
from clipwise.errors import CheckpointError
from clipwise.io.foreign import ForeignCheckpoint, read_foreign_checkpoint, split_checkpoint
from clipwise.io.text import plural
from clipwise.models import create_model, list_models
from clipwise.models.init import inflate_kernel, load_imagenet
from clipwise.models.recognizer import Recognizer
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
    "recognize_format",
    "save_mmaction2",
    "to_mmaction2",
]


@dataclass
class ConversionReport:
    """The result of a conversion; nothing is loaded yet.

    Attributes:
        state_dict: our name to tensor, in the model's shapes; complete if ``complete``.
        matched: (foreign name, our name).
        missing: names of the model that the file does not have.
        unused: names of the file that the model does not have.
        mismatched: names with both shapes, where they differ.
        not_finite: names of the file whose tensors hold NaN or infinity.
        conflicts: why the file belongs to another network, although names and shapes may fit.
        ignored: names of the file that are not needed, with the reason.
        notes: what else is worth saying.
        source_format: the recognized format.
    """

    state_dict: dict[str, Tensor]
    matched: list[tuple[str, str]]
    missing: list[str]
    unused: list[str]
    mismatched: list[str]
    not_finite: list[str]
    conflicts: list[str]
    ignored: dict[str, str]
    notes: list[str]
    source_format: str

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unused or self.mismatched or self.not_finite or self.conflicts)

    def summary(self) -> str:
        """The whole report as text."""
        lines = [
            f"format: {self.source_format}; {plural(len(self.matched), 'tensor')} matched, {len(self.missing)} missing, "
            f"{len(self.unused)} unused, {len(self.mismatched)} of another shape, {len(self.ignored)} ignored"
        ]
        lines += [f"NaN or infinite: {name}" for name in self.not_finite]
        lines += [f"another network: {text}" for text in self.conflicts]
        lines += [f"missing: {name}" for name in self.missing]
        lines += [f"unused: {name}" for name in self.unused]
        lines += [f"shape: {text}" for text in self.mismatched]
        lines += [f"ignored: {name} ({why})" for name, why in self.ignored.items()]
        lines += [f"note: {text}" for text in self.notes]
        return "\n".join(lines)


Source = Mapping[str, Any] | ForeignCheckpoint


def convert_state_dict(
    source: Source, model: nn.Module | str, *, weights_of: str | None = None, **model_args: Any
) -> ConversionReport:
    """Put a foreign checkpoint's tensors under the names and into the shapes of a model.

    Args:
        source: what ``read_foreign_checkpoint`` returned, or a state dict with foreign names.
        model: a model, or the name of one, with ``model_args``.
        weights_of: whose BMN it is, where the file does not tell; see :func:`clipwise.convert.bmn_layouts.convert_bmn`.

    Raises:
        CheckpointError: the format is not recognized.
    """
    if isinstance(model, str):
        with torch.device("meta"):
            model = create_model(model, **model_args)
    tensors, meta = split_checkpoint(source)
    known = recognize_format(tensors)
    translation = known.translate(tensors, {**meta, "target": model, "weights_of": weights_of})
    own = model.state_dict()

    state: dict[str, Tensor] = {}
    matched, mismatched, not_finite, unused = [], [], [], list(translation.unused)
    for name, tensor in translation.tensors.items():
        foreign = translation.origin[name]
        if name not in own:
            unused.append(foreign)
            continue
        fitted = _fit(tensor, own[name].shape, inflate=known.name == TORCHVISION)
        if fitted is None:
            mismatched.append(f"{foreign} {tuple(tensor.shape)} -> {name} {tuple(own[name].shape)}")
            continue
        if fitted.is_floating_point() and not fitted.is_meta and not torch.isfinite(fitted).all():
            not_finite.append(foreign)
        state[name] = fitted.contiguous()
        matched.append((foreign, name))
    hidden, told = hidden_settings(model), translation.traits.get("told") or {}
    notes = list(translation.notes)
    untold = {key: value for key, value in hidden.items() if key not in told}
    if untold and known.name != CLIPWISE:
        shown = ", ".join(f"{key}={value!r}" for key, value in untold.items())
        notes.append(
            f"names and shapes do not show {shown}: the model's settings are kept, make sure that they are the file's"
        )
    if "num_segments" in hidden and told.get("num_segments", hidden["num_segments"]) != hidden["num_segments"]:
        notes.append(f"trained on {plural(told['num_segments'], 'segment')}, the model takes {hidden['num_segments']}")
    counters = [n for n in own if n.endswith("num_batches_tracked") and n not in translation.tensors]
    for name in counters:
        state[name] = torch.zeros((), dtype=torch.long)
    if counters:
        notes.append(
            f"{len(counters)} num_batches_tracked are not in the file and start at 0; inference does not use them"
        )
    state |= {name: value for name, value in translation.defaults.items() if name in own and name not in state}
    shapes = {text.split(" -> ")[1].split(" ")[0] for text in mismatched}
    missing = [name for name in own if name not in state and name not in shapes]
    return ConversionReport(
        state_dict={name: state[name] for name in own if name in state},
        matched=matched,
        missing=missing,
        unused=unused,
        mismatched=mismatched,
        not_finite=not_finite,
        conflicts=_conflicts(known.name, translation.traits, model)
        + _told_otherwise(hidden, told)
        + _named_otherwise(source, known.name, model),
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
    if report.not_finite:
        raise CheckpointError(
            f"{len(report.not_finite)} of {plural(len(report.matched), 'tensor')} of this {report.source_format} checkpoint hold NaN or infinity "
            f"({', '.join(report.not_finite[:3])}{', …' * (len(report.not_finite) > 3)}): the training that wrote it had diverged. Take an "
            "earlier checkpoint."
        )
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
            f"this {report.source_format} checkpoint does not fit {_describe(model)}: {plural(len(report.matched), 'tensor matches', 'tensors match')}; "
            + "; ".join(parts)
            + ". Choose the model that the file was made for, or allow a partial match (--partial)"
        )
    # the report's tensors may share memory with the source: load_state_dict copies
    model.load_state_dict(report.state_dict, strict=report.complete)


def guess_model(source: Source) -> tuple[str, dict[str, Any]]:
    """The model, and its settings, that a checkpoint was probably made for.

    Names and shapes tell depth, channels, classes, shift, inflation, attention, neck. MMAction2's ``meta.config`` tells the
    number of segments where it is there. Not visible: the frames of SlowOnly, whether the attention was scaled, and embedded
    Gaussian against dot product.

    Raises:
        CheckpointError: unknown format, or a network that this zoo does not have.
    """
    tensors, meta = split_checkpoint(source)
    known = recognize_format(tensors)
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
        raise CheckpointError(f"the checkpoint looks like {name}, which is not supported: {', '.join(list_models())}")
    return name, args


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
            return value.mean(1, keepdim=True).expand(-1, shape[1], -1, -1) if value.shape[2:] == shape[2:] else None
        return inflate_kernel(value, shape)
    return None


def _conflicts(source_format: str, traits: Mapping[str, Any], model: nn.Module) -> list[str]:
    """Differences that names and shapes alone would let pass."""
    if "model" in traits:
        args = traits["model_args"]
        return [
            f"the file's network has {key}={args[key]!r}, the model {getattr(model, key)!r}"
            for key in ("sampling", "layout", "temporal_dim", "max_duration", "padding")
            if key in args and hasattr(model, key) and getattr(model, key) != args[key]
        ]
    if not isinstance(model, Recognizer):
        return [f"the file holds a recognizer, the model is {_describe(model)}"]
    out = []
    body = model.backbone
    shift = shift_of(model)
    shifts = shift is not None
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
    if shift and shift.online and source_format != CLIPWISE:
        out.append("the file's network shifts both ways, the model only from the past (online_shift=True)")
    if shift and source_format in (PADDLE1, PADDLE2) and not shift.reverse:
        out.append("Paddle's shift runs the other way: make the model with reverse_shift=True")
    if shift and source_format in (MMACTION2, TSM_ORIGINAL, TPN_ORIGINAL) and shift.reverse:
        out.append("the model was made with reverse_shift=True, which only Paddle's files need")
    return out


def _told_otherwise(hidden: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
    """Settings that the file's own config gives another value. (The number of segments may be another on purpose.)"""
    return [
        f"the file's config has {key}={told[key]!r}, the model {value!r}"
        for key, value in hidden.items()
        if key != "num_segments"
        and key in told
        and (list(told[key]) if isinstance(value, list) else told[key]) != value
    ]


def _named_otherwise(source: Source, source_format: str, model: nn.Module) -> list[str]:
    """Paddle's TSN and TSM have the same names and shapes; the file's name may tell."""
    if (
        source_format not in (PADDLE1, PADDLE2)
        or not isinstance(source, ForeignCheckpoint)
        or not isinstance(model, Recognizer)
    ):
        return []
    name, shifts = source.path.stem.lower(), shift_of(model) is not None
    if "tsm" in name and not shifts:
        return [f"the file is named {source.path.name}, and TSM shifts channels over time; the model does not"]
    if "tsn" in name and shifts:
        return [f"the file is named {source.path.name}, and TSN does not mix time; the model shifts (TSM)"]
    return []


def _describe(model: nn.Module) -> str:
    if not isinstance(model, Recognizer):
        return type(model).__name__
    return f"{type(model).__name__} (ResNet-{model.backbone.depth}, {plural(model.num_classes, 'class', 'classes')})"
