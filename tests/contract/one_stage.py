"""A one-stage localizer of a stranger, in one file: each position says what happens there and how far its ends are.

Sequences keep their own length; the network is told by a mask where they end.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from clipwise.models import register_model
from clipwise.models.contract import InputSpec
from clipwise.models.localizer_rules import FoundSegments, LocalizerRules
from clipwise.tasks.average_recall import temporal_iou


class PointRules(LocalizerRules):
    output_names = ("classes", "distances")
    masked = True
    labeled = True

    def padded_length(self, positions):
        return -(-positions // 8) * 8

    def sample(self, features, video, rng):
        return features + 0.01 * torch.from_numpy(rng.normal(size=features.shape).astype(np.float32)), video

    def loss(self, model, outputs, videos, generator):
        classes, distances = outputs
        wanted, inside, spans = (
            torch.zeros_like(classes),
            torch.zeros_like(classes[:, 0], dtype=torch.bool),
            torch.zeros_like(distances),
        )
        valid = torch.zeros_like(inside)
        for row, video in enumerate(videos):
            valid[row, : video.positions] = True
            middle = torch.arange(video.positions) + 0.5
            for (start, end), label in zip(video.segments * video.positions, video.labels):
                hit = torch.nonzero((middle > start) & (middle < end)).flatten()
                wanted[row, int(label), hit] = 1
                inside[row, hit] = True
                spans[row, :, hit] = torch.stack([middle[hit] - start, end - middle[hit]]).to(spans)
        cls = F.binary_cross_entropy_with_logits(classes, wanted, reduction="none").sum(1)[valid].mean()
        reg = (distances - spans).abs().sum(1)[inside].sum() / max(int(inside.sum()), 1)
        return {"loss": cls + 0.1 * reg, "cls": cls, "reg": reg}

    def decode(self, outputs, videos):
        found = []
        for classes, distances, video in zip(*(x.float().cpu().numpy() for x in outputs), videos):
            classes, (left, right) = classes[:, : video.positions], distances[:, : video.positions]
            scores = 1 / (1 + np.exp(-classes))
            middle, scale = np.arange(video.positions) + 0.5, video.covered_s / video.positions
            spans = np.stack([np.maximum(middle - left, 0), np.minimum(middle + right, video.positions)], 1) * scale
            order = np.argsort(-scores, axis=None)[:200]
            kept = []
            for label, place in zip(*np.unravel_index(order, scores.shape)):
                near = (temporal_iou(spans[place], spans[p]) > 0.5 for c, p in kept if c == label)
                if spans[place, 1] > spans[place, 0] and not any(near):
                    kept.append((label, place))
            labels, places = (np.array(x, int) for x in zip(*kept))
            found.append(FoundSegments(spans[places], scores[labels, places], labels))
        return found


class PointNet(nn.Module):
    task = "localization"

    def __init__(self, feat_dim: int, num_classes: int, width: int = 32):
        super().__init__()
        self.feat_dim = feat_dim
        self.stem = nn.Conv1d(feat_dim, width, 3, padding=1)
        self.layers = nn.ModuleList(nn.Sequential(nn.Conv1d(width, width, 3, padding=1), nn.ReLU()) for _ in range(2))
        self.classes = nn.Conv1d(width, num_classes, 3, padding=1)
        self.distances = nn.Conv1d(width, 2, 3, padding=1)

    def input_spec(self):
        return InputSpec("features", (self.feat_dim + 1, 40))

    def forward(self, x):
        x, mask = x[:, :-1], x[:, -1:]
        x = F.relu(self.stem(x)) * mask
        for layer in self.layers:
            x = x + layer(x) * mask
        return self.classes(x), F.softplus(self.distances(x))


@register_model(rules=PointRules)
def point_net(feat_dim: int, num_classes: int, width: int = 32) -> PointNet:
    return PointNet(feat_dim, num_classes, width)
