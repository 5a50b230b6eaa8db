"""What a task answers: recognition (what happens in a clip) and localization (when it happens in a long video).

A task is chosen by the recipe's key ``task``; nothing else asks which one it is. Its class answers what follows from a recipe
alone, an instance what needs the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clipwise.engine.checkpoint import Passport

# by the recipe's key; `at_place` imports one
TASKS = {
    "recognition": "clipwise.engine.recognition:RecognitionTask",
    "localization": "clipwise.engine.localization:LocalizationTask",
}


@dataclass(frozen=True)
class InputPlan:
    """What a recipe feeds its network.

    Attributes:
        view: shape of one input at test, without the batch: (C, T, H, W) or (F, L).
        train: the same in training.
        views: inputs a video at test.
        num_classes: outputs without data to count them, or None.
    """

    view: tuple[int, ...]
    train: tuple[int, ...]
    views: int = 1
    num_classes: int | None = None


class Task:
    """A model with its data and its loss.

    Attributes:
        model: the network, on the CPU until the loop places it.
        sampler, loader: order (``EpochSampler``) and batches of the training list.
        val_videos: what is validated on, or None.
        main_metric: the figure by which the best checkpoint is chosen; larger is better.
        failed: training samples that could not be read, with the reason.
    """

    recipe: Any
    model: Any
    sampler: Any
    loader: Any
    val_videos: Any = None
    main_metric = "top1_acc"
    failed: dict[str, str]

    def __init__(
        self,
        recipe: Any,
        accelerator: Any,
        log: Any,
        *,
        data: str | None = None,
        val_data: str | None = None,
        validate: bool = True,
    ):
        raise NotImplementedError

    # -- of a recipe alone

    @classmethod
    def plan(cls, recipe: Any, num_classes: int | None = None) -> InputPlan:
        """What the network gets; ``num_classes`` as in a checkpoint, else the recipe's or the published run's."""
        raise NotImplementedError

    # -- training

    def loss(
        self, model: nn.Module, batch: dict[str, Any], key: tuple[int, ...]
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Loss and figures of a batch; its random numbers come from ``key``."""
        raise NotImplementedError

    def validate(self, model: nn.Module, progress=lambda: None) -> tuple[dict[str, float], Any]:
        """Figures on the validation data, counted once over all processes, and the result behind them."""
        raise NotImplementedError

    def passport(self) -> Passport:
        """The checkpoint's description, without position and metrics."""
        raise NotImplementedError

    def batch_names(self, batch: dict[str, Any]) -> list[str]:
        """File names of a batch, for error messages."""
        raise NotImplementedError

    def keep_lists(self, folder: Path) -> None:
        """Write the lists that this run made itself into its folder."""

    def audit(self, short_check: bool) -> None:
        """Look at the data before the first step; raise what makes a run senseless, say the rest."""

    def auxiliary(self, position: int) -> Iterable[tuple[Any, dict[str, Any]]]:
        """Batches of other sources that follow the main list's batch ``position``."""
        return ()

    def before_validation(self, model: nn.Module) -> None:
        """A last touch before validation."""
