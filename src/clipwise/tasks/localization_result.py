"""What a localizer found in a list of videos, and how good that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.tasks.average_recall import AverageRecall, average_recall_at_avg_proposals
from clipwise.tasks.detection_metrics import ACTIVITYNET_TIOU, detection_map
from clipwise.tasks.detections import ResultWriter


@dataclass
class LocalizationResult:
    """Proposals of a list of videos.

    Attributes:
        proposals: video -> (n, 3) start and end in seconds, score; best first.
        ground_truth: video -> [{"segment", "label"}].
        recall: AR@AN, None where no video has an action.
        labels: video -> (n,) names of their classes, where the network gives any.
        mean_ap: mAP over the overlaps of the recipe (``val.tious``), as a share; None without classes.
        notes: what makes the figures mean little.
    """

    proposals: dict[str, np.ndarray]
    ground_truth: dict[str, list[dict[str, Any]]]
    recall: AverageRecall | None = None
    labels: dict[str, list[str]] | None = None
    mean_ap: float | None = None
    notes: tuple[str, ...] = ()

    def figures(self) -> dict[str, float]:
        """AR@1, @5, @10, @100 as shares, and AUC in percent; mAP as a share."""
        found = {} if self.mean_ap is None else {"mAP": self.mean_ap}
        if self.recall is not None:
            found |= {("auc" if k == "AUC" else k): v for k, v in self.recall.summary().items()}
        return found

    def save(self, path: str | Path) -> None:
        """Write a result file in ActivityNet's form."""
        with ResultWriter(path) as file:
            for video, rows in self.proposals.items():
                file.add(video, rows[:, :2], rows[:, 2], self.labels[video] if self.labels else None)


def measure(
    found: dict[str, np.ndarray],
    ground_truth: dict[str, list[dict[str, Any]]],
    labels: dict[str, list[str]] | None = None,
    tious: Sequence[float] | None = None,
) -> LocalizationResult:
    """AR@AN of what was found, and mAP where it has classes (over ``tious``); without any action there is nothing to measure."""
    recall, mean_ap = None, None
    if any(ground_truth.values()):
        recall = average_recall_at_avg_proposals(ground_truth, found)
        if labels is not None:
            named = {
                video: [{"segment": r[:2], "score": r[2], "label": n} for r, n in zip(rows.tolist(), labels[video])]
                for video, rows in found.items()
            }
            mean_ap = detection_map(ground_truth, named, np.array(tious) if tious else ACTIVITYNET_TIOU).mean
    return LocalizationResult(found, ground_truth, recall, labels, mean_ap)
