"""A look at entries that are no videos: folders of frames, images, files of features."""

from __future__ import annotations

import os
from typing import Any

from clipwise.errors import DecodeError
from clipwise.io.text import plural
from clipwise.video.backends import open_frames
from clipwise.video.decode import open_video


def look_at(look: Any, path: str, kind: str, num_frames: int | None, offset: int) -> dict[str, Any]:
    """What an ``audit.Look`` tells of an entry: the values of its ``Record``."""
    if kind == "rawframes":
        return _folder(look, path, num_frames, offset)
    if kind == "image":
        with open_video(path, timeout_s=look.timeout_s) as reader:
            reader.frames([0])
        return {}
    empty = not os.path.isdir(path) and not os.path.getsize(path)
    return {"fault": "undecodable", "detail": "is empty (0 bytes)"} if empty else {}


def _folder(look: Any, path: str, num_frames: int | None, offset: int) -> dict[str, Any]:
    options: dict[str, Any] = dict(template=look.frame_template, modality=look.modality, start_index=look.start_index)
    with open_frames(path, offset=offset, **options) as reader:
        there = reader.num_frames
        used = there if num_frames is None else min(there, num_frames)
        seen = dict(
            num_frames=there,
            fps=reader.fps,
            height=reader.height,
            width=reader.width,
            codec="pictures",
            keyframe_distance=1,
        )
        try:
            places = range(used) if look.full else sorted({0, used // 2, used - 1})
            reader.frames(places, transform=lambda frame: frame[:1, :1].copy())
        except DecodeError as error:
            return {
                **seen,
                "fault": "damaged",
                "detail": str(error).removeprefix(f"{path}: ").removeprefix(path + os.sep),
            }
        if reader.damage:
            return {**seen, "fault": "damaged", "detail": reader.damage}
    if num_frames is not None and there < num_frames:
        return {
            "fault": "truncated",
            "detail": f"holds {plural(there, 'frame')}, the list says {num_frames}",
            "num_frames": there,
        }
    if there < look.min_frames:
        return {
            "fault": "too_short",
            "detail": f"has {plural(there, 'frame')}, {look.min_frames} are needed",
            "num_frames": there,
        }
    return seen
