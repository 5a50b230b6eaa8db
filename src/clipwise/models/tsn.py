"""TSN: Temporal Segment Networks (Wang et al., ECCV 2016; TPAMI 2018).

* a video is cut into equal segments, one frame is taken from each, every frame goes through the same 2-D ResNet
* the frames' features are averaged ("consensus"), then classified: time is not modeled
* works on optical flow as well: five x/y pairs stacked to ten channels

Letters: B batch, T segments, C channels, H W space.
"""

from typing import Any

from clipwise.models.recognizer import Recognizer, initialize_backbone, initialize_linear
from clipwise.models.registry import register_model
from clipwise.models.resnet import ResNet, body_settings


@body_settings()
class TSN(Recognizer):
    """Clips (B, C, T, H, W), T segments, any number -> logits (B, num_classes).

    The order is MMAction2's: mean over segments, dropout, classifier. Views are averaged before the softmax.

    Args:
        depth: "18", "34", "50", "101", "152" or "tiny".
        num_classes: number of classes.
        num_segments: frames a video is trained with; the network itself takes any number.
        dropout: 0.4 in MMAction2's recipes; 0.8 in the paper's code.
        dropout_per_frame: apply dropout to each frame's features instead of their mean (the paper's code).
        fc_std: standard deviation of the classifier's initial weights; None for Paddle's uniform one.
        body: see ``ResNet``.
    """

    views_before_softmax = True
    frames_setting = None  # the recipe's number of segments is not part of the network

    def __init__(
        self,
        depth: str = "50",
        *,
        num_classes: int = 400,
        num_segments: int = 8,
        dropout: float = 0.4,
        dropout_per_frame: bool = False,
        fc_std: float | None = 0.01,
        **body: Any,
    ):
        backbone = ResNet(depth, **body)
        super().__init__(
            backbone,
            num_classes=num_classes,
            dropout=dropout,
            dropout_per_frame=dropout_per_frame,
            fc_std=fc_std,
            num_frames=num_segments,
        )
        initialize_backbone(backbone, zero_init_residual=False)
        initialize_linear(self.fc, fc_std)


@register_model
def tsn_tiny(**model_args) -> TSN:
    """TSN on an eight-block net of 32 to 256 channels, for small frames and CPUs."""
    return TSN("tiny", **model_args)


@register_model
def tsn_r18(**model_args) -> TSN:
    """TSN on ResNet-18."""
    return TSN("18", **model_args)


@register_model
def tsn_r50(**model_args) -> TSN:
    """TSN on ResNet-50."""
    return TSN("50", **model_args)


@register_model
def tsn_r101(**model_args) -> TSN:
    """TSN on ResNet-101."""
    return TSN("101", **model_args)


@register_model
def tsn_r50_paddle(**model_args) -> TSN:
    """TSN on ResNet-50 as in PaddleCV/video: no dropout, uniform initialization of the classifier, 3 segments."""
    return TSN("50", **{"dropout": 0.0, "fc_std": None, "num_segments": 3, **model_args})
