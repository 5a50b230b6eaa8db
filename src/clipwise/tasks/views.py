"""From logits to scores: what a recognizer's last layer means, and how the views of a video become one row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

Activation = Literal["softmax", "sigmoid"]


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
