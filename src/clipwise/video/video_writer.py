"""Write frames as an H.264 file, with the sound of another file if wanted. The file appears only when it is complete."""

from __future__ import annotations

from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from clipwise.errors import ClipwiseError
from clipwise.io.files import atomic_path
from clipwise.video.packets import demux

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_COPIED_AUDIO = {"aac", "mp3", "ac3", "eac3", "opus", "alac"}  # an mp4 can hold them as they are


# x264's macroblock tree reads memory that nobody wrote where the width is not a multiple of its vectors: the same frames give
# another file each time.
REPRODUCIBLE = "mbtree=0"


class VideoWriter:
    """Writes RGB frames as H.264 (yuv420p) with PyAV; the file appears when the ``with`` block ends well.

    Args:
        out: the file; its suffix names the container.
        height, width: of the frames; an odd last row or column is cut off.
        fps: frames per second.
        sound: file whose first sound track goes along: copied where the container can hold it, else encoded as AAC.
        crf: x264's quality, lower is better.
    """

    def __init__(
        self,
        out: str | PathLike,
        height: int,
        width: int,
        fps: float,
        *,
        sound: str | None = None,
        crf: int = 20,
    ):
        self.out, self.sound, self.crf = check_video_path(out), sound, crf
        self.size = height // 2 * 2, width // 2 * 2
        self.fps = Fraction(fps).limit_denominator(1001) if fps else Fraction(25)
        self.count, self._last = 0, -1

    def __enter__(self) -> VideoWriter:
        self._atomic = atomic_path(self.out)
        temporary = self._atomic.__enter__()
        options = {"movflags": "+faststart"} if CONTAINERS[self.out.suffix.lower()] != "matroska" else {}
        try:
            self._container = av.open(str(temporary), "w", format=CONTAINERS[self.out.suffix.lower()], options=options)
            stream = self._container.add_stream(
                "libx264",
                rate=self.fps,
                options={"crf": str(self.crf), "preset": "veryfast", "x264-params": REPRODUCIBLE},
            )
        except (av.error.FFmpegError, ValueError) as error:
            self._atomic.__exit__(type(error), error, None)
            raise ClipwiseError(f"{self.out}: this build of PyAV can't write H.264 ({error}).") from None
        stream.height, stream.width, stream.pix_fmt = *self.size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        self._stream = stream
        self._track = SoundTrack(self.sound, self._container) if self.sound else None
        return self

    def write(self, frame: NDArray[np.uint8], time_s: float | None = None) -> None:
        """Add a frame.

        Args:
            frame: uint8 (H, W, 3).
            time_s: when it is shown; by the frame rate if not given. Times must rise.
        """
        height, width = self.size
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        stamp = round((self.count / float(self.fps) if time_s is None else time_s) * 90_000)
        stamp = max(stamp, self._last + 1)
        image.pts, image.time_base = stamp, Fraction(1, 90_000)
        if self._track is not None:
            self._track.up_to(stamp / 90_000)
        self._container.mux(self._stream.encode(image))
        self.count, self._last = self.count + 1, stamp

    def __exit__(self, kind, error, trace) -> None:
        empty = kind is None and not self.count
        if empty:
            kind, error = ClipwiseError, ClipwiseError(f"{self.out}: there was no frame to write.")
        own = empty
        try:
            if kind is None:
                self._finish()
            self._container.close()
        except (av.error.FFmpegError, OSError) as late:
            if kind is None:
                kind, error = ClipwiseError, ClipwiseError(f"{self.out} can't be written: {late}.")
                own = True
        self._atomic.__exit__(kind, error, trace)
        if own:
            raise error

    def _finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        if self._track is not None:
            self._track.up_to(self._last / 90_000 + 1 / float(self.fps))
            self._track.close()


class SoundTrack:
    """The first sound track of a file on its way into another, packet by packet."""

    def __init__(self, source: str, target: Any):
        self._packets = self._resampler = None
        try:
            self._input = av.open(source, metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError):
            return
        if not self._input.streams.audio:
            self._input.close()
            return
        stream = self._input.streams.audio[0]
        video = self._input.streams.video
        self._offset = float((video[0].start_time or 0) * (video[0].time_base or 0)) if video else 0.0
        self._target = target
        if stream.codec_context is not None and stream.codec_context.name.removesuffix("float") in _COPIED_AUDIO:
            self._stream = target.add_stream_from_template(stream)
        else:
            self._stream = target.add_stream("aac", rate=stream.codec_context.sample_rate)
            self._resampler = av.AudioResampler("fltp", "stereo", stream.codec_context.sample_rate)
        self._packets = demux(self._input, stream)
        self._waiting: Any = None

    def up_to(self, time_s: float) -> None:
        """Hand over everything until a time, so that sound and frames lie side by side in the file."""
        if self._packets is None:
            return
        while True:
            packet = self._waiting
            if packet is None:
                try:
                    packet = next(self._packets, None)
                except (av.error.FFmpegError, OSError):  # the sound is damaged from here on; the frames matter
                    packet = None
            if packet is None or packet.dts is None:
                self._packets = None
                return
            if float(packet.dts * packet.time_base) - self._offset > time_s:
                self._waiting = packet
                return
            self._waiting = None
            self._hand_over(packet)

    def _hand_over(self, packet: Any) -> None:
        shift = round(self._offset / packet.time_base)
        if self._resampler is None:
            packet.dts -= shift
            packet.pts = packet.dts if packet.pts is None else packet.pts - shift
            if packet.pts < 0:
                return
            packet.stream = self._stream
            self._target.mux(packet)
            return
        try:
            frames = [f for frame in packet.decode() for f in self._resampler.resample(frame)]
        except av.error.FFmpegError:
            return
        for frame in frames:
            frame.pts = None  # the encoder counts samples
            self._target.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the track."""
        if getattr(self, "_stream", None) is not None and self._resampler is not None:
            self._target.mux(self._stream.encode(None))
        if getattr(self, "_input", None) is not None:
            self._input.close()


def check_video_path(out: str | PathLike) -> Path:
    """Refuse a file of an unknown kind before the work starts.

    Raises:
        ClipwiseError: names the kinds that can be written.
    """
    path = Path(out)
    if path.suffix.lower() not in CONTAINERS:
        raise ClipwiseError(f"--out {path}: the video can be written as {', '.join(CONTAINERS)}.")
    if path.is_dir():
        raise ClipwiseError(f"--out {path} is a folder; give a file name.")
    return path
