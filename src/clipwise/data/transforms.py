"""From a decoded frame to what a network sees: resize, crop, mirror. Parameters are drawn once a clip.

The geometry of a clip is a *plan*: drawn when height and width are known, then applied to each frame as it is decoded,
so that full-size frames need not be kept. Pixels stay uint8; ``normalize_clips`` runs on the device.

    transform = ClipTransform(resize=256, crop="random_resized", crop_size=224, flip_prob=0.5)
    plan = transform.draw(height, width, rng)
    views = plan.apply(frame)                # uint8 (H, W, C) -> (num_crops, 224, 224, C)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F

from clipwise.data import crops
from clipwise.data.crops import Box, Size
from clipwise.data.sampling import Rng, draw_integers
from clipwise.errors import DataError, RecipeError

Interpolation = Literal["antialias", "opencv", "bicubic", "float"]
ResizeRule = Literal["short_side", "short_side_floor", "torchvision", "fixed", "fit", "paddle_4x3"]
Crop = Literal["none", "random_resized", "multi_scale", "random", "center", "three", "ten"]


@dataclass(frozen=True)
class ClipPlan:
    """The geometry of one clip; ``apply`` gives the same views for every frame of it."""

    source: Size
    resized: Size
    boxes: tuple[Box, ...]
    flips: tuple[bool, ...]
    output: Size
    interpolation: Interpolation = "antialias"
    fused: bool = True
    invert_flow_x: bool = False

    @property
    def num_crops(self) -> int:
        return len(self.boxes)

    @property
    def flipped(self) -> bool:
        """Whether the clip as a whole is mirrored (never so for ten crops, half of which are)."""
        return all(self.flips)

    def apply(self, frames: np.ndarray) -> np.ndarray:
        """Resize, crop and mirror one frame or a stack of frames.

        Args:
            frames: uint8 (H, W, C) or (T, H, W, C), of the size that the plan was drawn for.

        Returns:
            uint8 (num_crops, h, w, C) or (num_crops, T, h, w, C).

        Raises:
            DataError: frames of another size.
        """
        if frames.shape[-3:-1] != self.source:
            raise DataError(
                f"the frame size changes within the video, from {self.source[0]} x {self.source[1]} to {frames.shape[-3]} x "
                f"{frames.shape[-2]}. Re-encode it to one size."
            )
        shape = (self.num_crops, *frames.shape[:-3], *self.output, frames.shape[-1])
        out = np.empty(shape, np.float32 if self.interpolation == "float" else np.uint8)
        whole = resize_frames(frames, self.resized, self.interpolation) if self.num_crops > 1 else None
        for view, (box, flip) in enumerate(zip(self.boxes, self.flips)):
            pixels = self._single(frames, box) if whole is None else _cut(whole, box)
            out[view] = _mirror(pixels) if flip else pixels
            if flip and self.invert_flow_x:
                np.subtract(255, out[view][..., 0::2], out=out[view][..., 0::2])
        return out

    def _single(self, frames: np.ndarray, box: Box) -> np.ndarray:
        box_size = (box[3] - box[1], box[2] - box[0])
        if box_size == self.output:
            return resize_frames(frames, self.resized, self.interpolation, region=box)
        if self.fused:
            # differs: MMAction2 resizes, cuts, and resizes again; one step from the source is faster and blurs less.
            # fused=False gives its pixels (tests/unit/test_transforms.py).
            box = crops.box_in_source(box, self.source, self.resized)
            return resize_frames(_cut(frames, box), self.output, self.interpolation)
        middle = resize_frames(frames, self.resized, self.interpolation, region=box)
        return resize_frames(middle, self.output, self.interpolation)


@dataclass(frozen=True, kw_only=True)
class ClipTransform:
    """How the clips of a data set are resized, cropped and mirrored.

    Args:
        resize: an int is the short side (aspect ratio kept); (width, height) a fixed size; None keeps the frame.
        resize_rule: "short_side" or "fixed", by the kind of ``resize``, unless given. "fit": (long, short) sides to fit
            into; "paddle_4x3": PaddleCV's stretch of ``resize`` x 4/3.
        crop: "none", "random", "center"; or one of :mod:`clipwise.data.crops`.
        crop_size: side of the square that comes out, or (width, height); for crop "none" it may be left out.
        area_range, aspect_range: of "random_resized".
        scales, max_scale_gap, num_fixed_crops: of "multi_scale".
        flip_prob: chance that the whole clip is mirrored.
        modality: mirroring "flow" also turns the sign of its x components (even channels): 255 - value; so in the
            mirrored ones of ten crops. ``# differs:`` MMAction2 does not there (a slip; the original TSN does).
        interpolation: "antialias" (``# differs:`` from MMAction2, which drops pixels when it shrinks; as Pillow, so
            also nearer to PaddleCV and the original TSN) or "opencv" (MMAction2's pixels). "bicubic" has anti-aliasing,
            "float" is "antialias" in float32, not rounded to whole pixel values.
        fused: do resize, crop, resize in one step. False: as MMAction2.

    Source: MMAction2 0.24.1 pipelines (specification 4.5 to 4.7).
    """

    resize: int | tuple[int, int] | None = None
    resize_rule: ResizeRule | None = None
    crop: Crop = "none"
    crop_size: int | tuple[int, int] | None = None
    area_range: tuple[float, float] = (0.08, 1.0)
    aspect_range: tuple[float, float] = (3 / 4, 4 / 3)
    scales: Sequence[float] = (1, 0.875, 0.75, 0.66)
    max_scale_gap: int = 1
    num_fixed_crops: int = 5
    flip_prob: float = 0.0
    modality: Literal["rgb", "flow"] = "rgb"
    interpolation: Interpolation = "antialias"
    fused: bool = True

    def __post_init__(self) -> None:
        if self.crop not in get_args(Crop):
            raise RecipeError(f"crop is {self.crop!r}; allowed: {', '.join(map(repr, get_args(Crop)))}.")
        wants_pair = self.resize_rule in ("fixed", "fit")
        if self.resize_rule and self.resize is not None and isinstance(self.resize, int) == wants_pair:
            wanted = "two numbers" if wants_pair else "one number"
            raise RecipeError(f"resize is {self.resize!r}, but the rule {self.resize_rule!r} wants {wanted}.")
        if self.crop != "none" and self.crop_size is None:
            raise RecipeError(
                f"The crop {self.crop!r} needs crop_size: give the side of the square that the model sees."
            )
        if self.crop in ("three", "ten", "multi_scale") and not isinstance(self.crop_size, int):
            raise RecipeError(
                f"The crop {self.crop!r} is a square: crop_size must be one number, not {self.crop_size!r}."
            )
        if not 0 <= self.flip_prob <= 1:
            raise RecipeError(f"flip_prob is {self.flip_prob}; it is a probability, from 0 to 1.")

    @property
    def num_crops(self) -> int:
        """Views that every frame gives."""
        return {"three": 3, "ten": 10}.get(self.crop, 1)

    def draw(self, height: int, width: int, rng: Rng | None = None) -> ClipPlan:
        """Draw the geometry of one clip of ``height`` x ``width`` pixels; fixed transforms need no ``rng``."""
        if rng is None and (self.crop in ("random_resized", "multi_scale", "random") or 0 < self.flip_prob < 1):
            raise RecipeError("This transform is random: pass rng=numpy.random.default_rng(seed).")
        resized = self._resized(height, width)
        boxes = self._boxes(*resized, rng)
        mirrored = bool(self.flip_prob) and (self.flip_prob == 1 or rng.random() < self.flip_prob)  # type: ignore[union-attr]
        left, top, right, bottom = boxes[0]
        return ClipPlan(
            source=(height, width),
            resized=resized,
            boxes=tuple(boxes),
            # of ten crops every second is the mirror image of the one before
            flips=tuple(mirrored != (self.crop == "ten" and view % 2 == 1) for view in range(len(boxes))),
            output=(bottom - top, right - left) if self.crop_size is None else _pair(self.crop_size),
            interpolation=self.interpolation,
            fused=self.fused,
            invert_flow_x=self.modality == "flow",
        )

    def _resized(self, height: int, width: int) -> Size:
        if self.resize is None:
            return height, width
        if self.resize_rule in ("paddle_4x3", "short_side_floor", "torchvision"):
            from clipwise.data.size_rules import size_by_rule

            return size_by_rule(self.resize_rule, height, width, self.resize)  # type: ignore[arg-type]
        if isinstance(self.resize, int):
            factor = self.resize / min(height, width)
        elif self.resize_rule == "fit":
            factor = min(max(self.resize) / max(height, width), min(self.resize) / min(height, width))
        else:
            return self.resize[1], self.resize[0]
        return int(height * factor + 0.5), int(width * factor + 0.5)

    def _boxes(self, height: int, width: int, rng: Rng | None) -> list[Box]:
        """Where to cut a resized frame."""
        if self.crop == "none":
            return [(0, 0, width, height)]
        if self.crop not in ("center", "random"):
            return crops.draw_boxes(self, height, width, rng)
        h, w = _pair(self.crop_size)
        if h > height or w > width:
            raise DataError(crops.misfit(height, width, h, w))
        if self.crop == "center":
            # an odd rest goes to the right and below; Paddle and torchvision round half a pixel to the even neighbor
            paddle = self.resize_rule in ("paddle_4x3", "torchvision")
            top, left = (round(rest / 2) if paddle else rest // 2 for rest in (height - h, width - w))
        else:  # the last position is never drawn, as in MMAction2
            top, left = (int(draw_integers(rng, 0, rest)) if rest else 0 for rest in (height - h, width - w))  # type: ignore[arg-type]
        return [(left, top, left + w, top + h)]


def normalize_clips(
    clips: torch.Tensor,
    mean: Sequence[float] | torch.Tensor,
    std: Sequence[float] | torch.Tensor,
    *,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Subtract the mean and divide by the deviation, on the device where the clips are.

    Args:
        clips: uint8 (..., T, H, W, C).
        mean, std: one number a channel in units of pixels (0 to 255); a pair for flow is repeated for stacked flow.
        dtype: of the result; the arithmetic is float32.

    Returns:
        (..., C, T, H, W): a view of channels-last memory, which is what convolutions like best.

    Source: MMAction2 1.2.0 ActionDataPreprocessor, (x - mean) / std in float32.
    """
    channels = clips.shape[-1]
    center = torch.as_tensor(mean, dtype=torch.float32, device=clips.device)
    spread = torch.as_tensor(std, dtype=torch.float32, device=clips.device)
    if channels % center.numel() or channels % spread.numel():
        raise RecipeError(
            f"mean (of length {center.numel()}) and std ({spread.numel()}) need a number for each channel; the clips have {channels}."
        )
    center, spread = center.repeat(channels // center.numel()), spread.repeat(channels // spread.numel())
    pixels = clips.to(torch.float32).sub_(center) if clips.dtype != torch.float32 else clips - center
    return pixels.div_(spread).to(dtype).movedim(-1, -4)


def resize_frames(
    frames: np.ndarray, size: Size, interpolation: Interpolation = "antialias", region: Box | None = None
) -> np.ndarray:
    """Resize frames to ``size`` and return ``region`` of the result (all of it by default).

    Args:
        frames: uint8 (H, W, C) or (T, H, W, C).
        size: (height, width) of the whole resized frame.
        interpolation: "antialias": bilinear over the whole area that a target pixel covers, as Pillow does it.
            "opencv": cv2.resize INTER_LINEAR on uint8 (two source pixels a side, fixed-point arithmetic), bit for bit.
        region: box within the resized frame.

    Returns:
        uint8 (float32 for "float"), same number of axes.
    """
    if interpolation == "opencv":
        from clipwise.data.resize_opencv import resize_opencv

        return resize_opencv(frames, size, region)
    if frames.shape[-3:-1] != size:
        frames = _resize_antialias(frames, size, interpolation)
    if region is not None:
        left, top, right, bottom = region
        frames = frames[..., top:bottom, left:right, :]
    return frames


def _resize_antialias(frames: np.ndarray, size: Size, interpolation: Interpolation) -> np.ndarray:
    # Torch's fast path for uint8 wants channels-last memory, which (H, W, C) frames have already.
    frames = np.ascontiguousarray(frames)
    pixels = torch.from_numpy(frames if frames.flags.writeable else frames.copy())
    batch = (pixels if frames.ndim == 4 else pixels[None]).permute(0, 3, 1, 2)
    mode = "bicubic" if interpolation == "bicubic" else "bilinear"
    batch = batch.float() if interpolation == "float" else batch
    resized = F.interpolate(batch, size=size, mode=mode, align_corners=False, antialias=True)
    result = resized.permute(0, 2, 3, 1).contiguous().numpy()
    return result if frames.ndim == 4 else result[0]


def _mirror(frames: np.ndarray) -> np.ndarray:
    # torch's flip of packed pixels takes 0.01 ms for 224 x 224, numpy's reversed view 0.2 ms.
    return torch.from_numpy(np.require(frames, requirements=["C", "W"])).flip(-2).numpy()


def _cut(frames: np.ndarray, box: Box) -> np.ndarray:
    return frames[..., box[1] : box[3], box[0] : box[2], :]


def _pair(size: int | tuple[int, int] | None) -> Size:
    """(width, height) or a side -> (height, width)."""
    assert size is not None  # ClipTransform has seen to it
    return (size, size) if isinstance(size, int) else (size[1], size[0])
