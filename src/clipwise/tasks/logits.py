"""From clips to logits, and what logits become: a loss, probabilities, one row for a video from its views, figures of a batch.

``score_clip`` is the one path from pixels to logits: validation, ``test``, ``predict`` and all that look at windows call it. At
test it goes video by video, so the same file gets the same scores from each of them, bit for bit on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from clipwise.data.transforms import normalize_clips
from clipwise.errors import CheckpointError
from clipwise.io.plugins import Registry

Activation = Literal["softmax", "sigmoid"]
LOSSES = Registry("loss", "clipwise.losses")
register_loss = LOSSES.register
"""Decorator: a function ``(logits, targets) -> scalar`` is the loss of recipes that name it (``loss``).

Logits are float32 (B, num_classes); targets (B,) class numbers, or (B, num_classes) where samples are mixed or have several labels.
"""

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_VIEW_BUDGET = 2**27  # pixels of input that go through the network at once unless the user says otherwise


@torch.inference_mode()
def score_clip(
    model: nn.Module, frames: torch.Tensor, spec: Any, *, max_views: int | None = None, amp: str = "no"
) -> torch.Tensor:
    """Logits of all views, in bounded memory.

    Args:
        model: takes normalized clips; or uint8 frames, if its ``takes_frames`` says so (exported models).
        frames: uint8 (B, V, T, H, W, C) on the model's device.
        spec: the ``ClipSpec``, whose mean and std they are normalized by.
        max_views: views that go through the network at once; None chooses by their size.
        amp: "no", "bf16" or "fp16".

    Returns:
        float32 (B, V, num_classes).
    """
    batch, views = frames.shape[:2]
    flat = frames.flatten(0, 1)
    chunk = max_views or max(1, getattr(model, "view_budget", _VIEW_BUDGET) // flat[0].numel())
    takes_frames = getattr(model, "takes_frames", False)
    logits = []
    for part in flat.split(chunk):
        clips = part if takes_frames else normalize_clips(part, spec.mean, spec.std)
        with torch.autocast(frames.device.type, dtype=AMP_TYPES.get(amp), enabled=amp != "no"):
            outputs = model(clips)
        if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
            from clipwise.io.code_promises import refuse_outputs

            refuse_outputs(model, outputs)
        logits.append(outputs.float())
    return torch.cat(logits).view(batch, views, -1)


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


def check_finite(scores: Any, model: str) -> None:
    """Refuse scores that say nothing.

    Raises:
        CheckpointError: some are NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise CheckpointError(
            f"{model}: its scores are not finite. Its weights hold NaN or infinity, or its recipe's input.mean and input.std make the input so; "
            "with --amp fp16 values may also overflow (bf16 has their range). Use another checkpoint of the run."
        )
