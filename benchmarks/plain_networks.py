"""Each paper's network as most code writes it: convolutions on (B, C, T, H, W) or (B, C, H, W), channels first, no folding.

The stand-in for MMAction2 on machines where it can't be installed. Written from the papers: TSN (Wang et al. 2016), TSM (Lin et
al. 2019), SlowOnly (Feichtenhofer et al. 2019), TPN (Yang et al. 2020); TSN and TSM on 2-D convolutions, the others on 3-D ones.
``tests/unit/test_gpu_benchmark.py`` compares parameters and FLOPs with ours.

Letters: B batch, C channels, T frames, H W space.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTH = (3, 4, 6, 3)
INFLATED = {"slowonly": (0, 0, 1, 1), "tpn_slowonly": (0, 0, 1, 1)}
FLAT = ("tsn", "tsm", "tpn_tsm")
"""Whose body works on single frames."""


class ConvNorm(nn.Module):
    """Convolution without bias, norm, ReLU if asked for; 2-D or 3-D."""

    def __init__(self, dims: int, inputs: int, outputs: int, space: int, stride: int = 1, time: int = 1, groups: int = 1, act: bool = True):  # fmt: skip
        super().__init__()
        if dims == 2:
            self.conv: nn.Module = nn.Conv2d(inputs, outputs, space, stride, space // 2, groups=groups, bias=False)
            self.norm: nn.Module = nn.BatchNorm2d(outputs)
        else:
            kernel, pad = (time, space, space), (time // 2, space // 2, space // 2)
            self.conv = nn.Conv3d(inputs, outputs, kernel, (1, stride, stride), pad, groups=groups, bias=False)
            self.norm = nn.BatchNorm3d(outputs)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.relu(x, inplace=True) if self.act else x


class Bottleneck(nn.Module):
    """1×1 (or 3×1×1), 3×3, 1×1 with a shortcut; ``segments`` shifts an eighth of the channels each way before the first."""

    def __init__(self, dims: int, inputs: int, width: int, stride: int, time: int, segments: int = 0):
        super().__init__()
        self.segments = segments
        self.conv1 = ConvNorm(dims, inputs, width, 1, time=time)
        self.conv2 = ConvNorm(dims, width, width, 3, stride)
        self.conv3 = ConvNorm(dims, width, 4 * width, 1, act=False)
        changes = stride != 1 or inputs != 4 * width
        self.shortcut = ConvNorm(dims, inputs, 4 * width, 1, stride, act=False) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = shift(x, self.segments) if self.segments else x
        return F.relu(self.conv3(self.conv2(self.conv1(y))) + self.shortcut(x), inplace=True)


def shift(x: Tensor, segments: int) -> Tensor:
    """Temporal shift as the paper's code does it: (B·T, C, H, W)."""
    clips = x.view(-1, segments, *x.shape[1:])
    fold = x.shape[1] // 8
    out = torch.zeros_like(clips)
    out[:, :-1, :fold] = clips[:, 1:, :fold]
    out[:, 1:, fold : 2 * fold] = clips[:, :-1, fold : 2 * fold]
    out[:, :, 2 * fold :] = clips[:, :, 2 * fold :]
    return out.view_as(x)


class TemporalStep(nn.Module):
    """TPN: three-frame convolution and a maximum over ``scale`` frames."""

    def __init__(self, inputs: int, outputs: int, scale: int, groups: int):
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, (3, 1, 1), padding=(1, 0, 0), bias=False, groups=groups)
        self.pool = nn.MaxPool3d((scale, 1, 1), (scale, 1, 1), (0, 0, 0), ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(x))


class Fusion(nn.Module):
    """TPN: grouped 1×1×1 convolution a level, concatenation, 1×1×1 convolution."""

    def __init__(self, channels: int, outputs: int):
        super().__init__()
        self.levels = nn.ModuleList(ConvNorm(3, channels, channels, 1, groups=32) for _ in range(2))
        self.last = ConvNorm(3, 2 * channels, outputs, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.last(torch.cat([level(x) for level, x in zip(self.levels, maps)], 1))


class Neck(nn.Module):
    """TPN's pyramid over stages 3 and 4, both pooled to one frame in eight (scales 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.space = ConvNorm(3, 1024, 2048, 3, 2)
        self.time = nn.ModuleList(TemporalStep(2048, 1024, 8, 32) for _ in range(2))
        self.down = TemporalStep(1024, 1024, 1, 1)
        self.top_down, self.bottom_up = Fusion(1024, 2048), Fusion(1024, 2048)
        self.last = ConvNorm(3, 4096, 2048, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        low, high = self.time[0](self.space(low)), self.time[1](high)
        low = low + high
        first = self.top_down([low, high])
        second = self.bottom_up([low, high + self.down(low)])
        return self.last(torch.cat([first, second], 1))


class PlainNetwork(nn.Module):
    """ResNet-50 for one of ``tsn``, ``tsm``, ``slowonly``, ``tpn_slowonly``, ``tpn_tsm``: (B, 3, T, H, W) -> (B, num_classes).

    TPN gives (logits, aux_logits).
    """

    def __init__(self, kind: str, num_classes: int, num_frames: int):
        super().__init__()
        self.kind, self.num_frames = kind, num_frames
        self.dims = dims = 2 if kind in FLAT else 3
        inflated = INFLATED.get(kind, (0, 0, 0, 0))
        self.stem = ConvNorm(dims, 3, 64, 7, 2)
        stages, inputs = [], 64
        for stage, (count, width) in enumerate(zip(DEPTH, (64, 128, 256, 512))):
            blocks = []
            for n in range(count):
                stride, time = 2 if stage and not n else 1, 3 if inflated[stage] else 1
                segments = num_frames if kind in ("tsm", "tpn_tsm") else 0
                blocks.append(Bottleneck(dims, inputs, width, stride, time, segments))
                inputs = 4 * width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.dropout, self.fc = nn.Dropout(0.5), nn.Linear(2048, num_classes)
        if kind.startswith("tpn"):
            self.neck, self.aux = Neck(), ConvNorm(3, 1024, 2048, 3, 2)
            self.aux_fc = nn.Linear(2048, num_classes)

    def forward(self, clips: Tensor):
        x = clips.transpose(1, 2).flatten(0, 1).contiguous() if self.dims == 2 else clips
        x = self.stem(x)
        x = F.max_pool2d(x, 3, 2, 1) if self.dims == 2 else F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        low, high = maps[2:]
        if not self.kind.startswith("tpn"):
            return self.fc(self.dropout(self._pooled(high)))
        if self.dims == 2:
            low, high = (x.unflatten(0, (-1, self.num_frames)).transpose(1, 2).contiguous() for x in (low, high))
        logits = self.fc(self.dropout(self.neck(low, high).mean((2, 3, 4))))
        return logits, self.aux_fc(self.dropout(self.aux(low).mean((2, 3, 4))))

    def _pooled(self, x: Tensor) -> Tensor:
        x = x.mean((-2, -1))
        return x.unflatten(0, (-1, self.num_frames)).mean(1) if self.dims == 2 else x.mean(2)


def training_step(network: nn.Module, optimizer: torch.optim.Optimizer, clips: Tensor, labels: Tensor, amp: bool) -> None:  # fmt: skip
    """Cross entropy (of both heads), gradients clipped at 40, one step of the optimizer."""
    with torch.autocast(clips.device.type, torch.bfloat16, enabled=amp):
        outputs = network(clips)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    loss = sum(weight * F.cross_entropy(out.float(), labels) for weight, out in zip((1.0, 0.5), outputs))
    loss.backward()  # type: ignore[union-attr]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 40)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
