"""What several test files need and no fixture has to clean up."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

TINY = [
    "epochs=2",
    "warmup_epochs=0",
    "batch_size=8",
    "log.every=1",
    "num_workers=0",
    "amp=no",
    "model_args.dropout=0.5",
]
"""Overrides that make a packaged tiny recipe run in a second or two."""


def load_script(path: Path) -> ModuleType:
    """A Python file that belongs to no package, as a module; files beside it can be imported by it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def lively(model: torch.nn.Module) -> torch.nn.Module:
    """Random weights and running statistics that make scores of different clips differ."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
            if isinstance(module, torch.nn.Linear):
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator))
    return model.eval()


def write_loud_actions(folder: Path, longest: int) -> Path:
    """Features and annotations of 24 videos of 23 to ``longest`` positions of half a second.

    One of two channels is 3 while its action, "jump" or "run", lasts; six videos are for validation.
    """
    (folder / "features").mkdir()
    database = {}
    for number in range(24):
        rng = np.random.default_rng(number)
        length = int(rng.integers(23, longest + 1))
        rows = rng.normal(size=(length, 6)).astype(np.float32) * 0.3
        start, label = int(rng.integers(2, 8)), int(rng.integers(2))
        end = start + int(rng.integers(6, 12))
        rows[start:end, label] += 3
        np.save(folder / "features" / f"v_{number}.npy", rows)
        action = {"segment": [start / 2, end / 2], "label": ("jump", "run")[label]}
        subset = "training" if number < 18 else "validation"
        database[f"v_{number}"] = {"duration": length / 2, "subset": subset, "annotations": [action]}
    (folder / "annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")
    return folder


def read_annotations(folder: Path, name: str, content, **options):
    """Write bytes, text or JSON to a file and read it as annotations, leniently unless told otherwise."""
    from clipwise.data.formats.annotation_kinds import read_kind
    from clipwise.data.formats.annotation_parts import FormatOptions

    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_kind(path, options=FormatOptions(strict=options.pop("strict", False), **options))


def segment_rows(found):
    """(video, start, end, label) of each segment."""
    return [
        (name, round(a, 4), round(b, 4), label)
        for name, video in found.videos.items()
        for (a, b), label in zip(video.segments.tolist(), video.labels)
    ]
