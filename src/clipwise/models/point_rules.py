"""How localizers whose points name and span segments are trained and read: ActionFormer's rules, which TriDet shares.

Times: position i of the features stands for the middle of the i-th of n equal parts of the covered time. So a second t lies at
position (t - first_s) / covered_s · n - 0.5.

Letters: B batch, F feature dimension, n positions of a video, P points of all levels, K classes, G annotated segments.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clipwise.errors import RecipeError
from clipwise.io.text import plural
from clipwise.models.localizer_rules import FoundSegments, LabeledVideo, LocalizerRules
from clipwise.recipe import Recipe
from clipwise.tasks.nms import nms
from clipwise.tasks.point_targets import Points, PointTargets, distance_loss, focal_loss, level_sizes, point_targets

_TRIES = 200  # to draw a part of a long video that shows an action


class PointRules(LocalizerRules):
    """Rules of a network whose points say classes and distances.

    A network class has ``num_levels`` and a buffer ``loss_norm``, and its arguments ``feat_dim``, ``num_classes``, ``temporal_dim``
    and ``num_levels``. Its first output is logits (B, K, P); by default the second is distances (B, 2, P) in strides.

    Attributes:
        network: class of the network, for its defaults.
    """

    network: ClassVar[type[nn.Module]]
    output_names: tuple[str, ...] = ("logits", "distances")
    masked = True

    def __init__(self, settings: Mapping[str, Any], recipe: Recipe):
        given = inspect.signature(self.network).bind_partial(**settings)
        given.apply_defaults()
        super().__init__(given.arguments, recipe)
        self.num_levels, self.num_classes = int(self.settings["num_levels"]), int(self.settings["num_classes"])
        shortest_unit = 2 ** (self.num_levels - 1)
        self.longest = -(-int(self.settings["temporal_dim"]) // shortest_unit) * shortest_unit
        self.keys: Any = recipe.points  # type: ignore[union-attr]
        self.labeled = not self.keys.class_agnostic
        if self.keys.class_agnostic and self.num_classes != 1:
            raise RecipeError(
                f"points.class_agnostic: the network has {plural(self.num_classes, 'class', 'classes')}; set model_args.num_classes=1."
            )
        edges = [0.0, *(4.0 * 2**level for level in range(self.num_levels - 1)), 10_000.0]
        self.ranges = tuple(map(tuple, self.keys.ranges or itertools.pairwise(edges)))
        if len(self.ranges) != self.num_levels:
            raise RecipeError(
                f"points.ranges has {plural(len(self.ranges), 'pair')}; the network has {plural(self.num_levels, 'level')}."
            )
        if recipe.input.rescale != "none":  # type: ignore[union-attr]
            self.length = self.longest

    # -- lengths

    def multiple(self) -> int:
        """What the padded length of a sequence beyond ``longest`` is a multiple of."""
        return 2 ** (self.num_levels - 1)

    def padded_length(self, positions: int) -> int:
        if positions <= self.longest:
            return self.longest
        return -(-positions // self.multiple()) * self.multiple()

    def points(self, count: int, device: torch.device) -> Points:
        """The points of a network that gave ``count`` of them."""
        return _points(count, self.ranges, device)

    def level_of(self, count: int) -> Tensor:
        """(P,) number of each point's level."""
        return _levels(count, self.num_levels)[0]

    def level_bounds(self, count: int) -> tuple[Tensor, Tensor]:
        """(levels,) number of each level's first point, and of its points."""
        return _levels(count, self.num_levels)[1:]

    # -- training

    def sample(self, features: Tensor, video: LabeledVideo, rng: np.random.Generator) -> tuple[Tensor, LabeledVideo]:
        """A part of the video: a window of ``longest`` positions of a longer one, else one of a random share of it."""
        count = video.positions
        low, high = self.keys.crop
        if self.length:  # rescaled features may end before the video does: what lies behind them is not learned
            grid = _grid(video.segments, count)
            inside = np.minimum(grid[:, 1], count + 0.5) - grid[:, 0]
            seen = inside >= self.keys.min_inside * (grid[:, 1] - grid[:, 0])
            whole = np.column_stack([grid[:, 0], np.minimum(grid[:, 1], count + 0.5)])
            video = replace(video, segments=(whole[seen] + 0.5) / count, labels=video.labels[seen])
        if count > self.longest:
            window = self.longest
        else:
            window = int(rng.integers(max(round(low * count), 1), min(round(high * count), count) + 1))
        if window == count:
            return features, video
        grid = _grid(video.segments, count)
        margin, start, kept, cut = self.keys.crop_margin, 0, None, grid
        for _ in range(_TRIES):
            start = int(rng.integers(0, count - window + 1))
            cut = grid.clip(start - margin, start + window + margin)
            kept = (cut[:, 1] - cut[:, 0]) >= self.keys.min_inside * (grid[:, 1] - grid[:, 0])
            if kept.any() or not len(grid):
                break
        assert kept is not None
        step = video.covered_s / count
        segments = (cut[kept] - start + 0.5) / window
        part = replace(
            video,
            positions=window,
            covered_s=window * step,
            first_s=video.first_s + start * step,
            segments=segments,
            labels=video.labels[kept],
        )
        return features[:, start : start + window], part

    def prepare(self, model: Any) -> None:
        norm = getattr(model, "loss_norm", None)
        if isinstance(norm, Tensor) and not norm:  # of a network that was never trained
            norm.fill_(self.keys.loss_norm)

    def targets(self, videos: Sequence[LabeledVideo], points: Points) -> list[PointTargets]:
        """What is right for each point of each video; nothing in the padding."""
        device = points.position.device
        found = []
        for video in videos:
            segments = torch.from_numpy(_grid(video.segments, video.positions)).to(device)
            labels = torch.from_numpy(np.asarray(video.labels)).to(device)
            if self.keys.class_agnostic:
                labels = torch.zeros_like(labels)
            one = point_targets(points, segments, labels, self.num_classes, self.keys.radius)
            found.append(replace(one, classes=one.classes & points.valid(video.positions)[:, None]))
        return found

    def loss(
        self, model: nn.Module, outputs: Any, videos: Sequence[LabeledVideo], generator: torch.Generator
    ) -> dict[str, Tensor]:
        outputs = tuple(x if x.dtype == torch.float64 else x.float() for x in outputs)
        logits = outputs[0].transpose(1, 2)  # (B, P, K)
        points = self.points(logits.shape[1], logits.device)
        targets = self.targets(videos, points)
        share = self.keys.label_smoothing
        cls, reg, positive = logits.sum() * 0, logits.sum() * 0, 0
        for row, (video, right) in enumerate(zip(videos, targets)):
            valid = points.valid(video.positions)
            wanted = right.classes.to(logits.dtype) * (1 - share) + share / (self.num_classes + 1)
            terms = focal_loss(logits[row], wanted)
            at, classes, wanted_distances = self.positives(outputs, row, right)
            if len(at):
                found, true = self.distances(outputs, row, at, classes), wanted_distances.to(logits.dtype)
                reg = reg + distance_loss(found, true).sum()
                weights = self.focal_weights(found, true)
                if weights is not None:
                    terms = terms.index_put((at, classes), terms[at, classes] * weights)
            cls = cls + terms[valid].sum()
            positive += int(right.classes.any(1).sum())
        norm = self._norm(model, positive, logits)
        cls, reg = cls / norm, reg / norm
        return {"loss": cls + self.keys.distance_weight * reg, "cls": cls, "reg": reg}

    def positives(self, outputs: Any, row: int, targets: PointTargets) -> tuple[Tensor, Tensor, Tensor]:
        """Points that are to span a segment, a class of each, and their true distances (n, 2)."""
        points = targets.classes.any(1).nonzero().squeeze(1)
        return points, targets.classes[points].int().argmax(1), targets.distances[points]

    def distances(self, outputs: Any, row: int, points: Tensor, classes: Tensor) -> Tensor:
        """(n, 2) distances that a video's outputs give for points and classes, in strides of the point's level."""
        return outputs[1][row][:, points].T

    def focal_weights(self, found: Tensor, wanted: Tensor) -> Tensor | None:
        """(n,) factors of the positives' classification loss; None: 1."""
        return None

    def _norm(self, model: nn.Module, positive: int, like: Tensor) -> Tensor:
        """The running number of positive points of a batch, which evens out batches with few of them."""
        norm = model.loss_norm
        assert isinstance(norm, Tensor)
        if model.training:
            count = torch.tensor(float(max(positive, 1)), dtype=norm.dtype, device=norm.device)
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.all_reduce(count)
                count /= torch.distributed.get_world_size()
            norm.lerp_(count, 0.1)
        return norm.to(like.dtype)

    # -- results

    def decode(self, outputs: Any, videos: Sequence[LabeledVideo]) -> list[FoundSegments]:
        rules = self.recipe.nms  # type: ignore[union-attr]
        found = []
        for row, video in enumerate(videos):
            segments, scores, labels = (x.cpu().numpy() for x in self.candidates(outputs, row, video.positions))
            kept = nms(
                segments,
                scores,
                labels if rules.class_wise else None,
                method=rules.method,
                sigma=rules.alpha,
                threshold=rules.threshold,
                min_score=rules.min_score,
                top_k=rules.max_proposals,
                voting=None if rules.class_wise else rules.voting,
                voting_weights=rules.voting_weights,
            )
            seconds = (kept.segments + 0.5) / video.positions * video.covered_s + video.first_s
            seconds = seconds.clip(0, video.duration_s or video.covered_s)
            found.append(FoundSegments(seconds, kept.scores, labels[kept.indices] if self.labeled else None))
        return found

    def candidates(self, outputs: Any, row: int, positions: int) -> tuple[Tensor, Tensor, Tensor]:
        """Segments (n, 2) in positions, scores (n,) and classes (n,) of one video: level after level, best first."""
        outputs = tuple(x if x.dtype == torch.float64 else x.float() for x in outputs)
        scores = torch.sigmoid(outputs[0][row]).T  # (P, K)
        points = self.points(len(scores), scores.device)
        scores = scores * points.valid(positions)[:, None]
        starts, sizes = self.level_bounds(len(scores))
        chosen, values = [], []
        for first, level in zip(starts.tolist(), scores.split(sizes.tolist())):
            flat = level.flatten()
            good = (flat > self.keys.min_candidate).nonzero().squeeze(1)
            best, order = flat[good].sort(descending=True, stable=True)
            chosen.append(good[order[: self.keys.candidates]] + first * self.num_classes)
            values.append(best[: self.keys.candidates])
        place, score = torch.cat(chosen), torch.cat(values)
        point, label = place // self.num_classes, place % self.num_classes
        spans = self.distances(outputs, row, point, label) * points.stride[point, None].to(score.dtype)
        middle = points.position[point].to(score.dtype)
        segments = torch.stack([middle - spans[:, 0], middle + spans[:, 1]], 1)
        long = segments[:, 1] - segments[:, 0] > self.keys.min_length
        return segments[long], score[long], label[long]


def _grid(segments: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Shares of the covered time -> positions, rounded so that a time on a point's very edge stays there."""
    return np.round(np.asarray(segments, np.float64).reshape(-1, 2) * count, 9) - 0.5


def _length(count: int, num_levels: int) -> int:
    """Length of the sequence whose pyramid has so many points, a multiple of 2^(levels - 1)."""
    return count * 2 ** (num_levels - 1) // (2**num_levels - 1)


@lru_cache(maxsize=16)
def _levels(count: int, num_levels: int) -> tuple[Tensor, Tensor, Tensor]:
    sizes = torch.tensor(level_sizes(_length(count, num_levels), num_levels))
    return torch.arange(num_levels).repeat_interleave(sizes), sizes.cumsum(0) - sizes, sizes


@lru_cache(maxsize=16)
def _points(count: int, ranges: tuple[tuple[float, ...], ...], device: torch.device) -> Points:
    points = Points.of(_length(count, len(ranges)), ranges)
    return Points(*(x.to(device) for x in (points.position, points.stride, points.low, points.high)))
