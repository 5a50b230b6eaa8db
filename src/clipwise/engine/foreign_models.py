"""``hf:MODEL`` and ``timm:MODEL`` as checkpoints: the network with its weights, and a passport made from its own files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clipwise.engine.saver import Passport
from clipwise.io.model_folders import classes_file, model_folder
from clipwise.models.registry import create_model
from clipwise.recipe import load_recipe
from clipwise.recipe.foreign_recipe import class_names

SUSPICIOUS = 3.0
"""Standard errors that a measured accuracy may lie away from the published one."""


def load_foreign(name: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, Passport]:
    """A network of another library in evaluation mode, as a checkpoint of ours is loaded.

    Without a classifier it gives features alone; with one it is a recognizer under its published test protocol.

    Raises:
        CheckpointError: no such model, weights that are missing or a pickle, or preprocessing that is not supported.
        MissingExtraError: the library is not installed.
    """
    recipe = load_recipe(str(name))
    if texts := classes_file(name):
        from clipwise.engine.text_classes import load_text_classifier

        return load_text_classifier(name, texts, recipe, device)
    names = class_names(model_folder(name))
    count = len(names) if names else None
    args = {**recipe.model_args, "num_classes": count, "head": "own" if count else "none"}
    if recipe.model == "timm":
        model = create_model("timm", **args)
        model.load_from(name, new_head=False)  # type: ignore[operator]
    else:
        from clipwise.models.hf import load_network

        net, _ = load_network(name, count is not None)
        model = create_model("hf", net=net, **args)
    values = {**recipe.model_dump(mode="json"), "num_classes": count}
    passport = Passport(recipe.model, args, classes=names, recipe=values, source=str(name))
    model.passport = passport  # type: ignore[assignment]
    return model.eval().to(device), passport


def protocol_of(recipe: Any, metrics: Mapping[str, float], num_videos: int) -> dict[str, Any]:
    """How a released model was tested, where that protocol is published, and what its published figure says about the measured one.

    Returns:
        ``views``, ``source`` and, where it is known, ``published_top1`` (a fraction) and ``standard_errors``: how many of those of a
        list of this size the measured accuracy lies above (or, negative, below) the published one.
    """
    facts: dict[str, Any] = {"views": recipe.input_facts()["test views"], "source": "; ".join(recipe.notes) or None}
    published, measured = recipe.published.top1, metrics.get("top1_acc")
    if published and measured is not None:
        share = published / 100
        facts["published_top1"] = share
        facts["standard_errors"] = round((measured - share) / math.sqrt(share * (1 - share) / num_videos), 2)
    return facts


def protocol_lines(facts: Mapping[str, Any]) -> list[str]:
    """:func:`protocol_of` in words; a result that chance does not explain is called so."""
    lines = [f"views: {facts['views']}"]
    if facts["source"]:
        lines.append(facts["source"])
    if "published_top1" in facts:
        away = facts["standard_errors"]
        text = f"published top1_acc {facts['published_top1']:.4f}; the measured one lies {abs(away):g} standard errors {'below' if away < 0 else 'above'}"
        if abs(away) > SUSPICIOUS:
            text += (
                ": not by chance. Other videos or classes than the published ones, another order of the classes, or a fault in weights, "
                "frames or views"
            )
        lines.append(text)
    return lines
