"""Localize: from a raw, long video to named segments with start, end and score.

    localizer = Localizer("runs/bmn/best.safetensors")          # the BMN remembers which recognizer made its features
    for segment in localizer("video.mp4").segments: print(segment)

Video -> features of a recognizer -> BMN -> proposals -> soft-NMS -> a class for each, from a recognizer that looks at the
proposal's span (or from scores of the whole video) -> segments. Times are in seconds from the first frame.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from clipwise.data.feature_times import feature_times
from clipwise.data.feature_windows import TimeWindows, cut_window
from clipwise.data.formats.feature_collections import read_facts
from clipwise.data.formats.feature_formats import SUFFIXES, check_features, read_feature_file
from clipwise.data.rescale import rescale_features
from clipwise.engine.checkpoint import Passport, load_model_and_passport
from clipwise.engine.device import autocast
from clipwise.errors import CheckpointError, ClipwiseError, DataError
from clipwise.infer.features import FeatureExtractor, WindowRule, check_recognizer, find_recognizer, open_for
from clipwise.infer.naming import SegmentClassifier
from clipwise.infer.segments import Localization, Segment, choose_segments
from clipwise.io.devices import pick_device
from clipwise.io.hub import local_copy
from clipwise.io.text import plural
from clipwise.models import contract
from clipwise.models.localizer_rules import LabeledVideo, localizer_rules, recipe_of
from clipwise.models.registry import model_task
from clipwise.tasks.detections import VideoClassScores, name_proposals
from clipwise.tasks.unlike_training import describe_unlike
from clipwise.video.decode import VideoReader

Naming = Literal["span", "video"]
_SEGMENTS, _NAMED = 20, 40


class Localizer:
    """Finds and names segments in long videos.

    Args:
        bmn: checkpoint of a localizer (BMN, ActionFormer, TriDet, one of yours).
        recognizer: checkpoint that made its features. If not given, the one that the checkpoint remembers is used.
        labeler: checkpoint that names the segments; the feature recognizer if not given. False leaves them unnamed.
        naming: "span": the labeler looks at each proposal; "video": at the whole video, once.
        max_segments: most segments of the answer; 20 for each length of the longest training video if not given.
        min_score: weakest segment of the answer, as a share of the best one's score.
        max_overlap: largest IoU between two segments of the answer.
        max_named: proposals of a video that are named; 40 for each such length if not given.
        classes_per_segment: classes that each proposal becomes a detection of (OpenTAD takes 2 for ActivityNet).
        batch_size: windows or spans that go through a network at once.
        loaded: what ``bmn`` holds, if it was opened elsewhere (exported files).

    Raises:
        CheckpointError: a file can't be used, the recognizer is not the one that made the features, or none is known.
    """

    growing = False  # features are made before the network looks at them

    def __init__(
        self,
        bmn: str | Path,
        recognizer: str | Path | None = None,
        *,
        labeler: str | Path | Literal[False] | None = None,
        naming: Naming = "span",
        max_segments: int | None = None,
        min_score: float = 0.2,
        max_overlap: float = 0.4,
        max_named: int | None = None,
        classes_per_segment: int = 1,
        device: str | None = None,
        amp: str = "no",
        batch_size: int = 16,
        loaded: tuple[nn.Module, Passport] | None = None,
    ):
        if naming not in ("span", "video"):
            raise ClipwiseError(f"naming was {naming!r}; use 'span' or 'video'.")
        for option, value, least, most in (
            ("max_segments", max_segments, 1, math.inf),
            ("min_score", min_score, 0, 1),
            ("max_overlap", max_overlap, 0, 1),
            ("max_named", max_named, 1, math.inf),
            ("classes_per_segment", classes_per_segment, 1, math.inf),
        ):
            if value is not None and not least <= value <= most:
                limits = f"at least {least}" if most == math.inf else f"from {least} to {most}"
                raise ClipwiseError(f"{option} was {value}; it must be {limits}.")
        self.path, self.device, self.amp = Path(local_copy(bmn)), pick_device(device), amp
        self.model, self.passport = loaded or load_model_and_passport(self.path, self.device)
        if model_task(self.passport.model) != "localization":
            recognizer_file = "the checkpoint that it was exported from" if loaded else bmn
            raise CheckpointError(
                f"{bmn} is a {self.passport.model}, not a localization network. Give one, and {recognizer_file} as --features-from."
            )
        known = self.passport
        self.recipe: Any = recipe_of(known.model, known.model_args, known.recipe, str(bmn))
        self.rules = localizer_rules(self.passport.model, self.passport.model_args, self.recipe)
        self.rules.prepare(self.model)
        # an exported file of a network for any length takes one; longer videos go through it in windows
        about, by_windows = getattr(self.model, "description", None), self.rules.windows is not None
        self.file_length = None if about is None or self.rules.length else int(about.shape[-1])
        self.exported_length = None if by_windows else self.file_length
        self.made = dict(self.passport.data.get("features") or {})
        self.channels_first: bool = getattr(self.recipe.input, "channels_first", False)  # in files of features
        self._recognizer, self._labeler, self.naming = recognizer, labeler, naming
        self.max_segments, self.min_score, self.max_overlap = max_segments, min_score, max_overlap
        self.max_named, self.classes_per_segment, self.batch_size = max_named, classes_per_segment, batch_size
        self.trained_on: dict[str, Any] = self.passport.data.get("times") or {}
        self.longest_s: float | None = self.trained_on.get("video_s", [None])[-1]
        self._extractor: FeatureExtractor | None = None
        self._namer: SegmentClassifier | None = None

    @property
    def extractor(self) -> FeatureExtractor:
        """The recognizer that sees the video for the network; loaded when it is first needed."""
        if self._extractor is None:
            path = find_recognizer(self.path, self.made, self._recognizer)
            rule = WindowRule(**{k: self.made[k] for k in WindowRule.__dataclass_fields__ if k in self.made})
            extractor = FeatureExtractor(path, rule, device=str(self.device), batch_size=self.batch_size, amp=self.amp)
            if extractor.feat_dim != self.rules.feat_dim:
                raise CheckpointError(
                    f"{path} gives {plural(extractor.feat_dim, 'feature')} ({rule.kind}), but {self.path} was trained on {self.rules.feat_dim}."
                )
            self._extractor = extractor
        return self._extractor

    @property
    def spec(self) -> Any:
        """How a video is opened for the network's features."""
        return self.extractor.spec

    @property
    def time_base(self) -> str:
        """What the network's times divide: "duration" or "covered" seconds."""
        return self.recipe.input.time_base

    @property
    def namer(self) -> SegmentClassifier | None:
        """What gives names, or None."""
        if self._labeler is False:
            return None
        if self._namer is None:
            if self._labeler is None:
                extractor = self.extractor
                if not contract.num_classes(extractor.model):
                    raise CheckpointError(
                        f"{extractor.path} has no classes, so it can't name segments. Give --labeler CKPT or --class-scores FILE, or --no-names."
                    )
                self._namer = SegmentClassifier(
                    extractor.model, extractor.passport, self.device, self.amp, self.batch_size
                )
            else:
                model, passport = load_model_and_passport(self._labeler, self.device)
                check_recognizer(passport, self._labeler)
                self._namer = SegmentClassifier(model, passport, self.device, self.amp, self.batch_size)
        return self._namer

    def __call__(
        self,
        video: Any,
        *,
        duration_s: float | None = None,
        class_scores: VideoClassScores | None = None,
        frame_rate: float | None = None,
        name: str | None = None,
    ) -> Localization:
        """Localize in one video.

        Args:
            video: path, address, uint8 array, open reader or folder of frames; or a feature file, or an array (n, F).
            duration_s: of the video, where features are given.
            class_scores: scores of whole videos, which then give the names (the CUHK file); the score of a segment that has a name
                already is multiplied by its class's.
            frame_rate: of a folder of frames; or of the video whose features are given, where the recipe needs it.
            name: what an array of features is called in the answer and in ``class_scores``.

        Raises:
            DecodeError, DataError, CheckpointError: what is wrong and what to do.
        """
        if duration_s is not None and not 0 < duration_s < math.inf:
            raise ClipwiseError(f"duration_s was {duration_s:g}; the seconds of a video are more than 0.")
        if _is_features(video):
            return self._from_features(video, duration_s, class_scores, name or "features", frame_rate)
        if isinstance(video, VideoReader):
            return replace(self._from_video(video, video.name, class_scores), damage=video.damage)
        source = str(video) if isinstance(video, (str, os.PathLike)) else "video"
        from clipwise.infer.many_videos import fetched

        with fetched(video) as file, open_for(self.spec, file, frame_rate) as reader:
            return replace(self._from_video(reader, source, class_scores), damage=reader.damage)

    def _from_video(self, reader: VideoReader, source: str, class_scores: VideoClassScores | None) -> Localization:
        features = self.extractor.read(reader, growing=self.growing)
        duration = features.covered_s if self.recipe.input.time_base == "snippets" else features.duration_s
        if not duration:
            raise DataError(
                f"{source}: its frame rate is not known, so times in seconds can't be given. Set --frame-rate."
            )
        found = self.find(features.values, duration, source, reader.fps)
        if class_scores is not None:
            return self._with_video_classes(found, class_scores)
        if self.rules.labeled:
            return self._finish(found, found.detections)
        namer = self.namer
        if namer is None:
            return self._finish(found, [])
        spans = found.proposals[: self._count(self.max_named, _NAMED, found.duration_s)]
        if self.naming == "video":
            probs = np.repeat(namer(reader, np.array([[0.0, reader.duration_s]])), len(spans), axis=0)
        else:
            probs = namer(reader, spans[:, :2])
        return self._finish(found, self._detections(spans, probs, namer.classes))

    def _from_features(
        self,
        given: Any,
        duration_s: float | None,
        class_scores: VideoClassScores | None,
        source: str,
        frame_rate: float | None,
    ) -> Localization:
        if isinstance(given, np.ndarray):
            values, facts = check_features(given, source, self.rules.feat_dim), {}
        else:
            source = str(given)
            array = read_feature_file(given)
            values = check_features(array.T if self.channels_first else array, source, self.rules.feat_dim)
            facts = read_facts(given)
        duration = duration_s or facts.get("covered_s" if self.recipe.input.time_base == "snippets" else "duration_s")
        if not duration:
            raise DataError(
                f"{source}: the video's duration is not known. Give --duration SECONDS, or annotations with --gt."
            )
        found = self.find(values, float(duration), source, frame_rate or facts.get("fps"))
        if class_scores is not None:
            return self._with_video_classes(found, class_scores)
        return self._finish(found, found.detections)

    @torch.inference_mode()
    def find(
        self, features: NDArray, duration_s: float, source: str = "features", fps: float | None = None
    ) -> Localization:
        """Unnamed proposals from a sequence of features (n, F) of any length, in windows if the network was trained on such.

        Args:
            fps: of the video, where the recipe counts in frames.
        """
        times = feature_times(self.recipe)
        first, covered = times.span(len(features), fps, source, duration_s) if times else (0.0, duration_s)
        if self.exported_length:
            long = len(features) > self.exported_length
            self.rules.windows = TimeWindows(self.exported_length * covered / len(features)) if long else None
        collector, found = self.rules.collector(self.longest_s), None
        curves: list[tuple[NDArray, NDArray]] = []
        for some in self._batches(features, covered, source):
            x, starts, lengths = zip(*some)
            inputs = self.rules.inputs(torch.stack(x) if self.rules.length else list(x))
            if self.file_length:  # a file has one length, where its network takes any
                inputs = F.pad(inputs, (0, max(0, self.file_length - inputs.shape[2])))
            with autocast(self.device, self.amp):
                outputs = self.model(inputs.to(self.device))
            # a window's times count from its own start
            whole: dict[str, Any] = {} if self.rules.windows else {"first_s": first, "duration_s": duration_s}
            videos = [LabeledVideo(i.shape[1], s, **whole) for i, s in zip(x, lengths)]
            for row, one in enumerate(self.rules.decode(outputs, videos)):
                found = collector.add(source, starts[row], one, covered, first)
                if (both := self.rules.curves(outputs, row)) is not None:
                    curves.append(tuple(c.float().cpu().numpy() for c in both))  # type: ignore[arg-type]
        assert found is not None
        start, end = curves[0] if curves else (np.zeros(0, np.float32),) * 2
        if curves and self.rules.windows is not None:
            start, end = self.rules.windows.joined(np.stack(curves), covered)
        detections = []
        if found.labels is not None:
            names = self.passport.classes or []
            each = zip(found.segments_s.tolist(), found.scores.tolist(), found.labels.tolist())
            detections = [Segment(a, b, names[c] if names else str(c), s, c, s, 1.0) for (a, b), s, c in each]
        length_s = self.rules.windows.length_s if self.rules.windows else None
        note = describe_unlike(self.trained_on, length_s, self.rules.length, covered, len(features))
        if self.exported_length and length_s:
            note = (
                f"{self.path} was exported for {plural(self.exported_length, 'position')}; the video's {len(features)} go through it in windows of {length_s:.4g} s "
                "that overlap by half. A checkpoint looks at the whole video."
            )
        rows = np.column_stack([found.segments_s, found.scores])
        return Localization(source, duration_s, [], detections, rows, start, end, note=note)

    def _batches(
        self, features: NDArray, duration_s: float, source: str
    ) -> Iterator[list[tuple[torch.Tensor, float, float]]]:
        """What the network looks at, a batch at a time: (F, L), start and length in seconds."""
        windows, length = self.rules.windows, self.rules.length
        if windows is not None:
            starts = windows.starts(duration_s).tolist()
            for at in range(0, len(starts), self.batch_size):
                cut = (
                    cut_window(features, duration_s, start, windows.length_s, length)
                    for start in starts[at : at + self.batch_size]
                )
                yield [(torch.from_numpy(np.ascontiguousarray(rows.T)), a, b) for rows, a, b in cut]
            return
        if length and len(features) != length:
            if self.recipe.input.rescale == "none":
                raise DataError(
                    f"{source}: {plural(len(features), 'position')}, but the network was trained on {length} without rescaling."
                )
            features = rescale_features(
                features, length, self.recipe.input.rescale, seconds_per_position=duration_s / len(features)
            )
        yield [(torch.from_numpy(np.ascontiguousarray(features.T, dtype=np.float32)), 0.0, duration_s)]

    def _count(self, given: int | None, usual: int, duration_s: float) -> int:
        """Of a video in windows, which may be any length, more than of one that goes in as a whole."""
        windows = self.rules.windows
        if given is not None or windows is None:
            return given or usual
        return int(usual * max(1.0, duration_s / max(windows.length_s, self.longest_s or 0.0)))

    def _detections(self, spans: NDArray, probs: NDArray, classes: list[str] | None) -> list[Segment]:
        best = np.argsort(-probs, axis=1, kind="stable")[:, : self.classes_per_segment]
        found = []
        for (start, end, score), row, chosen in zip(spans.tolist(), probs, best.tolist()):
            for c in chosen:
                name = classes[c] if classes else str(c)
                found.append(
                    Segment(start, end, name, score * float(row[c]), c if classes else None, score, float(row[c]))
                )
        return sorted(found, key=lambda s: -s.score)

    def _with_video_classes(self, found: Localization, scores: VideoClassScores) -> Localization:
        name = Path(found.source).stem.removeprefix("v_")
        if (
            self.rules.labeled and len(self.passport.classes or ()) > 1
        ):  # its own classes, as likely as the whole video makes them
            chances = dict(scores.top(name, len(scores.classes)))
            if unknown := sorted({s.name for s in found.detections} - set(chances)):
                raise DataError(
                    f"the class scores do not know {unknown[0]!r}, a class of {self.path}; known: {', '.join(scores.classes)}."
                )
            weighed = [
                replace(s, score=s.score * chances[s.name], class_score=chances[s.name]) for s in found.detections
            ]
            return self._finish(found, sorted(weighed, key=lambda s: -s.score))
        top = scores.top(name, max(2, self.classes_per_segment))
        segments, values, labels = name_proposals(found.proposals[:, :2], found.proposals[:, 2], top)
        shares = dict(top)
        detections = [
            Segment(a, b, label, score, None, score / shares[label] if shares[label] else 0.0, shares[label])
            for (a, b), score, label in zip(segments.tolist(), values.tolist(), labels)
        ]
        return self._finish(found, detections)

    def _finish(self, found: Localization, detections: list[Segment]) -> Localization:
        if not detections:
            detections = [Segment(a, b, "action", s, proposal_score=s) for a, b, s in found.proposals.tolist()]
        count = self._count(self.max_segments, _SEGMENTS, found.duration_s)
        chosen = choose_segments(detections, count, self.min_score, self.max_overlap)
        return replace(found, segments=chosen, detections=detections)


def localize(
    bmn: str | Path,
    videos: Any,
    *,
    features_from: str | Path | None = None,
    labeler: str | Path | Literal[False] | None = None,
    device: str | None = None,
    **options: Any,
) -> Localization | list[Localization]:
    """Localize in one video, or in a list of them.

    >>> clipwise.localize("bmn.safetensors", "video.mp4").segments

    Args:
        bmn: checkpoint of a proposal network.
        videos: what :class:`Localizer` takes, or a list of such.
        features_from: recognizer that made the network's features, where the checkpoint does not know it.
        labeler: recognizer that names the segments.
        options: further arguments of :class:`Localizer`.
    """
    localizer = Localizer(bmn, features_from, labeler=labeler, device=device, **options)
    if isinstance(videos, (list, tuple)):
        return [localizer(video) for video in videos]
    return localizer(videos)


def _is_features(video: Any) -> bool:
    if isinstance(video, np.ndarray):
        return video.ndim == 2
    return isinstance(video, (str, os.PathLike)) and Path(video).suffix.lower() in SUFFIXES
