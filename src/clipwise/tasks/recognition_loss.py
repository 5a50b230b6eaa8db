"""Recognition as arithmetic: the loss, and figures of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from clipwise.io.plugins import Registry

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
