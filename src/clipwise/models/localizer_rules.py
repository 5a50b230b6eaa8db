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

from clipwise.data.feature_windows import TimeWindows
from clipwise.errors import ClipwiseError, RecipeError
from clipwise.models.registry import MODELS, model_class
from clipwise.recipe import Recipe, make_recipe
from clipwise.tasks.window_merge import merge_windows


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

    def __post_init__(self) -> None:
        n, found = len(self.scores), (self.segments_s, self.scores, self.labels)
        shaped = all(x is None or x.shape == s for x, s in zip(found, ((n, 2), (n,), (n,))))
        if not (shaped and np.isfinite(self.segments_s).all() and (np.diff(self.scores) <= 0).all()):
            raise ClipwiseError(
                "a localizer's decode must give finite segments (n, 2), scores (n,), highest first, and labels (n,) or None; "
                f"got {', '.join('None' if x is None else str(x.shape) for x in found)}, scores {np.array2string(self.scores, threshold=6)}."
            )


class WindowCollector:
    """Gathers what was found in the windows of videos.

    Args:
        windows: how videos are cut; None: a video is one sample, and nothing is merged.
        unit_s, most: so many segments are kept of a video of this length or less, and in proportion of longer ones.
        rule: options of :func:`clipwise.tasks.window_merge.merge_windows`.
    """

    def __init__(self, windows: TimeWindows | None, unit_s: float, most: int, **rule: Any):
        self.windows, self.unit_s, self.most, self.rule = windows, unit_s, most, rule
        self._open: dict[str, list[tuple[float, FoundSegments]]] = {}

    def add(
        self, video: str, start_s: float, found: FoundSegments, covered_s: float, first_s: float = 0.0
    ) -> FoundSegments | None:
        """Take a window; returns what was found in the video when this is its last one. Windows come by their start.

        Args:
            start_s: of the window.
            found: in seconds from there.
            covered_s, first_s: of the video's features: their seconds, and the second of the video at which they begin.
        """
        if self.windows is None:
            return found
        self._open.setdefault(video, []).append((start_s, found))
        if len(self._open[video]) < len(self.windows.starts(covered_s)):
            return None
        starts, windows = zip(*self._open.pop(video))
        labels = None if windows[0].labels is None else [w.labels for w in windows]
        merged = merge_windows(
            [w.segments_s for w in windows],
            [w.scores for w in windows],
            labels,
            starts,
            self.windows.length_s,
            covered_s,
            most=int(self.most * max(1.0, covered_s / self.unit_s)),
            **self.rule,
        )
        return FoundSegments(merged.segments_s + first_s, merged.scores, merged.labels)


class LocalizerRules:
    """Rules of a localizer; ``loss`` and ``decode`` are each one's own.

    Args:
        settings: arguments that built the network, as a passport holds them.
        recipe: of task localization.

    Attributes:
        feat_dim: F.
        length: L if the network takes one length only (videos are rescaled to it), else None (videos are padded).
        masked: forward gets F + 1 channels, the last of which is 1 where a video has features and 0 in the padding.
        windows: how long videos are cut, None if each goes in as a whole.
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
        self.windows: TimeWindows | None = None
        length_s = getattr(recipe, "window_s", None)
        if length_s is not None and length_s != "auto":  # auto: until the training data have been read
            self.windows = TimeWindows(float(length_s), **recipe.windows.model_dump())  # type: ignore[union-attr]

    @classmethod
    def settled(cls, model_args: dict[str, Any], positions: int, reach: float = 0.0) -> dict[str, Any]:
        """The recipe's ``model_args`` once the number of positions is known; ``reach``: share of them that the longest segments take."""
        return model_args

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

    def collector(self, longest_s: float | None = None) -> WindowCollector:
        """What makes one list of a video's windows.

        Args:
            longest_s: length of the longest training video: ``nms.max_proposals`` are kept for a video of this length, more of
                longer ones. Of a window's length if not given.
        """
        nms = self.recipe.nms  # type: ignore[union-attr]
        low = {} if nms.low is None else {"low": nms.low}
        unit = max(longest_s or 0.0, self.windows.length_s if self.windows else 0.0)
        return WindowCollector(self.windows, unit, nms.max_proposals, alpha=nms.alpha, high=nms.high, **low)

    def curves(self, outputs: Any, row: int = 0) -> tuple[Tensor, Tensor] | None:
        """(L,) start and end curves of one video of the batch, for charts; None if there are none."""
        return None


def _kind(name: str) -> type[LocalizerRules]:
    kind = MODELS.find(name).options.get("rules") or getattr(model_class(name), "rules", None)
    if kind is None:
        raise RecipeError(
            f"model {name!r} has no rules for training and decoding. Register it with "
            '@register_model(task="localization", rules=MyRules); see docs/en/models.md.'
        )
    return kind


def settled_args(recipe: Any, reach: float = 0.0) -> dict[str, Any]:
    """``model_args`` of a recipe whose number of positions is known; see :meth:`LocalizerRules.settled`."""
    more = {"reach": reach} if reach else {}  # rules of others may not know it
    return _kind(recipe.model).settled(recipe.model_args, recipe.temporal_dim, **more)


def takes_any_length(recipe: Any) -> bool:
    """Whether the recipe's network looks at a whole video, of any length, and in training at parts of it."""
    return (
        _kind(recipe.model).masked and recipe.input.rescale == "none" and not isinstance(recipe.window_s, float | int)
    )


def keep_settled(recipe: Any, before: Mapping[str, Any]) -> Any:
    """A recipe whose "auto" keys are those that another run found, of whose recipe ``before`` holds the values."""
    known = {k: before.get(k) for k in ("window_s", "temporal_dim") if getattr(recipe, k, None) == "auto"}
    if not known:
        return recipe
    found, given = before.get("model_args") or {}, recipe.model_args  # shares that became numbers of positions
    shares = {k: found[k] for k, v in given.items() if isinstance(v, float) and v < 1 and type(found.get(k)) is int}
    return recipe.model_copy(update={**known, "model_args": {**given, **shares}})


def localizer_rules(name: str, settings: Mapping[str, Any], recipe: Recipe) -> LocalizerRules:
    """The rules of a localizer of that name.

    Raises:
        RecipeError: the model has none.
    """
    return _kind(name)(settings, recipe)


def recipe_of(name: str, settings: Mapping[str, Any], values: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """The recipe that a passport holds; where it holds none, the defaults with the network's sizes."""
    sizes = {key: settings[key] for key in ("feat_dim", "temporal_dim") if key in settings}
    return make_recipe(values or {"task": "localization", "model": name, **sizes}, source=source)
