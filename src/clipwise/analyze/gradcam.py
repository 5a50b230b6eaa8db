"""Where and when in the video does a model see its class? Spatio-temporal Grad-CAM, drawn over the video.

Works for every recognizer: the gradient is taken where the model says that its last map over space lies (``spatial_map``), or
at the last map or tokens that a run shows.

Source: Selvaraju et al., ICCV 2017; over space and time as in Stergiou et al., ICIP 2019.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from clipwise.data.transforms import ClipPlan, normalize_clips
from clipwise.errors import ClipwiseError
from clipwise.infer.draw import Panel, VideoWriter, blend, check_video_path, enlarge, fit_text
from clipwise.infer.predictor import Predictor
from clipwise.io.text import plural
from clipwise.models import contract
from clipwise.video.backends import open_frames
from clipwise.video.decode import VideoReader, open_video

_GRID = 64  # rows of the map of a whole frame
# Colors from cold to hot at equal steps, near to the "turbo" map.
_HOT = np.array(
    [(48, 18, 59), (70, 107, 227), (40, 187, 236), (49, 242, 153), (162, 252, 60), (237, 208, 58), (251, 128, 34), (196, 34, 10)],
    np.float32,
)  # fmt: skip


@dataclass(frozen=True)
class Heat:
    """Where a class is seen.

    Attributes:
        class_index, class_name: the class that was asked for.
        top: best classes of the video with their scores.
        frames: (M,) frame numbers, rising.
        maps: (M, h, w) heat of these frames, 0 to 1 over the whole video.
    """

    class_index: int
    class_name: str
    top: list[tuple[str, float]]
    frames: NDArray[np.int64]
    maps: NDArray[np.float32]

    def at(self, frame: int) -> NDArray[np.float32]:
        """(h, w): the heat of any frame, between the measured ones interpolated."""
        right = int(np.searchsorted(self.frames, frame))
        if right == 0 or right == len(self.frames):
            return self.maps[min(right, len(self.frames) - 1)]
        a, b = self.frames[right - 1], self.frames[right]
        share = (frame - a) / (b - a)
        return self.maps[right - 1] * (1 - share) + self.maps[right] * share

    def curve(self) -> NDArray[np.float32]:
        """(M,) mean heat of each measured frame, the highest 1."""
        mean = self.maps.mean((1, 2))
        return mean / max(float(mean.max()), 1e-12)


def grad_cam(model: nn.Module, clips: Tensor, class_index: int | Tensor) -> tuple[Tensor, Tensor]:
    """Grad-CAM of a recognizer.

    Args:
        model: in evaluation mode.
        clips: normalized, (B, C, T, H, W).
        class_index: one for all, or (B,).

    Returns:
        Heat (B, T', H', W'), not negative, and logits (B, num_classes).

    Raises:
        ClipwiseError: the model has no map over space, or does not say where.
    """
    asked = [p for p in model.parameters() if p.requires_grad]
    try:
        for (
            p
        ) in asked:  # only the gradient at the maps is wanted; what lies before then keeps nothing for a backward pass
            p.requires_grad_(False)
        with torch.enable_grad():
            place = contract.spatial_map(model)
            maps, gradient, logits = (
                _at_place(model, clips, class_index, place) if place else _found_by_a_run(model, clips, class_index)
            )
    finally:
        for p in asked:
            p.requires_grad_(True)
    weights = gradient.mean((1, 3, 4))  # (B, D)
    return F.relu(torch.einsum("bd,btdhw->bthw", weights, maps)), logits.detach()


def _of_class(logits: Tensor, class_index: int | Tensor) -> Tensor:
    wanted = torch.as_tensor(class_index, device=logits.device).expand(len(logits))
    return logits.gather(1, wanted[:, None]).sum()


def _at_place(
    model: nn.Module, clips: Tensor, class_index: int | Tensor, place: contract.SpatialMap
) -> tuple[Tensor, Tensor, Tensor]:
    """Map and gradient, (B, T', D, H', W'), where the model says that its map lies; and logits."""
    kept: list[tuple[Tensor, Any]] = []

    def hook(module, args, output):
        leaf = place.take(output).detach().requires_grad_()
        kept.append((leaf, output))
        return place.put(output, leaf)

    handle = place.module.register_forward_hook(hook)
    try:
        logits = model(clips)
    finally:
        handle.remove()
    leaf, output = kept[0]
    (gradient,) = torch.autograd.grad(_of_class(logits, class_index), leaf)
    maps, gradient = (place.grid(x.detach(), output) for x in (leaf, gradient))
    return maps, gradient, logits


def _found_by_a_run(model: nn.Module, clips: Tensor, class_index: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same at the last module whose output is a map over space, or its tokens, and reaches the score."""
    batch, grids = len(clips), []
    size: tuple[int, int, int] | None = None  # T', H', W' of the last map, as which tokens are read

    def hook(module, args, output):
        nonlocal size
        if not isinstance(output, Tensor) or not output.requires_grad or output.shape[0] % batch:
            return
        if output.dim() == 5 and len(output) == batch and output.shape[-1] > 1:  # (B, D, T, H, W)
            size = (output.shape[2], output.shape[3], output.shape[4])
            grids.append((output, lambda x: x.transpose(1, 2)))
        elif output.dim() == 4 and output.shape[-1] > 1:  # (B·T, D, H, W)
            frames = len(output) // batch
            size = (frames, output.shape[2], output.shape[3])
            grids.append((output, lambda x: x.unflatten(0, (batch, frames))))
        elif output.dim() == 3 and size is not None:  # (B, tokens, D), or (B·T, tokens, D), class tokens first
            t, h, w = size
            for rows, count in ((batch, t * h * w), (batch * t, h * w)):
                if len(output) == rows and count <= output.shape[1] <= count + 4:
                    extra = output.shape[1] - count

                    def grid(x, extra=extra, t=t, h=h, w=w):
                        return x[:, extra:].reshape(batch, t, h, w, -1).permute(0, 1, 4, 2, 3)

                    grids.append((output, grid))
                    break

    handles = [module.register_forward_hook(hook) for module in model.modules() if module is not model]
    try:
        logits = model(clips.detach().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    gradients = (
        torch.autograd.grad(_of_class(logits, class_index), [x for x, _ in grids], allow_unused=True) if grids else ()
    )
    for (output, grid), gradient in reversed(list(zip(grids, gradients))):
        if gradient is None:
            continue
        maps, slope = grid(output.detach()), grid(gradient)
        if slope.any():
            return maps, slope, logits
    raise ClipwiseError(
        f"{type(model).__name__}: no module was found whose output is a map over space that the score depends on, so Grad-CAM "
        f"has nothing to draw. Add `spatial_map(self) -> SpatialMap` to it; see docs/en/models.md."
    )


def video_heat(predictor: Predictor, reader: VideoReader, class_name: str | None = None, passes: int = 4) -> Heat:
    """Heat over a whole video.

    Args:
        predictor: a recognizer.
        reader: the video.
        class_name: which class to look for; the best one if not given.
        passes: a model that takes one frame a segment looks that many times, each time a little later, so that the
            heat is dense in time.

    Raises:
        ClipwiseError: unknown class.
    """
    prediction = predictor(reader)
    index = int(prediction.scores.argmax()) if class_name is None else _class_index(predictor, class_name)
    spec = predictor.spec
    rng = np.random.default_rng(0)
    clips = spec.indices(reader.num_frames, rng, reader.fps)  # (clips or segments, clip_len)
    plan = spec.transform.draw(reader.height, reader.width, rng)
    passes = passes if spec.num_segments else 1
    step = reader.num_frames / (spec.num_segments or 1)
    columns = round(_GRID * reader.width / reader.height)
    sums: dict[int, NDArray[np.float32]] = {}
    counts: dict[int, NDArray[np.float32]] = {}
    for n in range(passes):
        shift = round(((n + 0.5) / passes - 0.5) * step)
        moved = np.clip(clips + shift, 0, reader.num_frames - 1)
        frames = reader.frames(moved.ravel(), transform=plan.apply)
        views = spec.to_views(frames, moved.shape)
        times = moved.mean(1).round().astype(int).reshape(-1, spec.num_segments) if spec.num_segments else moved
        times = np.tile(times, (plan.num_crops, 1))
        for first in range(0, len(views), 4):
            part = torch.from_numpy(views[first : first + 4]).to(predictor.device)
            maps, _ = grad_cam(predictor.model, normalize_clips(part, spec.mean, spec.std), index)
            for k, view in enumerate(maps.cpu()):
                _paint(
                    sums, counts, view, times[first + k], plan, (first + k) // (len(views) // plan.num_crops), columns
                )
    order = np.array(sorted(sums))
    stack = np.stack([sums[t] / np.maximum(counts[t], 1e-6) for t in order.tolist()])
    seen = np.stack([counts[t] > 0 for t in order.tolist()])
    low, high = np.quantile(stack[seen], (0.1, 0.998))
    stack = np.where(seen, np.clip((stack - low) / max(float(high - low), 1e-12), 0, 1), 0)
    names = predictor.classes
    name = names[index] if names else str(index)
    return Heat(index, name, prediction.top(3), order, stack.astype(np.float32))


def overlay_video(
    predictor: Predictor,
    source: Any,
    out: str | PathLike,
    *,
    class_name: str | None = None,
    passes: int = 4,
    min_height: int = 360,
) -> Heat:
    """Write the video with the heat over it, the classes, and a curve of when the class is seen.

    Args:
        predictor: a recognizer.
        source: what ``open_video`` takes, or a folder of frames.
        out: .mp4, .m4v, .mov or .mkv.
        class_name, passes: see :func:`video_heat`.
        min_height: smaller frames are enlarged by a whole number.

    Raises:
        DecodeError, ClipwiseError: it can't be decoded or written.
    """
    check_video_path(out)
    with ExitStack() as stack:
        if isinstance(source, (str, PathLike)) and Path(source).is_dir():
            reader = stack.enter_context(open_frames(source))
        else:
            reader = stack.enter_context(open_video(source))
        heat = video_heat(predictor, reader, class_name, passes)
        scale = max(1, -(-min_height // reader.height))
        height, width = reader.height * scale, reader.width * scale
        curve = _Curve(height, width, reader.num_frames, heat)
        panel = Panel(height, width, above=curve.rows)
        times = reader.pts_s(np.arange(reader.num_frames))
        writer = stack.enter_context(VideoWriter(out, height, width, reader.fps or 25.0))
        for index, frame in reader.iterate():
            image = enlarge(frame[..., :3], scale)
            _tint(image, heat.at(index))
            panel.draw(image, heat.top)
            curve.draw(image, index)
            writer.write(image, float(times[index]) if np.isfinite(times[index]) else None)
    return heat


def _class_index(predictor: Predictor, name: str) -> int:
    names = predictor.classes or []
    if name in names:
        return names.index(name)
    width = contract.num_classes(predictor.model)
    if name.isdigit() and int(name) < width:
        return int(name)
    from clipwise.io.names import did_you_mean

    hint = did_you_mean(name, names) or f"; there are {plural(width, 'class', 'classes')}."
    raise ClipwiseError(f"the model has no class {name!r}{hint}")


def _paint(
    sums: dict[int, NDArray[np.float32]],
    counts: dict[int, NDArray[np.float32]],
    heat: Tensor,
    times: NDArray,
    plan: ClipPlan,
    crop: int,
    columns: int,
) -> None:
    """Add a view's heat (T', H', W') to the maps of whole frames, where its crop lies in the frame."""
    groups = np.array_split(times, len(heat))  # T' may be less than T
    x0, y0, x1, y1 = plan.boxes[crop]
    rows, cols = plan.resized
    left, right = (round(np.clip(v / cols, 0, 1) * columns) for v in (x0, x1))
    top, bottom = (round(np.clip(v / rows, 0, 1) * _GRID) for v in (y0, y1))
    if plan.flips[crop]:
        heat = heat.flip(-1)
    large = F.interpolate(heat[:, None], (bottom - top, right - left), mode="bilinear", align_corners=False)[
        :, 0
    ].numpy()
    for image, group in zip(large, groups):
        for t in sorted({int(v) for v in group}):
            if t not in sums:
                sums[t], counts[t] = (np.zeros((_GRID, columns), np.float32) for _ in range(2))
            sums[t][top:bottom, left:right] += image
            counts[t][top:bottom, left:right] += 1


def _tint(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> None:
    """Color over a frame, in place: the hotter the stronger; cold parts become a little darker and grayer."""
    size = image.shape[:2]
    large = F.interpolate(torch.from_numpy(heat)[None, None], size, mode="bicubic", align_corners=False)[0, 0]
    h = large.clamp(0, 1).numpy()
    place = h * (len(_HOT) - 1)
    low = np.minimum(place.astype(np.int32), len(_HOT) - 2)
    share = (place - low)[..., None]
    color = _HOT[low] * (1 - share) + _HOT[low + 1] * share
    gray = image.mean(-1, dtype=np.float32)[..., None]
    base = image * 0.62 + gray * 0.2
    alpha = (0.72 * h * h * (3 - 2 * h))[..., None]
    image[:] = (base * (1 - alpha) + color * alpha).astype(np.uint8)


class _Curve:
    """The heat over time along the bottom, with a mark where the video is."""

    def __init__(self, height: int, width: int, num_frames: int, heat: Heat):
        self.rows, self.width, self.num_frames = max(18, height // 10), width, num_frames
        values = np.interp(np.linspace(0, num_frames - 1, width), heat.frames, heat.curve())
        y = np.arange(self.rows)[:, None]
        below = y >= self.rows - 2 - values[None] * (self.rows - 6)
        self.color = np.where(below[..., None], np.array((251, 128, 34), np.float32), np.float32(14))
        self.alpha = np.where(below, 0.85, 0.62).astype(np.float32)
        text = fit_text(f"when it sees: {heat.class_name}", max(10, min(self.rows // 2, 20)), width - 12)
        h, w = text.shape
        self.color[2 : 2 + h, 6 : 6 + w] += (255 - self.color[2 : 2 + h, 6 : 6 + w]) * text[..., None]
        np.maximum(self.alpha[2 : 2 + h, 6 : 6 + w], text, out=self.alpha[2 : 2 + h, 6 : 6 + w])

    def draw(self, frame: NDArray[np.uint8], index: int) -> None:
        blend(frame[-self.rows :], self.color, self.alpha)
        x = int(index / max(self.num_frames - 1, 1) * (self.width - 2))
        frame[-self.rows :, x : x + 2] = 255
