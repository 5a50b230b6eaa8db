"""Why detections are wrong: error types, sensitivity to what the actions are like, and actions that were missed.

Each prediction is of one type, by its overlap with the action of its video that it overlaps most, whatever that one's class:

================ ========================= ==========================================================
type             overlap                   class
================ ========================= ==========================================================
true positive    at least the threshold    its own, and no better prediction has taken the action
double detection at least the threshold    its own, but the action is taken
wrong label      at least the threshold    another
localization     0.1 up to the threshold   its own
confusion        0.1 up to the threshold   another
background       less than 0.1
================ ========================= ==========================================================

Normalized precision puts the mean number of actions of a class, N, in place of the class's own: with recall r and f false positives
it is rN / (rN + f). So classes and buckets of different size can be compared; its mean average precision is mAP_N.

Source: Alwassel et al. 2018 (DETAD), and its code where the paper leaves something open. # differs: an action's own class is preferred
among equal overlaps (THUMOS14 gives one segment to Diving and to CliffDiving); a video without actions gives background only; N is
not rounded down; actions that end after their video are kept.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipwise.errors import DataError
from clipwise.tasks.average_recall import ACTIVITYNET_TIOU, temporal_iou
from clipwise.tasks.detection_metrics import by_class_best_first, detection_columns, match_actions

Buckets = Literal["activitynet", "thumos", "quintiles"]

ERROR_TYPES = ("true positive", "double detection", "wrong label", "localization", "confusion", "background")
TRUE_POSITIVE, DOUBLE, WRONG_LABEL, LOCALIZATION, CONFUSION, BACKGROUND = range(6)
CHARACTERISTICS = ("coverage", "length", "instances")
BUCKET_EDGES: dict[str, dict[str, tuple[float, ...]]] = {
    "activitynet": {
        "coverage": (0, 0.2, 0.4, 0.6, 0.8, np.inf),
        "length": (0, 30, 60, 120, 180, np.inf),
        "instances": (0, 1, 4, 8, np.inf),
    },
    "thumos": {
        "coverage": (0, 0.02, 0.04, 0.06, 0.08, np.inf),
        "length": (0, 3, 6, 12, 18, np.inf),
        "instances": (0, 1, 40, 80, np.inf),
    },
}
NUM_RANKS = 10  # G, 2G, …, 10G
_MIN_IOU = 0.1
_MIN_PRECISION = 0.05  # normalized; a match at less does not count as found


class Bucket(NamedTuple):
    """Actions that are alike.

    Attributes:
        low, high: more than ``low``, at most ``high``.
        actions: how many.
        mean_ap: mean average precision of them alone, predictions that take other actions left out.
        normalized_map: the same of normalized precision.
        missed: share that no prediction takes at a normalized precision above 0.05.
    """

    low: float
    high: float
    actions: int
    mean_ap: float
    normalized_map: float
    missed: float


class DetectionErrors(NamedTuple):
    """Result of :func:`detection_errors`; means over the overlaps and, of precisions, over the classes.

    Attributes:
        tiou: (num_tiou,), the overlaps.
        profile: (10, 6), shares of each type among a class's best G predictions, the next G, …; G is its number of actions.
            Rows without predictions are NaN.
        counts: (10, 6), their numbers.
        gain: mAP_N gained if the errors of a type were removed from the best 10G.
        mean_ap, normalized_map: of all predictions.
        missed: share of the actions that are not found.
        sensitivity: buckets by characteristic: ``coverage`` (share of the video; only if all lengths are known), ``length`` (s),
            ``instances`` (of the same class in the same video). Buckets without an action are left out.
        missed_in: share of missed actions of each video with actions.
    """

    tiou: NDArray[np.float64]
    profile: NDArray[np.float64]
    counts: NDArray[np.float64]
    gain: dict[str, float]
    mean_ap: float
    normalized_map: float
    missed: float
    sensitivity: dict[str, list[Bucket]]
    missed_in: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; infinity and NaN are None."""
        shares = [
            {"rank": f"{n + 1}G", "predictions": round(count.sum()), **dict(zip(ERROR_TYPES, map(_plain, share)))}
            for n, (count, share) in enumerate(zip(self.counts, self.profile))
        ]
        buckets = {
            name: [{k: _plain(v) for k, v in b._asdict().items()} for b in rows]
            for name, rows in self.sensitivity.items()
        }
        return {
            "tiou": self.tiou.tolist(),
            "mAP": self.mean_ap,
            "mAP_N": self.normalized_map,
            "missed": self.missed,
            "profile": shares,
            "gain": self.gain,
            "sensitivity": buckets,
        }


def detection_errors(
    ground_truth: Mapping[str, Sequence[Mapping[str, Any]]],
    predictions: Mapping[str, Sequence[Mapping[str, Any]]],
    durations: Mapping[str, float] | None = None,
    tiou_thresholds: ArrayLike = ACTIVITYNET_TIOU,
    buckets: Buckets = "activitynet",
) -> DetectionErrors:
    """Analyze detections as DETAD does.

    Args:
        ground_truth: for each video a list of ``{"segment": [start, end], "label": name}``; those of no length are left out.
        predictions: for each video a list of ``{"segment", "label", "score"}``. Unknown classes count nowhere.
        durations: seconds of each video, for ``coverage``.
        tiou_thresholds: overlaps.
        buckets: DETAD's of a data set, or ``quintiles`` of the given actions.

    Raises:
        DataError: no action, an entry without label or score, NaN, unknown buckets.
    """
    tiou = np.atleast_1d(np.asarray(tiou_thresholds, dtype=np.float64))
    ground_truth = {v: [e for e in entries if e["segment"][1] > e["segment"][0]] for v, entries in ground_truth.items()}
    classes, videos, truth, truth_label, truth_video, boxes, score, label, video = detection_columns(
        ground_truth, predictions
    )
    order = by_class_best_first(label, score)
    order = order[label[order] >= 0]
    boxes, label, video = boxes[order], label[order], video[order]

    num_truth = np.bincount(truth_label, minlength=len(classes))
    edge = np.searchsorted(label, np.arange(len(classes) + 1))
    parts = [slice(a, b) for a, b in zip(edge[:-1].tolist(), edge[1:].tolist())]
    groups, truth_group = np.unique(truth_video * len(classes) + truth_label, return_inverse=True)
    own = video * len(classes) + label
    group = np.searchsorted(groups, own).clip(max=len(groups) - 1)
    group = np.where(groups[group] == own, group, -1)
    taken = np.full((len(tiou), len(boxes)), -1, dtype=np.int32)
    for row, (place, action) in zip(taken, match_actions(truth, truth_group, boxes, group, tiou)):
        row[place] = action
    hit = taken >= 0
    mean_truth = len(truth) / len(classes)

    def mean_ap(hit: NDArray, keep: NDArray, members: NDArray, normalized: bool = True) -> float:
        """Over the overlaps and the classes that have members."""
        values = [
            average_precision(hit[:, part], keep[:, part], n, mean_truth if normalized else n)
            for part, n in zip(parts, members.tolist())
            if n
        ]
        return float(np.mean(values))

    everything = np.ones_like(hit)
    # ---- false positives, among the best 10G
    rank = (np.arange(len(boxes)) - edge[label]) // num_truth[label]  # which G, from 0
    best = np.flatnonzero(rank < NUM_RANKS)
    iou, same = nearest_action(truth, truth_label, truth_video, boxes[best], label[best], video[best])
    kinds = error_types(iou, same, hit[:, best], tiou)
    places = rank[best] * len(ERROR_TYPES) + kinds
    counts = np.bincount(places.ravel(), minlength=NUM_RANKS * len(ERROR_TYPES)).reshape(NUM_RANKS, -1) / len(tiou)
    total = counts.sum(1, keepdims=True)
    profile = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    limited = np.zeros_like(hit)
    limited[:, best] = True
    base = mean_ap(hit, limited, num_truth)
    gain = {}
    for kind in range(1, len(ERROR_TYPES)):
        keep = limited.copy()
        keep[:, best] = kinds != kind
        gain[ERROR_TYPES[kind]] = mean_ap(hit, keep, num_truth) - base

    # ---- characteristics of the actions
    seen = np.zeros((len(tiou), len(truth)), dtype=bool)
    for part, n in zip(parts, num_truth.tolist()):
        clear = hit[:, part] & (normalized_precision(hit[:, part], everything[:, part], n, mean_truth) > _MIN_PRECISION)
        rows, columns = np.nonzero(clear)
        seen[rows, taken[:, part][rows, columns]] = True
    sensitivity = {}
    for name, values in _characteristics(truth, truth_video, truth_group, list(videos), durations).items():
        edges = _edges(name, values, buckets)
        where = np.searchsorted(edges, values, side="left").clip(min=1) - 1
        found = []
        for n, (low, high) in enumerate(itertools.pairwise(edges)):
            inside = where == n
            if not inside.any():
                continue
            members = np.bincount(truth_label[inside], minlength=len(classes))
            # as DETAD's code: what takes an action outside at any overlap is left out at all of them
            keep = everything & ~((taken >= 0) & ~inside[taken]).any(0)
            plain, normalized = (mean_ap(hit, keep, members, by_mean) for by_mean in (False, True))
            missed = float(1 - seen[:, inside].mean())
            found.append(Bucket(float(low), float(high), int(inside.sum()), plain, normalized, missed))
        sensitivity[name] = found
    return DetectionErrors(
        tiou,
        profile,
        counts,
        gain,
        mean_ap(hit, everything, num_truth, False),
        mean_ap(hit, everything, num_truth),
        float(1 - seen.mean()),
        sensitivity,
        {name: float(1 - seen[:, truth_video == n].mean()) for name, n in videos.items() if ground_truth.get(name)},
    )


def nearest_action(
    truth: NDArray, truth_label: NDArray, truth_video: NDArray, boxes: NDArray, label: NDArray, video: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Overlap of each prediction with the action of its video that it overlaps most, and whether that is of its class."""
    by_video = np.argsort(truth_video, kind="stable")
    truth, truth_label = truth[by_video], truth_label[by_video]
    count = np.bincount(truth_video, minlength=int(video.max(initial=-1)) + 1)
    first = np.cumsum(count) - count
    best, same = np.zeros(len(boxes)), np.zeros(len(boxes), dtype=bool)
    place = np.arange(len(boxes))
    for k in range(int(count.max(initial=0))):  # the k-th action of all videos at once
        place = place[count[video[place]] > k]
        action = first[video[place]] + k
        iou, own = temporal_iou(truth[action], boxes[place]), truth_label[action] == label[place]
        nearer = (iou > best[place]) | ((iou == best[place]) & own)
        best[place[nearer]], same[place[nearer]] = iou[nearer], own[nearer]
    return best, same


def error_types(iou: ArrayLike, same: ArrayLike, hit: ArrayLike, tiou: ArrayLike) -> NDArray[np.int64]:
    """Type of each prediction at each overlap, by the module's table: (num_tiou, n), numbers of ``ERROR_TYPES``.

    Args:
        iou: (n,), overlap with the action that it overlaps most.
        same: (n,), whether that action is of the prediction's class.
        hit: (num_tiou, n), whether the prediction takes an action.
        tiou: (num_tiou,).
    """
    iou, same, hit = np.asarray(iou), np.asarray(same), np.asarray(hit)
    near = np.where(same, DOUBLE, WRONG_LABEL)
    far = np.where(iou >= _MIN_IOU, np.where(same, LOCALIZATION, CONFUSION), BACKGROUND)
    return np.where(hit, TRUE_POSITIVE, np.where(iou >= np.asarray(tiou)[:, None], near, far))


def normalized_precision(hit: NDArray, keep: NDArray, num_truth: int, mean_truth: float) -> NDArray[np.float64]:
    """Precision after each prediction of a class, best first, with ``mean_truth`` actions in place of ``num_truth``.

    Args:
        hit, keep: (num_tiou, n); predictions that are not kept count neither way.
    """
    right = (hit & keep).cumsum(1) * (mean_truth / num_truth)
    wrong = (~hit & keep).cumsum(1)
    return np.divide(right, right + wrong, out=np.zeros(hit.shape), where=right + wrong > 0)


def average_precision(hit: NDArray, keep: NDArray, num_truth: int, mean_truth: float) -> NDArray[np.float64]:
    """Area under :func:`normalized_precision` made monotone, over recall: (num_tiou,)."""
    precision = normalized_precision(hit, keep, num_truth, mean_truth)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (envelope * (hit & keep)).sum(1) / num_truth


def _characteristics(
    truth: NDArray, video: NDArray, group: NDArray, names: list[str], durations: Mapping[str, float] | None
) -> dict[str, NDArray[np.float64]]:
    """What the actions are like, by name."""
    length = truth[:, 1] - truth[:, 0]
    seconds = np.array([(durations or {}).get(name, np.nan) for name in names])[video]
    coverage = {"coverage": length / seconds} if (seconds > 0).all() else {}
    return {**coverage, "length": length, "instances": np.bincount(group)[group].astype(np.float64)}


def _edges(name: str, values: NDArray, buckets: str) -> NDArray[np.float64]:
    if buckets == "quintiles":
        return np.unique([0.0, *np.quantile(values, (0.2, 0.4, 0.6, 0.8)), values.max()])
    if buckets not in BUCKET_EDGES:
        raise DataError(f"unknown buckets {buckets!r}; known: {', '.join(BUCKET_EDGES)}, quintiles")
    return np.array(BUCKET_EDGES[buckets][name])


def _plain(value: float) -> float | int | None:
    return value if np.isfinite(value) else None
