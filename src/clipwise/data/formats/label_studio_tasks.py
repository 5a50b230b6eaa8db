"""Label Studio's tasks for import: predictions or annotations, and a labeling configuration that fits them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from clipwise.data.formats.annotation_parts import FormatOptions, video_of
from clipwise.data.formats.annotations import AnnotationSet
from clipwise.data.formats.frame_times import FrameClock
from clipwise.data.formats.label_studio import DeclaredRate, LabelConfig, read_config
from clipwise.data.formats.written import write_json, write_whole
from clipwise.errors import DataError
from clipwise.io.names import did_you_mean


def write(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """Tasks with predictions (where there are scores) or annotations, and beside them a configuration that fits."""
    config = read_config(options.config) if options.config else None
    timeline = sorted({label for v in annotations.videos.values() for label in v.labels})
    whole = sorted({label for v in annotations.videos.values() for label in v.whole})
    if config is not None:
        _check_config(config, timeline, whole, options.config)
    tasks = []
    for video in annotations.videos.values():
        data: dict[str, Any] = {"video" if config is None else config.value: video_of(video, options)}
        results: list[dict[str, Any]] = []
        if len(video.segments):
            rate = _write_rate(config, options, data, video_of(video, options), path)
            clock = FrameClock(rate)  # type: ignore[arg-type]  # a float declares what it says
            for i, ((start, end), label) in enumerate(zip(video.segments.tolist(), video.labels)):
                first, stop = clock.frames(start, end)
                value = {"ranges": [{"start": first + 1, "end": stop}], "timelinelabels": [label]}
                names = (config.timeline, config.video_name) if config else ("videoLabels", "video")
                results.append(
                    _region(f"s{i}", names, "timelinelabels", value, video.scores[i] if video.scores else None)
                )
        names = (config.choices, config.video_name) if config else ("videoClass", "video")
        for i, label in enumerate(video.whole):
            score = video.whole_scores[i] if video.whole_scores else None
            results.append(_region(f"w{i}", names, "choices", {"choices": [label]}, score))
        note: dict[str, Any] = {"result": results}
        if video.scores or video.whole_scores:
            best = max((*video.scores, *video.whole_scores))
            tasks.append({"data": data, "predictions": [{"model_version": "clipwise", "score": best, **note}]})
        else:
            tasks.append({"data": data, "annotations": [note]})
    write_json(path, tasks, 1)
    if config is not None:
        return [path]
    beside = path.with_name(f"{path.stem}_config.xml")
    order = annotations.vocabulary
    write_whole(beside, _make_config(_ordered(timeline, order), _ordered(whole, order)))
    return [path, beside]


def _region(
    name: str, controls: tuple[str | None, str], kind: str, value: dict[str, Any], score: float | None
) -> dict[str, Any]:
    region = {
        "id": name,
        "from_name": controls[0],
        "to_name": controls[1],
        "type": kind,
        "origin": "manual",
        "value": value,
    }
    return region if score is None else region | {"origin": "prediction", "score": score}


def _write_rate(
    config: LabelConfig | None, options: FormatOptions, data: dict[str, Any], video: str, path: Path
) -> float:
    """The rate that the configuration will declare; noted in the task, where a configuration of ours reads it."""
    if config is not None and options.fps is None and not (config.rate or "").startswith("$"):
        return DeclaredRate(data, config, options, path)()
    rate = options.fps or round(float(options.clock(video, path, "Label Studio counts frames").rate), 6)
    data[(config.rate or "$fps").removeprefix("$") if config and (config.rate or "").startswith("$") else "fps"] = rate
    return rate


def _ordered(labels: list[str], vocabulary: tuple[str, ...]) -> list[str]:
    return [*vocabulary, *(label for label in labels if label not in vocabulary)] if labels else []


def _check_config(config: LabelConfig, timeline: list[str], whole: list[str], source: Any) -> None:
    for kind, wanted, known, control in (
        ("TimelineLabels", timeline, config.timeline_labels, config.timeline),
        ("Choices", whole, config.choice_labels, config.choices),
    ):
        if wanted and control is None:
            raise DataError(
                f"{source} has no <{kind}>, so Label Studio would not show the labels {', '.join(wanted[:3])} …."
            )
        missing = [label for label in wanted if label not in known]
        if missing:
            hint = did_you_mean(missing[0], known) or "."
            raise DataError(
                f"{source}: <{kind}> has no label {missing[0]!r}{hint} Label Studio does not show regions of labels that its "
                f"configuration lacks ({len(missing)} here)."
            )


def _make_config(timeline: list[str], whole: list[str]) -> bytes:
    root = ElementTree.Element("View")
    if timeline:
        control = ElementTree.SubElement(root, "TimelineLabels", name="videoLabels", toName="video")
        for label in timeline:
            ElementTree.SubElement(control, "Label", value=label)
    video = ElementTree.SubElement(root, "Video", name="video", value="$video")
    if timeline:
        video.set("frameRate", "$fps")
    if whole:
        control = ElementTree.SubElement(root, "Choices", name="videoClass", toName="video", choice="multiple")
        for label in whole:
            ElementTree.SubElement(control, "Choice", value=label)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8")
