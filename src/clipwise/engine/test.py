"""``clipwise test``: a checkpoint, a list, its scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from clipwise.data.clip_spec import ClipSpec
from clipwise.data.dataset import ClipDataset
from clipwise.data.hold_out import test_part
from clipwise.data.lists import read_part
from clipwise.engine import pretrained as zoo
from clipwise.engine.checkpoint import Passport, load_model_and_passport
from clipwise.engine.device import make_accelerator
from clipwise.engine.evaluate import TestResult, score_list
from clipwise.engine.metric_names import check_metrics
from clipwise.engine.recognition import check_classes, check_labels
from clipwise.errors import CheckpointError, ClipwiseError, DataError
from clipwise.io.plugins import is_foreign, trusting
from clipwise.io.progress import Progress, silent
from clipwise.models.registry import model_place
from clipwise.recipe import apply_overrides, load_recipe, make_recipe
from clipwise.tasks.logits import activation_of, check_finite
from clipwise.tasks.protocol import DataProtocol, recognize_videos


def evaluate(
    checkpoint: str | Path,
    *,
    data: str | Path | None = None,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    metrics: Sequence[str] | None = None,
    topk: Sequence[int] = (1, 5),
    max_views: int | None = None,
    amp: str = "no",
    device: str | None = None,
    loaded: tuple[nn.Module, Passport] | None = None,
    progress: Progress = silent,
    trust: bool = False,
    model: nn.Module | None = None,
) -> TestResult:
    """Score every video of a list once and measure.

    Args:
        checkpoint: a file, or a name in the zoo; with a recipe also another project's file.
        data: folder or list; the recipe's test or validation list if not given.
        recipe: replaces the protocol in the checkpoint's passport.
        overrides: ``key=value`` strings on the recipe.
        loaded: what ``checkpoint`` holds, if it was opened elsewhere (exported files).
        metrics: names as of :data:`clipwise.tasks.metrics.BUILT_IN`.
        trust: whether a model that does not come with clipwise may be imported.
        model: the network of a checkpoint whose training got it as an object.

    Raises:
        CheckpointError, DataError, RecipeError: something given is wrong.
    """
    accelerator = make_accelerator(device)
    protocol = load_recipe(recipe, overrides) if recipe else None
    network = load_recipe(recipe, [o for o in overrides if o.startswith("model")]) if recipe else None
    with trusting(trust):
        model, passport = loaded or load_model_and_passport(
            zoo.resolve(checkpoint, network), accelerator.device, model=model
        )
    if protocol is not None and model_place(protocol.model) != model_place(passport.model):
        raise CheckpointError(
            f"{checkpoint} holds a {passport.model}, but the recipe {recipe} is for {protocol.model}. "
            "Give the checkpoint's own recipe, or none."
        )
    if protocol is None:
        protocol = make_recipe(apply_overrides(passport.recipe, overrides), source=str(checkpoint))
    if overrides:
        from clipwise.recipe.verb_keys import refuse_training_keys

        before = load_recipe(recipe) if recipe else make_recipe(passport.recipe)
        refuse_training_keys("test", before, protocol, whole=bool(recipe))
    if protocol.task != "recognition":
        raise CheckpointError(
            f"{checkpoint} is not a recognizer; `clipwise localize` and `clipwise eval-proposals` are for BMN."
        )
    known = passport.model_args.get("num_classes") or passport.recipe["num_classes"]
    if known is None:
        raise CheckpointError(
            f"{checkpoint} is an encoder without a classifier. Train one: clipwise train {checkpoint} --data DATA model=hf_probe"
        )
    own = list_of(passport, "val", checkpoint)
    source = data or protocol.test_data or protocol.val_data or own
    if source is None:
        raise DataError("no test data: give --data FOLDER or LIST.")
    num_classes = int(known)
    videos = read_part(
        test_part(source),
        protocol.model_dump(),
        "val",
        plain=bool(passport.data.get("held_out")) and str(source) == own,
        classes=passport.classes,
        num_classes=num_classes,
    )
    check_classes(videos, num_classes, source)
    check_labels(videos, source)
    default = ("mean_average_precision",) if protocol.multi_label else ("top_k_accuracy", "mean_class_accuracy")
    check_metrics(metrics or default, videos.multi_label, num_classes)
    spec = ClipSpec.from_recipe(protocol.model_dump(), "test")
    if spec.video_backend == "torchcodec":
        from clipwise.data.device_clips import decoded_on

        spec = decoded_on(spec, accelerator.device, protocol.num_workers)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, -(-len(videos) // accelerator.num_processes), "")

    if accelerator.device.type == "cpu" and not loaded and amp != "fp16":
        from clipwise.engine.cpu_inference import fastest

        model, amp = fastest(model, amp)
    result = score_list(
        model,
        ClipDataset(videos, spec),
        device=accelerator.device,
        activation=activation_of(protocol.model_dump()),
        average=protocol.test.average_clips,
        max_views=max_views or protocol.test.max_views,
        num_workers=protocol.num_workers,
        amp=amp,
        progress=advance,
    )
    for path, scores in zip(result.paths, result.scores):
        if path not in result.failures:
            check_finite(scores, passport.model)
    result.form = getattr(model, "form", "")
    result.allow_missing = protocol.test.allow_missing
    result.compute(metrics or default, topk)
    if is_foreign(checkpoint):
        from clipwise.engine.foreign_models import protocol_of

        result.protocol = protocol_of(protocol, result.metrics, len(result.paths))
    result.trained_on = _trained_on(result.paths, passport, list_of(passport, "train", checkpoint))
    result.data_protocol = _data_protocol(result.paths, num_classes, passport, list_of(passport, "train", checkpoint))
    return result


def _data_protocol(
    paths: Sequence[str], num_classes: int, passport: Passport, source: str | None
) -> DataProtocol | None:
    """The variant of a known data set; the training list is read only where its groups matter."""
    found = recognize_videos(paths, num_classes)
    if found is None or found.data_set != "UCF101" or source is None or not os.path.exists(source):
        return found
    if os.path.isdir(source):
        trained = [file for _, _, files in os.walk(source) for file in files]
    else:
        trained = _training_paths(passport, source)
    return recognize_videos(paths, num_classes, trained)


def list_of(passport: Passport, part: str, checkpoint: str | Path) -> str | None:
    """The training ("train") or validation ("val") list of a checkpoint; one that its run wrote moves with the run's folder."""
    source = passport.data.get(part)
    if not isinstance(source, str):  # not known, or a stranger's passport
        return None
    if passport.data.get("held_out"):
        beside = Path(checkpoint).parent / "lists" / Path(source).name
        return str(beside if beside.is_file() else source)
    return source


def _trained_on(paths: Sequence[str], passport: Passport, source: str | None) -> int:
    """How many of these videos are in the checkpoint's training list or folder, if that is still where it was."""
    if source is None or not os.path.exists(source):
        return 0
    places = [os.path.abspath(path) for path in paths]
    if os.path.isdir(source):
        folder = os.path.join(os.path.abspath(source), "")
        return sum(place.startswith(folder) for place in places)
    known = set(_training_paths(passport, source))
    return sum(place in known for place in places)


def _training_paths(passport: Passport, source: str) -> list[str]:
    """Videos of a checkpoint's training list, none if it can't be read."""
    try:
        plain = bool(passport.data.get("held_out"))
        train = read_part(source, passport.recipe, "train", plain=plain, classes=passport.classes)
    except (ClipwiseError, OSError):
        return []
    return [os.path.abspath(train.path(i)) for i in range(len(train))]
