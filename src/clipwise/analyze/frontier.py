"""Accuracy against time over clips, crops, size, precision and runtime, on the user's own videos.

Every point is measured on the same videos: each is decoded once for a protocol and then scored by every runtime and
precision, so that differences between points are differences of the points.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipwise.analyze.measure import num_views, start_memory, synchronize
from clipwise.data.clip_spec import ClipSpec
from clipwise.data.dataset import ClipDataset
from clipwise.data.lists import VideoList
from clipwise.engine.checkpoint import Passport
from clipwise.errors import ClipwiseError, DataError, RecipeError
from clipwise.export.compare import ListSamples
from clipwise.export.graphs import make_graph
from clipwise.export.runtimes import load_exported_model
from clipwise.export.writers import quantize_onnx, write_onnx, write_openvino
from clipwise.infer.predictor import Predictor
from clipwise.io.progress import Progress, silent
from clipwise.models.recipe_model import frames_setting
from clipwise.recipe import flatten, make_recipe

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
BACKENDS = ("pytorch", "onnxruntime", "openvino")


@dataclass
class Protocol:
    """One way of looking at a video."""

    clips: int
    crop: str
    size: int
    recipe: dict[str, Any]

    @property
    def spec(self) -> ClipSpec:
        return ClipSpec.from_recipe(self.recipe, "test")


@dataclass
class Point:
    """One protocol with one runtime and precision, measured."""

    clips: int
    """Clips of a video; segments for TSN, 1 or 2 samplings for TSM."""
    crop: str
    size: int
    """Short side of the crop in pixels."""
    precision: str
    backend: str
    views: int
    accuracy: float = 0.0
    """Top-1."""
    model_ms: float = 0.0
    """Mean of a video: network and views' average."""
    total_ms: float = 0.0
    """With decoding, resizing and cropping."""
    videos_per_s: float = 0.0
    """From ``total_ms``."""
    memory_mb: int | None = None
    """Peak of tensors on an accelerator; unknown on a CPU, where one process measures all points."""
    on_frontier: bool = False
    """No other point is faster and at least as accurate."""
    recommended: bool = False
    overrides: list[str] = field(default_factory=list)
    """Keys of the recipe that make this protocol."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Frontier:
    """All points, fastest first."""

    points: list[Point]
    videos: int
    failures: dict[str, str]
    tolerance: float

    @property
    def recommended(self) -> Point:
        return next(p for p in self.points if p.recommended)

    @property
    def standard_error(self) -> float:
        """Of the best accuracy: smaller differences than about twice this are chance."""
        best = max(p.accuracy for p in self.points)
        return float(np.sqrt(max(best * (1 - best), 0.25 / self.videos) / self.videos))


def measure_frontier(
    predictor: Predictor,
    videos: VideoList,
    *,
    limit: int = 50,
    clips: Sequence[int] | None = None,
    crops: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
    precisions: Sequence[str] | None = None,
    backends: Sequence[str] | None = None,
    calibration: str | None = None,
    tolerance: float = 0.01,
    progress: Progress = silent,
) -> Frontier:
    """Measure every combination.

    Args:
        predictor: of a checkpoint (not of an exported file).
        videos: with labels; ``limit`` of them are taken, at equal distances.
        clips, crops, sizes: of the test protocol; if not given, the passport's own and the cheapest.
        precisions: of ``PRECISIONS``; fp32 and bf16 if not given. int8 needs ``calibration``.
        backends: of ``BACKENDS``; those that are installed if not given. On an accelerator PyTorch alone.
        calibration: list of videos for int8.
        tolerance: the recommended point may be so much less accurate than the best one.

    Raises:
        ClipwiseError: nothing to measure, or values that make no sense.
        DataError: none of the videos can be decoded.
    """
    passport = predictor.passport
    protocols = list(make_protocols(passport, clips, crops, sizes))
    runtimes = list(_runtimes(predictor, precisions, backends, calibration))
    indices = np.unique(np.linspace(0, len(videos) - 1, min(limit, len(videos))).round().astype(int)).tolist()
    labels = [videos.label(i) for i in indices]
    if any(label is None or np.ndim(label) for label in labels):
        raise ClipwiseError("the frontier needs a list with one label a video.")
    points: list[Point] = []
    failures: dict[str, str] = {}
    total = len(protocols) * len(indices)
    with tempfile.TemporaryDirectory(prefix="clipwise-frontier-") as folder:
        files = _Files(predictor, Path(folder), calibration)
        for number, protocol in enumerate(protocols):
            dataset = ClipDataset(videos, protocol.spec)
            scorers = [(b, p, files.scorer(protocol, b, p)) for b, p in runtimes]
            made = [
                Point(protocol.clips, protocol.crop, protocol.size, precision, backend, num_views(protocol.spec))
                for backend, precision, _ in scorers
            ]
            right, seconds = np.zeros(len(made)), np.zeros(len(made))
            read_s, seen = 0.0, 0
            for done, (index, label) in enumerate(zip(indices, labels)):
                start = time.perf_counter()
                item = dataset[index]
                read_s += time.perf_counter() - start
                progress(number * len(indices) + done + 1, total, f"{protocol.clips} x {protocol.crop} {protocol.size}")
                if item["frames"] is None:
                    failures[videos.path(index)] = item["error"]
                    continue
                frames = item["frames"][None]
                for at, (_, _, scorer) in enumerate(scorers):
                    if not seen:
                        start_memory(scorer.device)
                        scorer.score(frames)  # warm-up
                    synchronize(scorer.device)
                    start = time.perf_counter()
                    scores = scorer.score(frames)[0]
                    seconds[at] += time.perf_counter() - start
                    right[at] += int(scores.argmax()) == label
                    if not seen and scorer.device.type != "cpu":
                        made[at].memory_mb = int(torch.accelerator.max_memory_allocated(scorer.device) / 2**20)
                seen += 1
            if not seen:
                raise DataError(f"none of the videos can be decoded; the first: {next(iter(failures.values()))}")
            for at, point in enumerate(made):
                point.accuracy = float(right[at] / len(indices))  # what can't be decoded counts as wrong
                point.model_ms = float(1000 * seconds[at] / seen)
                point.total_ms = point.model_ms + 1000 * read_s / len(indices)
                point.videos_per_s = 1000 / point.total_ms
                point.overrides = changed_keys(passport.recipe, protocol.recipe)
            points += made
    judge(points, tolerance)
    points.sort(key=lambda p: p.total_ms)
    return Frontier(points, len(indices), failures, tolerance)


def judge(points: Sequence[Point], tolerance: float) -> None:
    """Mark the frontier, and the fastest point that is at most ``tolerance`` less accurate than the best."""
    best = max(p.accuracy for p in points)
    for point in points:
        point.on_frontier = not any(
            (other.total_ms < point.total_ms and other.accuracy >= point.accuracy)
            or (other.total_ms <= point.total_ms and other.accuracy > point.accuracy)
            for other in points
        )
    good = [p for p in points if p.accuracy >= best - tolerance - 1e-9]
    min(good, key=lambda p: p.total_ms).recommended = True


def make_protocols(
    passport: Passport, clips: Sequence[int] | None, crops: Sequence[str] | None, sizes: Sequence[int] | None
) -> Iterator[Protocol]:
    """All combinations as recipes."""
    recipe = passport.recipe
    own = _own_clips(recipe)
    kind = _clips_key(recipe)
    clips = list(clips or dict.fromkeys((own if kind == "segments" else 1, own)))
    crops = list(crops or dict.fromkeys(("center", recipe["test"]["crop"])))
    short = _short(recipe["test"]["crop_size"])
    for clip, crop, size in itertools.product(clips, crops, list(sizes or [short])):
        test = {**recipe["test"], "crop": crop, **_with_clips(recipe, kind, clip)}
        if size != short:
            for key in ("resize", "crop_size"):
                test[key] = _scaled(test[key], size / short)
        values = {**recipe, "test": test}
        try:
            make_recipe(values, source="frontier")
        except RecipeError as error:
            raise ClipwiseError(f"{clip} clips, crop {crop}, size {size} can't be combined: {error}") from None
        yield Protocol(clip, crop, size, values)


def changed_keys(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """``key=value`` for ``clipwise test``."""
    return [
        f"{k}={list(v) if isinstance(v, tuple) else v}".replace(" ", "")
        .replace("True", "true")
        .replace("False", "false")
        for k, v in flatten(after).items()
        if v != flatten(before).get(k)
    ]


def _clips_key(recipe: dict[str, Any]) -> str:
    if not recipe["num_segments"]:
        return "clips"
    if recipe["sampling"] == "dense":
        return "fixed"
    return "twice" if frames_setting(recipe["model"]) else "segments"  # a network of so many frames can only look twice


def _own_clips(recipe: dict[str, Any]) -> int:
    kind = _clips_key(recipe)
    if kind == "clips":
        return recipe["test"]["num_clips"] * (2 if recipe["test"]["twice_sample"] else 1)
    if kind == "fixed":
        return 1
    if kind == "twice":
        return 2 if recipe["test"]["twice_sample"] else 1
    return recipe["test"]["num_segments"] or recipe["num_segments"]


def _with_clips(recipe: dict[str, Any], kind: str, clips: int) -> dict[str, Any]:
    if clips == _own_clips(recipe):
        return {}
    if kind == "clips":
        return {"num_clips": clips, "twice_sample": False}
    if kind == "segments":
        return {"num_segments": clips, "twice_sample": False}
    if kind == "twice" and clips in (1, 2):
        return {"twice_sample": clips == 2}
    allowed = "1 or 2 (sampled twice)" if kind == "twice" else "1, as dense sampling fixes its ten windows"
    raise ClipwiseError(f"--clips {clips}: this model takes {allowed}.")


def _short(size: Any) -> int:
    return min(size) if isinstance(size, (list, tuple)) else int(size)


def _scaled(size: Any, factor: float) -> Any:
    if size is None:
        return None
    return [round(s * factor) for s in size] if isinstance(size, (list, tuple)) else round(size * factor)


def _runtimes(
    predictor: Predictor, precisions: Sequence[str] | None, backends: Sequence[str] | None, calibration: str | None
) -> Iterator[tuple[str, str]]:
    """(backend, precision) pairs that exist."""
    on_cpu = predictor.device.type == "cpu"
    for names, known, option in ((precisions, PRECISIONS, "--precisions"), (backends, BACKENDS, "--backends")):
        unknown = [n for n in names or () if n not in known]
        if unknown:
            raise ClipwiseError(f"{option} {unknown[0]} is not known; known: {', '.join(known)}.")
    if "int8" in (precisions or ()) and not calibration:
        raise ClipwiseError("--precisions int8 needs --calibration LIST.")
    precisions = precisions or ["fp32", "bf16", *(["int8"] if calibration else [])]
    backends = backends or (["pytorch", *_installed()] if on_cpu else ["pytorch"])
    possible = {
        "pytorch": ("fp32", "bf16", *(() if on_cpu else ("fp16",))),
        "onnxruntime": ("fp32", "int8"),
        "openvino": ("fp32", "bf16", "int8"),
    }
    pairs = [(b, p) for b in backends for p in precisions if p in possible[b]]
    if not pairs:
        raise ClipwiseError(f"no runtime of {', '.join(backends)} can compute in {', '.join(precisions)} here.")
    yield from pairs


def _installed() -> list[str]:
    from importlib.util import find_spec

    has_onnx = all(find_spec(name) for name in ("onnx", "onnxscript"))
    return [name for name in ("onnxruntime", "openvino") if has_onnx and find_spec(name)]


class _Files:
    """Predictors for the points; a graph is exported once for a shape."""

    def __init__(self, predictor: Predictor, folder: Path, calibration: str | None):
        self.predictor, self.folder, self.calibration = predictor, folder, calibration

    def scorer(self, protocol: Protocol, backend: str, precision: str) -> Predictor:
        passport = replace(self.predictor.passport, recipe=protocol.recipe)
        amp = {"fp32": "no", "int8": "no"}.get(precision, precision)
        if backend == "pytorch":
            return Predictor(self.predictor.model, passport, device=self.predictor.device, amp=amp)
        file = self._file(protocol, passport, backend, precision)
        model, _ = load_exported_model(file, "cpu", amp=amp if backend == "openvino" else "no", trust=True)
        return Predictor(model, passport, device=torch.device("cpu"))

    def _file(self, protocol: Protocol, passport: Passport, backend: str, precision: str) -> Path:
        kind = "int8" if precision == "int8" else "fp32"
        stem = "x".join(map(str, protocol.spec.view_shape)) + f"-{kind}"
        onnx_file = self.folder / f"{stem}.onnx"
        if not onnx_file.exists():
            graph, about = make_graph(self.predictor.model, passport)
            if kind == "fp32":
                write_onnx(graph, about, onnx_file)
            else:
                source = self._file(protocol, passport, "onnxruntime", "fp32")
                assert self.calibration is not None
                samples = ListSamples(self.calibration, passport, about, 64)
                clips = (np.ascontiguousarray(s.views[:1].numpy()) for s in samples)
                quantize_onnx(source, onnx_file, replace(about, precision="int8"), clips)
        if backend == "onnxruntime":
            return onnx_file
        file = self.folder / f"{stem}.xml"
        if not file.exists():
            _, about = make_graph(self.predictor.model, passport)
            write_openvino(onnx_file, replace(about, precision=kind), file)
        return file
