"""Open what an entry of a list names: a video, a part of one, a frame folder, a picture, a pickle of JPEG frames."""

from __future__ import annotations

from clipwise.data.backends import FrameFolderReader
from clipwise.data.decode import VideoReader, open_video
from clipwise.data.entry_readers import PickledFrames, SpanReader, read_image
from clipwise.data.sampling import Rng, draw_integers
from clipwise.data.videolist import VideoList
from clipwise.errors import DataError


def open_entry(
    videos: VideoList,
    index: int,
    *,
    modality: str = "rgb",
    template: str | None = None,
    start_index: int | None = 1,
    timeout_s: float | None = None,
    rng: Rng | None = None,
) -> VideoReader:
    """Open an entry, whatever kind of list it is from.

    Args:
        modality: "rgb" or "flow" (frame folders only).
        template: name of a frame in its folder; the list's own, or the usual one, if not given.
        start_index: number of the first frame file.
        timeout_s: limit for decoding a video.
        rng: chooses among the positive parts of an untrimmed video (OmniSource); without it the first is taken.

    Returns:
        A reader whose frame 0 is the entry's first frame. A picture is a video of one frame, which samplers repeat.

    Raises:
        DataError: flow is wanted from something that is no frame folder; a part of a video lies beyond its end.
        DecodeError: missing or broken files.
    """
    path = videos.path(index)
    if videos.kind == "rawframes":
        if template is None and modality == "rgb":
            template = videos.frame_template
        return FrameFolderReader(
            path,
            num_frames=videos.num_frames(index),
            modality=modality,
            template=template,
            start_index=start_index,
            offset=videos.offset(index),
        )
    if modality == "flow":
        raise DataError(f"{path}: flow is read from frame folders; extract it with `clipwise prepare flow`.")
    if videos.kind == "image":
        return read_image(path)
    if videos.kind == "pickle":
        return PickledFrames(path)
    if videos.kind == "untrimmed":
        positives = videos.positive_clips(index)
        chosen = 0 if rng is None else int(draw_integers(rng, 0, len(positives)))
        return open_video(videos.clip_path(index, int(positives[chosen])), timeout_s=timeout_s)
    reader = open_video(path, timeout_s=timeout_s)
    span = videos.span(index)
    return reader if span is None else SpanReader(reader, *span)
