"""What lies beside the weights on the hub: ``config.json`` and a model card, both made from the checkpoint's passport."""

from __future__ import annotations

import json
from typing import Any

import yaml

import clipwise
from clipwise.engine.checkpoint import Passport
from clipwise.io.text import plural

LOCALIZATION_TAG = "temporal-action-localization"


def config_json(passport: Passport) -> str:
    """The passport as the hub's ``config.json``: for people and programs that look without downloading the weights."""
    config: dict[str, Any] = {
        "library_name": "clipwise",
        "architectures": [passport.model],
        "model_args": passport.model_args,
        "task": passport.recipe.get("task", "recognition"),
        "id2label": {str(i): name for i, name in enumerate(passport.classes or [])},
        "recipe": passport.recipe,
        "metrics": passport.metrics,
        "data": passport.data,
        "versions": passport.versions,
    }
    return json.dumps(config, ensure_ascii=False, indent=2, default=str) + "\n"


def model_card(passport: Passport, repo: str, license: str | None = None, dataset: str | None = None) -> str:
    """A model card: what it is, how to use it, what it reached on what and by which protocol.

    Args:
        repo: ``org/name``.
        license: the hub's name of the weights' license, such as ``apache-2.0``; none is claimed if not given.
        dataset: name of the data set that the metrics belong to; the training list's name if not given.
    """
    recipe = passport.recipe
    localizes = recipe.get("task") == "localization"
    data = dataset or _data_name(passport) or "own data"
    head: dict[str, Any] = {"library_name": "clipwise"}
    if not localizes:
        head["pipeline_tag"] = "video-classification"
    head["tags"] = ["clipwise", passport.model, LOCALIZATION_TAG if localizes else "action-recognition"]
    if license:
        head["license"] = license
    if passport.metrics:
        head["model-index"] = [_results(passport, repo, data, localizes)]
    verb = "localize" if localizes else "predict"
    call = (
        f'clipwise.localize("hf://{repo}", "video.mp4").segments'
        if localizes
        else f'clipwise.load("hf://{repo}")("video.mp4").top(3)'
    )
    outputs = len(passport.classes or []) or _outputs(passport)
    what = plural(outputs, "class", "classes") if isinstance(outputs, int) else f"{outputs} classes"
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n",
        f"# {repo.partition('/')[2]}\n",
        f"`{passport.model}` trained with [clipwise](https://pypi.org/project/clipwise/) {passport.versions.get('clipwise', '')}: "
        f"{'finds when actions happen in long videos' if localizes else f'recognizes {what} in video clips'}.\n",
        f"## How to use\n\n```bash\npip install clipwise\nclipwise {verb} hf://{repo} video.mp4\n```\n\n```python\nimport clipwise\n\n{call}\n```\n",
    ]
    if passport.metrics:
        rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in passport.metrics.items())
        parts.append(f"## Results\n\nOn {data}, {protocol(recipe)}.\n\n| metric | value |\n|---|---|\n{rows}\n")
    parts.append(f"## Training\n\n{_training(passport)}\n")
    if passport.classes:
        shown = ", ".join(passport.classes[:50])
        parts.append(
            f"## Classes\n\n{shown}{f' and {len(passport.classes) - 50} more' if len(passport.classes) > 50 else ''}\n"
        )
    return "\n".join(parts)


def protocol(recipe: dict[str, Any]) -> str:
    """How the passport's metrics were measured: those of the validation during training."""
    if recipe.get("task") == "localization":
        return "validation part, whole sequences"
    val = recipe.get("val") or {}
    size = val.get("crop_size") or recipe.get("crop_size")
    width, height = size if isinstance(size, (list, tuple)) else (size, size)
    frames = f"{plural(recipe['num_segments'], 'segment')}" if recipe.get("num_segments") else ""
    if recipe.get("clip_len", 1) != 1:
        frames = f"{frames + ' of ' if frames else ''}{plural(recipe['clip_len'], 'frame')}, {recipe.get('frame_interval', 1)} apart"
    return ", ".join(
        filter(None, ["one view a video in the validation part", frames, f"{width} × {height} pixels" if size else ""])
    )


def _results(passport: Passport, repo: str, data: str, localizes: bool) -> dict[str, Any]:
    task = {"type": "other", "name": "Temporal action localization"} if localizes else {"type": "video-classification"}
    names = {"top1_acc": "Top-1 accuracy", "top5_acc": "Top-5 accuracy", "mean_class_accuracy": "Mean class accuracy"}
    kinds = {"top1_acc": "accuracy"}
    found: dict[str, Any] = {
        "task": task,
        "dataset": {"name": data, "type": data.lower().replace(" ", "-"), "split": "validation"},
        "metrics": [
            {"type": kinds.get(name, name), "name": names.get(name, name), "value": round(float(value), 6)}
            for name, value in passport.metrics.items()
        ],
    }
    if fingerprint := passport.data.get("fingerprint"):
        found["dataset"]["revision"] = fingerprint
    return {"name": repo.partition("/")[2], "results": [found]}


def _data_name(passport: Passport) -> str:
    from pathlib import PurePath

    path = PurePath(str(passport.data.get("path") or passport.data.get("train") or ""))
    return path.parent.name if path.suffix else path.name


def _outputs(passport: Passport) -> Any:
    return passport.model_args.get("num_classes", "its")


def _training(passport: Passport) -> str:
    recipe, lines = passport.recipe, []
    if passport.source:
        lines.append(f"- Converted from {passport.source}.")
    if passport.epoch:
        lines.append(f"- {plural(passport.epoch, 'epoch')}, {plural(passport.step, 'optimizer step')}.")
    for key in ("name", "optimizer", "lr", "batch_size", "init"):
        if recipe.get(key) not in (None, ""):
            lines.append(f"- {key}: {recipe[key]}")
    for key, value in passport.data.items():
        lines.append(f"- data, {key}: {value}")
    versions = ", ".join(
        f"{name} {version}" for name, version in (passport.versions or {"clipwise": clipwise.__version__}).items()
    )
    lines.append(f"- {versions}")
    lines.append("- Every key of the recipe is in `config.json` and in the weights' header.")
    return "\n".join(lines)
