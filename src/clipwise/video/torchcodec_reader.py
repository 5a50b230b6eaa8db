"""Video files read by TorchCodec, on the CPU or by an accelerator's decoder (NVDEC)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from clipwise.errors import DecodeError, MissingExtraError
from clipwise.video.reader import FrameSink, VideoReader


class TorchCodecReader(VideoReader):
    """Reads with TorchCodec, for decoders in hardware (``device``); extra ``codec``, which also needs FFmpeg's shared libraries.

    TorchCodec counts frames differently in files with edit lists and in AVI and transport streams. So the packet table says which
    frame is meant, each frame is taken only if it comes with the table's time stamp, and what does not fit is read by PyAV. So are, on
    the CPU, frames of more than 8 bits or of odd sizes, whose colors TorchCodec converts in another way; all others are bit-equal.

    Attributes:
        device: where frames lie after decoding, or None; then :meth:`frames_there` gives them there, without a copy through the host.
        fell_back: why PyAV reads this file, or None.
        decoder: what decodes on the device: TorchCodec's word on whether the device's decoder takes the file, or None.
    """

    def __init__(self, pyav: Any, source: Any, device: Any = None):
        """
        Args:
            pyav: the ``PyAVReader`` of the source, with its packet table; it is closed with this reader.
            source: what TorchCodec opens.
            device: where it decodes.
        """
        self._pyav, self.device = pyav, device
        self.decoder: str | None = None
        try:
            from torchcodec.decoders import VideoDecoder
        except ImportError as error:
            raise MissingExtraError("torchcodec", "codec", "backend='torchcodec'") from error
        except (OSError, RuntimeError) as error:
            raise DecodeError(
                "torchcodec is installed but cannot be loaded: it needs FFmpeg's shared libraries (versions 4 to 8) and a build that "
                "fits this torch; install FFmpeg, or use backend='pyav', which brings its own"
            ) from error
        self.name, self.num_frames, self.fps = pyav.name, pyav.num_frames, pyav.fps
        self.damage, self.header_frames, self._size = pyav.damage, pyav.header_frames, (pyav.height, pyav.width)
        self.fell_back: str | None = None
        if not pyav.table.seekable or (pyav.rotation and not pyav.rotate):
            self.fell_back = "the file cannot be read by time stamps"
            return
        if device in (None, "cpu") and not _plain_colors(pyav.stream.codec_context):
            self.fell_back = "TorchCodec converts colors of this pixel format or size differently"
            return
        given = source if isinstance(source, (str, bytes)) or hasattr(source, "read") else os.fspath(source)
        try:
            self._decoder = VideoDecoder(
                given, dimension_order="NHWC", num_ffmpeg_threads=1, device=device, seek_mode="exact"
            )
        except (RuntimeError, ValueError) as error:
            pyav.close()
            raise DecodeError(f"{self.name}: TorchCodec cannot open it on the device {device}: {error}") from error
        if device not in (None, "cpu"):
            self.decoder = str(getattr(self._decoder, "cpu_fallback", "")) or None
        self._first_s = float(pyav.table.pts[0] * pyav.stream.time_base)

    @property
    def duration_s(self) -> float:
        return self._pyav.duration_s

    def pts_s(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        return self._pyav.pts_s(indices)

    def frames_there(self, indices: Sequence[int] | np.ndarray) -> Any:
        """Frames in any order, repeated numbers allowed: a tensor (T, H, W, 3) uint8 on the device.

        Raises:
            DecodeError: as ``frames``.
        """
        import torch

        wanted = self._check_indices(indices)
        distinct, places = np.unique(wanted, return_inverse=True)
        batch = self._decode(distinct)
        if batch is None:
            batch = torch.from_numpy(self._pyav.frames(distinct)).to(self.device or "cpu")
        return batch[torch.from_numpy(places).to(batch.device)]

    def _decode(self, indices: np.ndarray) -> Any:
        """(T, H, W, 3) of sorted, distinct frames; None if they are not the ones that the packet table means."""
        if self.fell_back is not None:
            return None
        stamps = self._pyav.pts_s(indices) + self._first_s
        try:
            batch = self._decoder.get_frames_at(indices=indices.tolist())
            if np.abs(batch.pts_seconds.cpu().numpy() - stamps).max() < 0.25 / max(self.fps, 1.0):
                return batch.data
            self.fell_back = "TorchCodec gave frames with other time stamps"
        except (RuntimeError, IndexError, ValueError) as error:
            self.fell_back = str(error)
        return None

    def _read(self, indices: np.ndarray, sink: FrameSink) -> None:
        batch = self._decode(indices)
        if batch is None:
            self._pyav._read(indices, sink)
            return
        for index, frame in zip(indices.tolist(), batch.cpu().numpy()):
            sink(index, frame)

    def close(self) -> None:
        self._pyav.close()


def _plain_colors(codec: Any) -> bool:
    """8 bits a sample and even sides: FFmpeg's converters all give the same RGB for such frames."""
    pixels = codec.format
    return pixels is not None and pixels.components[0].bits <= 8 and not (codec.width % 2 or codec.height % 2)
