"""What does a model look at: motion or scene? Each video is decoded once and scored in many disguises.

The disguises are maps of the clip's frames (each position takes the frame of another position) and of its pixels:

* ordered: as it is. shuffled, reversed: the same frames in another order. frozen: the middle frame at every position.
* alone t: frame t at every position; the mean over t is what a single frame is worth.
* drop t: frame t is replaced by its neighbor; what is lost is what that moment is worth.
* background: the middle of the frame is hidden. center: only the middle is shown. still scene: the median over time at
  every position, from which everything that moves has gone.

All of this happens within each clip that the network sees; a protocol with ten clips a video keeps the order of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.dataset import ClipDataset
from clipwise.data.lists import VideoList
from clipwise.data.loader import ShardSampler, make_loader, prefetch
from clipwise.errors import ClipwiseError, DataError
from clipwise.infer.predictor import Predictor
from clipwise.io.progress import Progress, silent
from clipwise.io.text import plural
from clipwise.models import contract
from clipwise.tasks.logits import activate, average_views, score_clip
from clipwise.tasks.paired import Interval, accuracy_difference, wilson_interval

MASKS = ("background", "centre", "still scene")
_MAX_POSITIONS = 16
_COPIES_BUDGET = 2**26  # bytes of disguised frames that are made at once


@dataclass
class Analysis:
    """Right or wrong of every video in every disguise.

    Attributes:
        variants: K names.
        correct: (N, K).
        true_probability: (N, K), probability of the true class.
        labels: (N,).
        positions: frame positions of ``alone`` and ``drop``, as shares of the clip (0 to 1); empty without them.
        clip_len: T, the positions that the network sees.
    """

    model: str
    variants: list[str]
    correct: NDArray[np.bool_]
    true_probability: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: list[str]
    clip_len: int
    positions: list[float] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def accuracy(self, variant: str) -> float:
        """Share of the videos that are right in a disguise; "single frame" is the mean over the frames alone."""
        if variant == "single frame":
            alone = [k for k, name in enumerate(self.variants) if name.startswith("alone")]
            return float(self.correct[:, alone].mean())
        return float(self.correct[:, self.variants.index(variant)].mean())

    @property
    def shown(self) -> list[str]:
        """The variants that go into a table: all but the single positions, which are a curve."""
        names = [v for v in self.variants if not v.startswith(("alone", "drop"))]
        if self.positions:
            names.insert(names.index("frozen") + 1, "single frame")
        return names

    @property
    def chance(self) -> float:
        """Accuracy of always naming the most frequent class."""
        return float(np.bincount(self.labels).max() / len(self.labels))

    def loss(self, variant: str) -> Interval:
        """Accuracy that a disguise costs (positive), with its bootstrap interval."""
        ordered = self.correct[:, self.variants.index("ordered")]
        change = accuracy_difference(self.correct[:, self.variants.index(variant)], ordered)
        return change

    def per_class(self) -> list[dict[str, Any]]:
        """Accuracy of each class in the shown variants; the class that needs the order most comes first."""
        rows = []
        for c in np.unique(self.labels):
            mine = self.labels == c
            row: dict[str, Any] = {"class": self.classes[c], "videos": int(mine.sum())}
            for name in self.shown:
                columns = [
                    k
                    for k, v in enumerate(self.variants)
                    if v == name or (name == "single frame" and v.startswith("alone"))
                ]
                row[name] = float(self.correct[mine][:, columns].mean())
            rows.append(row)
        return sorted(rows, key=lambda r: (r["shuffled"] - r["ordered"], r["class"]))

    def importance(self) -> list[dict[str, float]]:
        """Per frame position: what dropping it costs, and what it is worth alone."""
        rows = []
        base, sure = self.accuracy("ordered"), self.true_probability[:, self.variants.index("ordered")].mean()
        for position in self.positions:
            drop, alone = (self.variants.index(f"{kind} {position:.3f}") for kind in ("drop", "alone"))
            rows.append(
                {
                    "position": position,
                    "accuracy_lost": base - float(self.correct[:, drop].mean()),
                    "probability_lost": float(sure - self.true_probability[:, drop].mean()),
                    "accuracy_alone": float(self.correct[:, alone].mean()),
                }
            )
        return rows

    def verdict(self) -> tuple[str, list[str]]:
        """``motion``, ``mixed``, ``scene`` or ``unclear``, and what stands behind it in plain words."""
        ordered, chance = self.accuracy("ordered"), self.chance
        low, _ = wilson_interval(self.correct[:, self.variants.index("ordered")].sum(), len(self.labels))
        if float(low) <= chance:
            return "unclear", [
                f"With {ordered:.1%} right the model is not clearly better than always naming the most frequent class "
                f"({chance:.1%}), so there is nothing to explain yet."
            ]
        shuffled, backwards = self.loss("shuffled"), self.loss("reversed")
        gain = ordered - chance
        worst = max(shuffled, backwards, key=lambda cost: cost.difference)
        needs = max(worst.difference, 0.0) / gain
        one = "single frame" if self.positions else "frozen"
        keeps = (self.accuracy(one) - chance) / gain
        words = []
        if shuffled.clear or backwards.clear:
            kind = "motion" if needs >= 0.5 else "mixed"
            words.append(
                f"It sees motion: the wrong order of frames costs up to {needs:.0%} of what it knows beyond chance."
                if kind == "motion"
                else f"It uses the order of frames for a part: the wrong one costs up to {needs:.0%} of what it knows beyond chance."
            )
            words.append(
                f"Shuffling the frames costs {_points(shuffled)}, playing them backwards {_points(backwards)}."
            )
        elif worst.difference < 0.05:
            kind = "scene"
            words.append("It does not see the order of frames: another one changes nothing that could not be chance.")
        else:
            kind = "unclear"
            words.append(
                f"Another order of frames costs {_points(worst)}, which with {plural(len(self.labels), 'video')} can be chance: take more videos."
            )
        worth = f"{self.accuracy(one):.1%} against {ordered:.1%}"
        if keeps >= 0.8:
            words.append(f"One frame alone is nearly enough ({worth}): look, scene and objects decide.")
        elif keeps >= 0.3:
            words.append(f"One frame alone goes a good part of the way ({worth}).")
        else:
            words.append(f"One frame alone says little ({worth}).")
        if "still scene" in self.variants:
            still = self.accuracy("still scene")
            words.append(f"With everything that moves removed, {still:.1%} are still right.")
        if "background" in self.variants:
            words.append(
                f"With the middle of the frame hidden {self.accuracy('background'):.1%} are right, with only the middle {self.accuracy('centre'):.1%}."
            )
        return kind, words

    def to_dict(self) -> dict[str, Any]:
        """For JSON and for the report."""
        kind, words = self.verdict()
        variants = []
        for name in self.shown:
            entry: dict[str, Any] = {"variant": name, "accuracy": self.accuracy(name)}
            if name in self.variants and name != "ordered":
                cost = self.loss(name)
                entry |= {"lost": cost.difference, "low": cost.low, "high": cost.high}
            elif name == "single frame":
                entry["lost"] = self.accuracy("ordered") - entry["accuracy"]
            variants.append(entry)
        return {
            "model": self.model,
            "videos": len(self.labels),
            "frames": self.clip_len,
            "chance": self.chance,
            "verdict": kind,
            "words": words,
            "variants": variants,
            "classes": self.per_class(),
            "importance": self.importance(),
            "failures": self.failures,
        }


@dataclass(frozen=True)
class Disguises:
    """What is done to the frames of a clip.

    Attributes:
        names: K.
        frames: (K', T) which frame stands at which position; the masks come after these.
        masks: names of ``MASKS``.
    """

    names: list[str]
    frames: torch.Tensor
    masks: tuple[str, ...]
    positions: list[float]

    @classmethod
    def plan(cls, clip_len: int, rng: np.random.Generator, *, masks: bool, importance: bool) -> Disguises:
        """The disguises of a clip of T frames; the shuffle is drawn so that it is neither the order nor its reverse."""
        straight = np.arange(clip_len)
        shuffled = rng.permutation(clip_len)
        while clip_len > 2 and (np.array_equal(shuffled, straight) or np.array_equal(shuffled, straight[::-1])):
            shuffled = rng.permutation(clip_len)
        rows = {
            "ordered": straight,
            "shuffled": shuffled,
            "reversed": straight[::-1],
            "frozen": np.full(clip_len, clip_len // 2),
        }
        positions = []
        if importance:
            for t in np.unique(np.linspace(0, clip_len - 1, min(clip_len, _MAX_POSITIONS)).round().astype(int)):
                position = round(float((t + 0.5) / clip_len), 3)
                positions.append(position)
                rows[f"alone {position:.3f}"] = np.full(clip_len, t)
                rows[f"drop {position:.3f}"] = np.where(straight == t, t - 1 if t else 1, straight)
        chosen = MASKS if masks else ()
        return cls([*rows, *chosen], torch.from_numpy(np.stack(list(rows.values()))), chosen, positions)

    def apply(self, clip: torch.Tensor, mean: Sequence[float], center: float, first: int, last: int) -> torch.Tensor:
        """(V, T, H, W, C) -> the disguises ``first`` to ``last``, (last - first, V, T, H, W, C)."""
        known = len(self.frames)
        parts = []
        if first < known:
            order = self.frames[first : min(last, known)].to(clip.device)
            parts.append(clip[:, order].transpose(0, 1))
        for name in self.masks[max(first - known, 0) : max(last - known, 0)]:
            parts.append(_masked(clip, name, mean, center)[None])
        return torch.cat(parts)


def _masked(clip: torch.Tensor, name: str, mean: Sequence[float], center: float) -> torch.Tensor:
    if name == "still scene":
        return clip.median(dim=1, keepdim=True).values.expand_as(clip).contiguous()
    height, width, channels = clip.shape[-3:]
    h, w = round(height * center), round(width * center)
    top, left = (height - h) // 2, (width - w) // 2
    inside = torch.zeros(height, width, 1, dtype=torch.bool, device=clip.device)
    inside[top : top + h, left : left + w] = True
    fill = torch.tensor([mean[i % len(mean)] for i in range(channels)], device=clip.device).round().to(clip.dtype)
    return torch.where(inside if name == "background" else ~inside, fill, clip)


def analyze(
    predictor: Predictor,
    videos: VideoList,
    *,
    protocol: str = "test",
    masks: bool = True,
    importance: bool = True,
    center: float = 0.6,
    limit: int | None = None,
    seed: int = 0,
    num_workers: int = 2,
    progress: Progress = silent,
) -> Analysis:
    """Score a list in all disguises, one decode a video.

    Args:
        predictor: a recognizer.
        videos: with one label each.
        protocol: "test": the pixels of ``clipwise test``, so "ordered" is its accuracy; "val": one view a video.
        masks: also hide parts of the frame.
        importance: also score single frames and clips without one frame.
        center: side of the middle part, as a share of the frame's.
        limit: at most so many videos, evenly spread over the list.
        seed: of the shuffles.
        num_workers: loader processes.
        progress: called with (done, total, message).

    Raises:
        DataError: no labels, several labels a video, or nothing can be decoded.
        ClipwiseError: the model sees a single frame.
    """
    if videos.multi_label:
        raise DataError("analyze needs one label a video; this list has several.")
    spec = predictor.spec if protocol == "test" else ClipSpec.from_recipe(predictor.passport.recipe, "val")
    clip_len = spec.num_segments or spec.clip_len
    if clip_len < 2:
        raise ClipwiseError("this model sees one frame a clip, so there is no order of frames to disturb.")
    if limit and limit < len(videos):
        videos = videos.subset(np.linspace(0, len(videos) - 1, limit).round().astype(int).tolist())
    mode = "prob" if predictor.average == "none" else predictor.average
    together = getattr(predictor.model, "views_before_softmax", False)
    loader = make_loader(ClipDataset(videos, spec), sampler=ShardSampler(len(videos)), num_workers=num_workers)
    correct, sure, labels = [], [], []
    failures: dict[str, str] = {}
    plan = Disguises.plan(clip_len, np.random.default_rng(seed), masks=masks, importance=importance)
    for done, batch in enumerate(prefetch(loader, predictor.device)):
        index = int(batch["index"][0])
        if batch["error"][0]:
            failures[videos.path(index)] = batch["error"][0]
        else:
            label = videos.label(index)
            if label is None:
                raise DataError(f"{videos.path(index)} has no label; analyze measures accuracy.")
            frames = batch["frames"][0].to(predictor.device)
            plan = Disguises.plan(clip_len, np.random.default_rng((seed, index)), masks=masks, importance=importance)
            chunk = max(1, _COPIES_BUDGET // frames.numel())
            scores = []
            for first in range(0, len(plan.names), chunk):
                copies = plan.apply(frames, spec.mean, center, first, min(first + chunk, len(plan.names)))
                logits = score_clip(predictor.model, copies, spec, max_views=predictor.max_views, amp=predictor.amp)
                scores.append(average_views(logits, mode, predictor.activation, together))
            rows = torch.cat(scores).cpu().double()
            shares = rows if mode == "prob" else activate(rows, predictor.activation)
            correct.append((rows.argmax(1) == int(label)).numpy())
            sure.append(shares[:, int(label)].numpy())
            labels.append(int(label))
        progress(done + 1, len(videos), "")
    if not labels:
        raise DataError(f"no video of the list can be decoded; the first: {next(iter(failures.values()))}")
    width = contract.num_classes(predictor.model)
    names = list(predictor.classes or videos.classes or [])
    return Analysis(
        model=predictor.passport.model,
        variants=plan.names,
        correct=np.stack(correct),
        true_probability=np.stack(sure),
        labels=np.array(labels),
        classes=names + [str(k) for k in range(len(names), int(width))],
        clip_len=clip_len,
        positions=plan.positions,
        failures=failures,
    )


def _points(cost: Interval) -> str:
    return f"{cost.difference * 100:.1f} points of accuracy ({cost.low * 100:.1f} to {cost.high * 100:.1f})"
