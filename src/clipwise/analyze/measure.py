"""How fast, how big: the model alone (the "inference time" of the published tables) and the whole way from file to scores.

Every figure is taken after a warm-up, with the device's queue emptied before the clock is read. Times are of one video:
batch 1, with all views of the test protocol.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from clipwise.data.clip_spec import ClipSpec
from clipwise.engine.device import peak_memory_mb
from clipwise.errors import DataError
from clipwise.infer.predictor import Predictor
from clipwise.video.decode import FrameSink, VideoReader


@dataclass
class Latency:
    """Milliseconds of one call."""

    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    runs: int

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency:
        """From single measurements."""
        values = 1000 * np.asarray(list(seconds))
        p50, p90, p99 = np.percentile(values, [50, 90, 99])
        return cls(float(values.mean()), float(p50), float(p90), float(p99), len(values))


@dataclass
class ModelSpeed:
    """The model alone: frames lie on the device, scores stay there."""

    videos_per_s: float
    """Batch 1, all views of the test protocol."""
    latency: Latency
    views: int
    view_shape: tuple[int, ...]
    """(T, H, W, C), or (F, L) of features."""
    memory_mb: int
    """Peak of tensors on an accelerator; on a CPU machine peak of the process."""
    device: str
    backend: str
    amp: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class EndToEndSpeed:
    """From a file to its scores, one video after the other in one process."""

    videos_per_s: float
    latency: Latency
    decode_ms: float
    """Mean of opening and decoding."""
    preprocess_ms: float
    """Mean of resizing and cropping."""
    model_ms: float
    """Mean of copying to the device, normalizing, the network, and the views' average."""
    videos: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def time_calls(
    call: Callable[[], Any], device: torch.device, *, warmup: int = 3, min_runs: int = 10, min_s: float = 3.0, max_s: float = 60.0
) -> Latency:  # fmt: skip
    """Time a call until there are ``min_runs`` measurements over ``min_s`` seconds, or ``max_s`` are spent (at least 3 runs)."""
    began = time.perf_counter()
    for _ in range(warmup):
        call()
        synchronize(device)
        if time.perf_counter() - began > max_s / 2:
            break
    seconds: list[float] = []
    began = time.perf_counter()
    while True:
        synchronize(device)
        start = time.perf_counter()
        call()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
        spent = time.perf_counter() - began
        if len(seconds) >= min_runs and spent >= min_s:
            break
        if len(seconds) >= 3 and spent >= max_s:
            break
    return Latency.of(seconds)


def num_views(spec: ClipSpec) -> int:
    """Views that the protocol takes of a video."""
    clips = spec.indices(10_000, np.random.default_rng(0), 25.0)
    count = len(clips) // spec.num_segments if spec.num_segments else len(clips)
    return count * spec.transform.num_crops


@torch.inference_mode()
def bench_model(predictor: Predictor, **timing: Any) -> ModelSpeed:
    """Speed and memory of the model alone.

    Args:
        predictor: of a checkpoint or of an exported file.
        timing: see :func:`time_calls`.
    """
    spec, device = predictor.spec, predictor.device
    views = num_views(spec)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (1, views, *spec.view_shape), dtype=torch.uint8, generator=generator).to(device)
    start_memory(device)
    latency = time_calls(lambda: predictor.logits(frames), device, **timing)
    return ModelSpeed(
        videos_per_s=1000 / latency.mean_ms,
        latency=latency,
        views=views,
        view_shape=spec.view_shape,
        memory_mb=peak_memory_mb(),
        device=str(device),
        backend=backend_of(predictor.model),
        amp=predictor.amp,
    )


@torch.inference_mode()
def bench_features(model: torch.nn.Module, shape: tuple[int, int], device: torch.device, **timing: Any) -> ModelSpeed:
    """The same for BMN: one video of features (F, L)."""
    features = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    start_memory(device)
    latency = time_calls(lambda: model(features), device, **timing)
    return ModelSpeed(1000 / latency.mean_ms, latency, 1, shape, peak_memory_mb(), str(device), backend_of(model), "no")


def bench_end_to_end(predictor: Predictor, paths: Iterable[str], *, warmup: int = 1) -> EndToEndSpeed:
    """Speed from file to scores.

    Args:
        paths: videos; the first ``warmup`` of them are run once more beforehand.

    Raises:
        DataError: none can be decoded.
    """
    paths = list(paths)
    device, spec = predictor.device, predictor.spec
    totals: list[float] = []
    parts = np.zeros(3)  # decode, preprocess, model
    for number, path in enumerate([*paths[:warmup], *paths]):
        synchronize(device)
        start = time.perf_counter()
        try:
            with spec.open_video(path) as reader:
                timed = TimedReader(reader)
                frames, _ = spec.read(timed, np.random.default_rng(0))
        except DataError:
            continue
        read = time.perf_counter()
        predictor.score(torch.as_tensor(frames)[None])  # ends with a copy to the host, which waits for the device
        end = time.perf_counter()
        if number < warmup:
            continue
        totals.append(end - start)
        parts += (read - start - timed.seconds, timed.seconds, end - read)
    if not totals:
        raise DataError("none of the videos can be decoded; run `clipwise check` on the data.")
    decode_ms, preprocess_ms, model_ms = (1000 * parts / len(totals)).tolist()
    latency = Latency.of(totals)
    return EndToEndSpeed(1000 / latency.mean_ms, latency, decode_ms, preprocess_ms, model_ms, len(totals))


class TimedReader(VideoReader):
    """A reader that keeps the time that its frames' transform takes."""

    def __init__(self, reader: VideoReader):
        self.reader, self.seconds = reader, 0.0
        self.name, self.num_frames, self.fps = reader.name, reader.num_frames, reader.fps
        self._size = (reader.height, reader.width)

    def frames(self, indices, transform=None) -> np.ndarray:
        def timed(frame: np.ndarray) -> Any:
            start = time.perf_counter()
            value = frame if transform is None else transform(frame)
            self.seconds += time.perf_counter() - start
            return value

        return self.reader.frames(indices, timed)

    def _read(self, indices: np.ndarray, sink: FrameSink) -> None:
        raise NotImplementedError("frames() is overridden")


def start_memory(device: torch.device) -> None:
    """Count the accelerator's peak memory from now on."""
    if device.type != "cpu":
        torch.accelerator.empty_cache()
        torch.accelerator.reset_peak_memory_stats(device)


def backend_of(model: torch.nn.Module) -> str:
    """Who computes: an exported model says it itself."""
    return str(getattr(model, "backend", "pytorch"))
