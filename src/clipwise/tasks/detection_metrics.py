"""How good proposals and detections are: average recall, and mean average precision over overlaps.

Numbers are those of ActivityNet's evaluation scripts (and of JJBOY's and MMAction2's copies of them); the loops over
videos, classes and thresholds are gone. What made the scripts stop (a video without proposals, a label that the ground
truth does not have) is answered here.
"""

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
    classes: dict[str, int] = {}
    videos: dict[str, int] = {}
    for video, entries in ground_truth.items():
        videos.setdefault(video, len(videos))
        for entry in entries:
            classes.setdefault(entry["label"], len(classes))
    for video in predictions:
        videos.setdefault(video, len(videos))
    truth, _, truth_label, truth_video = _table(ground_truth, videos, classes, scored=False)
    if not len(truth):
        raise DataError("the ground truth holds no action; average precision is not defined")
    boxes, score, label, video_idx = _table(predictions, videos, classes, scored=True)
    known = label >= 0
    ignored = int((~known).sum())
    boxes, score, label, video_idx = boxes[known], score[known], label[known], video_idx[known]

    order = _by_class_best_first(label, score)
    boxes, label, video_idx = boxes[order], label[order], video_idx[order]
    hit = _match(truth, truth_label * len(videos) + truth_video, boxes, label * len(videos) + video_idx, tiou)

    per_class = np.zeros((len(tiou), len(classes)))
    num_truth = np.bincount(truth_label, minlength=len(classes))
    edge = np.searchsorted(label, np.arange(len(classes) + 1))
    for c in np.flatnonzero(np.diff(edge)):
        per_class[:, c] = _interpolated_precision(hit[:, edge[c] : edge[c + 1]], num_truth[c])
    per_tiou = per_class.mean(axis=1)
    return DetectionMAP(float(per_tiou.mean()), per_tiou, per_class, list(classes), tiou, ignored)


def thumos_map(
    ground_truth: Mapping[str, Sequence[Mapping[str, Any]]],
    predictions: Mapping[str, Sequence[Mapping[str, Any]]],
    tiou_thresholds: ArrayLike = THUMOS_TIOU,
) -> DetectionMAP:
    """THUMOS14's mAP at overlaps 0.3, 0.4, …, 0.7, as OpenTAD computes it.

    As :func:`detection_map`, but actions labelled "Ambiguous", of no length, or given twice are left out first.
    """
    cleaned: dict[str, list[Mapping[str, Any]]] = {}
    for video, entries in ground_truth.items():
        unique = {(*map(float, e["segment"]), e["label"]): e for e in entries}
        cleaned[video] = [e for (a, b, name), e in unique.items() if b > a and name != "Ambiguous"]
    return detection_map(cleaned, predictions, tiou_thresholds)


def _match(truth: NDArray, truth_group: NDArray, boxes: NDArray, group: NDArray, tiou: NDArray) -> NDArray[np.bool_]:
    """Which predictions take an action, for each overlap: (num_tiou, predictions).

    A group is a class in a video; groups do not touch each other. Predictions come best first within each group.
    """
    hit = np.zeros((len(tiou), len(boxes)), dtype=bool)
    groups, truth_place, num_truth = np.unique(truth_group, return_inverse=True, return_counts=True)
    place = np.searchsorted(groups, group).clip(max=len(groups) - 1)
    candidate = np.flatnonzero(groups[place] == group)
    # groups with 1, 2, up to 4, up to 8 … actions apart, so that a crowded video does not widen the table of all
    size_class = np.ceil(np.log2(num_truth)).astype(np.int64)
    truth_size, candidate_size = size_class[truth_place], size_class[place[candidate]]
    for size in np.unique(size_class):
        ours, theirs = candidate[candidate_size == size], np.flatnonzero(truth_size == size)
        if len(ours):
            hit[:, ours] = _match_table(truth[theirs], truth_place[theirs], boxes[ours], place[ours], tiou)
    return hit


def _match_table(
    truth: NDArray, truth_place: NDArray, boxes: NDArray, place: NDArray, tiou: NDArray
) -> NDArray[np.bool_]:
    """:func:`_match` for groups of similar size, each of which has an action."""
    hit = np.zeros((len(tiou), len(boxes)), dtype=bool)
    groups, truth_row = np.unique(truth_place, return_inverse=True)
    order = np.argsort(truth_row, kind="stable")
    column = np.empty(len(order), dtype=np.int64)
    column[order] = _rank_within(truth_row[order])
    table = np.zeros((len(groups), column.max() + 1, 2))
    filled = np.zeros(table.shape[:2], dtype=bool)
    table[truth_row, column], filled[truth_row, column] = truth, True

    row = np.searchsorted(groups, place)
    iou = temporal_iou(table[row], boxes[:, None])
    iou[np.isnan(iou)] = np.inf  # two segments of no length: 0/0 passes the scripts' test, and so counts as a hit
    iou[~filled[row]] = -1
    near = np.flatnonzero(iou.max(axis=1) >= tiou.min())
    near = near[np.argsort(row[near], kind="stable")]
    iou, row = iou[near], row[near]
    if table.shape[1] == 1:  # one action: the first prediction that is near enough takes it
        for t, threshold in enumerate(tiou):
            enough = np.flatnonzero(iou[:, 0] >= threshold)
            hit[t, near[enough[_rank_within(row[enough]) == 0]]] = True
        return hit

    free = np.repeat(filled[None], len(tiou), axis=0)
    turn = _rank_within(row)
    by_turn = np.argsort(turn, kind="stable")
    for now in np.split(by_turn, np.cumsum(np.bincount(turn))[:-1]) if len(turn) else ():
        # (num_tiou, predictions of this turn, actions); at most one prediction of each group
        open_to = (iou[now] >= tiou[:, None, None]) & free[:, row[now]]
        # of equal overlaps the scripts' reversed sort takes the last
        choice = open_to.shape[2] - 1 - np.where(open_to, iou[now], -1)[..., ::-1].argmax(axis=2)
        takes = open_to.any(axis=2)
        hit[:, near[now]] = takes
        overlap, taker = np.nonzero(takes)
        free[overlap, row[now][taker], choice[overlap, taker]] = False
    return hit


def _rank_within(sorted_groups: NDArray) -> NDArray[np.int64]:
    """0, 1, 2, … within each run of equal values."""
    places = np.arange(len(sorted_groups))
    new = np.ones(len(sorted_groups), dtype=bool)
    new[1:] = sorted_groups[1:] != sorted_groups[:-1]
    return places - np.maximum.accumulate(np.where(new, places, 0))


def _interpolated_precision(hit: NDArray[np.bool_], num_truth: int) -> NDArray[np.float64]:
    """Area under precision made monotone, over recall: (num_tiou, n) -> (num_tiou,)."""
    hits = hit.cumsum(axis=1)
    precision = hits / np.arange(1, hit.shape[1] + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / num_truth
    return (np.diff(recall, axis=1, prepend=0) * envelope).sum(axis=1)


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
            boxes, score = _columns(list(itertools.chain.from_iterable(listed)), scored)
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
            boxes, score = _columns(entries, scored)
            return np.column_stack([boxes, score]) if scored else boxes
        array = np.asarray(entries, dtype=np.float64)
    except (DataError, ValueError, TypeError) as error:
        raise DataError(f"video {video!r}: {error}") from None
    if array.ndim != 2 or array.shape[1] < columns:
        raise DataError(f"video {video!r} has segments of shape {array.shape}; (n, {columns}) is needed")
    if np.isnan(array[:, :columns]).any():
        raise DataError(f"video {video!r} has NaN among its segments or scores")
    return array[:, :columns]


def _columns(entries: Sequence[Mapping[str, Any]], scored: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Segments (n, 2) and scores (n,), or no scores, of a list of dictionaries."""
    try:
        segments = [entry["segment"] for entry in entries]
        pairs = not set(map(len, segments)) - {2}
        boxes = np.fromiter(itertools.chain.from_iterable(segments), np.float64).reshape(-1, 2)
        score = np.fromiter([entry["score"] for entry in entries] if scored else (), np.float64)
    except (KeyError, ValueError, TypeError) as error:
        needed = "'segment' (start, end)" + (" and 'score'" if scored else "")
        raise DataError(f"every entry needs {needed}; one does not have it: {error!r}") from None
    if not pairs or np.isnan(boxes).any() or np.isnan(score).any():
        raise DataError("segments or scores hold NaN, or a segment is not a pair of numbers")
    return boxes, score


def _table(
    by_video: Mapping[str, Iterable[Mapping[str, Any]]],
    videos: dict[str, int],
    classes: dict[str, int],
    scored: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Segments (n, 2), scores, class indices (-1 for unknown ones) and video indices of all videos."""
    entries = list(itertools.chain.from_iterable(by_video.values()))
    count = [len(listed) for listed in by_video.values()]  # type: ignore[arg-type]
    video = np.repeat(np.array([videos[v] for v in by_video], dtype=np.int64), count)
    try:
        names = [entry["label"] for entry in entries]
        label = np.fromiter(map(classes.get, names, itertools.repeat(-1)), np.int64)
    except (KeyError, TypeError) as error:
        raise DataError(f"every entry needs a 'label'; one does not have it: {error!r}") from None
    boxes, score = _columns(entries, scored)
    return boxes, score, label, video
