"""A small video transformer, written by somebody who knows only torch."""

import torch
from torch import nn


class OtherViT(nn.Module):
    def __init__(self, num_classes: int, num_frames: int = 8, width: int = 32, depth: int = 2, size: tuple = (64, 80)):
        super().__init__()
        self.clip_shape = (3, num_frames, *size)
        self.patch = nn.Conv3d(3, width, (2, 16, 16), (2, 16, 16))
        self.position = nn.Parameter(torch.zeros(1, num_frames // 2 * (size[0] // 16) * (size[1] // 16), width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 64, 0.0, batch_first=True) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, clips):
        x = self.patch(clips).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def other_vit(num_classes: int = 10, num_frames: int = 8, depth: int = 2) -> nn.Module:
    return OtherViT(num_classes, num_frames, depth=depth)
