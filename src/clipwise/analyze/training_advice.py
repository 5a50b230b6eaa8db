"""What to change so that a training goes faster, read off its measured steps."""

from __future__ import annotations

import tempfile
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from clipwise.errors import ClipwiseError
from clipwise.recipe import Recipe

if TYPE_CHECKING:
    from clipwise.analyze.training_speed import TrainingSpeed


def reading_gain(recipe: Recipe, paths: list[str]) -> float | None:
    """How many times faster clips of these videos are read after ``clipwise prepare resize``; None if they can't be read."""
    from clipwise.data.clip_spec import ClipSpec
    from clipwise.prepare.prepare import resize_videos

    spec = ClipSpec.from_recipe(recipe.model_dump(), "train")
    size = spec.transform.resize
    side = size if isinstance(size, int) else min(size) if size else 256

    def seconds(files: list[str]) -> float:
        began = time.perf_counter()
        for number in range(3 * len(files)):
            with spec.open_video(files[number % len(files)]) as reader:
                spec.read(reader, np.random.default_rng(number))
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory(prefix="clipwise-bench-") as name:
        try:
            made = resize_videos(list(paths), name, short_side=side, workers=1)
            small = [str(file) for file in made.outputs.values()]
            return min(seconds(list(paths)) for _ in range(2)) / min(seconds(small) for _ in range(2))
        except (ClipwiseError, OSError, ZeroDivisionError):
            return None


def fastest_decoder(recipe: Recipe, paths: list[str]) -> str | None:
    """A line about the decoder that reads these videos fastest here; None where only one is installed."""
    from clipwise.analyze.decoder_speed import decoder_advice, decoder_speeds
    from clipwise.data.clip_spec import ClipSpec

    spec = ClipSpec.from_recipe(recipe.model_dump(), "train")
    return decoder_advice(decoder_speeds(paths, spec), spec.video_backend)


def waits(speed: TrainingSpeed) -> bool:
    """Whether data loading holds the steps up."""
    return speed.source == "files" and speed.ms["data"] > 0.05 * speed.step_ms


def advise(speed: TrainingSpeed, recipe: Recipe, gain: float | None = None) -> list[str]:
    """What to change, largest gain first; empty where nothing stands out.

    Args:
        gain: how many times faster prepared videos are read, if that was measured.
    """
    advice = []
    data, step = speed.ms["data"], speed.step_ms
    if waits(speed):
        text = f"data loading is the bottleneck: {data:.1f} of {step:.1f} ms of a step are spent waiting for it."
        if gain is not None and gain >= 1.2:
            text += f" `clipwise prepare resize` makes reading {gain:.1f} times faster on these videos."
        advice.append(f"{text} More num_workers than {recipe.num_workers} help while cores are free.")
    if "cpu" not in speed.device and speed.precision in ("fp32", "tf32"):
        advice.append("amp=bf16 uses the matrix units at twice TF32's rate and halves the activations.")
    if "cpu" not in speed.device and speed.ms["optimizer"] > 0.15 * step:
        advice.append(
            f"the optimizer takes {speed.ms['optimizer']:.1f} of {step:.1f} ms whatever the batch: a larger batch_size pays."
        )
    if "cpu" not in speed.device and hasattr(torch.accelerator, "get_memory_info"):  # not in torch 2.11
        total = torch.accelerator.get_memory_info()[1] / 2**20
        if speed.memory_mb < 0.4 * total:
            advice.append(
                f"{speed.memory_mb:,} of {total:,.0f} MB of the device's memory are used: try a larger batch_size."
            )
    return advice
