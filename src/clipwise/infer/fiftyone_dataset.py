"""FiftyOne's database: predictions into a data set, and temporal detections and classifications out of one.

``support`` of a detection is ``[first, last]`` in frames from 1, both inclusive. Frames are those that we decode, by their time stamps.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from clipwise.data.formats.annotation_parts import Collector, FormatOptions, VideoFinder, video_of
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.frame_times import FrameClock, exact_rate
from clipwise.errors import DataError, MissingExtraError
from clipwise.io.names import did_you_mean

FIELD = "clipwise"
PREFIX = "fiftyone:"


def import_fiftyone() -> Any:
    try:
        import fiftyone
    except ImportError:
        raise MissingExtraError("fiftyone", "fiftyone", "a FiftyOne data set") from None
    return fiftyone


def _split(name: str) -> tuple[str, str | None]:
    """(data set, field) of ``[fiftyone:]NAME[.FIELD]``."""
    plain, _, field = name.removeprefix(PREFIX).partition(".")
    if not plain:
        raise DataError(f"{name!r} names no data set; write fiftyone:NAME or fiftyone:NAME.FIELD.")
    return plain, field or None


def write_dataset(annotations: AnnotationSet, name: str) -> tuple[str, int, int]:
    """Put segments and labels into a data set, made if it does not exist; samples are found by their files.

    Args:
        name: of the data set; ``NAME.FIELD`` names the field, else ``clipwise``. Labels of whole videos beside segments go to ``FIELD_class``.

    Returns:
        The data set's name, how many samples were there already, and how many were added.

    Raises:
        DataError: a video that is not a file, or a field that holds something else already.
    """
    fo = import_fiftyone()
    plain, field = _split(name)
    field = field or FIELD
    if fo.dataset_exists(plain):
        dataset = fo.load_dataset(plain)
    else:
        dataset = fo.Dataset(plain, persistent=True)
    videos = annotations.videos.values()
    segmented = any(len(v.segments) for v in videos) or not any(v.whole for v in videos)
    several = any(len(v.whole) > 1 for v in videos)
    whole_field = f"{field}_class" if segmented else field
    if segmented:
        _check_field(fo, dataset, field, fo.TemporalDetections)
    if any(v.whole for v in videos):
        _check_field(fo, dataset, whole_field, fo.Classifications if several else fo.Classification)
    known = {Path(sample.filepath).resolve(): sample for sample in dataset}
    options = FormatOptions(videos=VideoFinder())
    there = added = 0
    for video in annotations.videos.values():
        path = options.videos.find(video_of(video, options))
        if path is None:
            raise DataError(f"{video_of(video, options)} is not there; FiftyOne's samples are files.")
        path = path.resolve()
        clock = options.clock(str(path), PREFIX + plain, "FiftyOne counts frames")
        sample = known.get(path)
        there, added = there + (sample is not None), added + (sample is None)
        if sample is None:
            sample = fo.Sample(filepath=str(path))
        if sample.metadata is None:
            sample.metadata = _metadata(fo, path, clock)
        if segmented:
            rows = zip(video.segments.tolist(), video.labels, video.scores or (None,) * len(video.labels))
            found = []
            for (start, end), label, score in rows:
                first, stop = clock.frames(start, end)
                found.append(fo.TemporalDetection(label=label, support=[first + 1, stop], confidence=score))
            sample[field] = fo.TemporalDetections(detections=found)
        if video.whole:
            pairs = zip(video.whole, video.whole_scores or (None,) * len(video.whole))
            classes = [fo.Classification(label=label, confidence=score) for label, score in pairs]
            sample[whole_field] = fo.Classifications(classifications=classes) if several else classes[0]
        if known.get(path) is None:
            dataset.add_sample(sample)
        else:
            sample.save()
    return plain, there, added


def _check_field(fo: Any, dataset: Any, name: str, kind: Any) -> None:
    there = dataset.get_field(name)
    held = getattr(there, "document_type", None)
    if there is not None and held is not kind:
        what = getattr(held, "__name__", type(there).__name__)
        raise DataError(
            f"the field {name!r} of {dataset.name!r} holds {what}, not {kind.__name__}; name another one: {dataset.name}.FIELD."
        )


def _metadata(fo: Any, path: Path, clock: FrameClock) -> Any:
    from clipwise.video.decode import open_video

    with open_video(path) as reader:
        return fo.VideoMetadata(
            size_bytes=path.stat().st_size,
            frame_width=reader.width,
            frame_height=reader.height,
            frame_rate=float(clock.rate),
            total_frame_count=reader.num_frames,
            duration=clock.duration_s,
        )


def read_dataset(name: str, *, strict: bool = False) -> AnnotationSet:
    """The temporal detections and classifications of a data set, of one field if ``NAME.FIELD`` names it.

    A video that is not there any more has the times of the noted mean rate.

    Raises:
        DataError: no such data set or field; neither file nor noted rate.
    """
    fo = import_fiftyone()
    plain, field = _split(name)
    if not fo.dataset_exists(plain):
        known = fo.list_datasets()
        raise DataError(f"FiftyOne has no data set {plain!r}{did_you_mean(plain, known) or f'; it has {known}.'}")
    dataset = fo.load_dataset(plain)
    if field is not None and field not in dataset.get_field_schema():
        fields = list(dataset.get_field_schema())
        raise DataError(
            f"the data set {plain!r} has no field {field!r}{did_you_mean(field, fields) or f'; it has {fields}.'}"
        )
    options = FormatOptions(videos=VideoFinder(), strict=strict)
    if field is None:
        _check_one_of_a_kind(fo, dataset)
    collector = Collector(PREFIX + name.removeprefix(PREFIX), options)
    for sample in dataset:
        facts = sample.metadata
        draft = collector.video(sample.filepath, duration_s=getattr(facts, "duration", None))
        draft.subset = next(
            (t for t in sample.tags if t in ("train", "training", "val", "validation", "test", "testing")), None
        )
        for key in [field] if field is not None else sample.field_names:
            value = sample[key]
            kind = type(value).__name__
            where = f"{Path(sample.filepath).name}, field {key}"
            if kind == "TemporalDetections":
                clock = _clock(options, sample, facts)
                for one in value.detections:
                    first, last = one.support
                    collector.add_frames(draft, clock, first - 1, last, one.label, one.confidence, where=where)
            elif kind in ("Classification", "Classifications"):
                for one in value.classifications if kind == "Classifications" else [value]:
                    draft.add_whole(one.label, one.confidence, where=where)
    return collector.result()


def _check_one_of_a_kind(fo: Any, dataset: Any) -> None:
    """Refuse to mix fields, such as ground truth and predictions."""
    for kinds in ((fo.TemporalDetections,), (fo.Classification, fo.Classifications)):
        found = [n for n, f in dataset.get_field_schema().items() if getattr(f, "document_type", None) in kinds]
        if len(found) > 1:
            raise DataError(
                f"the data set {dataset.name!r} has several such fields: {', '.join(found)}. Name one: fiftyone:{dataset.name}.FIELD."
            )


def _clock(options: FormatOptions, sample: Any, facts: Any) -> FrameClock:
    clock = options.videos.clock(sample.filepath)
    if clock is None and facts is not None and facts.frame_rate and not math.isnan(facts.frame_rate):
        return FrameClock(exact_rate(float(facts.frame_rate)), num_frames=facts.total_frame_count)
    return clock or options.clock(sample.filepath, PREFIX, "FiftyOne counts frames")
