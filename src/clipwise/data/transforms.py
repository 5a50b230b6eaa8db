"""From a decoded frame to what a network sees: resize, crop, mirror. Parameters are drawn once a clip.

The geometry of a clip is a *plan*: drawn when height and width are known, then applied to each frame as it is decoded,
so that full-size frames need not be kept. Pixels stay uint8; ``normalize_clips`` runs on the device.

    transform = ClipTransform(resize=256, crop="random_resized", crop_size=224, flip_prob=0.5)
    plan = transform.draw(height, width, rng)
    views = plan.apply(frame)                # uint8 (H, W, C) -> (num_crops, 224, 224, C)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
import torch.nn.functional as F

from clipwise.data import crops
from clipwise.data.crops import Box, Size
from clipwise.data.sampling import Rng
from clipwise.errors import DataError, RecipeError

Interpolation = Literal["antialias", "opencv"]
ResizeRule = Literal["short_side", "fixed", "fit", "paddle_4x3"]
Crop = Literal["none", "random_resized", "multi_scale", "random", "center", "three", "ten"]

# What a class becomes when its clip is mirrored; classes not named keep their label (0-based indices of the published
# class orders: Jester's and Something-Something V1's *-labels.csv, V2's labels.json).
FLIP_LABEL_MAPS: dict[str, dict[int, int]] = {
    "jester": {0: 1, 1: 0, 6: 7, 7: 6},
    "sthv1": {2: 4, 4: 2, 30: 41, 41: 30, 52: 66, 66: 52},
    "sthv2": {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166},
}
LabelT = TypeVar("LabelT", int, np.ndarray, None)


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

    def view_shape(self, channels: int = 3) -> tuple[int, int, int, int]:
        """Shape of what ``apply`` gives for one frame: (num_crops, height, width, channels)."""
        return (self.num_crops, *self.output, channels)

    def apply(self, frames: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Resize, crop and mirror one frame or a stack of frames.

        Args:
            frames: uint8 (H, W, C) or (T, H, W, C), of the size that the plan was drawn for.
            out: where to write, uint8 (num_crops, h, w, C) or (num_crops, T, h, w, C); made if not given.

        Returns:
            ``out``.

        Raises:
            DataError: frames of another size.
        """
        if frames.shape[-3:-1] != self.source:
            raise DataError(
                f"A frame of {frames.shape[-3]} x {frames.shape[-2]} came, after frames of "
                f"{self.source[0]} x {self.source[1]}: the size changes within the video. Re-encode it to one size."
            )
        if out is None:
            out = np.empty((self.num_crops, *frames.shape[:-3], *self.output, frames.shape[-1]), np.uint8)
        whole = None
        for view, (box, flip) in enumerate(zip(self.boxes, self.flips)):
            if flip and view and box == self.boxes[view - 1] and not self.flips[view - 1]:
                pixels = out[view - 1]  # ten crops: the mirror image of the view before
            elif self.num_crops == 1:
                pixels = self._single(frames, box)
            else:
                if whole is None:
                    whole = resize_frames(frames, self.resized, self.interpolation)
                pixels = _cut(whole, box)
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
            return resize_frames(_cut(frames, self._box_in_source(box)), self.output, self.interpolation)
        if self.resized == self.source and self.interpolation == "antialias":
            middle = _cut(frames, box)
        else:
            middle = resize_frames(frames, self.resized, self.interpolation, region=box)
        return resize_frames(middle, self.output, self.interpolation)

    def _box_in_source(self, box: Box) -> Box:
        scale_y, scale_x = self.source[0] / self.resized[0], self.source[1] / self.resized[1]
        left, top = (
            min(round(box[0] * scale_x), self.source[1] - 1),
            min(round(box[1] * scale_y), self.source[0] - 1),
        )
        right = min(max(round(box[2] * scale_x), left + 1), self.source[1])
        return left, top, right, min(max(round(box[3] * scale_y), top + 1), self.source[0])


@dataclass(frozen=True, kw_only=True)
class ClipTransform:
    """How the clips of a data set are resized, cropped and mirrored.

    Args:
        resize: an int is the short side (aspect ratio kept); (width, height) a fixed size; None keeps the frame.
        resize_rule: "short_side" or "fixed", by the kind of ``resize``, unless given. "fit": (long, short) sides to fit
            into; "paddle_4x3": PaddleCV's stretch of ``resize`` x 4/3.
        crop: "none", "random_resized", "multi_scale", "random", "center", "three" or "ten".
        crop_size: side of the square that comes out, or (width, height); for crop "none" it may be left out.
        area_range, aspect_range: of "random_resized".
        scales, max_scale_gap, num_fixed_crops: of "multi_scale".
        flip_prob: chance that the whole clip is mirrored.
        flip_label_map: {class: class of the mirrored clip}, or a name in ``FLIP_LABEL_MAPS``.
        modality: mirroring "flow" also turns the sign of its x components (even channels): 255 - value; so in the
            mirrored ones of ten crops. ``# differs:`` MMAction2 does not there (a slip; the original TSN does).
        interpolation: "antialias" (``# differs:`` from MMAction2, which drops pixels when it shrinks; as Pillow, so
            also nearer to PaddleCV and the original TSN) or "opencv" (MMAction2's pixels).
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
    flip_label_map: Mapping[int, int] | str | None = None
    modality: Literal["rgb", "flow"] = "rgb"
    interpolation: Interpolation = "antialias"
    fused: bool = True
    _rule: ResizeRule = field(init=False, repr=False, default="short_side")

    def __post_init__(self) -> None:
        rule = self.resize_rule or ("fixed" if isinstance(self.resize, tuple | list) else "short_side")
        object.__setattr__(self, "_rule", rule)
        for name, value, allowed in (
            ("resize_rule", rule, get_args(ResizeRule)),
            ("crop", self.crop, get_args(Crop)),
            ("interpolation", self.interpolation, get_args(Interpolation)),
            ("modality", self.modality, ("rgb", "flow")),
            ("num_fixed_crops", self.num_fixed_crops, (5, 13)),
        ):
            if value not in allowed:
                raise RecipeError(f"{name} is {value!r}; allowed are {', '.join(map(repr, allowed))}.")
        wants_pair = rule in ("fixed", "fit")
        if self.resize is not None and isinstance(self.resize, int) == wants_pair:
            wanted = "two numbers" if wants_pair else "one number"
            raise RecipeError(f"resize is {self.resize!r}, but the rule {rule!r} wants {wanted}.")
        if self.crop != "none" and self.crop_size is None:
            raise RecipeError(
                f"The crop {self.crop!r} needs crop_size: give the side of the square that the model sees."
            )
        if self.crop in ("three", "ten", "multi_scale") and not isinstance(self.crop_size, int):
            raise RecipeError(
                f"The crop {self.crop!r} is a square: crop_size must be one number, not {self.crop_size!r}."
            )
        if isinstance(self.flip_label_map, str) and self.flip_label_map not in FLIP_LABEL_MAPS:
            known = ", ".join(FLIP_LABEL_MAPS)
            raise RecipeError(
                f"flip_label_map is {self.flip_label_map!r}; known are {known}, or give {{class: class}}."
            )
        if not 0 <= self.flip_prob <= 1:
            raise RecipeError(f"flip_prob is {self.flip_prob}; it is a probability, from 0 to 1.")

    def flip_label(self, label: LabelT) -> LabelT:
        """The label of a mirrored clip: a class index, or a multi-hot vector over the classes."""
        swaps = FLIP_LABEL_MAPS[self.flip_label_map] if isinstance(self.flip_label_map, str) else self.flip_label_map
        if not swaps or label is None:
            return label
        if isinstance(label, np.ndarray):
            mirrored = label.copy()
            for source, target in swaps.items():
                mirrored[target] = label[source]
            return mirrored
        return swaps.get(int(label), label)

    @property
    def num_crops(self) -> int:
        """Views that every frame gives."""
        return {"three": 3, "ten": 10}.get(self.crop, 1)

    @property
    def is_random(self) -> bool:
        """Whether two draws can differ."""
        return self.crop in ("random_resized", "multi_scale", "random") or 0 < self.flip_prob < 1

    def draw(self, height: int, width: int, rng: Rng | None = None) -> ClipPlan:
        """Draw the geometry of one clip of ``height`` x ``width`` pixels; fixed transforms need no ``rng``."""
        if self.is_random and rng is None:
            raise RecipeError("This transform is random: pass rng=numpy.random.default_rng(seed).")
        resized = self._resized(height, width)
        boxes, flips = self._boxes(*resized, rng)
        if self.flip_prob and (self.flip_prob == 1 or rng.random() < self.flip_prob):  # type: ignore[union-attr]
            flips = [not flip for flip in flips]
        return ClipPlan(
            source=(height, width),
            resized=resized,
            boxes=tuple(boxes),
            flips=tuple(flips),
            output=self._output(boxes[0]),
            interpolation=self.interpolation,
            fused=self.fused,
            invert_flow_x=self.modality == "flow",
        )

    def _resized(self, height: int, width: int) -> Size:
        if self.resize is None:
            return height, width
        if isinstance(self.resize, int):
            size_of = crops.paddle_size if self._rule == "paddle_4x3" else crops.short_side_size
            return size_of(height, width, self.resize)
        if self._rule == "fit":
            return crops.fit_size(height, width, max(self.resize), min(self.resize))
        return self.resize[1], self.resize[0]

    def _boxes(self, height: int, width: int, rng: Rng | None) -> tuple[list[Box], list[bool]]:
        size = self.crop_size if isinstance(self.crop_size, int) else 0
        if self.crop == "none":
            return [(0, 0, width, height)], [False]
        if self.crop == "three":
            return crops.three_crop_boxes(height, width, size=size), [False] * 3
        if self.crop == "ten":
            return crops.ten_crop_boxes(height, width, size=size)
        if self.crop == "center":
            round_half = self._rule == "paddle_4x3"
            return [crops.center_crop_box(height, width, size=_pair(self.crop_size), round_half=round_half)], [False]
        assert rng is not None  # draw() has seen to it
        if self.crop == "random":
            return [crops.random_crop_box(height, width, rng, size=_pair(self.crop_size))], [False]
        if self.crop == "random_resized":
            box = crops.random_resized_crop_box(
                height, width, rng, area_range=self.area_range, aspect_range=self.aspect_range
            )
            return [box], [False]
        box = crops.multi_scale_crop_box(
            height,
            width,
            rng,
            input_size=size,
            scales=self.scales,
            max_scale_gap=self.max_scale_gap,
            num_fixed_crops=self.num_fixed_crops,
        )
        return [box], [False]

    def _output(self, box: Box) -> Size:
        return (box[3] - box[1], box[2] - box[0]) if self.crop_size is None else _pair(self.crop_size)


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
            f"The clips have {channels} channels, but mean has {center.numel()} numbers and std {spread.numel()}."
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
        uint8, same number of axes.
    """
    if interpolation == "opencv":
        from clipwise.data.resize_opencv import resize_opencv

        return resize_opencv(frames, size, region)
    if frames.shape[-3:-1] != size:
        frames = _resize_antialias(frames, size)
    if region is not None:
        left, top, right, bottom = region
        frames = frames[..., top:bottom, left:right, :]
    return frames


def _resize_antialias(frames: np.ndarray, size: Size) -> np.ndarray:
    # Torch's fast path for uint8 wants channels-last memory, which (H, W, C) frames have already.
    frames = np.ascontiguousarray(frames)
    pixels = torch.from_numpy(frames if frames.flags.writeable else frames.copy())
    batch = (pixels if frames.ndim == 4 else pixels[None]).permute(0, 3, 1, 2)
    resized = F.interpolate(batch, size=size, mode="bilinear", align_corners=False, antialias=True)
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
