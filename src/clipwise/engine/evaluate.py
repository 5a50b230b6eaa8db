"""Score every video of a list exactly once, on one process or many, and measure the result.

``score_clip`` is the one path from pixels to logits: validation, ``test`` and ``predict`` all call it, video by
video at test, so the same file gets the same scores from each of them, bit for bit on a CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clipwise.data.dataset import ClipDataset
from clipwise.data.loader import ShardSampler, make_loader, prefetch
from clipwise.engine.device import world
from clipwise.io.tables import Tabled
from clipwise.tasks import metrics
from clipwise.tasks.logits import Activation, activate, average_views, score_clip


@dataclass(repr=False)
class TestResult(Tabled):
    """Scores of a list, in its order, with everything that failed. Made by ``clipwise.evaluate``, and to be made of scores from anywhere."""

    __test__ = False  # not a test class, whatever pytest thinks of the name

    paths: list[str]
    labels: list[Any]
    scores: list[np.ndarray]
    """(num_classes,) a video, or (V, num_classes) with average ``none``; NaN where the video failed."""
    classes: list[str] | None
    failures: dict[str, str] = field(default_factory=dict)
    """Path and reason of each video that could not be decoded."""
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    allow_missing: bool = False
    """The recipe accepts videos that could not be decoded (they count as wrong all the same)."""
    trained_on: int = 0  # videos of the list that the checkpoint was trained on, as far as that is known
    protocol: dict[str, Any] = field(default_factory=dict)  # of hf:MODEL: views, source, published figure
    data_protocol: Any = None  # the variant of a known data set that the list is (tasks.protocol)
    form: str = ""  # of a large network on a CPU: how it was computed
    video_seconds: list[float] = field(default_factory=list)
    """Wall time until each video's scores were there, counted from the one before; a batch's time is shared out."""

    def __repr__(self) -> str:
        figures = [f", {name} {value:.4f}" for name, value in self.metrics.items()]
        return f"TestResult({len(self.paths)} videos, {len(self.failures)} failed{''.join(figures)})"

    @property
    def means(self) -> list[np.ndarray]:
        """(num_classes,) a video: the mean of the views' scores where these were kept apart."""
        return [s if s.ndim == 1 else s.mean(0) for s in self.scores]

    def compute(
        self, names: Sequence[str] = ("top_k_accuracy", "mean_class_accuracy"), topk: Sequence[int] = (1, 5)
    ) -> dict[str, float]:
        """Measure; videos that failed count as wrong."""
        self.metrics = measure(np.stack(self.means), self.labels, names, topk)
        return self.metrics

    # -- as arrays, for reports and comparisons

    @cached_property
    def table(self) -> np.ndarray:
        """(N, num_classes) scores, NaN where the video failed; of views that were kept apart the mean of their probabilities."""
        width = max((s.shape[-1] for s in self.scores), default=1)
        table = np.full((len(self.scores), width), np.nan)
        for row, scores in zip(table, self.scores):
            if scores.shape == (width,):
                row[:] = scores
            elif not np.isnan(scores).any():  # the logits of views that were kept apart
                logits = torch.as_tensor(scores, dtype=torch.float64)
                row[:] = activate(
                    logits, "sigmoid" if any(np.ndim(label) for label in self.labels) else "softmax"
                ).mean(0)
        return table

    @cached_property
    def truth(self) -> np.ndarray:
        """(N,) class indices, -1 where unknown; of several labels a video (N, num_classes) with ones."""
        if any(np.ndim(label) > 0 for label in self.labels):
            none = np.zeros(self.num_classes, np.int64)
            return np.stack([none if label is None else np.asarray(label, np.int64) for label in self.labels])
        return np.array([-1 if label is None else int(label) for label in self.labels], np.int64)

    @property
    def num_classes(self) -> int:
        return self.table.shape[1]

    @property
    def names(self) -> list[str]:
        """A name for each class, its number where the list had none."""
        known = [str(name) for name in self.classes or []][: self.num_classes]
        return known + [str(k) for k in range(len(known), self.num_classes)]

    @property
    def multi_label(self) -> bool:
        """Whether a video may have several labels."""
        return self.truth.ndim == 2

    @cached_property
    def predictions(self) -> np.ndarray:
        """(N,) best class, -1 where the video failed."""
        failed = np.isnan(self.table).any(1)
        return np.where(failed, -1, np.where(failed[:, None], 0.0, self.table).argmax(1))

    @cached_property
    def correct(self) -> np.ndarray:
        """(N,): the best class is (one of) the true one(s); videos that failed are wrong."""
        if self.multi_label:
            return (np.take_along_axis(self.truth, self.predictions[:, None], 1)[:, 0] > 0) & (self.predictions >= 0)
        return (self.predictions == self.truth) & (self.truth >= 0)

    @cached_property
    def confusion(self) -> np.ndarray:
        """(num_classes, num_classes) counts, truth in rows; of several labels a video all 0."""
        known = np.zeros(len(self.truth), bool) if self.multi_label else (self.truth >= 0) & (self.predictions >= 0)
        if not known.any():
            return np.zeros((self.num_classes, self.num_classes), np.int64)
        return metrics.confusion_matrix(self.predictions[known], self.truth[known], num_classes=self.num_classes)

    @cached_property
    def class_counts(self) -> np.ndarray:
        """(num_classes,) videos, those that failed included."""
        return (
            self.truth.sum(0)
            if self.multi_label
            else np.bincount(self.truth[self.truth >= 0], minlength=self.num_classes)
        )

    @cached_property
    def class_accuracy(self) -> np.ndarray:
        """(num_classes,) accuracy within each class (average precision for several labels a video); NaN without videos."""
        if self.multi_label:
            good = self.predictions >= 0
            values = np.full(self.num_classes, np.nan)
            for k in np.flatnonzero(self.truth[good].any(0)):
                values[k] = metrics.mean_average_precision(self.table[good][:, [k]], self.truth[good][:, [k]])
            return values
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.bincount(self.truth[self.correct], minlength=self.num_classes) / self.class_counts

    def rows(self) -> list[dict[str, Any]]:
        """One flat dictionary a video: path, label, prediction, score and whether it was right."""
        from clipwise.engine.result_files import rows_of

        return rows_of(self)

    def save(self, path: str | Path) -> None:
        """Write to ``.json`` (everything), ``.csv`` (a row a video with its scores) or ``.pkl`` (MMAction2's list of arrays)."""
        from clipwise.engine.result_files import write_result

        write_result(self, path)


def measure(
    scores: np.ndarray, labels: Sequence[Any], names: Sequence[str], topk: Sequence[int] = (1, 5)
) -> dict[str, float]:
    """Metrics by the names that MMAction2's ``--eval`` takes; rows of NaN count as wrong.

    Args:
        scores: (N, num_classes).
        labels: N class indices, or N multi-hot vectors.
    """
    multi = bool(len(labels)) and np.ndim(labels[0]) > 0
    if any(name not in metrics.BUILT_IN or ("average_precision" in name) != multi for name in names):
        from clipwise.engine.metric_names import check_metrics

        check_metrics(names, multi)
    failed = np.isnan(scores).any(axis=1)
    label_array = np.asarray(labels)
    figures: dict[str, float] = {}
    known, known_labels = scores[~failed], label_array[~failed]
    # A failed video's row says that every class but the true one is equally likely: wrong by any measure.
    full = np.where(failed[:, None], 0.0, scores)
    if not multi:
        full[failed, label_array[failed]] = -1.0
    for name in names:
        if name == "top_k_accuracy":
            share = (len(scores) - failed.sum()) / len(scores)
            values = metrics.top_k_accuracy(known, known_labels, tuple(topk)) if len(known) else [0.0] * len(topk)
            figures.update({f"top{k}_acc": float(v) * float(share) for k, v in zip(topk, values)})
        elif name == "mean_class_accuracy":
            figures[name] = float(metrics.mean_class_accuracy(full, label_array))
        else:
            figures[name] = float(metrics.by_name(name)(full, label_array))
    return figures


def score_list(
    model: nn.Module,
    dataset: ClipDataset,
    *,
    device: torch.device,
    activation: Activation,
    average: str = "prob",
    batch_size: int = 1,
    max_views: int | None = None,
    num_workers: int = 2,
    amp: str = "no",
    progress: Callable[[], None] = lambda: None,
) -> TestResult:
    """Score each video of a dataset once; processes share the list and every one gets the whole result.

    Files that can't be decoded are never replaced or dropped: their scores are NaN and ``failures`` says why.
    """
    rank, processes = world()
    started = time.perf_counter()
    model.eval()
    sampler = ShardSampler(len(dataset), rank, processes)
    pinned = device.type != "cpu" and not dataset.spec.decode_device
    loader = make_loader(dataset, sampler=sampler, batch_size=batch_size, num_workers=num_workers, pin_memory=pinned)
    scores: dict[int, np.ndarray] = {}
    failures: dict[str, str] = {}
    times: dict[int, float] = {}
    first = getattr(model, "views_before_softmax", False)
    clock = time.perf_counter()
    for batch in prefetch(loader, device):
        for index, error in zip(batch["index"], batch["error"]):
            if error:
                failures[dataset.videos.path(int(index))] = error
        good = [i for i, error in enumerate(batch["error"]) if not error]
        frames = batch["frames"]
        if good:
            kept = frames if isinstance(frames, torch.Tensor) else torch.stack([frames[i].to(device) for i in good])
            averaged = average_views(
                score_clip(model, kept, dataset.spec, max_views=max_views, amp=amp), average, activation, first
            )
            for i, row in zip(good, averaged.cpu().numpy()):
                scores[int(batch["index"][i])] = row
        now = time.perf_counter()
        times.update((int(index), (now - clock) / len(batch["index"])) for index in batch["index"])
        clock = now
        for _ in batch["error"]:
            progress()
    if processes > 1:
        parts: list[Any] = [None] * processes
        torch.distributed.all_gather_object(parts, (scores, failures, times))
        scores, failures, times = ({k: v for one in of_all for k, v in one.items()} for of_all in zip(*parts))
    width = next((s.shape for s in scores.values()), (dataset.videos.num_classes or 1,))
    rows = [scores.get(i, np.full(width, np.nan, np.float32)) for i in range(len(dataset))]
    return TestResult(
        paths=[dataset.videos.path(i) for i in range(len(dataset))],
        labels=[dataset.videos.label(i) for i in range(len(dataset))],
        scores=rows,
        classes=dataset.videos.classes,
        failures=failures,
        seconds=time.perf_counter() - started,
        video_seconds=[times[i] for i in range(len(dataset))],
    )
