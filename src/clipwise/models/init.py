"""Video models that start from 2-D ImageNet weights. (From scratch: ``initialize_backbone`` in ``recognizer.py``.)"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from clipwise.errors import CheckpointError, RecipeError
from clipwise.io.foreign import ForeignCheckpoint, split_checkpoint
from clipwise.io.text import plural
from clipwise.models import contract

log = logging.getLogger("clipwise")


@dataclass(frozen=True)
class ImageNetReport:
    """What ``load_imagenet`` did: names of tensors, and how the first convolution was made."""

    loaded: list[str] = field(default_factory=list)
    inflated: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    first_conv: str = "copied"

    def __str__(self) -> str:
        return (
            f"ImageNet weights: {plural(len(self.loaded), 'tensor')} loaded ({len(self.inflated)} inflated over time), first convolution "
            f"{self.first_conv}, {len(self.kept)} kept as initialized, {len(self.unused)} of the file unused"
        )


@torch.no_grad()
def load_imagenet(
    model: nn.Module, state_dict: Mapping[str, Tensor] | ForeignCheckpoint, first_conv: str = "average"
) -> ImageNetReport:
    """Start the body of a video model from a 2-D ResNet with torchvision's (or timm's) names.

    A kernel that spans k frames gets the 2-D kernel divided by k in each of them (I3D; MMAction2's ``inflate``), so a still
    video gives the image network's response. Non-local blocks, neck and classifier keep their initialization.

    Args:
        model: one that has a 2-D body (``imagenet_body``).
        state_dict: 2-D weights, or a file read by ``read_foreign_checkpoint``. The file's ``fc`` is not used.
        first_conv: what to do when the model's first convolution takes another number of channels (optical flow):
            "average" repeats the mean over the RGB channels, as the TSN and TSM papers do; "random" keeps the
            initialization, as MMAction2 does.

    Returns:
        What was loaded; ``str()`` of it is one line, which also goes to the log.

    Raises:
        CheckpointError: weights are missing, or a shape does not fit (another depth).
        RecipeError: unknown ``first_conv``.
    """
    # differs: MMAction2 leaves the first convolution random and says so only in a warning; the papers' average is the default
    # here (tests/parity/test_recognition_blocks.py).
    if first_conv not in ("average", "random"):
        raise RecipeError(f"first_conv: {first_conv!r} is not allowed; choose 'average' or 'random'")
    source, _ = split_checkpoint(state_dict)
    body, depth = contract.imagenet_body(model)
    own = body.state_dict()
    report: dict[str, list[str]] = {"loaded": [], "inflated": [], "kept": []}
    how_first, missing, misfits = "copied", [], []

    for name, target in own.items():
        if ".non_local." in name:
            report["kept"].append(name)
            continue
        if name not in source:
            if not name.endswith("num_batches_tracked"):
                missing.append(name)
            continue
        value = source[name]
        if name == "conv1.weight" and value.shape[1] != target.shape[1]:
            if first_conv == "random":
                how_first = f"left random ({plural(target.shape[1], 'input channel')}; the file has {value.shape[1]})"
                report["kept"].append(name)
                continue
            how_first = (
                f"averaged over {plural(value.shape[1], 'channel')} and repeated {plural(target.shape[1], 'time')}"
            )
            value = value.mean(1, keepdim=True).expand(-1, target.shape[1], -1, -1)
        elif value.dim() == 4 and value.shape != target.shape:
            inflated = inflate_kernel(value, target.shape)
            if inflated is None:
                misfits.append(f"{name}: file {tuple(value.shape)}, model {tuple(target.shape)}")
                continue
            value = inflated
            report["inflated"].append(name)
        if value.shape != target.shape:
            misfits.append(f"{name}: file {tuple(value.shape)}, model {tuple(target.shape)}")
            continue
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{name} of these ImageNet weights holds NaN or infinity; download the file again.")
        target.copy_(value)
        report["loaded"].append(name)

    if missing or misfits:
        raise CheckpointError(
            f"these ImageNet weights do not fit the model's ResNet-{depth}: {plural(len(missing), 'name')} missing "
            f"({', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}), {len(misfits)} of another shape "
            f"({'; '.join(misfits[:3])}). Give the weights of a ResNet of that depth, with torchvision's names"
        )
    result = ImageNetReport(**report, unused=sorted(set(source) - set(own)), first_conv=how_first)
    log.info("%s", result)
    return result


def inflate_kernel(value: Tensor, shape: torch.Size) -> Tensor | None:
    """(O, I, k, k) -> (O, I, t, 1) or (O, I, t, k, k), divided by t; None if ``shape`` is no inflation of it."""
    (out_channels, in_channels, k, _), time = value.shape, shape[2]
    if k == 1 and tuple(shape) == (out_channels, in_channels, time, 1):
        return value.expand(-1, -1, time, -1) / time
    if tuple(shape) == (out_channels, in_channels, time, k, k):
        return value.unsqueeze(2).expand(-1, -1, time, -1, -1) / time
    return None


def adapt_first_conv(weight: Tensor, channels: int) -> Tensor:
    """A trained first convolution for another number of input channels.

    Args:
        weight: (O, I, …), trained on I channels.
        channels: N of the new input.

    Returns:
        (O, N, …): for one channel the sum over I, so that a gray image gives what its three equal channels gave; else the I channels
        repeated in turn, times I / N, so that the response keeps its size.

    Source: timm, ``adapt_input_conv``.
    """
    old = weight.shape[1]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, torch.arange(channels) % old] * (old / channels)
