"""Augmentations of whole batches on the device: colors, RandAugment, random erasing, Mixup, CutMix.

All random numbers come from a numpy generator and are drawn once a clip, so every frame of a clip changes alike; the
pixels are changed by a few tensor operations for the whole batch. Geometry is in ``clipwise.data.transforms``.

Letters: N clips, T frames, H W pixels, C = 3 colors, K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from clipwise.data.colors import gray, rotate_hue, widest
from clipwise.data.randaugment import rand_augment
from clipwise.data.sampling import Rng
from clipwise.errors import RecipeError
from clipwise.io.code_promises import promised
from clipwise.io.plugins import Registry

ColorGeneration = Literal["mmaction2_0.24", "mmaction2_0.16"]

# Principal components of ImageNet's colors, as everyone uses them since AlexNet (values for 0 to 255).
_PCA_VALUES = np.array([55.46, 4.794, 1.148])
_PCA_VECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
_RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
_YIQ_TO_RGB = np.array([[1.0, 0.956, 0.621], [1.0, -0.272, -0.647], [1.0, -1.107, 1.705]])


TRANSFORMS = Registry("transform", "clipwise.transforms")
register_transform = TRANSFORMS.register
"""Decorator: a function ``(frames, rng) -> frames`` changes training clips, uint8 (N, T, H, W, C) (``augment.also``)."""


class BatchAugment:
    """The augmentations of a recipe, in the two places of a training step where they belong.

    Args:
        color_jitter: None, or the generation of MMAction2's ColorJitter: "mmaction2_0.24" (since 0.17) or
            "mmaction2_0.16" (before; with PCA lighting).
        rand_augment: (operations, magnitude of 10) or None.
        random_erasing: chance that a rectangle of a clip is set to the mean color.
        mixup, cutmix: alpha of the Beta distribution, 0 is off. With both, a coin decides for each batch.
        num_classes: needed for Mixup and CutMix.
        also: names of registered transforms, which come after the colors.
    """

    def __init__(
        self,
        *,
        color_jitter: ColorGeneration | None = None,
        rand_augment: Sequence[float] | None = None,
        random_erasing: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        num_classes: int | None = None,
        also: Sequence[str] = (),
    ):
        if color_jitter not in (None, "mmaction2_0.24", "mmaction2_0.16"):
            raise RecipeError(f"color_jitter is {color_jitter!r}; allowed: 'mmaction2_0.24' and 'mmaction2_0.16'.")
        if (mixup or cutmix) and not num_classes:
            raise RecipeError("mixup and cutmix make soft labels and need num_classes.")
        self.color_jitter, self.rand_augment, self.random_erasing = color_jitter, rand_augment, random_erasing
        self.mixup, self.cutmix, self.num_classes = mixup, cutmix, num_classes
        self.also = [_checked(name) for name in also]

    def pixels(self, frames: torch.Tensor, rng: Rng) -> torch.Tensor:
        """Change colors and shapes before normalization.

        Args:
            frames: uint8 (N, T, H, W, 3).

        Returns:
            Same shape, uint8; float32 and not clipped after "mmaction2_0.16".
        """
        if self.rand_augment is not None:
            frames = rand_augment(frames, int(self.rand_augment[0]), float(self.rand_augment[1]), rng)
        if self.color_jitter == "mmaction2_0.24":
            frames = color_jitter(frames, rng)
        elif self.color_jitter == "mmaction2_0.16":
            frames = lighting_jitter(frames, rng)
        for transform in self.also:
            frames = transform(frames, rng)
        return frames

    def blend(self, clips: torch.Tensor, labels: torch.Tensor, rng: Rng) -> tuple[torch.Tensor, torch.Tensor]:
        """Erase and mix after normalization.

        Args:
            clips: float (N, C, T, H, W); may be changed in place.
            labels: int64 (N,) or multi-hot float (N, K).

        Returns:
            The clips, and the labels: as given without mixing, else soft, float32 (N, K).
        """
        if self.random_erasing:
            clips = random_erasing(clips, self.random_erasing, rng)
        if self.mixup and (not self.cutmix or rng.random() < 0.5):
            return mixup(clips, labels, int(self.num_classes or 0), self.mixup, rng)
        if self.cutmix:
            return cutmix(clips, labels, int(self.num_classes or 0), self.cutmix, rng)
        return clips, labels


def _checked(name: str) -> Callable[..., Any]:
    def keeps(given: Any, frames: torch.Tensor, _: Rng) -> bool:
        kinds = (torch.uint8, torch.float32)
        return isinstance(given, torch.Tensor) and given.shape == frames.shape and given.dtype in kinds

    what = "a uint8 or float32 tensor (pixels from 0 to 255) of the frames' shape"
    return promised(TRANSFORMS.find(name), "transform", "frames, rng", what, keeps)


def color_jitter(
    frames: torch.Tensor,
    rng: Rng,
    *,
    brightness: float = 0.5,
    contrast: float = 0.5,
    saturation: float = 0.5,
    hue: float = 0.1,
    order: Sequence[int] | None = None,
) -> torch.Tensor:
    """Brightness, contrast, saturation and hue of each clip, in one random order for the batch.

    Args:
        frames: uint8 (N, T, H, W, 3).
        brightness, contrast, saturation: factors are uniform in 1 minus to 1 plus this.
        hue: turn of the color circle, uniform in minus to plus this, in turns.
        order: of brightness 0, contrast 1, saturation 2, hue 3. ``# differs:`` by default drawn for each batch;
            MMAction2 draws it once a run, so that one run in four never sees hue before contrast, and so on.

    Returns:
        uint8, same shape.

    Source: MMAction2 0.17 to 1.2, ColorJitter: float32 arithmetic, contrast about each frame's mean gray, hue in OpenCV's
    8-bit HSV, clipped and cut to integers at the end (bit-exact on the golden rows).
    """
    if order is None:
        order = np.argsort(rng.random(4)).tolist()
    count = len(frames)
    factors = [rng.uniform(1 - width, 1 + width, count) for width in (brightness, contrast, saturation)]
    turns = torch.as_tensor((rng.uniform(-hue, hue, count) * 255).astype(np.int32))
    pixels = frames.to(torch.float32)
    for step in order:
        if step == 3:
            pixels = rotate_hue(pixels, turns.to(frames.device))
            continue
        keep = _per_clip(factors[step], pixels)
        if step == 0:
            pixels = pixels * keep
            continue
        other = gray(pixels)
        if step == 1:
            # numpy multiplies two scalars in double precision; it decides the last bit here
            other = other.mean((-3, -2), keepdim=True)
            rest = _per_clip(1 - factors[step], pixels, widest(pixels.device))
            pixels = keep * pixels + (rest * other).to(torch.float32)
        else:
            pixels = keep * pixels + _per_clip(1 - factors[step], pixels) * other
    return pixels.clamp_(0, 255).to(torch.uint8)


def lighting_jitter(frames: torch.Tensor, rng: Rng, *, alpha_std: float = 0.1) -> torch.Tensor:
    """The color changes of MMAction2 up to 0.16: brightness, contrast, saturation, YIQ hue, then PCA lighting.

    Strengths are drawn once a clip, but each change is switched on or off for each frame by its own coin, so colors
    flicker within a clip: kept, because the published TPN-TSM was trained so. All of it is linear in the color, so it
    is composed to one 3 x 3 matrix and one offset a frame.

    Args:
        frames: uint8 or float (N, T, H, W, 3).
        alpha_std: standard deviation of the three PCA coefficients.

    Returns:
        float32, same shape, not clipped.
    """
    count, length = frames.shape[:2]
    identity = np.eye(3)
    matrix = np.broadcast_to(identity, (count, length, 3, 3)).copy()
    delta = rng.uniform(-32, 32, count)
    contrast, saturation = rng.uniform(0.6, 1.4, count), rng.uniform(0.6, 1.4, count)
    angle = rng.uniform(-18, 18, count) * np.pi
    coins = rng.random((4, count, length)) > 0.5
    offset = np.where(coins[0], delta[:, None], 0.0)[..., None].repeat(3, axis=-1)

    to_gray = np.ones((3, 1)) * _RGB_TO_YIQ[0]
    saturate = saturation[:, None, None] * identity + (1 - saturation)[:, None, None] * to_gray
    turn = np.zeros((count, 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 1, 2], turn[:, 2, 1] = -np.sin(angle), np.sin(angle)
    # MMAction2 also draws whether contrast comes first or last; as a factor it commutes with the matrices.
    for coin, step in ((coins[2], saturate), (coins[3], _YIQ_TO_RGB @ turn @ _RGB_TO_YIQ)):
        chosen = np.where(coin[..., None, None], step[:, None], identity)
        matrix, offset = chosen @ matrix, (chosen @ offset[..., None])[..., 0]
    scale = np.where(coins[1], contrast[:, None], 1.0)
    matrix, offset = matrix * scale[..., None, None], offset * scale[..., None]
    coefficients = _normal(rng, (count, 3)) * alpha_std
    offset = offset + ((_PCA_VECTORS * coefficients[:, None]) @ _PCA_VALUES)[:, None]

    flat = frames.to(torch.float32).reshape(count * length, -1, 3)
    weights = torch.as_tensor(matrix, dtype=torch.float32, device=frames.device).reshape(-1, 3, 3).transpose(1, 2)
    shift = torch.as_tensor(offset, dtype=torch.float32, device=frames.device).reshape(-1, 1, 3)
    return torch.baddbmm(shift, flat, weights).reshape(frames.shape)


def random_erasing(
    clips: torch.Tensor,
    probability: float,
    rng: Rng,
    *,
    area_range: tuple[float, float] = (0.02, 1 / 3),
    aspect_range: tuple[float, float] = (0.3, 1 / 0.3),
) -> torch.Tensor:
    """Set one rectangle of a clip, the same in all frames, to the mean color (zero after normalization).

    Args:
        clips: float (N, C, T, H, W), changed in place.

    Source: Zhong et al. 2020, "Random Erasing Data Augmentation", with a rectangle that always fits.
    """
    count, (height, width) = len(clips), clips.shape[-2:]
    area = rng.uniform(*area_range, count) * height * width
    aspect = np.exp(rng.uniform(np.log(aspect_range[0]), np.log(aspect_range[1]), count))
    box_h = np.clip(np.round(np.sqrt(area * aspect)), 1, height)
    box_w = np.clip(np.round(np.sqrt(area / aspect)), 1, width)
    top, left = np.floor(rng.random(count) * (height - box_h + 1)), np.floor(rng.random(count) * (width - box_w + 1))
    box_h = np.where(rng.random(count) < probability, box_h, 0)
    return clips.masked_fill_(_rectangles(clips, top, left, top + box_h, left + box_w), 0)


def mixup(
    clips: torch.Tensor, labels: torch.Tensor, num_classes: int, alpha: float, rng: Rng
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend each clip with another one of the batch: lam * own + (1 - lam) * other, labels alike.

    Returns:
        clips (N, C, T, H, W) and soft labels float32 (N, K).

    Source: Zhang et al. 2018; one lam ~ Beta(alpha, alpha) for the batch, as MMAction2's MixupBlending.
    """
    share, other = _beta(rng, alpha), _permutation(rng, clips)
    soft = _one_hot(labels, num_classes)
    return share * clips + (1 - share) * clips[other], share * soft + (1 - share) * soft[other]


def cutmix(
    clips: torch.Tensor, labels: torch.Tensor, num_classes: int, alpha: float, rng: Rng
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste a rectangle of another clip of the batch, through all frames; labels by area.

    Source: Yun et al. 2019; one lam and one rectangle for the batch, as MMAction2's CutmixBlending; the label's share is
    the area that is really pasted.
    """
    height, width = clips.shape[-2:]
    side = float(np.sqrt(1 - _beta(rng, alpha)))
    cut_h, cut_w = int(height * side), int(width * side)
    y, x = int(rng.random() * height), int(rng.random() * width)
    top, bottom = max(y - cut_h // 2, 0), min(y + cut_h // 2, height)
    left, right = max(x - cut_w // 2, 0), min(x + cut_w // 2, width)
    other = _permutation(rng, clips)
    mixed = clips.clone()
    mixed[..., top:bottom, left:right] = clips[other][..., top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (height * width)
    soft = _one_hot(labels, num_classes)
    return mixed, share * soft + (1 - share) * soft[other]


def _rectangles(clips: torch.Tensor, top, left, bottom, right) -> torch.Tensor:
    """Boolean (N, 1, 1, H, W): inside each clip's box."""
    height, width = clips.shape[-2:]
    edges = torch.as_tensor(np.stack([top, bottom, left, right]), device=clips.device)[..., None]
    rows = torch.arange(height, device=clips.device)
    columns = torch.arange(width, device=clips.device)
    inside_rows = (rows >= edges[0]) & (rows < edges[1])
    inside_columns = (columns >= edges[2]) & (columns < edges[3])
    return (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None, None]


def _per_clip(values: np.ndarray, pixels: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    shape = (-1,) + (1,) * (pixels.ndim - 1)
    return torch.as_tensor(values, dtype=dtype, device=pixels.device).reshape(shape)


def _one_hot(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    if labels.ndim == 2:
        return labels.to(torch.float32)
    return torch.nn.functional.one_hot(labels, num_classes).to(torch.float32)


def _permutation(rng: Rng, clips: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(np.argsort(rng.random(len(clips))), device=clips.device)


def _beta(rng: Rng, alpha: float) -> float:
    return float(rng.beta(alpha, alpha))  # type: ignore[attr-defined]


def _normal(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(0.0, 1.0, shape)  # type: ignore[attr-defined]
