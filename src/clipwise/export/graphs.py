"""What goes into an exported file: the graph and the description that makes it usable without the checkpoint.

A recognizer's graph takes uint8 frames as a decoder gives them and normalizes them itself, so that whoever runs the
file can't get mean, deviation or channel order wrong, and sends a quarter of the bytes to the device. ``normalize=False``
leaves that to the caller, for tool chains that insist on float input.

Letters: B batch (free), T frames, H W space, C channels, K classes, F features, L positions, D durations.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.transforms import normalize_clips
from clipwise.engine.checkpoint import Passport, make_passport
from clipwise.errors import CheckpointError, ClipwiseError
from clipwise.io.parse import parse_json
from clipwise.models.contract import input_spec
from clipwise.models.localizer_rules import localizer_rules, recipe_of
from clipwise.models.registry import model_task
from clipwise.tasks.logits import activation_of

KEY = "clipwise"
"""Under this key the description stands in a file's metadata."""


@dataclass
class Description:
    """Everything that a runtime has to know about an exported file."""

    input: str
    """Name of the input."""
    dtype: str
    """``uint8`` frames, or ``float32`` clips or features."""
    shape: list[int]
    """Of the input without the batch: (T, H, W, C) frames, (C, T, H, W) clips, (F, L) features."""
    outputs: list[str]
    precision: str = "fp32"
    """``fp32``, or ``int8`` where weights and activations of convolutions are quantized."""
    views_before_softmax: bool = False
    """How the views of a video are averaged; see :func:`clipwise.tasks.logits.average_views`."""
    device: str | None = None
    """Kind of device that a compiled file is bound to; None: any that its runtime knows."""
    passport: dict[str, Any] = field(default_factory=dict)

    def to_properties(self) -> dict[str, str]:
        """For the file's metadata: the whole under one key, and what a person looks for under plain ones."""
        recipe = self.passport.get("recipe", {})
        plain = {KEY: asdict(self), "classes": self.passport.get("classes"), "model": self.passport.get("model")}
        if recipe and recipe.get("task", "recognition") == "recognition":
            plain["preprocessing"] = preprocessing(recipe, normalized_inside=self.dtype == "uint8")
        return {k: json.dumps(v, ensure_ascii=False, default=str) for k, v in plain.items()}

    @classmethod
    def from_properties(cls, properties: dict[str, str], source: Any) -> Description:
        """Inverse of :meth:`to_properties`.

        Raises:
            CheckpointError: the file was not exported by clipwise.
        """
        if KEY not in properties:
            raise CheckpointError(
                f"{source} has no description by clipwise in its metadata, so its preprocessing and classes are unknown. "
                "Export it with `clipwise export`."
            )
        try:
            return cls(**parse_json(properties[KEY]))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{source}: its description can't be read ({error}).") from None

    def read_passport(self) -> Passport:
        """The checkpoint's passport, as it was when the file was written."""
        return make_passport(self.passport, "the exported file")


def preprocessing(recipe: dict[str, Any], *, normalized_inside: bool) -> dict[str, Any]:
    """From a video file to the graph's input, in order, for people who write their own runtime."""
    test, given = recipe["test"], recipe["input"]
    return {
        "sampling": {key: recipe[key] for key in ("sampling", "clip_len", "frame_interval")}
        | {"test_rule": test["rule"], "out_of_bound": given["out_of_bound"]}
        | {"num_segments": test["num_segments"] or recipe["num_segments"]}
        | {"num_clips": test["num_clips"], "twice_sample": test["twice_sample"]},
        "resize": {"size": test["resize"], "rule": given["resize_rule"], "filter": given["interpolation"]},
        "crop": {"kind": test["crop"], "size": test["crop_size"]},
        "channels": "RGB" if recipe["modality"] == "rgb" else "flow x, y",
        "normalize": {"inside_the_graph": normalized_inside, "mean": given["mean"], "std": given["std"]},
        "activation": activation_of(recipe),
        "average_views": test["average_clips"],
    }


class FramesToLogits(nn.Module):
    """uint8 frames (B, T, H, W, C) -> logits (B, K)."""

    def __init__(self, model: nn.Module, spec: ClipSpec):
        super().__init__()
        self.model, self.mean, self.std = model, list(spec.mean), list(spec.std)

    def forward(self, frames: Tensor) -> Tensor:
        return self.model(normalize_clips(frames, self.mean, self.std))


class ClipsToLogits(nn.Module):
    """Normalized clips (B, C, T, H, W) -> logits (B, K)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, clips: Tensor) -> Tensor:
        return self.model(clips)


class FeaturesToProposals(nn.Module):
    """Features (B, F, L) -> what the network gives; of BMN confidence (B, 2, D, L), start (B, L), end (B, L)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Any:
        return self.model(features)


def make_graph(model: nn.Module, passport: Passport, *, normalize: bool = True) -> tuple[nn.Module, Description]:
    """The module that is exported, and its description.

    Args:
        model: a recognizer or a localizer; put into evaluation mode.
        passport: its recipe says the shape of a clip.
        normalize: take uint8 frames and normalize them in the graph.

    Raises:
        ClipwiseError: no recipe, or it does not fix the clip's shape.
    """
    model = model.eval()
    if model_task(passport.model) == "localization":
        recipe = recipe_of(passport.model, passport.model_args, passport.recipe)
        rules = localizer_rules(passport.model, passport.model_args, recipe)
        *channels, length = input_spec(model).shape
        shape = [*channels, rules.padded_length(length)]
        names = list(rules.output_names)
        return FeaturesToProposals(model).eval(), Description(
            "features", "float32", shape, names, passport=asdict(passport)
        )
    if not passport.recipe:
        raise ClipwiseError(
            "the checkpoint has no recipe, so its preprocessing is unknown; convert it again with --recipe."
        )
    spec = ClipSpec.from_recipe(passport.recipe, "test")
    t, h, w, c = spec.view_shape
    before = bool(getattr(model, "views_before_softmax", False))
    about: dict[str, Any] = dict(outputs=["logits"], views_before_softmax=before, passport=asdict(passport))
    if normalize:
        return FramesToLogits(model, spec).eval(), Description("frames", "uint8", [t, h, w, c], **about)
    return ClipsToLogits(model).eval(), Description("clips", "float32", [c, t, h, w], **about)


def random_input(description: Description, batch: int, seed: int = 0) -> Tensor:
    """(batch, …) of the graph's type: frames whose colors and stripes differ from clip to clip, or noise."""
    generator = torch.Generator().manual_seed(seed)
    if description.dtype != "uint8":
        return torch.randn(batch, *description.shape, generator=generator)
    t, h, w, c = description.shape
    coarse = torch.rand(batch * c, 1, max(2, t // 2), 5, 6, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(t, h, w), mode="trilinear", align_corners=False)
    clips = smooth.view(batch, c, t, h, w).permute(0, 2, 3, 4, 1)
    return (clips * 255).to(torch.uint8).contiguous()
