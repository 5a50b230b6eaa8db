"""A teacher: the run learns from another recognizer's softened answers, too (``distill``; Hinton et al. 2015)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from clipwise.engine.checkpoint import Passport, load_model_and_passport
from clipwise.engine.device import autocast
from clipwise.errors import CheckpointError
from clipwise.recipe import flatten


def distillation_loss(logits: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Kullback-Leibler divergence from the teacher's softened classes to the student's (Hinton et al. 2015)."""
    student = F.log_softmax(logits.float() / temperature, dim=1)
    target = F.log_softmax(teacher.float() / temperature, dim=1)
    return F.kl_div(student, target, reduction="batchmean", log_target=True) * temperature**2


class Teacher:
    """A trained recognizer, frozen and in evaluation mode. It gets the student's clips, so it must fit them.

    Args:
        keys: the recipe's ``distill``.
        student: the passport of the run's own checkpoints.
        device: where both compute.

    Raises:
        CheckpointError: it was trained for other classes, or sees clips otherwise.
    """

    def __init__(self, keys: Any, student: Passport, device: torch.device):
        path, self.weight, self.temperature = keys.from_, keys.weight, keys.temperature
        model, passport = load_model_and_passport(path, device)
        if passport.model_args.get("num_classes") != student.recipe["num_classes"] or (
            passport.classes and student.classes and passport.classes != student.classes
        ):
            raise CheckpointError(f"distill.from: {path} knows other classes than the training data.")
        mine, theirs = flatten(student.recipe), flatten(passport.recipe)
        for key in ("modality", "input.mean", "input.std"):
            if theirs.get(key, mine[key]) != mine[key]:
                raise CheckpointError(
                    f"distill.from: {path} was trained with {key} {theirs[key]}, this run has {mine[key]}; "
                    "teacher and student see the same clips."
                )
        self.model = model.requires_grad_(False)

    def join(
        self, loss: torch.Tensor, logits: torch.Tensor, clips: torch.Tensor, amp: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss with the teacher's share in it, and the teacher's term.

        Args:
            loss: of the labels.
            logits: the student's, (B, num_classes).
            clips: what it saw.
        """
        with torch.no_grad(), autocast(clips.device, amp):
            taught = self.model(clips)
        term = distillation_loss(logits, taught, self.temperature)
        return (1 - self.weight) * loss + self.weight * term, term
