"""Optical flow as images: x and y of each step from a frame to the next, 8 bits, as flow networks read it.

File names. MMAction2's extraction (denseflow) writes ``flow_x_00001.jpg`` and ``flow_y_00001.jpg``, and so do we; but its flow recipes
and its own Python tool use the template ``{}_{:05d}.jpg``, which means ``x_00001.jpg``. With the wrong template no frame is found
(our reader then lists what is there). Set ``input.filename_tmpl: 'flow_{}_{:05d}.jpg'`` in the recipe, or extract with
``template='{}_{:05d}.jpg'``. A video of n frames has n - 1 steps: lists of flow folders count one frame less than lists of RGB folders.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.errors import DataError, MissingExtraError
from clipwise.io.progress import Progress
from clipwise.prepare.folder_work import PrepareResult
from clipwise.prepare.frame_files import FolderWork, write_folders
from clipwise.video.backends import FLOW_TEMPLATE, brace_template
from clipwise.video.decode import PyAVReader

METHODS = ("tvl1", "dis")


def quantize_flow(flow: np.ndarray, bound: float = 20.0) -> np.ndarray:
    """Flow in pixels -> uint8: ``-bound`` becomes 0, no motion 128, ``bound`` 255; beyond is cut off. As denseflow and MMAction2."""
    return np.clip(np.rint((flow + bound) * (255.0 / (2 * bound))), 0, 255).astype(np.uint8)


class FlowEstimator:
    """Flow between gray frames with OpenCV: TV-L1 (the papers' choice; 165 ms for 128×96 pixels) or DIS (1.4 ms)."""

    def __init__(self, method: str = "tvl1"):
        """
        Raises:
            DataError: there is no such method.
            MissingExtraError: OpenCV with its contributed modules is not installed (extra ``flow``).
        """
        if method not in METHODS:
            raise DataError(f"there is no flow method {method!r}; choose {' or '.join(METHODS)}")
        try:
            import cv2
        except ImportError as error:
            raise MissingExtraError("opencv-contrib-python-headless", "flow", "Optical flow") from error
        self.cv2 = cv2
        cv2.setNumThreads(1)
        if method == "dis":
            self._estimate: Any = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        elif hasattr(cv2, "optflow"):
            self._estimate = cv2.optflow.DualTVL1OpticalFlow_create()
        else:  # the plain OpenCV package has DIS but not TV-L1
            raise MissingExtraError("opencv-contrib-python-headless", "flow", "TV-L1 optical flow")

    def gray(self, frame: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (h, w) uint8."""
        if size is not None and frame.shape[:2] != size:
            frame = self.cv2.resize(frame, size[::-1], interpolation=self.cv2.INTER_AREA)
        return self.cv2.cvtColor(np.ascontiguousarray(frame), self.cv2.COLOR_RGB2GRAY)

    def flow(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Two (H, W) uint8 -> (H, W, 2) float32, x and y in pixels, from the first to the second."""
        return self._estimate.calc(first, second, None)

    def jpeg(self, plane: np.ndarray) -> bytes:
        """(H, W) uint8 -> a gray JPEG."""
        return self.cv2.imencode(".jpg", plane, [self.cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def extract_flow(source: str | os.PathLike | Sequence[str | os.PathLike], target: str | os.PathLike, *, method: str = "tvl1",
                 bound: float = 20.0, template: str = FLOW_TEMPLATE, start_index: int = 1, short_side: int | None = None,
                 workers: int | None = None, overwrite: bool = False, timeout_s: float | None = None,
                 progress: Progress | None = None, part: tuple[int, int] = (0, 1)) -> PrepareResult:  # fmt: skip
    """Writes the optical flow of every video as pairs of gray JPEGs, a folder per video with the video's name.

    Args:
        source: folder (with subfolders), file, or list of files.
        target: folder for the folders; may be the one of the RGB frames' sibling, not the same.
        method: "tvl1" or "dis".
        bound: motion in pixels that becomes black or white.
        template: file name with a field for x or y and a number field; see the head of this module.
        start_index: number of the first pair.
        short_side: compute at this size (motion is then in these pixels); None: at the video's own.
        workers: processes, None: one a core.
        overwrite: write folders again that are there.
        timeout_s: limit for reading each video.
        part: (i, n): every n-th video only, from the i-th on.

    Returns:
        ``outputs`` maps each video to its folder, ``num_frames`` each folder to its number of pairs.

    Raises:
        MissingExtraError: the extra ``flow`` is not installed.
        DataError: wrong settings.
    """
    if bound <= 0:
        raise DataError(f"bound must be positive, not {bound}")
    template = brace_template(template, flow=True)
    if Path(template).suffix.lower() not in (".jpg", ".jpeg"):
        raise DataError(f"flow is written as .jpg, not as {Path(template).suffix!r}; change the template")
    FlowEstimator(method)  # is it installed?
    settings = {
        "task": "flow",
        "method": method,
        "bound": bound,
        "template": template,
        "start_index": start_index,
        "short_side": short_side,
    }
    work = _Flow(template, start_index, short_side, overwrite, timeout_s, method=method, bound=bound)
    result = write_folders(work, source, target, settings, workers, progress, part)
    result.num_frames = {name: count // 2 for name, count in result.num_frames.items()}
    return result


@dataclass(frozen=True, kw_only=True)
class _Flow(FolderWork):
    method: str
    bound: float

    def files(self, reader: PyAVReader, size: tuple[int, int] | None) -> Iterator[tuple[str, bytes]]:
        if reader.num_frames < 2:
            raise DataError(f"{reader.name}: has one frame only; flow needs two")
        estimator = FlowEstimator(self.method)
        before = None
        for index, frame in reader.iterate():
            now = estimator.gray(frame, size)
            if before is not None:
                planes = quantize_flow(estimator.flow(before, now), self.bound)
                for axis, name in enumerate("xy"):
                    file = self.template.format(name, self.start_index + index - 1)
                    yield file, estimator.jpeg(planes[..., axis])
            before = now
