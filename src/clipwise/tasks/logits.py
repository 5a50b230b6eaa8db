"""What a recognizer's logits become: losses, probabilities, one row for a video from its views, figures of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from clipwise.io.plugins import Registry

Activation = Literal["softmax", "sigmoid"]
LOSSES = Registry("loss", "clipwise.losses")
register_loss = LOSSES.register
"""Decorator: a function ``(logits, targets) -> scalar`` is the loss of recipes that name it (``loss``).

Logits are float32 (B, num_classes); targets (B,) class numbers, or (B, num_classes) where samples are mixed or have several labels.
"""


def recognition_loss(
    logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0, multi_label: bool = False
) -> torch.Tensor:
    """Cross-entropy of class indices or soft labels; binary cross-entropy of multi-hot labels.

    Args:
        logits: (B, num_classes).
        labels: (B,) indices, or (B, num_classes) shares that sum to one (Mixup, CutMix), or multi-hot.

    Source: MMAction2 CrossEntropyLoss, and BCELossWithLogits for several labels.
    """
    logits = logits.float()
    if multi_label:
        return F.binary_cross_entropy_with_logits(logits, labels.float())
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)


def distillation_loss(logits: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Kullback-Leibler divergence from the teacher's softened classes to the student's (Hinton et al. 2015)."""
    student = F.log_softmax(logits.float() / temperature, dim=1)
    target = F.log_softmax(teacher.float() / temperature, dim=1)
    return F.kl_div(student, target, reduction="batchmean", log_target=True) * temperature**2


def batch_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """top1_acc and top5_acc of a batch, as device tensors. Soft labels count by their largest share."""
    if labels.ndim == 2:
        labels = labels.argmax(1)
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    return {"top1_acc": ranked[:, 0].float().mean(), "top5_acc": ranked.any(1).float().mean()}


def activation_of(recipe: Mapping[str, Any]) -> Activation:
    """What turns a checkpoint's logits into probabilities, from its recipe: ``sigmoid`` where a video may have several labels."""
    return "sigmoid" if recipe.get("multi_label") else "softmax"


def activate(logits: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Logits (…, num_classes) -> probabilities of the same shape."""
    return logits.sigmoid() if activation == "sigmoid" else logits.softmax(-1)


def average_views(
    logits: torch.Tensor, mode: str, activation: Activation, views_before_softmax: bool = False
) -> torch.Tensor:
    """One score row for a video from the logits of its views.

    Args:
        logits: (B, V, num_classes).
        mode: ``prob``: mean of the views' probabilities; ``score``: mean of the logits; ``none``: the logits as they are.
        activation: of the checkpoint, see :func:`activation_of`.
        views_before_softmax: average the logits first (TSN: MMAction2's head averages the features of all
            segments and crops before its linear layer, which is the same).

    Returns:
        (B, num_classes), or (B, V, num_classes) for ``none`` ((B, 1, num_classes) with views_before_softmax).

    Source: MMAction2 BaseRecognizer.average_clip.
    """
    logits = logits.float()
    if views_before_softmax:
        logits = logits.mean(1, keepdim=True)
    if mode == "prob":
        return activate(logits, activation).mean(1)
    if mode == "score":
        return logits.mean(1)
    return logits


def to_probabilities(scores: NDArray[np.floating], mode: str, activation: Activation) -> NDArray[np.floating]:
    """Scores (…, num_classes) of :func:`average_views` as probabilities: with mode ``score`` they are logits still."""
    if mode != "score":
        return scores
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-scores))
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
