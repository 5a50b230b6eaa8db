"""Hold an exported file against the network it came from, on real clips or on generated ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.dataset import ClipDataset
from clipwise.data.hold_out import test_part
from clipwise.data.lists import read_part
from clipwise.engine.checkpoint import Passport
from clipwise.errors import DataError
from clipwise.export.graphs import Description, random_input
from clipwise.tasks.logits import Activation, average_views

# Largest difference of float files, as a share of the largest score: sums in another order, folded norms.
FLOAT_TOLERANCE = 1e-3


@dataclass
class Comparison:
    """What a file computes against what the network computes."""

    source: str
    """``random``, or the list."""
    samples: int = 0
    """Videos, or generated clips."""
    max_abs_diff: float = 0.0
    """Largest difference of two scores (logits of all views; probabilities for BMN)."""
    max_rel_diff: float = 0.0
    """The same as a share of the largest score of its sample."""
    top1_agreement: float = 1.0
    """Share of samples whose best class (BMN: best proposal) is the same."""
    accuracy: float | None = None
    """Top-1 of the network on the samples, where the list has labels."""
    exported_accuracy: float | None = None
    """Top-1 of the file."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Sample:
    """Views of one video as the graph takes them, and its label."""

    views: Tensor
    label: int | None = None


def compare(
    model: Callable[[Tensor], Any], exported: Callable[[Tensor], Any], samples: Iterable[Sample], source: str, *, device: torch.device,
    average: str = "prob", activation: Activation = "softmax", before: bool = False,
) -> Comparison:  # fmt: skip
    """Run both on every sample.

    The first sample goes in once whole and once view by view, so that a file which is right at one batch size only is found out.

    Args:
        model: the graph in PyTorch.
        average, activation, before: how views become a video's score, for the best class.
    """
    result = Comparison(source)
    agree = right = exported_right = labeled = 0
    for number, sample in enumerate(samples):
        expected = [t.detach().float().cpu() for t in _tuple(model(sample.views.to(device)))]
        found = [t.float().cpu() for t in _tuple(exported(sample.views))]
        pairs = list(zip(expected, found))
        if number == 0:
            singles = [_tuple(exported(view)) for view in sample.views.split(1)]
            pairs += [(e, torch.cat([s[i].float().cpu() for s in singles])) for i, e in enumerate(expected)]
        for one, other in pairs:
            difference = (
                float("inf") if one.shape != other.shape else float((one - other).abs().nan_to_num(torch.inf).max())
            )
            result.max_abs_diff = max(result.max_abs_diff, difference)
            result.max_rel_diff = max(result.max_rel_diff, difference / max(float(one.abs().max()), 1e-6))
        best = _best(expected, average, activation, before)
        other_best = _best(found, average, activation, before) if expected[0].shape == found[0].shape else -1
        agree += best == other_best
        result.samples += 1
        if sample.label is not None:
            labeled += 1
            right += best == sample.label
            exported_right += other_best == sample.label
    if not result.samples:
        raise DataError(f"{source}: no clip to compare on.")
    result.top1_agreement = agree / result.samples
    if labeled:
        result.accuracy, result.exported_accuracy = right / labeled, exported_right / labeled
    return result


def _tuple(outputs: Any) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _best(outputs: list[Tensor], average: str, activation: Activation, before: bool) -> int:
    """The class of a video, or where a localizer's first output is largest; the channels of a map are factors."""
    if len(outputs) == 1:
        return int(average_views(outputs[0][None], average, activation, before).argmax())
    first = outputs[0][:1]
    return int((first.prod(1) if first.dim() == 4 else first).argmax())


def random_samples(description: Description, count: int = 4) -> list[Sample]:
    """Generated inputs, always the same; the first one has two views."""
    return [Sample(random_input(description, 1 if seed else 2, seed)) for seed in range(count)]


class ListSamples:
    """Videos of a list as the test protocol cuts them; each pass decodes again, so memory holds one video.

    Args:
        data: list or folder.
        passport: its recipe says how clips are cut.
        description: of the graph; float graphs get normalized clips.
        limit: videos, taken at equal distances from the list so that all classes have a chance.

    Raises:
        DataError: the list can't be read, or none of its videos can be decoded (when iterated).
    """

    def __init__(self, data: str, passport: Passport, description: Description, limit: int):
        recipe = passport.recipe
        outputs = passport.model_args.get("num_classes")
        videos = read_part(test_part(data), recipe, "val", classes=passport.classes, num_classes=outputs)
        self.dataset = ClipDataset(videos, ClipSpec.from_recipe(recipe, "test"))
        self.description, self.source = description, data
        self.indices = np.unique(np.linspace(0, len(videos) - 1, min(limit, len(videos))).round().astype(int)).tolist()

    def __iter__(self):
        failed = None
        served = 0
        for index in self.indices:
            item = self.dataset[index]
            if item["frames"] is None:
                failed = item["error"]
                continue
            served += 1
            frames, label = item["frames"], item["label"]
            single = label is not None and torch.as_tensor(label).ndim == 0 and int(label) >= 0
            yield Sample(as_input(frames, self.description, self.dataset.spec), int(label) if single else None)
        if not served:
            raise DataError(f"{self.source}: none of its videos can be decoded; the last: {failed}")


def as_input(frames: Tensor, description: Description, spec: ClipSpec) -> Tensor:
    """uint8 (V, T, H, W, C) -> what the graph takes."""
    if description.dtype == "uint8":
        return frames
    from clipwise.data.transforms import normalize_clips

    return normalize_clips(frames, spec.mean, spec.std).contiguous()


def on_device(graph: nn.Module) -> torch.device:
    """Where a module's weights lie."""
    return next(graph.parameters()).device
