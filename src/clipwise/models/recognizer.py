"""What the four recognition models share: pooled features, dropout, one linear layer.

All of them average the last feature map over space and time before the classifier; since the classifier is linear, this is
also the average of per-frame scores (the "average consensus" of TSN and TSM). They differ in where dropout acts.
"""

import torch
from torch import Tensor, nn

from clipwise.errors import DataError
from clipwise.models.contract import InputSpec, SpatialMap, Stage
from clipwise.models.resnet import Block, ResNet


class Recognizer(nn.Module):
    """Clips to class scores.

    Attributes:
        backbone: the ResNet body.
        fc: the classifier; also ``classifier``.
        views_before_softmax: True if the scores of a video's views are averaged before the softmax (TSN), False if the
            probabilities are (TSM, SlowOnly, TPN). The order behind each family's published numbers.
        num_segments: number of frames that the network must get, or None if any number will do.
        clip_shape: (C, T, H, W) of the input that the published model works on.

    A model whose training has an auxiliary loss has an attribute ``aux_weight`` as well; in train mode its forward returns
    ``(logits, aux_logits)`` and the loss is ``loss(logits) + aux_weight * loss(aux_logits)``. Only TPN has one.
    """

    views_before_softmax = False
    num_segments: int | None = None

    def __init__(
        self,
        backbone: ResNet,
        *,
        num_classes: int,
        dropout: float,
        dropout_per_frame: bool = False,
        fc_std: float | None = 0.01,
        num_features: int | None = None,
        num_frames: int = 8,
    ):
        super().__init__()
        self.backbone = backbone
        self.num_features = num_features or backbone.stage_channels[-1]
        self.fc_std = fc_std
        self.dropout = nn.Dropout(dropout)
        self.dropout_per_frame = dropout_per_frame
        self.fc = nn.Linear(self.num_features, num_classes)
        side = (64, 80) if backbone.depth == "tiny" else (224, 224)
        self.clip_shape = (backbone.in_channels, num_frames, *side)

    @property
    def classifier(self) -> nn.Linear:
        """The last linear layer; TSM's optimizer gives it a higher learning rate."""
        return self.fc

    @property
    def first_conv(self) -> nn.Conv2d:
        """The first convolution; TSM's optimizer keeps it in a group of its own."""
        return self.backbone.conv1

    @property
    def num_classes(self) -> int:
        return self.fc.out_features

    def input_spec(self) -> InputSpec:
        """Clips; TSM takes one number of frames, the others any."""
        return InputSpec("clips", self.clip_shape, fixed_frames=self.num_segments is not None)

    def stages(self) -> list[Stage]:
        """Stem, the body's four stages, and the head with all that lies behind the body."""
        body = self.backbone
        layers = [Stage(f"layer{i}", (layer,)) for i, layer in enumerate(body.stages(), 1)]
        head = tuple(child for child in self.children() if child is not body)
        return [Stage("stem", (body.conv1, body.bn1)), *layers, Stage("head", head)]

    def blocks(self) -> list[nn.Module]:
        """The residual blocks."""
        return [block for layer in self.backbone.stages() for block in layer]

    def spatial_map(self) -> SpatialMap:
        """The map of the body's last stage, whatever neck or head follows."""
        return SpatialMap(
            self.backbone,
            take=lambda output: output[0][-1],
            put=lambda output, leaf: ([*output[0][:-1], leaf], output[1]),
            grid=lambda x, output: x.unflatten(0, (-1, output[1])),
        )

    def imagenet_body(self) -> tuple[ResNet, str]:
        """The body and its depth."""
        return self.backbone, self.backbone.depth

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a freshly initialized one (fine-tuning on other classes)."""
        self.fc = self._new_linear(self.fc, num_classes)

    def feature_maps(self, clips: Tensor) -> tuple[Tensor, int]:
        """(B, C, T, H, W) -> the map before pooling, (B·T', D, H', W'), and T'."""
        self._check_clips(clips)
        maps, num_frames = self.backbone(clips)
        return maps[-1], num_frames

    def forward_features(self, clips: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, D): what the classifier sees, without dropout."""
        maps, num_frames = self.feature_maps(clips)
        return pool_frames(maps, num_frames).mean(1)

    def forward(self, clips: Tensor) -> Tensor:
        """Scores before the softmax.

        Args:
            clips: float, normalized, (B, C, T, H, W).

        Returns:
            (B, num_classes).

        Raises:
            DataError: the clips' shape does not fit the model.
        """
        return self.classify(*self.feature_maps(clips))

    def classify(self, maps: Tensor, num_frames: int) -> Tensor:
        """(B·T', D, H', W') -> (B, num_classes)."""
        frames = pool_frames(maps, num_frames)  # (B, T', D)
        if self.dropout_per_frame:
            # each frame has its own noise; averaging before the linear layer equals averaging after it
            return self.fc(self.dropout(frames).mean(1))
        return self.fc(self.dropout(frames.mean(1)))

    def _new_linear(self, old: nn.Linear, num_classes: int) -> nn.Linear:
        new = nn.Linear(old.in_features, num_classes, device=old.weight.device, dtype=old.weight.dtype)
        initialize_linear(new, self.fc_std)
        return new

    def _check_clips(self, clips: Tensor) -> None:
        channels = self.backbone.in_channels
        if clips.dim() != 5:
            raise DataError(
                f"clips have shape {tuple(clips.shape)}; the model takes (batch, channels, frames, height, width)"
            )
        if clips.shape[1] != channels:
            raise DataError(f"in_channels={channels} is what this model was made with; clips have C = {clips.shape[1]}")
        if self.num_segments is not None and clips.shape[2] != self.num_segments:
            raise DataError(
                f"the number of frames of a clip is {clips.shape[2]}; this model was made with num_segments={self.num_segments}. "
                "Sample that many frames (num_segments of the recipe), and put views into the batch"
            )


def pool_frames(maps: Tensor, num_frames: int) -> Tensor:
    """(B·T, D, H, W) -> (B, T, D): mean over space."""
    return torch.mean(maps, dim=(2, 3)).unflatten(0, (-1, num_frames))


def initialize_linear(linear: nn.Linear, std: float | None) -> None:
    """N(0, ``std``) and zero bias; None gives Paddle's U(-1/sqrt(D), 1/sqrt(D)) and zero bias."""
    if std is None:
        bound = linear.in_features**-0.5
        nn.init.uniform_(linear.weight, -bound, bound)
    else:
        nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)


@torch.no_grad()
def initialize_backbone(backbone: ResNet, *, zero_init_residual: bool) -> None:
    """Weights of a body that is trained from scratch.

    | what | value |
    |---|---|
    | convolutions | Kaiming normal, fan out, gain of ReLU |
    | norms | weight 1, bias 0 |
    | norm that closes a residual branch | weight 0 if ``zero_init_residual`` (SlowOnly; MMAction2's 2-D nets do not) |
    | non-local blocks | see ``NonLocal.initialize`` |
    """
    for module in backbone.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for block in backbone.modules():
        if isinstance(block, Block):
            if block.non_local is not None:
                block.non_local.initialize()  # type: ignore[operator]
            if zero_init_residual:
                nn.init.zeros_(block.closing_norm.weight)
