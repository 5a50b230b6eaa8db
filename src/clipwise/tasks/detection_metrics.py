"""How good detections are: mean average precision over overlaps.

Numbers are those of ActivityNet's evaluation scripts (and of JJBOY's and MMAction2's copies of them); the loops over
videos, classes and thresholds are gone. A label that the ground truth does not have, which made the scripts stop, is answered
here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipwise.errors import DataError
from clipwise.tasks.average_recall import ACTIVITYNET_TIOU, columns, temporal_iou

THUMOS_TIOU = np.linspace(0.3, 0.7, 5)


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


def temporal_iop(target: ArrayLike, candidates: ArrayLike) -> NDArray[np.float64]:
    """Share of each candidate (…, 2) that lies within ``target`` (…, 2)."""
    a, b = np.asarray(target, dtype=np.float64), np.asarray(candidates, dtype=np.float64)
    inter = (np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])).clip(min=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return inter / (b[..., 1] - b[..., 0])


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
    classes, videos, truth, truth_label, truth_video, boxes, score, label, video_idx = detection_columns(
        ground_truth, predictions
    )
    ignored = int((label < 0).sum())

    # A group is a class in a video: actions and predictions of different groups do not touch each other.
    group_of = np.full((len(videos), len(classes) + 1), -1, dtype=np.int32)  # the last column is for unknown classes
    group_of[truth_video, truth_label] = 0
    group_of[group_of == 0] = np.arange((group_of == 0).sum())
    order = by_class_best_first(label, score)
    group = group_of[video_idx, label]
    taken = [t for t, _ in match_actions(truth, group_of[truth_video, truth_label], boxes[order], group[order], tiou)]
    places = np.unique(np.concatenate(taken))
    hit = np.stack([np.isin(places, t, assume_unique=True) for t in taken])

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
    return detection_map(thumos_actions(ground_truth), predictions, tiou_thresholds)


def thumos_actions(ground_truth: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[Mapping[str, Any]]]:
    """The actions that THUMOS14's protocol counts."""
    cleaned: dict[str, list[Mapping[str, Any]]] = {}
    for video, entries in ground_truth.items():
        unique = {(*map(float, e["segment"]), e["label"]): e for e in entries}
        cleaned[video] = [e for (a, b, name), e in unique.items() if b > a and name != "Ambiguous"]
    return cleaned


def match_actions(
    truth: NDArray, truth_group: NDArray, boxes: NDArray, group: NDArray, tiou: NDArray
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Which prediction takes which action: for each overlap the places of those that take one, and the actions.

    Predictions come best first within each group; those of group -1 have no action to take.
    """
    if not len(truth) or not len(boxes):
        return [(np.zeros(0, np.int64), np.zeros(0, np.int64)) for _ in tiou]
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
        places, actions = _first_come(prediction[pair], action[pair], len(truth))
        taken.append((places, by_group[actions]))
    return taken


def _first_come(prediction: NDArray, action: NDArray, num_actions: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predictions that get an action, and the actions, when the pairs are gone through in order and each is taken if both are free.

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
        matched.append((prediction[leads], action[leads]))
        free_prediction[prediction[leads]] = free_action[action[leads]] = False
        still = free_prediction[prediction] & free_action[action]
        prediction, action = prediction[still], action[still]
    none = (prediction, action)  # both are empty now
    places, actions = map(np.concatenate, zip(*matched, none))
    return places, actions


def _interpolated_precision(hit: NDArray[np.bool_], rank: NDArray[np.int64], num_truth: int) -> NDArray[np.float64]:
    """Area under precision made monotone, over recall: (num_tiou, n) -> (num_tiou,).

    ``rank`` (n,) counts the predictions up to each column, from 1. Predictions that never hit need no column, because precision
    only rises where one hits.
    """
    envelope = np.maximum.accumulate((hit.cumsum(axis=1) / rank)[:, ::-1], axis=1)[:, ::-1]
    return (envelope * hit).sum(axis=1) / num_truth


def by_class_best_first(label: NDArray, score: NDArray) -> NDArray[np.int64]:
    """Order by class, then by falling score; ties as in the scripts, which sort class by class."""
    order = np.argsort(label.astype(np.int16) if label.max(initial=0) < 1 << 15 else label, kind="stable")  # radix sort
    edges = np.flatnonzero(np.diff(label[order])) + 1
    parts = [part[np.argsort(score[part])[::-1]] for part in np.split(order, edges)]
    return np.concatenate(parts) if parts else order


def detection_columns(
    ground_truth: Mapping[str, Sequence[Mapping[str, Any]]], predictions: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[Any, ...]:
    """Actions and predictions of many videos, each below the other.

    Returns:
        Numbers of the classes (the ground truth's) and of the videos, by name; actions (G, 2), their classes and videos (G,);
        predictions (n, 2), their scores, classes (-1: not in the ground truth) and videos (n,).

    Raises:
        DataError: no action at all, an entry without label or score, NaN.
    """
    names = (entry.get("label") for entries in ground_truth.values() for entry in entries)
    classes: dict[Any, int] = {name: i for i, name in enumerate(dict.fromkeys(names))}
    videos = {name: i for i, name in enumerate(dict.fromkeys([*ground_truth, *predictions]))}
    truth, _, truth_label = columns_by_video(ground_truth, scored=False, classes=classes)
    if not len(truth):
        raise DataError("the ground truth holds no action, so there is nothing to measure")
    boxes, score, label = columns_by_video(predictions, scored=True, classes=classes)
    truth_video, video = (
        np.repeat([videos[v] for v in given], [len(entries) for entries in given.values()]).astype(np.int64)
        for given in (ground_truth, predictions)
    )
    return classes, videos, truth, truth_label, truth_video, boxes, score, label, video


def columns_by_video(
    by_video: Mapping[str, Sequence[Mapping[str, Any]]], scored: bool, classes: Mapping[str, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """:func:`clipwise.tasks.average_recall.columns`, whose errors name the video."""
    try:
        return columns(by_video.values(), scored, classes)
    except DataError:
        for video, entries in by_video.items():
            try:
                columns([entries], scored, classes)
            except DataError as error:
                raise DataError(f"video {video!r}: {error}") from None
        raise
