"""Video: exact random access to the frames of files, folders and arrays; streams; writing. Useful without the rest of clipwise.

>>> import clipwise.video
>>> frames = clipwise.video.open("video.mp4")[[3, 70]]  # (2, H, W, 3) uint8 RGB
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipwise.video.reader import VideoReader

__all__ = ["open"]


def open(source: Any, **options: Any) -> VideoReader:
    """Open a video, or a folder of frames, for reading frames by number.

    Args:
        source: a path, a URL, the bytes of a file, a binary file object, an array (T, H, W, C) uint8, or a folder of images.
        options: of :func:`clipwise.video.decode.open_video`, for a folder those of :func:`clipwise.video.backends.open_frames`.

    Returns:
        A :class:`clipwise.video.reader.VideoReader`.

    Raises:
        DecodeError: the source cannot be opened, or holds no frame that can be decoded.
    """
    import os

    if isinstance(source, (str, os.PathLike)) and os.path.isdir(source):
        from clipwise.video.backends import open_frames

        return open_frames(source, **options)
    from clipwise.video.decode import open_video

    return open_video(source, **options)
