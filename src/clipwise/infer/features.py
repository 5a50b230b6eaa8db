"""Features of whole videos: a recognizer looks through a window that slides along, in bounded memory.

Windows have ``window`` frames and their centers lie ``stride`` frames apart, half a stride from the video's start. What a
window shows the network is what ``clipwise predict`` would show it of a video that long: the sampling and pixels of the
checkpoint's validation. Frames that a window wants before the first or behind the last frame repeat that frame.

Two grids of centers: ``fixed`` puts them exactly ``stride`` apart (16: frames 8, 24, 40 …, the grid of csv_mean_100 and
MMAction2); ``fit`` stretches the stride by less than half a window so that n windows divide the video evenly, and feature k
of n then stands for the same share of the video as position k of the network.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.rescale import Rescale, rescale_features
from clipwise.data.transforms import normalize_clips
from clipwise.engine import pretrained as zoo
from clipwise.engine.checkpoint import Passport, load_model_and_passport, read_checkpoint
from clipwise.engine.device import autocast
from clipwise.errors import CheckpointError, ClipwiseError, DataError
from clipwise.infer.windows import FrameGrid, batches, read_windows
from clipwise.io.devices import pick_device
from clipwise.io.model_folders import folder_hash
from clipwise.io.plugins import is_foreign
from clipwise.io.text import plural
from clipwise.models import contract
from clipwise.tasks.logits import activate, activation_of
from clipwise.video.backends import open_frames
from clipwise.video.decode import VideoReader
from clipwise.video.even_rate import FlowOf

Kind = Literal["features", "scores", "probs"]


@dataclass(frozen=True)
class WindowRule:
    """How a video becomes a sequence of features.

    Attributes:
        stride: frames between the centers of two windows.
        window: frames of a window; None: the clip's own length for models of dense clips, twice the stride for others.
        fps: frame rate at which frames are counted; None: the video's own.
        segments: frames taken from a window, for TSN (whose weights take any number); None: as in training.
        kind: "features" in front of the classifier, class "scores" before the softmax, or "probs".
        grid: "fit" or "fixed", see the head of this module.
        positions: rescale to so many; None keeps one feature a window.
        rescale: how (``clipwise.data.rescale``).
    """

    stride: int = 16
    window: int | None = None
    fps: float | None = None
    segments: int | None = None
    kind: Kind = "features"
    grid: Literal["fit", "fixed"] = "fit"
    positions: int | None = None
    rescale: Rescale = "linear"

    def __post_init__(self):
        for name in ("stride", "window", "fps", "segments", "positions"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ClipwiseError(f"{name} was {value}; it must be more than 0.")
        if self.kind not in ("features", "scores", "probs"):
            raise ClipwiseError(f"kind was {self.kind!r}; use features, scores or probs.")


@dataclass(frozen=True)
class VideoFeatures:
    """Features of one video.

    Attributes:
        values: float32 (n, F).
        duration_s: of the video, 0.0 if unknown.
        fps: of the video, 0.0 if unknown.
        num_frames: of the video.
        stride: frames (at the rule's rate) between two windows, not rounded.
        covered_s: seconds that the windows stand for; the duration on the grid ``fit``.
    """

    values: NDArray[np.float32]
    duration_s: float
    fps: float
    num_frames: int
    stride: float
    covered_s: float


class FeatureExtractor:
    """A recognizer that slides over videos.

    Args:
        checkpoint: of a recognizer, or a name in the zoo.
        rule: how.
        batch_size: windows that go through the network at once.

    Raises:
        CheckpointError: the file can't be used, or is not a recognizer.
        ClipwiseError: the rule does not fit the model.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        rule: WindowRule | None = None,
        *,
        device: str | None = None,
        batch_size: int = 16,
        amp: str = "no",
    ):
        self.path = Path(zoo.resolve(checkpoint))
        self.device, self.amp, self.batch_size = pick_device(device), amp, max(1, batch_size)
        self.model: Any
        self.model, self.passport = load_model_and_passport(self.path, self.device)
        check_recognizer(self.passport, self.path)
        self.rule = rule or WindowRule()
        self.spec = window_spec(self.passport, self.rule, self.model)
        self.window = self.rule.window or default_window(self.spec, self.rule)

    @property
    def feat_dim(self) -> int:
        """F."""
        of = contract.num_features if self.rule.kind == "features" else contract.num_classes
        return of(self.model)

    def describe(self) -> dict[str, Any]:
        """The recipe of the features, for ``features.json`` and for the passport of a network trained on them."""
        return {
            "recognizer": place_of(self.path),
            "sha256": model_hash(self.path),
            "model": self.passport.model,
            "modality": self.spec.modality,
            "feat_dim": self.feat_dim,
            **asdict(replace(self.rule, window=self.window)),
            **({"input": pixels_of(self.passport.recipe)} if is_foreign(self.path) else {}),
        }

    def __call__(self, video: Any, *, frame_rate: float | None = None) -> VideoFeatures:
        """Features of one video.

        Args:
            video: path, address, array, open reader, or a folder of frames (RGB or flow, as the model needs).
            frame_rate: frames per second of a folder.

        Raises:
            DecodeError: it can't be decoded.
        """
        if isinstance(video, VideoReader):
            return self.read(video)
        with open_for(self.spec, video, frame_rate) as reader:
            return self.read(reader)

    @torch.inference_mode()
    def read(self, reader: VideoReader, growing: bool = False) -> VideoFeatures:
        """Features of an open video.

        Args:
            growing: the values are computed when they are asked for (``clipwise.infer.growing_rows``).
        """
        rule = self.rule
        grid = FrameGrid(reader, rule.fps)
        centers = window_centers(grid.length, rule.stride, rule.grid)
        starts = np.floor(centers - self.window / 2).astype(np.int64)
        windows = [grid.window(self.spec, start, self.window) for start in starts.tolist()]
        clips = read_windows(reader, self.spec, windows)
        rows = (self._forward([clip[0] for clip in some]) for _, some in batches(clips, self.batch_size))
        values: Any
        if growing:
            from clipwise.infer.growing_rows import GrowingRows

            values = GrowingRows(len(centers), self.feat_dim, rows)
        else:
            values = _in_one_array(rows, len(centers))
        step = grid.length / len(centers) if rule.grid == "fit" else float(rule.stride)
        if rule.positions:
            seconds = step / (rule.fps or reader.fps or 1.0)
            values = rescale_features(values, rule.positions, rule.rescale, seconds_per_position=seconds)
        covered = len(centers) * step / (rule.fps or reader.fps) if reader.fps else 0.0
        return VideoFeatures(
            values,
            reader.duration_s,
            reader.fps,
            reader.num_frames,
            step,
            reader.duration_s if rule.grid == "fit" else covered,
        )

    def _forward(self, windows: list[NDArray]) -> NDArray[np.float32]:
        frames = torch.from_numpy(np.stack(windows)).to(self.device)
        clips = normalize_clips(frames, self.spec.mean, self.spec.std)
        with autocast(self.device, self.amp):
            if self.rule.kind == "features":
                out = contract.forward_features(self.model, clips)
            else:
                out = self.model(clips)
        out = out.float()
        return (activate(out, activation_of(self.passport.recipe)) if self.rule.kind == "probs" else out).cpu().numpy()


def _in_one_array(parts: Iterator[NDArray[np.float32]], count: int) -> NDArray[np.float32]:
    """(count, F) rows, some at a time. Parts kept between a network's large buffers would leave holes that grow with the length."""
    values, done = np.empty((0, 0), np.float32), 0
    for part in parts:
        values = values if done else np.empty((count, part.shape[1]), np.float32)
        values[done : done + len(part)] = part
        done += len(part)
    return values


class TwoStream:
    """RGB and flow side by side: the two-stream TSN scores of csv_mean_100 and of MMAction2's features.

    Each stream's sequence is rescaled by itself as MMAction2 does (rule ``pool``), or both are first cut to the shorter one
    as BSN does (all other rules). RGB comes first.
    """

    def __init__(self, rgb: FeatureExtractor, flow: FeatureExtractor, flow_root: str | os.PathLike):
        if rgb.spec.modality != "rgb" or flow.spec.modality != "flow":
            raise ClipwiseError(
                f"two streams need an rgb and a flow model, not {rgb.spec.modality} and {flow.spec.modality}."
            )
        self.rule = rgb.rule
        self.rgb, self.flow = (_without_positions(x) for x in (rgb, flow))
        self.flow_root = Path(flow_root)
        self.spec = rgb.spec

    @property
    def feat_dim(self) -> int:
        return self.rgb.feat_dim + self.flow.feat_dim

    def describe(self) -> dict[str, Any]:
        rgb, flow = self.rgb.describe(), self.flow.describe()
        return {
            **rgb,
            "positions": self.rule.positions,
            "modality": "rgb+flow",
            "feat_dim": self.feat_dim,
            "flow": {k: flow[k] for k in ("recognizer", "sha256", "model")},
        }

    def __call__(self, video: Any, *, frame_rate: float | None = None) -> VideoFeatures:
        folder = self.flow_root / Path(video).stem
        if not folder.is_dir():
            raise DataError(
                f"{video}: its flow frames are looked for in {folder}, which does not exist. Make them with `clipwise prepare flow`."
            )
        with open_for(self.rgb.spec, video, frame_rate) as reader:
            rgb = self.rgb.read(reader)
            with FlowOf(reader, open_for(self.flow.spec, folder)) as frames:
                flow = self.flow.read(frames)
        streams = [rgb.values, flow.values]
        rule = self.rule
        if rule.rescale not in ("pool", "max_pool") or not rule.positions:
            streams = [s[: min(map(len, streams))] for s in streams]
        if rule.positions:
            seconds = rgb.stride / (rule.fps or rgb.fps or 1.0)
            streams = [rescale_features(s, rule.positions, rule.rescale, seconds_per_position=seconds) for s in streams]
        return replace(rgb, values=np.concatenate(streams, axis=1))


def _without_positions(extractor: FeatureExtractor) -> FeatureExtractor:
    extractor.rule = replace(extractor.rule, positions=None)
    return extractor


def window_centers(num_frames: int, stride: int, grid: str = "fit") -> NDArray[np.floating]:
    """Centers of the windows in frames; at least one."""
    count = (
        max(1, -(-(2 * num_frames - stride) // (2 * stride))) if num_frames > stride / 2 else 1
    )  # centers < num_frames
    step = num_frames / count if grid == "fit" else stride
    return (np.arange(count) + 0.5) * step


def window_spec(passport: Passport, rule: WindowRule, model: Any) -> ClipSpec:
    """What a window shows the network: one clip of one crop, as in validation."""
    spec = ClipSpec.from_recipe(passport.recipe, "val")
    if spec.transform.num_crops > 1:
        spec = replace(spec, transform=replace(spec.transform, crop="center"))
    spec = replace(spec, target_fps=None)
    if rule.segments and rule.segments != spec.num_segments:
        if getattr(model, "num_segments", None) is not None or not spec.num_segments:
            raise ClipwiseError(
                f"segments={rule.segments} can't be set: {passport.model} takes exactly {plural(spec.num_segments or spec.clip_len, 'frame')}. Only TSN takes any number."
            )
        spec = replace(spec, num_segments=rule.segments)
    return spec


def default_window(spec: ClipSpec, rule: WindowRule) -> int:
    """Frames of a window if the user names none."""
    if not spec.num_segments:
        return spec.clip_len * spec.frame_interval
    return max(2 * rule.stride, spec.num_segments)


def check_recognizer(passport: Passport, path: str | Path) -> None:
    """Refuse what has no frames to look at."""
    if not passport.recipe or passport.recipe.get("task", "recognition") != "recognition":
        raise CheckpointError(
            f"{path} is a {passport.model}, not a recognizer with its recipe; features need one (TSN, TSM, SlowOnly, TPN)."
        )


def place_of(path: Path) -> str:
    """Where a checkpoint, or a model of another library, is found again."""
    if not is_foreign(path):
        return str(path.resolve())
    kind, _, where = str(path).partition(":")
    return f"{kind}:{Path(where).resolve()}" if Path(where).is_dir() else str(path)  # no folder: a name of the hub


def pixels_of(recipe: dict[str, Any]) -> dict[str, Any]:
    """What is done to a frame, for the folder's description: the model's own processor in our words."""
    keys = ("resize_rule", "interpolation", "mean", "std")
    return {
        "resize": recipe["val"]["resize"],
        "crop_size": recipe["val"]["crop_size"],
        **{k: recipe["input"][k] for k in keys},
    }


def model_hash(path: str | Path) -> str:
    """Of a checkpoint's weights alone: stays when metrics or the passport change."""
    if is_foreign(path):
        return folder_hash(path)
    tensors, _ = read_checkpoint(path)
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def open_for(spec: ClipSpec, video: Any, frame_rate: float | None = None) -> VideoReader:
    """A reader of what the model sees: a folder of frames or flow, or a video."""
    folder = isinstance(video, (str, os.PathLike)) and Path(video).is_dir()
    if spec.modality == "flow" and not folder:
        raise DataError(f"{video}: the model sees flow, which needs a folder of flow frames (`clipwise prepare flow`).")
    if folder:
        return open_frames(
            video,
            modality=spec.modality,
            template=spec.filename_tmpl,
            start_index=spec.start_index,
            fps=frame_rate or 0.0,
        )
    return spec.open_video(video)


def find_recognizer(localizer: Path, made: Mapping[str, Any], given: str | Path | None = None) -> Path:
    """The recognizer whose features a localizer was trained on.

    Args:
        localizer: its checkpoint.
        made: what the checkpoint says of the features.
        given: by the user; else it is looked for where it lay, and near the localizer.

    Raises:
        CheckpointError: unknown, not found, or another one than that.
    """
    made_by = made.get("recognizer", made.get("recogniser"))  # as 0.1 spelled it
    if made.get("modality") == "rgb+flow":
        raise CheckpointError(
            f"{localizer} was trained on two-stream features (RGB and flow), which one video file does not give. Extract them "
            "with `clipwise features … --flow-model` and give `clipwise localize` the feature files."
        )
    wanted = made.get("sha256")
    if not wanted:  # with another network's or another window's features this one would see noise
        raise CheckpointError(
            f"{localizer} was trained on features of unknown origin ({made.get('source', 'not recorded')}), so a video can't be turned into "
            "such features. Give feature files instead of the video; or train on a folder that `clipwise features` wrote, which tells."
        )
    if given is not None:
        if (there := model_hash(Path(given))) != wanted:
            raise CheckpointError(
                f"{given} is not the recognizer that made the features of {localizer}: its weights have the hash "
                f"{there}, wanted is {wanted} ({made_by}). With other features the network sees noise."
            )
        return Path(given)
    known = Path(str(made_by or ""))
    if is_foreign(known) and model_hash(known) == wanted:
        return known
    for path in (known, localizer.parent / known.name, localizer.parent.parent / known.parent.name / known.name):
        if path.is_file() and model_hash(path) == wanted:
            return path
    raise CheckpointError(
        f"the recognizer that made the features of {localizer} ({known}, weights {wanted}) is missing or has changed. "
        "Give it with --features-from."
    )
