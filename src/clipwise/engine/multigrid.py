"""Training on clips whose shape changes (``multigrid.shapes``, Wu et al. 2020), or on several clips of each decoded video (``augment.repeat``)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipwise.data.loader import make_loader
from clipwise.data.shaped_clips import ShapedDataset, ShapedSampler, ShapeSchedule, collate_views
from clipwise.engine.log import RunLog
from clipwise.engine.network import Schedule
from clipwise.errors import ClipwiseError, RecipeError
from clipwise.io.text import plural
from clipwise.models import contract
from clipwise.recipe.clip_shapes import ShapeStage, batches_per_epoch, shape_stages


def set_up(task: Any) -> None:
    """Replace a recognition task's order, samples, loader and learning rate by those of changing clips, and split its batch norms."""
    recipe, base = task.recipe, task.sampler
    stages = shape_stages(recipe)
    batches = batches_per_epoch(recipe, base.num_samples, base.world)
    schedule = ShapeSchedule(stages, batches // recipe.accumulate * recipe.epochs)
    check_model(task.model, stages)
    task.sampler = ShapedSampler(
        base, schedule, batches=batches, accumulate=recipe.accumulate, repeat=recipe.augment.repeat
    )
    task.dataset = ShapedDataset(task.dataset, stages, recipe.augment.repeat)
    task.loader = make_loader(
        task.dataset,
        batch_sampler=task.sampler,
        num_workers=recipe.num_workers,
        pin_memory=task.device.type != "cpu" and not task.spec.decode_device,
        collate_fn=collate_views,
    )
    if recipe.multigrid.shapes is None:
        return
    task.make_schedule = partial(ShapedSchedule, shapes=schedule, log=task.log)
    if recipe.multigrid.grow_batch and recipe.multigrid.split_norms and not recipe.sync_bn:
        split_norms(task.model, recipe.batch_size)


def check_model(model: nn.Module, stages: list[ShapeStage]) -> None:
    """Refuse a model that can't take one of the shapes, by trying each with one clip.

    Raises:
        RecipeError: it can't.
    """
    channels = contract.input_spec(model).shape[0]
    if getattr(model, "num_segments", None):  # the check of the number; weights fit any
        model.num_segments = None  # type: ignore[assignment]
    training = model.training
    model.eval()
    for frames, (width, height) in sorted({(s.frames, s.size) for stage in stages for s in stage.shapes}):
        try:
            with torch.no_grad():
                model(torch.zeros(1, channels, frames, height, width))
        except (RuntimeError, ValueError, ClipwiseError) as error:
            raise RecipeError(
                f"{type(model).__name__} can't take clips of {plural(frames, 'frame')} at {width}x{height} px, as multigrid.shapes has them "
                f"({str(error).splitlines()[0]}). Leave multigrid.shapes out, or choose multigrid.frames and multigrid.sizes that it can."
            ) from None
    model.train(training)


class ShapedSchedule(Schedule):
    """Times the factor of the stage's batch; logs when a stage begins."""

    def __init__(self, recipe: Any, steps_per_epoch: int, *, shapes: ShapeSchedule, log: RunLog):
        super().__init__(recipe, steps_per_epoch)
        self.shapes, self.log, self.told = shapes, log, -1

    def factor(self, step: int) -> float:
        return super().factor(step) * self.shapes.stages[self.shapes.stage_at(step)].lr

    def set(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        if (stage := self.shapes.stage_at(step)) != self.told:
            self.told = stage
            self.log.say(f"from step {step + 1} of {self.shapes.steps}: {self.shapes.stages[stage]}")
        return super().set(optimizer, step)


class SplitBatchNorm(nn.modules.batchnorm._BatchNorm):
    """A batch norm that takes a batch in ``parts``, each with its own mean and variance; the running ones are of all parts.

    So a larger batch is normalized as noisily as the recipe's own (Wu et al. 2020, section 3.3).
    """

    parts: int

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.parts == 1:
            return super().forward(x)
        means, variances, out = [], [], []
        for part in x.chunk(self.parts):
            # momentum 1: what this part alone would leave
            mean, variance = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)  # type: ignore[arg-type]
            out.append(F.batch_norm(part, mean, variance, self.weight, self.bias, True, 1.0, self.eps))
            means.append(mean)
            variances.append(variance)
        momentum = 0.1 if self.momentum is None else self.momentum
        with torch.no_grad():
            self.running_mean.lerp_(torch.stack(means).mean(0), momentum)  # type: ignore[union-attr]
            self.running_var.lerp_(torch.stack(variances).mean(0), momentum)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return torch.cat(out)


class SplitBatchNorm1d(SplitBatchNorm, nn.BatchNorm1d): ...


class SplitBatchNorm2d(SplitBatchNorm, nn.BatchNorm2d): ...


class SplitBatchNorm3d(SplitBatchNorm, nn.BatchNorm3d): ...


_SPLIT: dict[type[nn.Module], type[SplitBatchNorm]] = {
    nn.BatchNorm1d: SplitBatchNorm1d,
    nn.BatchNorm2d: SplitBatchNorm2d,
    nn.BatchNorm3d: SplitBatchNorm3d,
}


def split_norms(model: nn.Module, clips: int) -> None:
    """Let the model's batch norms take their statistics over so many clips, however many a batch has."""
    for module in model.modules():
        if (split := _SPLIT.get(type(module))) and module.track_running_stats:
            module.__class__ = split
            module.parts = 1  # type: ignore[assignment]
    model.register_forward_pre_hook(partial(_count_parts, clips))


def _count_parts(clips: int, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    parts = max(1, round(len(inputs[0]) / clips))
    for module in model.modules():
        if isinstance(module, SplitBatchNorm):
            module.parts = parts
