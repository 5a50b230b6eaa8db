"""A recognition run's parts: lists, model with its first weights, the loss of a batch, validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.dataset import ClipDataset
from clipwise.data.lists import VideoList, find_splits, read_part, write_list
from clipwise.data.loader import EpochSampler, make_loader
from clipwise.data.transforms import normalize_clips
from clipwise.data.videolist import shared_videos
from clipwise.engine.checkpoint import Passport
from clipwise.engine.device import autocast
from clipwise.engine.evaluate import TestResult, score_list
from clipwise.engine.log import RunLog
from clipwise.engine.task import InputPlan, Task
from clipwise.errors import DataError, RecipeError
from clipwise.io.text import plural
from clipwise.models import contract
from clipwise.models.recipe_model import build_model, model_args
from clipwise.models.registry import model_place
from clipwise.prepare.audit import Look, describe, same_content, short_audit
from clipwise.recipe import RecognitionRecipe
from clipwise.tasks.logits import activation_of, batch_accuracy, recognition_loss


def check_classes(videos: VideoList, num_classes: int, source: str | Path) -> None:
    """Refuse to start with labels that the model has no output for."""
    if videos.num_classes is not None and videos.num_classes > num_classes:
        raise DataError(
            f"{source} has {plural(videos.num_classes, 'class', 'classes')}, but the model has {plural(num_classes, 'output')}. "
            f"Set num_classes={videos.num_classes}, or leave num_classes out of the recipe."
        )


def check_labels(videos: VideoList, source: str | Path) -> None:
    """Refuse a list in which a video has no label, where labels are needed."""
    bare = np.flatnonzero(videos.labels < 0) if not videos.multi_label else np.empty(0, np.int64)
    if len(bare):
        raise DataError(
            f"{len(bare)} of the {plural(len(videos), 'entry', 'entries')} of {source} have no label, the first: {videos.entry(int(bare[0]))}. "
            "Expected: `path label` a line, or one subfolder per class."
        )


def check_names(videos: VideoList, recipe: RecognitionRecipe, source: str, log: RunLog) -> None:
    """Refuse to train with another number of classes than there are names, or than labels without names that occur."""
    if not videos.classes or recipe.num_classes not in (None, len(videos.classes)):
        from clipwise.engine.class_numbers import check_numbers

        check_numbers(videos, recipe.num_classes, source, log)


class RecognitionTask(Task):
    """A recognizer with its lists.

    Args:
        data: folder or list, instead of the recipe's lists.
        val_data: validation folder or list.
        validate: whether a fifth of data without a validation part is held out for it.

    Attributes:
        augment, sources, soft, teacher, own_loss: what few runs have (``recognition_extras``).
    """

    augment: Any = None
    sources: Sequence[Any] = ()
    soft: torch.Tensor | None = None
    teacher: Any = None
    own_loss: Any = None

    @classmethod
    def plan(cls, recipe: Any, num_classes: int | None = None) -> InputPlan:
        """Clips of the recipe's sizes."""
        from clipwise.engine.recognition_plan import clip_plan

        return clip_plan(recipe, num_classes)

    def __init__(
        self,
        recipe: RecognitionRecipe,
        accelerator: Accelerator,
        log: RunLog,
        *,
        data: str | None = None,
        val_data: str | None = None,
        validate: bool = True,
    ):
        self.recipe, self.device, self.log = recipe, accelerator.device, log
        if recipe.multi_label:
            self.main_metric = "mean_average_precision"
        splits = find_splits(data) if data else None
        train_source = (splits and splits.train) or recipe.train_data
        val_source = (
            val_data or (splits and splits.val) or recipe.val_data or (recipe.lists.val_subset and train_source)
        )
        if not train_source:
            raise DataError("no training data: give --data FOLDER or LIST, or train_data in the recipe.")
        values = recipe.model_dump()
        self.val_videos: VideoList | None = None
        self.train_videos = read_part(train_source, values, "train", num_classes=recipe.num_classes)
        if not recipe.lists.soft_labels:
            check_labels(self.train_videos, str(train_source))
        check_names(self.train_videos, recipe, str(train_source), log)
        self.held_out = bool(splits and splits.held_out and not val_source and validate)
        if self.held_out:
            from clipwise.data.hold_out import hold_out

            self.train_videos, self.val_videos = hold_out(self.train_videos)
            log.say(f"{data} has no validation part: {len(self.val_videos)} of its videos are held out for it.")
        elif val_source:
            options: dict[str, Any] = {"classes": self.train_videos.classes, "num_classes": recipe.num_classes}
            self.val_videos = read_part(val_source, values, "val", **options)
        if self.val_videos is not None:
            check_labels(self.val_videos, str(val_source))
        num_classes = recipe.num_classes or self.train_videos.num_classes
        if num_classes is None:
            raise RecipeError("the number of classes can't be read from the data; set num_classes.")
        if num_classes < 2:
            only = f" ({self.train_videos.classes[0]!r})" if self.train_videos.classes else ""
            raise DataError(
                f"{train_source} has only one class{only}, so there is nothing to tell apart. "
                "Expected: one subfolder per class, or labels that differ; is this the folder above or below the right one?"
            )
        for videos, source in ((self.train_videos, train_source), (self.val_videos, val_source)):
            if videos is not None:
                check_classes(videos, num_classes, str(source))
        self.num_classes, self.source = num_classes, str(train_source)
        self.val_source = str(val_source) if val_source else None
        self.spec = ClipSpec.from_recipe(values, "train")
        self.val_spec = ClipSpec.from_recipe(values, "val")
        if recipe.input.video_backend == "torchcodec":
            from clipwise.data.device_clips import decoded_on

            self.spec, self.val_spec = (
                decoded_on(s, self.device, recipe.num_workers) for s in (self.spec, self.val_spec)
            )
        self.model: Any = build_model(recipe, num_classes)
        if (outputs := contract.num_classes(self.model)) != num_classes:
            raise RecipeError(
                f"model {recipe.model!r} has {plural(outputs, 'output')}, the data {plural(num_classes, 'class', 'classes')}. Give its function a setting num_classes."
            )
        if getattr(self.model, "num_segments", None) not in (None, frames := recipe.num_segments or recipe.clip_len):
            raise RecipeError(
                f"{recipe.model} takes num_segments={self.model.num_segments}; clips have {frames}. Set it."
            )
        self.dataset = dataset = ClipDataset(self.train_videos, self.spec, recipe.seed)
        self.sampler = EpochSampler(
            len(dataset),
            recipe.batch_size,
            seed=recipe.seed,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            labels=self.train_videos.labels if recipe.lists.class_power is not None else None,
            class_power=recipe.lists.class_power,
            shards=self.train_videos.shards,
        )
        pinned = self.device.type != "cpu" and not self.spec.decode_device
        self.loader = make_loader(
            dataset, batch_sampler=self.sampler, num_workers=recipe.num_workers, pin_memory=pinned
        )
        more = recipe.augment
        if recipe.multigrid.shapes or more.repeat > 1:
            from clipwise.engine.multigrid import set_up

            set_up(self)
        self.failed: dict[str, str] = {}
        augmented = (
            more.color_jitter or more.randaugment or more.random_erasing or more.mixup or more.cutmix or more.also
        )
        if augmented or recipe.sources or recipe.lists.soft_labels or recipe.distill.from_ or recipe.loss:
            from clipwise.engine.recognition_extras import add_extras

            add_extras(self, accelerator, bool(augmented))

    def criterion(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The recipe's loss of logits (B, num_classes)."""
        if self.own_loss is not None:
            return self.own_loss(logits.float(), targets)
        return recognition_loss(logits, targets, self.recipe.augment.label_smoothing, self.recipe.multi_label)

    def loss(
        self, model: nn.Module, batch: dict[str, Any], key: tuple[int, ...]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss and figures of a batch.

        Args:
            model: the (possibly wrapped) network.
            batch: ``frames`` uint8 (B, V, T, H, W, C), ``label``, ``failed``.
            key: numbers that name this step; the batch's random numbers come from them.
        """
        for pairs in batch["failed"]:
            for path, reason in pairs:
                if path not in self.failed:
                    self.log.say(f"skipped in training: {reason}")
                self.failed[path] = reason
        recipe, labels = self.recipe, batch["label"]
        soft = batch.get("soft", self.soft)
        if soft is not None:
            labels = soft[batch["index"]].to(self.device, torch.float32)
        frames = batch["frames"].flatten(0, 1)
        rng = np.random.default_rng((recipe.seed, *key))
        if self.augment is not None:
            frames = self.augment.pixels(frames, rng)
        clips, targets = normalize_clips(frames, self.spec.mean, self.spec.std), labels
        if self.augment is not None:
            clips, targets = self.augment.blend(clips, labels, rng)
        with autocast(self.device, recipe.amp):
            outputs = model(clips)
        logits, aux, aux_weight = contract.split_auxiliary(self.model, outputs)
        loss = self.criterion(logits, targets)
        figures = {} if recipe.multi_label else batch_accuracy(logits, labels)
        figures["loss_cls"] = loss
        if aux is not None:
            aux_loss = aux_weight * self.criterion(aux, targets)
            figures["loss_aux"] = aux_loss
            loss = loss + aux_loss
        if self.teacher is not None:
            loss, figures["loss_distill"] = self.teacher.join(loss, logits, clips, recipe.amp)
        figures["loss"] = loss
        return loss, figures

    def keep_lists(self, folder: Path) -> None:
        """Write the two parts of data that was split here, so that a test can name what was held out."""
        if not self.held_out or self.val_videos is None or self.train_videos.kind not in ("video", "rawframes"):
            return
        suffix = ".csv" if self.train_videos.spans_s is not None else ".txt"
        self.source = str(write_list(self.train_videos, folder / "lists" / f"train{suffix}"))
        self.val_source = str(write_list(self.val_videos, folder / "lists" / f"val{suffix}"))
        self.log.say(f"the two parts are in {self.source} and {self.val_source}.")

    def audit(self, short_check: bool) -> None:
        """Refuse missing files; on the main process look at a sample of the videos and say what is wrong.

        Raises:
            DataError: files of the lists do not exist.
        """
        parts = {"train": self.train_videos} | ({"val": self.val_videos} if self.val_videos is not None else {})
        for name, videos in parts.items():
            missing = videos.missing()
            if len(missing):
                raise DataError(
                    f"{len(missing)} of {plural(len(videos), 'file')} of the {name} list do not exist, the first: {videos.path(int(missing[0]))}. "
                    "Set data_root, or let `clipwise check … --fix DIR` write lists without them."
                )
        if self.val_videos is not None and self.log.active:
            shared = shared_videos(self.train_videos, self.val_videos)
            if short_check:
                shared |= same_content(self.train_videos, self.val_videos)
            self.num_shared = len(shared)
            if shared:
                self.log.say(
                    f"WARNING: {len(shared)} of {plural(len(self.val_videos), 'validation video')} are training videos, too (the same file, or one of "
                    f"the same size and first bytes), the first: {self.val_videos.path(min(shared))}. The validation figures say nothing about new videos."
                )
        if not short_check:
            return
        spec = self.spec
        look = Look(frame_template=spec.filename_tmpl, start_index=spec.start_index, modality=spec.modality)
        for line in describe(short_audit(parts, look, self.num_classes), self.recipe):
            self.log.say(f"check: {line}")

    def auxiliary(self, position: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Batches of the other sources that follow the main list's batch ``position``, counted from the run's start."""
        for stream in self.sources:
            if stream.due(position):
                batch = stream.next(position)
                yield stream, {**batch, "videos": stream.videos, "soft": stream.soft}

    def before_validation(self, model: nn.Module) -> None:
        """Recompute the batch norm statistics, if the recipe says so."""
        if self.recipe.val.precise_bn_samples:
            from clipwise.engine.batch_norm import measure_statistics

            measure_statistics(self)

    def batch_names(self, batch: dict[str, Any]) -> list[str]:
        """File names of a batch, for error messages."""
        videos = batch.get("videos", self.train_videos)
        return [videos.path(int(i)) for i in batch["index"]]

    def validate(self, model: nn.Module, progress=lambda: None) -> tuple[dict[str, float], TestResult]:
        """Figures on the validation list, the whole list counted once over all processes."""
        assert self.val_videos is not None
        recipe = self.recipe
        result = score_list(
            model,
            ClipDataset(self.val_videos, self.val_spec, recipe.seed),
            device=self.device,
            activation=activation_of(recipe.model_dump()),
            average=recipe.test.average_clips if recipe.test.average_clips != "none" else "prob",
            batch_size=recipe.val.batch_size or recipe.batch_size,
            num_workers=recipe.num_workers,
            amp=recipe.amp,
            progress=progress,
        )
        if len(result.failures) == len(self.val_videos):
            raise DataError(f"no validation video can be decoded; the first: {next(iter(result.failures.values()))}")
        for reason in result.failures.values():
            self.log.say(f"counted as wrong in validation: {reason}")
        names = ("mean_average_precision",) if recipe.multi_label else ("top_k_accuracy", "mean_class_accuracy")
        return result.compute(names), result

    def passport(self) -> Passport:
        """The checkpoint's description, without position and metrics."""
        return Passport(
            model=model_place(self.recipe.model),
            model_args=model_args(self.recipe, self.num_classes),
            classes=self.train_videos.classes,
            recipe={**self.recipe.model_dump(mode="json"), "num_classes": self.num_classes},
            data={
                "train": self.source,
                "val": self.val_source,
                "held_out": self.held_out,
                "samples": len(self.train_videos),
                "fingerprint": self.train_videos.fingerprint(),
            },
        )
