"""TSM: Temporal Shift Module (Lin et al., ICCV 2019).

* a 2-D ResNet in which each block first moves an eighth of its channels one frame back and an eighth one frame ahead:
  temporal mixing without a single extra multiplication
* the shift stands inside the residual branch ("blockres"), so the shortcut keeps the unshifted frame
* trained and tested on a fixed number of segments; per-frame dropout, scores averaged over the segments

Letters: B batch, T segments, C channels, H W space.
"""

from clipwise.models.recognizer import Recognizer, initialize_backbone, initialize_linear
from clipwise.models.resnet import ResNet


class TSM(Recognizer):
    """Clips (B, C, T, H, W) with T = ``num_segments`` -> logits (B, num_classes). Views' probabilities are averaged.

    Args:
        depth: "18", "34", "50", "101", "152" or "tiny". From 101 on every second block shifts, as published.
        num_classes: number of classes.
        in_channels: 3 for RGB, 10 for five stacked flow pairs.
        num_segments: T; 8 or 16 in the published models.
        shift_div: 1/``shift_div`` of the channels moves each way.
        shift_place: "blockres", or "block" (the shortcut sees the shifted frames too).
        shift_downsample: the shortcut's projections see the shifted frames; needed for checkpoints of TPN's own code.
        reverse_shift: Paddle's direction.
        online_shift: shift from the past only, so that a stream can be read frame by frame (``OnlineTSM``).
        temporal_pool: halve T before the second stage.
        non_local: None, or the pairwise function of five non-local blocks ("embedded_gaussian", "gaussian", "dot_product").
        non_local_sub_sample, non_local_use_scale: see ``NonLocal``; the published models use no scale.
        dropout: on each frame's features.
        fc_std: standard deviation of the classifier's initial weights.
        partial_bn, norm_eval, frozen_stages, grad_checkpointing, drop_path: see ``ResNet``.
    """

    def __init__(
        self,
        depth: str = "50",
        *,
        num_classes: int = 400,
        in_channels: int = 3,
        num_segments: int = 8,
        shift_div: int = 8,
        shift_place: str = "blockres",
        shift_downsample: bool = False,
        reverse_shift: bool = False,
        online_shift: bool = False,
        temporal_pool: bool = False,
        non_local: str | None = None,
        non_local_sub_sample: bool = True,
        non_local_use_scale: bool = False,
        dropout: float = 0.5,
        fc_std: float = 0.001,
        partial_bn: bool = False,
        norm_eval: bool = False,
        frozen_stages: int = -1,
        grad_checkpointing: bool = False,
        drop_path: float = 0.0,
    ):
        backbone = ResNet(
            depth,
            in_channels,
            shift_div=shift_div,
            shift_place=shift_place,
            shift_downsample=shift_downsample,
            reverse_shift=reverse_shift,
            online_shift=online_shift,
            temporal_pool=temporal_pool,
            non_local=non_local,
            non_local_sub_sample=non_local_sub_sample,
            non_local_use_scale=non_local_use_scale,
            partial_bn=partial_bn,
            norm_eval=norm_eval,
            frozen_stages=frozen_stages,
            grad_checkpointing=grad_checkpointing,
            drop_path=drop_path,
        )
        super().__init__(
            backbone,
            num_classes=num_classes,
            dropout=dropout,
            dropout_per_frame=True,
            fc_std=fc_std,
            num_frames=num_segments,
        )
        self.num_segments = num_segments
        initialize_backbone(backbone, zero_init_residual=False)
        initialize_linear(self.fc, fc_std)


def tsm_tiny(**model_args) -> TSM:
    """TSM on an eight-block net of 32 to 256 channels, for small pictures and CPUs."""
    return TSM("tiny", **model_args)


def tsm_r18(**model_args) -> TSM:
    """TSM on ResNet-18."""
    return TSM("18", **model_args)


def tsm_r50(**model_args) -> TSM:
    """TSM on ResNet-50."""
    return TSM("50", **model_args)


def tsm_r101(**model_args) -> TSM:
    """TSM on ResNet-101; every second block shifts."""
    return TSM("101", **model_args)


def tsm_r50_nl(**model_args) -> TSM:
    """TSM on ResNet-50 with five non-local blocks, embedded Gaussian without scaling unless told otherwise."""
    return TSM("50", **{"non_local": "embedded_gaussian", **model_args})
