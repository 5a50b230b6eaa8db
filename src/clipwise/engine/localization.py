"""A localization run's parts: feature files and annotations, the loss of a batch, validation by AR@AN and AUC, or by mAP.

What is particular to a network stands in its rules (``clipwise.models.localizer_rules``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from clipwise.data.feature_dataset import FeatureDataset, FeatureStore, find_data, in_folder
from clipwise.data.formats.annotation_files import read_annotations
from clipwise.data.formats.annotations import AnnotationSet, class_names
from clipwise.data.loader import EpochSampler, make_loader, prefetch
from clipwise.engine.checkpoint import Passport
from clipwise.engine.device import autocast, world
from clipwise.engine.log import RunLog
from clipwise.engine.task import InputPlan, Task
from clipwise.errors import DataError
from clipwise.io.text import plural
from clipwise.models.localizer_rules import LabeledVideo, localizer_rules, settled_args, takes_any_length
from clipwise.models.recipe_model import build_model, model_args
from clipwise.models.registry import model_place
from clipwise.recipe import LocalizationRecipe
from clipwise.tasks.average_recall import AverageRecall, average_recall_at_avg_proposals
from clipwise.tasks.detection_metrics import ACTIVITYNET_TIOU, detection_map


@dataclass
class LocalizationResult:
    """Proposals of a list of videos.

    Attributes:
        proposals: video -> (n, 3) start and end in seconds, score; best first.
        ground_truth: video -> [{"segment", "label"}].
        recall: AR@AN, None where no video has an action.
        labels: video -> (n,) names of their classes, where the network gives any.
        mean_ap: mAP over the overlaps of the recipe (``val.tious``), as a share; None without classes.
        notes: what makes the figures mean little.
    """

    proposals: dict[str, np.ndarray]
    ground_truth: dict[str, list[dict[str, Any]]]
    recall: AverageRecall | None = None
    labels: dict[str, list[str]] | None = None
    mean_ap: float | None = None
    notes: tuple[str, ...] = ()

    def figures(self) -> dict[str, float]:
        """AR@1, @5, @10, @100 as shares, and AUC in percent; mAP as a share."""
        found = {} if self.mean_ap is None else {"mAP": self.mean_ap}
        if self.recall is not None:
            found |= {("auc" if k == "AUC" else k): v for k, v in self.recall.summary().items()}
        return found

    def save(self, path: str | Path) -> None:
        """Write a result file in ActivityNet's form."""
        from clipwise.tasks.detections import ResultWriter

        with ResultWriter(path) as file:
            for video, rows in self.proposals.items():
                file.add(video, rows[:, :2], rows[:, 2], self.labels[video] if self.labels else None)


class LocalizationTask(Task):
    """What the training loop asks of a proposal network.

    Attributes:
        model: the network, on the CPU until the loop places it.
        sampler, loader: order and batches of the training videos.
        val_videos: the validation set, or None.
        times: of the training videos, for the passport.
        longest_s: length of the longest of them, None if unknown.
        main_metric: the figure by which the best checkpoint is chosen.
    """

    @classmethod
    def plan(cls, recipe: Any, num_classes: int | None = None) -> InputPlan:
        """Features of one video."""
        args = model_args(recipe, num_classes)
        if recipe.temporal_dim == "auto" and takes_any_length(recipe):
            args["temporal_dim"] = 64
        rules = localizer_rules(recipe.model, args, recipe)
        length = rules.padded_length(64 if recipe.temporal_dim == "auto" else recipe.temporal_dim)
        return InputPlan((rules.channels, length), (rules.channels, length), num_classes=num_classes)

    def __init__(
        self,
        recipe: LocalizationRecipe,
        accelerator: Accelerator,
        log: RunLog,
        *,
        data: str | None = None,
        val_data: str | None = None,
        validate: bool = True,
        training: bool = True,
    ):
        """
        Args:
            data: folder with features and annotations; the recipe's ``train_data`` if not given.
            val_data: annotation file of the validation videos.
            validate: of no effect; what is validated on is a subset of its own.
            training: False reads the validation videos only.
        """
        self.device, self.log = accelerator.device, log
        self.failed: dict[str, str] = {}
        self.longest_s: float | None = None
        place = find_data(data or recipe.train_data, recipe.features, recipe.annotations)
        self.store = FeatureStore(place.features, recipe.input.format, channels_first=recipe.input.channels_first)
        everything = self._read(place.annotations, recipe, place.folder)
        other = val_data or recipe.val_data or recipe.val.annotations
        val_file = self._read(in_folder(other, place.folder), recipe, place.folder) if other else everything
        if recipe.feat_dim == "auto":
            recipe = recipe.model_copy(update={"feat_dim": self.store.find_feat_dim()})
            log.say(f"feat_dim {recipe.feat_dim}, as the features in {self.store.source} have it.")
        self.recipe, self.source = recipe, str(place.annotations)
        self.classes = class_names({everything.source: everything, val_file.source: val_file}.values())
        if training:
            self.train_videos = self._usable(_subset(everything, recipe.input.train_subset))
            self.times = self._training_times()
            recipe = self.recipe = self._settled(recipe)
        # first: it knows which arguments are wrong
        self.model: Any = build_model(recipe, len(self.classes) or None)
        self.rules = localizer_rules(recipe.model, self._model_args(), recipe)
        self.rules.prepare(self.model)
        self.main_metric = "mAP" if self.rules.labeled else "auc"
        self.store.feat_dim = self.rules.feat_dim
        self.val_videos: AnnotationSet | None = None
        if other or everything.has_subset(recipe.val.subset):
            self.val_videos = self._usable(_subset(val_file, recipe.val.subset), training=False)
        else:
            log.say(f"{place.annotations} has no subset {recipe.val.subset!r}: nothing to validate on.")
        self.val_set = self._dataset(self.val_videos) if self.val_videos else None
        if not training:
            return
        self.longest_s = self.times["video_s"][2]
        self.train_set = self._dataset(self.train_videos, training=True)
        self.sampler = EpochSampler(
            len(self.train_set),
            recipe.batch_size,
            seed=recipe.seed,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            drop_last=recipe.input.drop_last,
        )
        self.loader = make_loader(
            self.train_set,
            batch_sampler=self.sampler,
            num_workers=0 if recipe.input.in_memory else recipe.num_workers,
            pin_memory=self.device.type != "cpu",
        )

    def _read(self, path: Path, recipe: LocalizationRecipe, folder: Path | None) -> AnnotationSet:
        """Annotations with the lengths of all videos."""
        given, info = recipe.input, recipe.input.video_info
        found = read_annotations(path, info, videos=given.videos or folder, fps=given.fps, layer=given.layer, config=given.config,
                                 tolerant=given.tolerant)  # fmt: skip
        for note in found.notes:
            self.log.say(note)
        if not any(math.isnan(video.duration_s) for video in found.videos.values()):
            return found
        from clipwise.data.formats.annotation_convert import with_durations
        from clipwise.data.formats.annotation_parts import FormatOptions, VideoFinder

        return with_durations(found, FormatOptions(videos=VideoFinder(given.videos or folder)), self.store.facts)

    def _training_times(self) -> dict[str, Any]:
        """Lengths of the videos (smallest, median, largest), and how far features lie apart (of up to 16 videos)."""
        base, videos = self.recipe.input.time_base, list(self.train_videos.videos.values())
        some = [
            videos[i]
            for i in np.unique(np.linspace(0, len(videos) - 1, 16).astype(int))
            if videos[i].name in self.store
        ]
        steps = [video.covered_s(base) / len(self.store.read(video.name)) for video in some] or [1.0]
        lengths = np.quantile([video.covered_s(base) for video in videos], (0, 0.5, 1))
        return {"video_s": lengths.round(4).tolist(), "feature_step_s": round(float(np.median(steps)), 6)}

    def _settled(self, recipe: LocalizationRecipe) -> LocalizationRecipe:
        """The recipe with windows and positions that suit the training videos, where it leaves them open."""
        reach = 0.0
        if (parts := takes_any_length(recipe)) or "auto" in (recipe.window_s, recipe.temporal_dim):
            if parts:
                from clipwise.tasks.part_choice import settle
            else:
                from clipwise.tasks.window_choice import settle
            recipe, reach, notes = settle(recipe, self.train_videos, self.times["feature_step_s"])
            for note in notes:
                self.log.say(note)
        return recipe.model_copy(update={"model_args": settled_args(recipe, reach)})

    def _model_args(self) -> dict[str, Any]:
        return model_args(self.recipe, len(self.classes) or None)

    def _usable(self, videos: AnnotationSet, training: bool = True) -> AnnotationSet:
        """The videos that have features; in training also with sound segments."""
        recipe = self.recipe
        if training:
            videos, notes = videos.checked(recipe.input.tolerant)
            for note in notes:
                self.log.say(note)
        missing = [name for name in videos.videos if name not in self.store]
        if missing and recipe.input.allow_missing:
            self.log.say(
                f"{len(missing)} of {plural(len(videos), 'video')} have no features in {self.store.source} and are left out."
            )
            videos = AnnotationSet(videos.source, {n: v for n, v in videos.videos.items() if n in self.store})
        if not len(videos):
            raise DataError(f"no video of {videos.source} has features in {self.store.source}.")
        return videos

    def _dataset(self, videos: AnnotationSet, training: bool = False) -> FeatureDataset:
        recipe, strides = self.recipe, None
        if recipe.input.time_base in ("strides", "starts"):
            from clipwise.data.feature_times import feature_times

            strides = feature_times(recipe)
        return FeatureDataset(
            videos,
            self.store,
            temporal_dim=self.rules.length,
            rescale=recipe.input.rescale,
            time_base=recipe.input.time_base,
            in_memory=recipe.input.in_memory,
            strides=strides,
            windows=self.rules.windows,
            seed=recipe.seed if training else None,
        )

    def loss(
        self, model: nn.Module, batch: dict[str, Any], key: tuple[int, ...]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss and figures of a batch.

        Args:
            model: the (possibly wrapped) network.
            batch: ``features`` (B, F, L), ``index``.
            key: numbers that name this step; the batch's random numbers come from them.
        """
        seed = np.random.SeedSequence((self.recipe.seed, *key)).generate_state(1)[0]
        generator = torch.Generator(self.device).manual_seed(int(seed))
        rng = np.random.default_rng(int(seed))
        pairs = [self.rules.sample(x, v, rng) for x, v in zip(batch["features"], self._videos(batch, self.train_set))]
        features = [x for x, _ in pairs]
        with autocast(self.device, self.recipe.amp):
            outputs = model(self.rules.inputs(features).to(self.device))
        parts = self.rules.loss(self.model, outputs, [v for _, v in pairs], generator)
        return parts["loss"], {f"loss_{k}" if k != "loss" else k: v for k, v in parts.items()}

    def _videos(self, batch: dict[str, Any], dataset: FeatureDataset, annotated: bool = True) -> list[LabeledVideo]:
        """What is known about a batch's videos."""
        known = []
        class_number = {name: i for i, name in enumerate(self.classes)}
        for number, (features, index) in enumerate(zip(batch["features"], map(int, batch["index"]))):
            start, length = (batch[key][number] for key in ("start_s", "length_s")) if dataset.windows else (0.0, None)
            video = dataset.annotations.videos[dataset.names[index]]
            truth: dict[str, Any] = {}
            if annotated:
                strange = [label for label in video.labels if label not in class_number] if self.rules.labeled else []
                if strange:
                    raise DataError(f"video {video.name!r} has class {strange[0]!r}, which the network does not know.")
                segments, which = dataset.known(index, start, length)
                truth = {"labels": np.array([class_number.get(video.labels[i], -1) for i in which], np.int64)}
                truth["segments"] = segments
            if length is None:  # a window's times count from its own start
                truth |= {"first_s": dataset.first_s[index], "duration_s": video.duration_s}
            known.append(LabeledVideo(features.shape[1], length or dataset.covered_s[index], **truth))
        return known

    def audit(self, short_check: bool) -> None:
        """Read the features of some videos, so that what is wrong with all of them is reported before the first epoch.

        Raises:
            DataError: features that can't be used; missing ones were refused when the task was made.
        """
        if self.val_videos is not None:
            shared = self.train_videos.videos.keys() & self.val_videos.videos.keys()
            self.num_shared = len(shared)
            if shared:
                self.log.say(
                    f"WARNING: training and validation have videos in common ({len(shared)} of {len(self.val_videos)}), the first: {min(shared)}. "
                    "The validation figures say nothing about new videos."
                )
        for dataset in (self.train_set, self.val_set):
            if short_check and dataset is not None and dataset.memory is None:
                for index in np.unique(np.linspace(0, len(dataset) - 1, 16).astype(int)):
                    dataset[int(index)]

    def batch_names(self, batch: dict[str, Any]) -> list[str]:
        """Feature files of a batch, for error messages."""
        return [self.store.where(self.train_set.names[int(i)]) for i in batch["index"]]

    @torch.no_grad()
    def validate(
        self, model: nn.Module, progress: Callable[[], None] = lambda: None
    ) -> tuple[dict[str, float], LocalizationResult]:
        """AR@AN, AUC and loss on the validation videos, each counted once over all processes."""
        assert self.val_set is not None
        recipe, training = self.recipe, model.training
        model.eval()
        rank, processes = world()
        loader = make_loader(
            self.val_set,
            sampler=self.val_set.shard(rank, processes),
            batch_size=recipe.val.batch_size or recipe.batch_size,
            num_workers=0 if recipe.input.in_memory else recipe.num_workers,
        )
        generator = torch.Generator(self.device).manual_seed(recipe.seed)
        proposals: dict[str, np.ndarray] = {}
        labels: dict[str, list[str]] = {}
        longest = self.longest_s or 0.0
        if (
            not self.rules.labeled
        ):  # of proposals each video gets as many: at AR@1 one with fewer than the mean would get none
            longest = max([longest, *self.val_set.covered_s])
        collector = self.rules.collector(longest)
        total, count = 0.0, 0
        for batch in prefetch(loader, self.device):
            with autocast(self.device, recipe.amp):
                outputs = model(self.rules.inputs(batch["features"]).to(self.device))
            index = [int(i) for i in batch["index"]]
            terms = self.rules.loss(model, outputs, self._videos(batch, self.val_set), generator)
            total += float(terms["loss"]) * len(index)
            count += len(index)
            found = self.rules.decode(outputs, self._videos(batch, self.val_set, annotated=False))
            for i, start, window in zip(index, batch.get("start_s", [0.0] * len(index)), found, strict=True):
                one = collector.add(
                    self.val_set.names[i], start, window, self.val_set.covered_s[i], self.val_set.first_s[i]
                )
                if one is None:  # more windows of this video are to come
                    continue
                name = self.val_set.names[i]
                proposals[name] = np.column_stack([one.segments_s, one.scores])
                if one.labels is not None:
                    labels[name] = [self.classes[i] for i in one.labels]
                progress()
        if training:
            model.train()
        if processes > 1:
            gathered: list[Any] = [None] * processes
            torch.distributed.all_gather_object(gathered, (proposals, labels, total, count))
            proposals, labels = ({k: v for g in gathered for k, v in g[n].items()} for n in (0, 1))
            total, count = sum(g[2] for g in gathered), sum(g[3] for g in gathered)
        result = measure(
            proposals, self.val_set.annotations.ground_truth(), labels if self.rules.labeled else None, recipe.val.tious
        )
        return {**result.figures(), "loss": total / count}, result

    def passport(self) -> Passport:
        """The checkpoint's description, without position and metrics."""
        sets = [self.train_videos] + ([self.val_videos] if self.val_videos else [])
        return Passport(
            model=model_place(self.recipe.model),
            model_args=self._model_args(),
            classes=self.classes if self.rules.labeled else class_names(sets),
            recipe=self.recipe.model_dump(mode="json"),
            data={
                "train": self.source,
                "samples": len(self.train_videos),
                "fingerprint": self.train_videos.fingerprint(),
                "features": self.store.recipe() or {"source": str(self.store.source)},
                "times": self.times,
            },
        )


def measure(
    found: dict[str, np.ndarray],
    ground_truth: dict[str, list[dict[str, Any]]],
    labels: dict[str, list[str]] | None = None,
    tious: Sequence[float] | None = None,
) -> LocalizationResult:
    """AR@AN of what was found, and mAP where it has classes (over ``tious``); without any action there is nothing to measure."""
    recall, mean_ap = None, None
    if any(ground_truth.values()):
        recall = average_recall_at_avg_proposals(ground_truth, found)
        if labels is not None:
            named = {
                video: [{"segment": r[:2], "score": r[2], "label": n} for r, n in zip(rows.tolist(), labels[video])]
                for video, rows in found.items()
            }
            mean_ap = detection_map(ground_truth, named, np.array(tious) if tious else ACTIVITYNET_TIOU).mean
    return LocalizationResult(found, ground_truth, recall, labels, mean_ap)


def _subset(videos: AnnotationSet, name: str) -> AnnotationSet:
    """A subset; a file in which no video has a subset is all of one kind (MMAction2's anet_anno_train.json)."""
    if not any(v.subset for v in videos.videos.values()):
        return videos
    return videos.subset(name)
