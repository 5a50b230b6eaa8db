"""Runs that do not start from nothing: from the weights of another, or from where they stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from clipwise.convert.zoo import imagenet_name
from clipwise.engine import pretrained as zoo
from clipwise.engine.checkpoint import Passport, load_tensors, read_checkpoint
from clipwise.engine.log import RunLog
from clipwise.errors import CheckpointError
from clipwise.models import contract


def init_weights(model: nn.Module, init: str, first_conv: str, log: RunLog) -> None:
    """Start from a checkpoint's weights; a classifier for another class count stays new, and that is said.

    Args:
        init: a clipwise checkpoint, a name in the zoo, ``imagenet``, or another project's file: of 2-D ImageNet
            weights, or of a recognizer.
    """
    path = resolve_start(model, init)
    if path.suffix != ".safetensors":
        log.say(load_start(model, path, first_conv))
        return
    tensors, passport = read_checkpoint(path)
    own = model.state_dict()
    head = [k for k, v in model.named_modules() if v is getattr(model, "classifier", None)]
    names = [f"{k}.{p}" for k in head for p in ("weight", "bias")]
    replaced = [k for k in names if k in tensors and tensors[k].shape != own[k].shape]
    if replaced:
        log.say(
            f"{path.name} has {len(tensors[replaced[0]])} classes, this run {len(own[replaced[0]])}: the classifier starts new."
        )
        tensors.update({k: own[k] for k in replaced})
        # TPN's auxiliary classifier has the class count too.
        tensors.update({k: own[k] for k in own if "aux" in k and k in tensors and tensors[k].shape != own[k].shape})
    load_tensors(model, tensors, path)
    log.say(f"weights from {path}, a {passport.model}")


def resolve_start(model: nn.Module, init: str | Path) -> Path:
    """As ``zoo.resolve``, for ``init``: here ``imagenet`` means the ImageNet weights of the model's own depth."""
    if init != "imagenet":
        return zoo.resolve(init)
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
        new = "; the classifier starts new" if heads else ""
        return f"weights from {path} ({report.source_format}): {len(report.matched)} tensors{new}"
    load_converted(model, report)  # raises, and lists what does not fit
    return ""


def find_resume(resume: str | bool, folder: Path) -> Path | None:
    """The checkpoint that ``train(resume=…)`` means; None where ``auto`` finds none yet."""
    newest = folder / "last.safetensors"
    if resume == "auto" and not newest.is_file():
        return None
    if resume not in (True, "auto"):
        return Path(str(resume))
    if not newest.is_file():
        raise CheckpointError(
            f"--resume: {folder} holds no checkpoint (last.safetensors). Start the run without --resume."
        )
    return newest


def check_resume(passport: Passport, task: Any) -> None:
    """Refuse to resume on other data or another model than the checkpoint's."""
    now = task.passport()
    if (passport.model, passport.model_args) != (now.model, now.model_args):
        raise CheckpointError(
            f"the checkpoint is a {passport.model} {passport.model_args}, this run is a {now.model} {now.model_args}. "
            "Resume with the same recipe, or start anew with --init."
        )
    if passport.data.get("fingerprint") != now.data["fingerprint"]:
        raise CheckpointError(
            f"the training list, of {now.data['samples']} samples, is not the one that the checkpoint was trained on, of "
            f"{passport.data.get('samples', '?')}. Resume with the same --data and --no-validate as before (without a validation part, a "
            "fifth of the data is held out to validate), or use --init to start anew from its weights."
        )
