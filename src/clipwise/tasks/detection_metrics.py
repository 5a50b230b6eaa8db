"""How good proposals and detections are: average recall, and mean average precision over overlaps.

Numbers are those of ActivityNet's evaluation scripts (and of JJBOY's and MMAction2's copies of them); the loops over
videos, classes and thresholds are gone. What made the scripts stop (a video without proposals, a label that the ground
truth does not have) is answered here.
"""

import array
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipwise.errors import ClipwiseError, DataError

ACTIVITYNET_TIOU = np.linspace(0.5, 0.95, 10)
THUMOS_TIOU = np.linspace(0.3, 0.7, 5)
_NEVER = np.iinfo(np.int64).max


class AverageRecall(NamedTuple):
    """Result of :func:`average_recall_at_avg_proposals`, in MMAction2's order.

    Attributes:
        recall: (num_tiou, max_avg_proposals), share of actions found at each overlap and average number of proposals.
        average_recall: (max_avg_proposals,), mean over the overlaps.
        proposals_per_video: (max_avg_proposals,), the average numbers 1, 2, …
        auc: area under average_recall in percent, from the first number on, so that 99 is the best of 1..100.
    """

    recall: NDArray[np.float64]
    average_recall: NDArray[np.float64]
    proposals_per_video: NDArray[np.float64]
    auc: float

    def at(self, num_proposals: int) -> float:
        """AR@num_proposals, mean over the overlaps."""
        if not 1 <= num_proposals <= len(self.average_recall):
            raise ClipwiseError(f"AR@{num_proposals} was asked for; 1..{len(self.average_recall)} was computed")
        return float(self.average_recall[num_proposals - 1])

    def summary(self) -> dict[str, float]:
        """AR@1, @5, @10, @100 (those that were computed) and AUC."""
        counts = [n for n in (1, 5, 10, 100) if n <= len(self.average_recall)]
        return {f"AR@{n}": self.at(n) for n in counts} | {"AUC": self.auc}


class DetectionMAP(NamedTuple):
    """Result of :func:`detection_map`.

    Attributes:
        mean: mean average precision over overlaps and classes.
        per_tiou: (num_tiou,), mean over classes.
        per_class: (num_tiou, num_classes).
        classes: names, in order of first occurrence in the ground truth.
        tiou: (num_tiou,), the overlaps.
        ignored: predictions of classes that the ground truth does not have; they count nowhere.
    """

    mean: float
    per_tiou: NDArray[np.float64]
    per_class: NDArray[np.float64]
    classes: list[str]
    tiou: NDArray[np.float64]
    ignored: int


def temporal_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """IoU of segments along the last axis, (…, 2) and (…, 2), with broadcasting; NaN for two of no length."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    inter = (np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])).clip(min=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return inter / ((a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - inter)


def temporal_iop(target: ArrayLike, candidates: ArrayLike) -> NDArray[np.float64]:
    """Share of each candidate (…, 2) that lies within ``target`` (…, 2)."""
    a, b = np.asarray(target, dtype=np.float64), np.asarray(candidates, dtype=np.float64)
    inter = (np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])).clip(min=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return inter / (b[..., 1] - b[..., 0])


def average_recall_at_avg_proposals(
    ground_truth: Mapping[str, Any],
    proposals: Mapping[str, Any],
    total_num_proposals: int | None = None,
    max_avg_proposals: int = 100,
    temporal_iou_thresholds: ArrayLike = ACTIVITYNET_TIOU,
) -> AverageRecall:
    """Share of actions that are found when each video may have 1, 2, …, max_avg_proposals proposals on average.

    Args:
        ground_truth: for each video its actions, (G, 2) or a list of ``{"segment": [start, end]}``. Videos without
            actions are left out.
        proposals: for each video (n, 3) start, end, score, or a list of ``{"segment", "score"}``. Videos that the
            ground truth does not have only add to the number of proposals, and a video without proposals finds nothing
            (# differs: the scripts stop there).
        total_num_proposals: number of all proposals; counted if not given.
        max_avg_proposals: largest average number.
        temporal_iou_thresholds: overlaps at which an action counts as found.

    Raises:
        DataError: no action or no proposal at all, times or scores that are NaN, another form.
    """
    truth = {video: entries for video, entries in ground_truth.items() if len(entries)}
    if not truth:
        raise DataError("the ground truth holds no action; recall is not defined")
    boxes, num_boxes = _rows(truth, truth, scored=False)
    found, count = _rows(proposals, truth, scored=True)
    if total_num_proposals is None:
        total_num_proposals = sum(len(p) for p in proposals.values())
    if not total_num_proposals or not len(found):
        raise DataError("there is no proposal for any video of the ground truth")
    tiou = np.atleast_1d(np.asarray(temporal_iou_thresholds, dtype=np.float64))

    # proposals of all videos below each other, best first within each video
    num_videos = len(truth)
    ratio = max_avg_proposals * num_videos / total_num_proposals
    kept = np.minimum((count * ratio).astype(np.int64), count)
    ranked = _best_first(found, count)
    video_of_box = np.repeat(np.arange(num_videos), num_boxes)

    # every action with every kept proposal of its video; then the rank of the first that finds it, for each overlap
    pairs = kept[video_of_box]
    box = np.repeat(np.arange(len(boxes)), pairs)
    rank = np.arange(len(box)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    offset = np.cumsum(count) - count
    iou = temporal_iou(boxes[box], ranked[offset[video_of_box[box]] + rank, :2])
    first = np.full((len(tiou), len(boxes)), _NEVER)
    start = (np.cumsum(pairs) - pairs)[pairs > 0]
    if len(start):
        for row, threshold in zip(first, tiou):
            row[pairs > 0] = np.minimum.reduceat(np.where(iou >= threshold, rank, _NEVER), start)

    share = np.arange(1, max_avg_proposals + 1) / max_avg_proposals * (max_avg_proposals * num_videos / kept.sum())
    allowed = np.minimum((kept[:, None] * share).astype(np.int64), kept[:, None])  # (videos, averages)
    # an action is found from the first average on whose allowance exceeds its rank
    recall = np.stack([(row[:, None] < allowed[video_of_box]).sum(0) for row in first]) / len(boxes)
    per_video = share * (kept.sum() / num_videos)
    average = recall.mean(axis=0)
    area = float(((average[1:] + average[:-1]) / 2 * np.diff(per_video)).sum())
    return AverageRecall(recall, average, per_video, float(100 * area / per_video[-1]))


def detection_map(
    ground_truth: Mapping[str, Sequence[Mapping[str, Any]]],
    predictions: Mapping[str, Sequence[Mapping[str, Any]]],
    tiou_thresholds: ArrayLike = ACTIVITYNET_TIOU,
) -> DetectionMAP:
    """ActivityNet's mean average precision of named segments.

    Predictions of a class, best first, take the free action of their video that they overlap most, if enough;
    precision is interpolated (VOC 2011). Classes are those of the ground truth.

    Args:
        ground_truth: for each video a list of ``{"segment": [start, end], "label": name}``.
        predictions: for each video a list of ``{"segment", "label", "score"}``. Classes that the ground truth does
            not have are counted in ``ignored`` (# differs: the scripts stop there).
        tiou_thresholds: overlaps.

    Raises:
        DataError: no action at all, an entry without label or score, NaN.
    """
    tiou = np.atleast_1d(np.asarray(tiou_thresholds, dtype=np.float64))
    names = (entry.get("label") for entries in ground_truth.values() for entry in entries)
    classes: dict[Any, int] = {name: i for i, name in enumerate(dict.fromkeys(names))}
    videos = {name: i for i, name in enumerate(dict.fromkeys([*ground_truth, *predictions]))}
    truth, _, truth_label = _columns_by_video(ground_truth, scored=False, classes=classes)
    if not len(truth):
        raise DataError("the ground truth holds no action; average precision is not defined")
    boxes, score, label = _columns_by_video(predictions, scored=True, classes=classes)
    truth_video, video_idx = (
        np.repeat([videos[v] for v in given], [len(entries) for entries in given.values()])
        for given in (ground_truth, predictions)
    )
    ignored = int((label < 0).sum())

    # A group is a class in a video: actions and predictions of different groups do not touch each other.
    group_of = np.full((len(videos), len(classes) + 1), -1, dtype=np.int32)  # the last column is for unknown classes
    group_of[truth_video, truth_label] = 0
    group_of[group_of == 0] = np.arange((group_of == 0).sum())
    order = _by_class_best_first(label, score)
    group = group_of[video_idx, label]
    places, hit = _match(truth, group_of[truth_video, truth_label], boxes[order], group[order], tiou)

    per_class = np.zeros((len(tiou), len(classes)))
    num_truth = np.bincount(truth_label, minlength=len(classes))
    edge = np.cumsum(np.bincount(label + 1, minlength=len(classes) + 1))  # unknown classes come first
    parts = np.searchsorted(places, edge)
    for c in np.flatnonzero(np.diff(parts)):
        some = slice(parts[c], parts[c + 1])
        per_class[:, c] = _interpolated_precision(hit[:, some], places[some] - edge[c] + 1, num_truth[c])
    per_tiou = per_class.mean(axis=1)
    return DetectionMAP(float(per_tiou.mean()), per_tiou, per_class, list(classes), tiou, ignored)


def thumos_map(
    ground_truth: Mapping[str, Sequence[Mapping[str, Any]]],
    predictions: Mapping[str, Sequence[Mapping[str, Any]]],
    tiou_thresholds: ArrayLike = THUMOS_TIOU,
) -> DetectionMAP:
    """THUMOS14's mAP at overlaps 0.3, 0.4, …, 0.7, as OpenTAD computes it.

    As :func:`detection_map`, but actions labeled "Ambiguous", of no length, or given twice are left out first.
    """
    cleaned: dict[str, list[Mapping[str, Any]]] = {}
    for video, entries in ground_truth.items():
        unique = {(*map(float, e["segment"]), e["label"]): e for e in entries}
        cleaned[video] = [e for (a, b, name), e in unique.items() if b > a and name != "Ambiguous"]
    return detection_map(cleaned, predictions, tiou_thresholds)


def _match(
    truth: NDArray, truth_group: NDArray, boxes: NDArray, group: NDArray, tiou: NDArray
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which predictions take an action: places of those that do at any overlap, ascending, and (num_tiou, places).

    Predictions come best first within each group; those of group -1 have no action to take.
    """
    by_group = np.argsort(truth_group, kind="stable")
    truth = truth[by_group]
    num_truth = np.bincount(truth_group)
    first = np.cumsum(num_truth) - num_truth
    # every prediction with each action of its group, the k-th action of all groups at once
    place = np.flatnonzero(group >= 0)
    parts = []
    for k in range(num_truth.max()):
        place = place[num_truth[group[place]] > k]
        action = first[group[place]] + k
        iou = temporal_iou(truth[action], boxes[place])
        iou[np.isnan(iou)] = np.inf  # two segments of no length: 0/0 passes the scripts' test, and so counts as a hit
        near = np.flatnonzero(iou >= tiou.min())
        parts.append((place[near], action[near], iou[near]))
    # each prediction's nearest action first; of equal overlaps the scripts' reversed sort takes the last action
    prediction, action, iou = map(np.concatenate, zip(*parts[::-1]))
    order = np.argsort(prediction, kind="stable")
    prediction, action, iou = prediction[order], action[order], iou[order]
    again = prediction[1:] == prediction[:-1]
    several = np.flatnonzero(np.append(again, False) | np.append(False, again))
    order = several[np.lexsort((-iou[several], prediction[several]))]
    action[several], iou[several] = action[order], iou[order]

    taken = []
    for threshold in tiou:
        pair = np.flatnonzero(iou >= threshold)
        taken.append(_first_come(prediction[pair], action[pair], len(truth)))
    places = np.unique(np.concatenate(taken))
    return places, np.stack([np.isin(places, t, assume_unique=True) for t in taken])


def _first_come(prediction: NDArray, action: NDArray, num_actions: int) -> NDArray[np.int64]:
    """Predictions that get an action when the pairs are gone through in order and each is taken if both are free.

    In each round all pairs are taken of which neither side has an earlier one; a group's first pair always is one of them,
    so that there are as many rounds as actions in a group, not as predictions.
    """
    matched = []
    free_prediction = np.ones(prediction.max(initial=-1) + 1, dtype=bool)
    free_action = np.ones(num_actions, dtype=bool)
    earliest = np.empty(num_actions, dtype=np.int64)
    while len(prediction):
        pair = np.arange(len(prediction))
        earliest[action[::-1]] = pair[::-1]  # the last write stays
        leads = earliest[action] == pair
        leads[1:] &= prediction[1:] != prediction[:-1]
        matched.append(prediction[leads])
        free_prediction[matched[-1]] = free_action[action[leads]] = False
        still = free_prediction[prediction] & free_action[action]
        prediction, action = prediction[still], action[still]
    return np.concatenate(matched) if matched else prediction


def _interpolated_precision(hit: NDArray[np.bool_], rank: NDArray[np.int64], num_truth: int) -> NDArray[np.float64]:
    """Area under precision made monotone, over recall: (num_tiou, n) -> (num_tiou,).

    ``rank`` (n,) counts the predictions up to each column, from 1. Predictions that never hit need no column, because precision
    only rises where one hits.
    """
    envelope = np.maximum.accumulate((hit.cumsum(axis=1) / rank)[:, ::-1], axis=1)[:, ::-1]
    return (envelope * hit).sum(axis=1) / num_truth


def _best_first(rows: NDArray, count: NDArray) -> NDArray:
    """Sort (N, 3) rows by falling score within each video; ``count`` rows belong to each.

    Videos with equally many rows are sorted together, with numpy's default sort reversed: the scripts do that video by
    video, and ties must fall as they do there.
    """
    out = np.empty_like(rows)
    offset = np.cumsum(count) - count
    for n in np.unique(count):
        places = offset[count == n][:, None] + np.arange(n)
        order = np.argsort(rows[places, 2], axis=1)[:, ::-1]
        out[places] = rows[np.take_along_axis(places, order, axis=1)]
    return out


def _by_class_best_first(label: NDArray, score: NDArray) -> NDArray[np.int64]:
    """Order by class, then by falling score; ties as in the scripts, which sort class by class."""
    order = np.argsort(label.astype(np.int16) if label.max(initial=0) < 1 << 15 else label, kind="stable")  # radix sort
    edges = np.flatnonzero(np.diff(label[order])) + 1
    parts = [part[np.argsort(score[part])[::-1]] for part in np.split(order, edges)]
    return np.concatenate(parts) if parts else order


def _rows(by_video: Mapping[str, Any], videos: Iterable[str], scored: bool) -> tuple[NDArray, NDArray[np.int64]]:
    """(n, 2) or (n, 3) start, end, score of the given videos below each other, and how many each has."""
    listed = [by_video.get(video, ()) for video in videos]
    count = np.array([len(entries) for entries in listed])
    if all(isinstance(entries, list) and isinstance(entries[0], Mapping) for entries in listed if len(entries)):
        try:
            boxes, score, _ = _columns(listed, scored)
            return (np.column_stack([boxes, score]) if scored else boxes), count
        except DataError:
            pass  # look again, video by video, for the one to name
    arrays = [_segments(entries, video, scored) for video, entries in zip(videos, listed)]
    return np.concatenate(arrays), count


def _segments(entries: Any, video: str, scored: bool) -> NDArray[np.float64]:
    """(n, 2), or (n, 3) with scores, of one video's array or list of dictionaries."""
    columns = 3 if scored else 2
    if len(entries) == 0:
        return np.zeros((0, columns))
    try:
        if not isinstance(entries, np.ndarray) and isinstance(entries[0], Mapping):
            boxes, score, _ = _columns([entries], scored)
            return np.column_stack([boxes, score]) if scored else boxes
        array = np.asarray(entries, dtype=np.float64)
    except (DataError, ValueError, TypeError) as error:
        raise DataError(f"video {video!r}: {error}") from None
    if array.ndim != 2 or array.shape[1] < columns:
        raise DataError(f"video {video!r} has segments of shape {array.shape}; (n, {columns}) is needed")
    if not np.isfinite(array[:, :columns]).all():
        raise DataError(f"video {video!r} has NaN or infinity among its segments or scores")
    return array[:, :columns]


def _columns_by_video(
    by_video: Mapping[str, Sequence[Mapping[str, Any]]], scored: bool, classes: Mapping[str, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """:func:`_columns`, whose errors name the video."""
    try:
        return _columns(by_video.values(), scored, classes)
    except DataError:
        for video, entries in by_video.items():
            try:
                _columns([entries], scored, classes)
            except DataError as error:
                raise DataError(f"video {video!r}: {error}") from None
        raise


def _columns(
    by_video: Iterable[Sequence[Mapping[str, Any]]], scored: bool, classes: Mapping[str, int] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Segments (n, 2), scores (n,) and class numbers (n,; -1 for an unknown one) of lists of dictionaries.

    Scores and classes are empty where they are not asked for.
    """
    start, end, score, label = array.array("d"), array.array("d"), array.array("d"), array.array("q")
    entries = list(itertools.chain.from_iterable(by_video))
    try:
        for at in range(0, len(entries), 128):  # so few that a dictionary is still in the cache when it is read again
            some = entries[at : at + 128]
            segments = [entry["segment"] for entry in some]
            start.fromlist([a for a, _ in segments])
            end.fromlist([b for _, b in segments])
            if scored:
                score.fromlist([entry["score"] for entry in some])
            if classes is not None:
                label.fromlist([classes.get(entry["label"], -1) for entry in some])
    except (KeyError, ValueError, TypeError) as error:
        needed = ["'segment' ([start, end])"] + ["'score' (a number)"] * scored + ["'label'"] * (classes is not None)
        wrong = next((entry for entry in entries if not _has(entry, scored, classes is not None)), "one entry")
        raise DataError(f"every entry needs {', '.join(needed)}, given {str(wrong)[:120]}") from error
    boxes, scores = np.column_stack([start, end]), np.array(score)
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise DataError("segments or scores hold NaN or infinity")
    return boxes, scores, np.array(label, dtype=np.int64)


def _has(entry: Any, scored: bool, labeled: bool) -> bool:
    """Whether an entry has what :func:`_columns` reads."""
    try:
        a, b = entry["segment"]
        numbers = [a, b, entry["score"]] if scored else [a, b]
        return all(isinstance(x, int | float | np.number) for x in numbers) and (not labeled or "label" in entry)
    except (KeyError, ValueError, TypeError):
        return False
