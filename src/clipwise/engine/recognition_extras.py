"""What few recognition runs have: augmentation of whole batches, further sources, soft labels, a teacher, a loss of their own."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator

from clipwise.errors import RecipeError
from clipwise.io.code_promises import promised
from clipwise.tasks.logits import LOSSES


def add_extras(task: Any, accelerator: Accelerator, augmented: bool) -> None:
    """Give a ``RecognitionTask`` what its recipe's keys ask for.

    Raises:
        RecipeError, DataError, CheckpointError: what a key names cannot be used.
    """
    recipe, num_classes = task.recipe, task.num_classes
    if augmented:
        from clipwise.data.augment import BatchAugment

        more = recipe.augment
        task.augment = BatchAugment(
            color_jitter=more.color_jitter,
            rand_augment=more.randaugment,
            random_erasing=more.random_erasing,
            mixup=more.mixup,
            cutmix=more.cutmix,
            num_classes=num_classes,
            also=more.also,
        )
    if recipe.sources:
        from clipwise.engine.sources import SourceStream

        task.sources = [
            SourceStream(source, n, recipe, accelerator, task.spec, task.train_videos.classes, num_classes)
            for n, source in enumerate(recipe.sources)
        ]
    if recipe.lists.soft_labels:
        from clipwise.engine.soft_labels import read_soft_labels

        task.soft = read_soft_labels(recipe.lists.soft_labels, task.train_videos, num_classes)
    if recipe.distill.from_:
        from clipwise.engine.distillation import Teacher

        task.teacher = Teacher(recipe.distill, task.passport(), task.device)
    if recipe.loss:
        learnable = "a tensor of one number that depends on the logits"
        task.own_loss = promised(LOSSES.find(recipe.loss), "loss", "logits, targets", learnable, _is_learnable)
        if recipe.augment.label_smoothing:
            raise RecipeError(f"augment.label_smoothing has no effect with loss: {recipe.loss}; leave one of them out.")


def _is_learnable(loss: Any, logits: torch.Tensor, _: Any) -> bool:
    learns = logits.requires_grad and torch.is_grad_enabled()
    return isinstance(loss, torch.Tensor) and loss.ndim == 0 and (loss.requires_grad or not learns)
