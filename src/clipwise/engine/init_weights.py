"""Runs that start from the weights of another: a checkpoint, another project's file, ImageNet weights."""

from __future__ import annotations

import contextlib
from pathlib import Path

from torch import nn

from clipwise.convert.zoo import imagenet_name
from clipwise.engine import pretrained as zoo
from clipwise.engine.checkpoint import load_tensors, read_checkpoint
from clipwise.engine.checkpoint_errors import check_file
from clipwise.engine.log import RunLog
from clipwise.errors import CheckpointError, ClipwiseError
from clipwise.io.plugins import is_foreign
from clipwise.io.text import plural
from clipwise.models import contract


def init_weights(model: nn.Module, init: str, first_conv: str, log: RunLog) -> None:
    """Start from a checkpoint's weights; a classifier for another class count is re-initialized, which is logged.

    Args:
        init: a clipwise checkpoint, a name in the zoo, ``imagenet``, or another project's file: of 2-D ImageNet
            weights, or of a recognizer.
    """
    if is_foreign(init):
        if not hasattr(model, "load_from"):
            raise CheckpointError(
                f"init: {init} is a model of another library, whose weights fit no {type(model).__name__}. Train it itself: clipwise train {init} …"
            )
        log.say(model.load_from(init))  # type: ignore[operator]
        return
    path = resolve_start(model, init)
    if path.is_dir() or path.suffix not in (".safetensors", *zoo.FOREIGN_SUFFIXES, ".pkl", ".bin", ""):
        check_file(path)  # a list, a recipe, an exported file, …
    if path.suffix != ".safetensors":
        log.say(load_start(model, path, first_conv))
        return
    tensors, passport = read_checkpoint(path)
    own, last = model.state_dict(), None
    with contextlib.suppress(ClipwiseError):  # a localizer has none
        last = contract.classifier(model)
    head = [k for k, v in model.named_modules() if v is last]
    head += getattr(model, "class_outputs", ())
    names = [f"{k}.{p}" for k in head for p in ("weight", "bias")]
    replaced = [k for k in names if k in tensors and tensors[k].shape != own[k].shape]
    if replaced:
        log.say(
            f"{path.name}: classifier re-initialized ({len(tensors[replaced[0]])} → {plural(len(own[replaced[0]]), 'class', 'classes')})."
        )
        tensors.update({k: own[k] for k in replaced})
        # TPN's auxiliary classifier has the class count too.
        tensors.update({k: own[k] for k in own if "aux" in k and k in tensors and tensors[k].shape != own[k].shape})
    try:
        load_tensors(model, tensors, path)
    except CheckpointError as error:
        raise CheckpointError(f"init: {path} holds a {passport.model}. {error}") from None
    log.say(f"weights from {path}, a {passport.model}")


def resolve_start(model: nn.Module, init: str | Path) -> Path:
    """As ``zoo.resolve``, for ``init``: here ``imagenet`` means the ImageNet weights of the model's own depth."""
    if init != "imagenet":
        return zoo.resolve(init, as_it_is=True)
    return zoo.resolve(imagenet_name(contract.imagenet_body(model)[1]))


def load_start(model: nn.Module, path: Path, first_conv: str) -> str:
    """Start a model from another project's file: ImageNet weights, or a recognizer whose classifier may differ.

    Returns:
        A line for the log.

    Raises:
        CheckpointError: the file fits neither way.
    """
    from clipwise.convert.weights import (
        TORCHVISION,
        convert_state_dict,
        load_converted,
        load_imagenet,
        read_foreign_checkpoint,
        recognize_format,
    )

    foreign = read_foreign_checkpoint(path)
    if recognize_format(foreign.tensors).name == TORCHVISION:
        return str(load_imagenet(model, foreign, first_conv=first_conv))
    report = convert_state_dict(foreign, model)
    heads = [text for text in report.mismatched if " -> fc." in text or " -> aux_head.fc." in text]
    if len(heads) == len(report.mismatched) and not (report.missing or report.unused or report.conflicts):
        load_converted(model, report, partial=bool(heads))
        new = "; classifier re-initialized" if heads else ""
        return f"weights from {path} ({report.source_format}): {plural(len(report.matched), 'tensor')}{new}"
    load_converted(model, report)  # raises, and lists what does not fit
    return ""
