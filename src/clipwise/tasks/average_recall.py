"""Average recall of proposals at an average number of them a video, and segments of many videos as arrays.

Numbers are those of ActivityNet's evaluation scripts (and of JJBOY's and MMAction2's copies of them); the loops over
videos and thresholds are gone. A video without proposals, which made the scripts stop, is answered here.
"""

import array
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipwise.errors import ClipwiseError, DataError

ACTIVITYNET_TIOU = np.linspace(0.5, 0.95, 10)
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


def temporal_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """IoU of segments along the last axis, (…, 2) and (…, 2), with broadcasting; NaN for two of no length."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    inter = (np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])).clip(min=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return inter / ((a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - inter)


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


def _rows(by_video: Mapping[str, Any], videos: Iterable[str], scored: bool) -> tuple[NDArray, NDArray[np.int64]]:
    """(n, 2) or (n, 3) start, end, score of the given videos below each other, and how many each has."""
    listed = [by_video.get(video, ()) for video in videos]
    count = np.array([len(entries) for entries in listed])
    if all(isinstance(entries, list) and isinstance(entries[0], Mapping) for entries in listed if len(entries)):
        try:
            boxes, score, _ = columns(listed, scored)
            return (np.column_stack([boxes, score]) if scored else boxes), count
        except DataError:
            pass  # look again, video by video, for the one to name
    arrays = [_segments(entries, video, scored) for video, entries in zip(videos, listed)]
    return np.concatenate(arrays), count


def _segments(entries: Any, video: str, scored: bool) -> NDArray[np.float64]:
    """(n, 2), or (n, 3) with scores, of one video's array or list of dictionaries."""
    width = 3 if scored else 2
    if len(entries) == 0:
        return np.zeros((0, width))
    try:
        if not isinstance(entries, np.ndarray) and isinstance(entries[0], Mapping):
            boxes, score, _ = columns([entries], scored)
            return np.column_stack([boxes, score]) if scored else boxes
        array = np.asarray(entries, dtype=np.float64)
    except (DataError, ValueError, TypeError) as error:
        raise DataError(f"video {video!r}: {error}") from None
    if array.ndim != 2 or array.shape[1] < width:
        raise DataError(f"video {video!r} has segments of shape {array.shape}; (n, {width}) is needed")
    if not np.isfinite(array[:, :width]).all():
        raise DataError(f"video {video!r} has NaN or infinity among its segments or scores")
    return array[:, :width]


def columns(
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
    """Whether an entry has what :func:`columns` reads."""
    try:
        a, b = entry["segment"]
        numbers = [a, b, entry["score"]] if scored else [a, b]
        return all(isinstance(x, int | float | np.number) for x in numbers) and (not labeled or "label" in entry)
    except (KeyError, ValueError, TypeError):
        return False
