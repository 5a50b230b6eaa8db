"""What a localizer promises beside its network: how features go in, what it learns from, and how outputs become segments.

A network's rules are made from its settings and the recipe, without weights; so an exported file is read by the same rules as
the network that it came from. A new localizer is one file: a network, whose forward takes one tensor (B, C, L), a subclass of
:class:`LocalizerRules`, and ``@register_model(task="localization", rules=MyRules)``.

Letters: B batch, F feature dimension, L positions, n positions of one video, G annotated segments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from clipwise.errors import RecipeError
from clipwise.models.registry import MODELS, model_class
from clipwise.recipe import Recipe, make_recipe


@dataclass(frozen=True)
class LabeledVideo:
    """What is known about a video whose features go in.

    Attributes:
        positions: n, of its features, before they are padded.
        covered_s: seconds that these positions divide.
        first_s: second at which they begin.
        duration_s: of the video, behind which nothing can be; ``covered_s`` if not given.
        segments: (G, 2) annotated starts and ends as shares of ``covered_s``, from ``first_s`` on.
        labels: (G,) their class numbers.
    """

    positions: int
    covered_s: float
    segments: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    first_s: float = 0.0
    duration_s: float | None = None


@dataclass(frozen=True)
class FoundSegments:
    """What was found in a video, best first.

    Attributes:
        segments_s: (n, 2) start and end in seconds.
        scores: (n,).
        labels: (n,) class numbers, or None for proposals that something else names.
    """

    segments_s: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64] | None = None


class LocalizerRules:
    """Rules of a localizer; ``loss`` and ``decode`` are each one's own.

    Args:
        settings: arguments that built the network, as a passport holds them.
        recipe: of task localization.

    Attributes:
        feat_dim: F.
        length: L if the network takes one length only (videos are rescaled to it), else None (videos are padded).
        masked: forward gets F + 1 channels, the last of which is 1 where a video has features and 0 in the padding.
        labeled: ``decode`` gives classes, so that mAP is the measure; else proposals are measured by AR@AN and AUC.
        output_names: of the tensors that forward gives, for exported files.
    """

    output_names: tuple[str, ...] = ("scores",)
    masked = False
    labeled = False

    def __init__(self, settings: Mapping[str, Any], recipe: Recipe):
        self.settings, self.recipe = dict(settings), recipe
        self.feat_dim = int(settings["feat_dim"])
        self.length: int | None = None

    @property
    def channels(self) -> int:
        """C of the network's input."""
        return self.feat_dim + self.masked

    def padded_length(self, positions: int) -> int:
        """L for a video (or the longest of a batch) of so many positions."""
        return self.length or positions

    def sample(self, features: Tensor, video: LabeledVideo, rng: np.random.Generator) -> tuple[Tensor, LabeledVideo]:
        """What training sees of a video, (F, n): all, unless a localizer crops or disturbs."""
        return features, video

    def inputs(self, features: Sequence[Tensor] | Tensor) -> Tensor:
        """Features of videos, (F, n) each -> the network's input (B, C, L)."""
        if isinstance(features, Tensor) and not self.masked:
            return features
        length = self.padded_length(max(x.shape[1] for x in features))
        rows = []
        for x in features:
            if self.masked:
                x = torch.cat([x, x.new_ones(1, x.shape[1])])
            rows.append(F.pad(x, (0, length - x.shape[1])))
        return torch.stack(rows)

    def prepare(self, model: Any) -> None:
        """A last touch on a network that these rules train or read (an exported one comes here, too)."""

    def loss(
        self, model: nn.Module, outputs: Any, videos: Sequence[LabeledVideo], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Terms of a batch's loss; the one called "loss" is trained on.

        Args:
            model: the network itself, for what it keeps from step to step (in buffers, so that runs resume exactly).
            outputs: of forward.
            generator: for random numbers.
        """
        raise NotImplementedError

    def decode(self, outputs: Any, videos: Sequence[LabeledVideo]) -> list[FoundSegments]:
        """What was found in each video; ``videos`` have no annotations here."""
        raise NotImplementedError

    def curves(self, outputs: Any) -> tuple[Tensor, Tensor] | None:
        """(L,) start and end curves of the first video, for pictures; None if there are none."""
        return None


def localizer_rules(name: str, settings: Mapping[str, Any], recipe: Recipe) -> LocalizerRules:
    """The rules of a localizer of that name.

    Raises:
        RecipeError: the model has none.
    """
    kind = MODELS.find(name).options.get("rules") or getattr(model_class(name), "rules", None)
    if kind is None:
        raise RecipeError(
            f"model {name!r} has no rules for training and decoding. Register it with "
            '@register_model(task="localization", rules=MyRules); see docs/en/models.md.'
        )
    return kind(settings, recipe)


def recipe_of(name: str, settings: Mapping[str, Any], values: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """The recipe that a passport holds; where it holds none, the defaults with the network's sizes."""
    sizes = {key: settings[key] for key in ("feat_dim", "temporal_dim") if key in settings}
    return make_recipe(values or {"task": "localization", "model": name, **sizes}, source=source)
