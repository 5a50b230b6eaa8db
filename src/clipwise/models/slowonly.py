"""SlowOnly: the slow pathway of SlowFast alone (Feichtenhofer et al., ICCV 2019).

* few frames, far apart (4 every 16th, or 8 every 8th); no temporal stride: T reaches the head
* the first two stages look at single frames; in the last two each block's first convolution spans three frames
* starts from ImageNet weights, inflated: the 2-D kernel divided by three in each of three frames

Letters: B batch, T frames, C channels, H W space.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from clipwise.models.non_local import NonLocal
from clipwise.models.recognizer import Recognizer, initialize_backbone, initialize_linear
from clipwise.models.registry import register_model
from clipwise.models.resnet import ResNet, body_settings


@body_settings("inflate_style", "with_pool1", "with_pool2")
class SlowOnly(Recognizer):
    """Clips (B, C, T, H, W), any T -> logits (B, num_classes). Views' probabilities are averaged.

    Args:
        depth: "18", "34", "50", "101", "152" or "tiny".
        num_classes: number of classes.
        inflate: for each stage 0 or 1: do its blocks convolve over time.
        non_local: None, or the pairwise function of five non-local blocks.
        non_local_sub_sample, non_local_use_scale: see ``NonLocal``; the published models use both.
        dropout: on the pooled feature.
        fc_std: standard deviation of the classifier's initial weights.
        body: see ``ResNet``.
    """

    def __init__(
        self,
        depth: str = "50",
        *,
        num_classes: int = 400,
        inflate: Sequence[int] = (0, 0, 1, 1),
        non_local: str | None = None,
        non_local_sub_sample: bool = True,
        non_local_use_scale: bool = True,
        dropout: float = 0.5,
        fc_std: float = 0.01,
        **body: Any,
    ):
        attention = partial(
            NonLocal, mode=non_local or "", sub_sample=non_local_sub_sample, use_scale=non_local_use_scale
        )
        backbone = ResNet(depth, is_3d=True, inflate=inflate, attention=attention if non_local else None, **body)
        super().__init__(backbone, num_classes=num_classes, dropout=dropout, fc_std=fc_std)
        initialize_backbone(backbone, zero_init_residual=True)
        initialize_linear(self.fc, fc_std)


@register_model
def slowonly_tiny(**model_args) -> SlowOnly:
    """SlowOnly on an eight-block net of 32 to 256 channels, for small frames and CPUs."""
    return SlowOnly("tiny", **model_args)


@register_model
def slowonly_r18(**model_args) -> SlowOnly:
    """SlowOnly on ResNet-18."""
    return SlowOnly("18", **model_args)


@register_model
def slowonly_r50(**model_args) -> SlowOnly:
    """SlowOnly on ResNet-50."""
    return SlowOnly("50", **model_args)


@register_model
def slowonly_r101(**model_args) -> SlowOnly:
    """SlowOnly on ResNet-101."""
    return SlowOnly("101", **model_args)


@register_model
def slowonly_r50_nl(**model_args) -> SlowOnly:
    """SlowOnly on ResNet-50 with five non-local blocks, scaled embedded Gaussian unless told otherwise."""
    return SlowOnly("50", **{"non_local": "embedded_gaussian", **model_args})
