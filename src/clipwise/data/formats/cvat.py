"""CVAT: XML 1.1 of both dialects, alone or in its zip. "CVAT for video" has tracks, "CVAT for images" has tags on frames.

Frames are numbers of the source video from 0; ``outside="1"`` is the first frame without the object, so ends are exclusive. There is no
frame rate anywhere: times are those of the video's own frames.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

from clipwise.data.formats.annotation_parts import Collector, FormatOptions, video_name, video_of
from clipwise.data.formats.annotations import AnnotationSet, VideoAnnotation
from clipwise.data.formats.frame_times import FrameClock
from clipwise.data.formats.written import write_whole
from clipwise.data.videolist import IMAGE_SUFFIXES
from clipwise.errors import DataError
from clipwise.io.safe_xml import iterate_xml
from clipwise.io.text import plural

_MEMBER = "annotations.xml"
_ON = ("1", "true", "True")
_MOST_TAGS = 20_000_000  # that one file is written with


@dataclass
class _Task:
    """What ``meta`` says of a task."""

    name: str = ""
    source: str = ""
    start: int = 0
    stop: int | None = None
    step: int = 1
    subset: str = ""
    tags: dict[str, list[int]] = field(default_factory=dict)


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """The XML of a file or of CVAT's zip."""
    try:
        if path.suffix.lower() != ".zip":
            with open(path, "rb") as file:
                yield file
            return
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if Path(name).name == _MEMBER]
            if len(names) != 1:
                raise DataError(
                    f"{path}: there are {plural(len(names), 'file')} {_MEMBER} in this zip; one is expected. Export from CVAT as "
                    '"CVAT for video 1.1" (tracks) or "CVAT for images 1.1" (tags).'
                )
            with archive.open(names[0]) as file:
                yield file
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} can't be read as a zip file: {error}.") from None


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """Tracks become a segment for each stretch in which they are visible, runs of equal tags one segment.

    A tag on nothing but the first frame of every video is the way in which CVAT's users label whole videos, and is read so.
    """
    collector = Collector(path, options)
    tasks: dict[str | None, _Task] = {}
    spans: list[tuple[_Task, int, int, str, str]] = []
    inside: list[str] = []
    named: set[str] = set()  # attributes of shapes and tags
    with _open(path) as file:
        for event, element in iterate_xml(file, path):
            if event == "start":
                inside.append(element.tag)
                if len(inside) == 1 and element.tag != "annotations":
                    raise DataError(f"{path}: the root is <{element.tag}>; CVAT's XML begins with <annotations>.")
                continue
            inside.pop()
            if element.tag == "meta" and len(inside) == 1:
                tasks |= _read_meta(element, collector)
            elif element.tag in ("track", "image") and len(inside) == 1 and options.layer is not None:
                named |= {str(a.get("name")) for a in element.iter("attribute")}
            if element.tag == "track" and len(inside) == 1:
                spans += _track(element, _task_of(element, tasks), collector)
                element.clear()
            elif element.tag == "image" and len(inside) == 1:
                _image(element, _task_of(element, tasks), collector)
                element.clear()
    unique = list({id(task): task for task in tasks.values()}.values())
    for task in unique:
        collector.video(_video_of(task, path), subset=task.subset)
    if options.layer is not None and options.layer not in named:
        known = f"it has {', '.join(sorted(named))}" if named else "no shape or tag has one"
        raise DataError(f"{path}: no attribute {options.layer!r} (layer); {known}.")
    for task, first, end, label, where in spans:
        _add(collector, task, path, first, end, label, where)
    first_only = all(set(frames) == {task.start} for task in unique for frames in task.tags.values())
    for task in unique:
        for label, frames in task.tags.items():
            if first_only:
                collector.video(_video_of(task, path)).add_whole(label, where=f"tag {label!r}")
                continue
            for first, end in _runs(sorted(set(frames)), task.step):
                _add(collector, task, path, first, end, label, f"tag {label!r} of frame {first}")
    return collector.result()


def _add(collector: Collector, task: _Task, path: Path, first: int, end: int, label: str, where: str) -> None:
    name = _video_of(task, path)
    clock = collector.options.clock(name, path, "CVAT counts frames")
    collector.add_frames(collector.video(name), clock, first, end, label, where=where)


def _video_of(task: _Task, path: Path) -> str:
    return task.source or task.name or path.stem


def _task_of(element: ElementTree.Element, tasks: dict[str | None, _Task]) -> _Task:
    known = element.get("task_id")
    if known in tasks:
        return tasks[known]
    if None not in tasks:
        tasks[None] = _Task()
    return tasks[None]


def _read_meta(meta: ElementTree.Element, collector: Collector) -> dict[str | None, _Task]:
    """The tasks by their ids; a file of one task (or job) has it under None too."""
    for label in meta.iter("label"):
        if label.find("parent") is None and (name := label.findtext("name")):
            collector.vocabulary.append(" ".join(name.split()))
    found: dict[str | None, _Task] = {}
    for element in [*meta.iter("task"), *meta.iter("job")]:
        task = _Task(name=(element.findtext("name") or "").strip())
        task.source = (element.findtext("source") or meta.findtext("source") or "").strip()
        task.subset = (element.findtext("subset") or "").strip()
        task.start = collector.frame(element.findtext("start_frame") or 0, "start_frame")
        step = re.search(r"step\s*=\s*(\d+)", element.findtext("frame_filter") or "")
        task.step = max(1, int(step[1])) if step else 1
        if stop := (element.findtext("stop_frame") or "").strip():
            task.stop = collector.frame(stop, "stop_frame")
        elif size := (element.findtext("size") or "").strip():
            task.stop = task.start + (collector.frame(size, "size") - 1) * task.step
        found[(element.findtext("id") or "").strip() or None] = task
    if len(found) == 1:
        found[None] = next(iter(found.values()))
    return found


def _track(track: ElementTree.Element, task: _Task, collector: Collector) -> Iterator[tuple[_Task, int, int, str, str]]:
    """(task, first frame, end, label, place) of each stretch in which a track is visible."""
    label, where = track.get("label") or "", f"track {track.get('id', '?')}"
    framed = [shape for shape in track if shape.get("frame") is not None]
    shapes = sorted(((collector.frame(s.get("frame"), where), s) for s in framed), key=lambda pair: pair[0])
    layer = collector.options.layer
    begun: int | None = None
    shown = ""
    for frame, shape in shapes:
        value = label
        if layer is not None:
            value = next(
                (a.text or "" for a in shape.iter("attribute") if a.get("name") == layer),
                shown if begun is not None else "",
            )
        visible = not _outside(shape) and bool(value)
        if begun is not None and (not visible or value != shown):
            yield task, begun, frame, shown, where
            begun = None
        if visible and begun is None:
            begun, shown = frame, value
    if begun is not None:
        last = shapes[-1][0] + task.step
        yield task, begun, max(last, (task.stop if task.stop is not None else -1) + 1), shown, where


def _outside(shape: ElementTree.Element) -> bool:
    """Whether a shape is off; a skeleton is where all its points are."""
    if (own := shape.get("outside")) is not None:
        return own in _ON
    parts = [part.get("outside") in _ON for part in shape if part.get("outside") is not None]
    return bool(parts) and all(parts)


def _image(image: ElementTree.Element, task: _Task, collector: Collector) -> None:
    where = f"image {image.get('id', '?')}"
    name = image.get("name") or ""
    named = re.fullmatch(r"frame_(\d+)", Path(name).stem)
    if not named and not task.source and Path(name).suffix.lower() in IMAGE_SUFFIXES:
        collector.note("images of their own, taken as frames of one video in their order", name)
    frame = int(named[1]) if named else collector.frame(image.get("id"), where)
    for shape in image:
        if shape.tag != "tag":
            collector.note("shapes on single frames, left out (tags and tracks are read)", where)
            continue
        layer = collector.options.layer
        label = shape.get("label") or ""
        if layer is not None:
            label = next((a.text or "" for a in shape.iter("attribute") if a.get("name") == layer), "")
        if label:
            task.tags.setdefault(label, []).append(frame)


def _runs(frames: list[int], step: int) -> Iterator[tuple[int, int]]:
    """``[first, end)`` of stretches without a gap."""
    first = last = frames[0]
    for frame in frames[1:]:
        if frame > last + step:
            yield first, last + step
            first = frame
        last = frame
    yield first, last + step


# ---- writing


def write(annotations: AnnotationSet, path: Path, options: FormatOptions, *, tracks: bool = False) -> list[Path]:
    """One file for each video (CVAT's tasks are single videos): ``path`` itself, or for several a folder of them.

    Args:
        tracks: "CVAT for video", a box over the whole frame for each segment; else "CVAT for images", a tag on each frame.
    """
    videos = list(annotations.videos.values())
    if len(videos) == 1 and path.suffix:
        targets = [path]
    else:
        path.mkdir(parents=True, exist_ok=True)
        targets = [path / f"{Path(v.name).name}.xml" for v in videos]
    labels = list(dict.fromkeys([*annotations.vocabulary, *annotations.classes, *(w for v in videos for w in v.whole)]))
    for video, target in zip(videos, targets):
        name = video_of(video, options)
        clock = options.clock(name, target, "CVAT counts frames")
        root = _head(video, name, clock, labels)
        (_write_tracks if tracks else _write_tags)(root, video, clock, options, target)
        ElementTree.indent(root)
        write_whole(target, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
    return targets


def write_tracks(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """As :func:`write`, with a track for each segment."""
    return write(annotations, path, options, tracks=True)


def _frames(video: VideoAnnotation, clock: FrameClock) -> int:
    last = max((clock.frames(a, b)[1] for a, b in video.segments.tolist()), default=1)
    return clock.num_frames or max(last, video.num_frames)


def _head(video: VideoAnnotation, name: str, clock: FrameClock, labels: list[str]) -> ElementTree.Element:
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    meta = ElementTree.SubElement(root, "meta")
    task = ElementTree.SubElement(meta, "task")
    count = _frames(video, clock)
    for key, value in (("id", 1), ("name", video_name(name)), ("size", count), ("mode", "interpolation"), ("start_frame", 0),
                       ("stop_frame", count - 1), ("frame_filter", "")):  # fmt: skip
        ElementTree.SubElement(task, key).text = str(value)
    element = ElementTree.SubElement(task, "labels")
    for label in labels:
        one = ElementTree.SubElement(element, "label")
        ElementTree.SubElement(one, "name").text = label
        ElementTree.SubElement(one, "attributes")
    ElementTree.SubElement(meta, "source").text = Path(name).name
    return root


def _write_tags(
    root: ElementTree.Element, video: VideoAnnotation, clock: FrameClock, options: FormatOptions, path: Path
) -> None:
    tags: dict[int, dict[str, None]] = {}
    total = 0
    for (start, end), label in zip(video.segments.tolist(), video.labels):
        first, stop = clock.frames(start, end)
        total += stop - first
        if total > _MOST_TAGS:
            raise DataError(f"{path}: more than {_MOST_TAGS:,} tags; write tracks (cvat-tracks) instead.")
        for frame in range(first, stop):
            tags.setdefault(frame, {})[label] = None
    for label in video.whole:
        tags.setdefault(0, {})[label] = None
    for frame in sorted(tags):
        image = ElementTree.SubElement(root, "image", id=str(frame), name=f"frame_{frame:06d}")
        for label in tags[frame]:
            ElementTree.SubElement(image, "tag", label=label, source="auto")


def _write_tracks(
    root: ElementTree.Element, video: VideoAnnotation, clock: FrameClock, options: FormatOptions, path: Path
) -> None:
    width, height = _size(video, options)
    count = _frames(video, clock)
    box: dict[str, Any] = {
        "occluded": "0",
        "keyframe": "1",
        "xtl": "0.00",
        "ytl": "0.00",
        "xbr": f"{width:.2f}",
        "ybr": f"{height:.2f}",
        "z_order": "0",
    }
    spans = [(*clock.frames(a, b), label) for (a, b), label in zip(video.segments.tolist(), video.labels)]
    spans += [(0, count, label) for label in video.whole]
    for number, (first, stop, label) in enumerate(spans):
        track = ElementTree.SubElement(root, "track", id=str(number), label=label, source="auto")
        ElementTree.SubElement(track, "box", frame=str(first), outside="0", **box)
        if stop < count:
            ElementTree.SubElement(track, "box", frame=str(stop), outside="1", **box)


def _size(video: VideoAnnotation, options: FormatOptions) -> tuple[int, int]:
    from clipwise.video.decode import open_video

    found = options.videos.find(video_of(video, options))
    if found is None:
        return 1, 1
    with open_video(found) as reader:
        return reader.width, reader.height
