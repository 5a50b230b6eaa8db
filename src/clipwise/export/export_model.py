"""Export a checkpoint: make the file, hold it against the network, keep it only if it passes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from clipwise.engine import pretrained as zoo
from clipwise.engine.checkpoint import Passport, load_model_and_passport
from clipwise.engine.result_files import check_writable
from clipwise.errors import ClipwiseError, WorkError
from clipwise.export import SUFFIXES
from clipwise.export.compare import FLOAT_TOLERANCE, Comparison, ListSamples, compare, on_device, random_samples
from clipwise.export.graphs import Description, make_graph
from clipwise.export.runtimes import load_exported_model
from clipwise.export.writers import quantize_onnx, write_onnx, write_openvino, write_torch
from clipwise.io.devices import pick_device
from clipwise.io.files import atomic_path
from clipwise.io.text import plural
from clipwise.recipe.verb_keys import changed_recipe
from clipwise.tasks.logits import activation_of

Format = Literal["onnx", "torch", "openvino"]


@dataclass
class Export:
    """A file that was kept."""

    path: Path
    format: str
    precision: str
    size_bytes: int
    description: Description
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        about = self.description
        return {
            "path": str(self.path),
            "format": self.format,
            "precision": self.precision,
            "size_bytes": self.size_bytes,
            "input": {"name": about.input, "dtype": about.dtype, "shape": ["batch", *about.shape]},
            "outputs": about.outputs,
            "comparison": self.comparison.to_dict(),
        }


def export(
    checkpoint: str | Path,
    format: Format = "onnx",
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    **options: Any,
) -> Export:
    """Export a checkpoint; see :func:`export_model` for the options.

    Args:
        device: what ``aot`` compiles for; the CPU if not given.
        overrides: ``key=value`` on the recipe, to give the file another test protocol than the checkpoint's.

    Raises:
        CheckpointError: the checkpoint can't be used.
        RecipeError: an override is wrong.
    """
    source = zoo.resolve(checkpoint)
    model, passport = load_model_and_passport(source, pick_device(device or "cpu"))
    if overrides:
        changed = changed_recipe("export", passport.recipe, overrides, str(checkpoint))
        passport.recipe = changed.model_dump(mode="json")
    suffix = (".int8" if options.get("int8") else "") + SUFFIXES.get(format, "")
    return export_model(model, passport, out or source.with_name(source.stem + suffix), format, **options)


def export_model(
    model: nn.Module,
    passport: Passport,
    out: str | Path,
    format: Format = "onnx",
    *,
    normalize: bool = True,
    aot: bool = False,
    int8: bool = False,
    calibration: str | None = None,
    num_calibration: int = 64,
    check_clips: str = "random",
    num_check: int = 32,
    min_agreement: float = 0.9,
    say: Callable[[str], None] = lambda line: None,
) -> Export:
    """Write one file.

    Args:
        model: a recognizer or BMN.
        passport: its description.
        out: the file; its suffix must be the format's.
        format: ``onnx``, ``torch`` (``.pt2``) or ``openvino`` (``.xml`` and ``.bin``).
        normalize: the graph takes uint8 frames; False: float clips that the caller has normalized.
        aot: compile with AOTInductor (``torch`` only).
        int8: static quantization (``onnx`` and ``openvino``).
        calibration: list or folder of videos for int8.
        num_calibration: how many of them.
        check_clips: ``random``, or a list or folder; with labels the accuracy is compared too.
        num_check: how many of its videos.
        min_agreement: int8: smallest share of samples whose best class stays.
        say: told what is going on.

    Raises:
        ClipwiseError: options that contradict each other.
        WorkError: the export fails, or computes something else than the network; nothing is written then.
    """
    out = Path(out)
    _check_options(model, out, format, aot, int8, calibration)
    graph, description = make_graph(model, passport, normalize=normalize)
    if not aot and on_device(graph).type != "cpu":
        raise ClipwiseError(
            "files that run anywhere are written from the CPU: leave out --device, or move the model there."
        )
    clips = _calibration_clips(calibration, passport, description, num_calibration) if calibration else iter(())
    if not normalize and description.input == "features":
        raise ClipwiseError("--float-input has no effect with a network that takes features; leave it out.")
    samples = random_samples(description)
    if check_clips != "random":
        _refuse_bmn(description, "--check-clips")
        samples = ListSamples(check_clips, passport, description, num_check)  # type: ignore[assignment]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        file = Path(folder) / out.name
        say(f"writing {format}")
        if aot:
            description = replace(description, device=on_device(graph).type)
        if format == "torch":
            write_torch(graph, description, file, aot=aot)
        else:
            onnx_file = file.with_suffix(".onnx")
            write_onnx(graph, description, onnx_file)
            if int8:
                say("calibrating int8")
                description = replace(description, precision="int8")
                quantized = file.with_name("quantized.onnx")
                quantize_onnx(onnx_file, quantized, description, clips)
                os.replace(quantized, onnx_file)
            if format == "openvino":
                write_openvino(onnx_file, description, file)
        say(f"comparing with PyTorch on {check_clips if check_clips != 'random' else 'generated clips'}")
        # On the CPU (but for compiled files): the one device that every runtime has, and where fp32 means fp32.
        exported, _ = load_exported_model(file, None if aot else "cpu", trust=True)  # written just now
        recipe = passport.recipe
        with torch.inference_mode():
            comparison = compare(
                graph,
                exported,
                samples,
                check_clips,
                device=on_device(graph),
                average="score" if recipe.get("test", {}).get("average_clips") == "score" else "prob",
                activation=activation_of(recipe),
                before=description.views_before_softmax,
            )
        _accept(comparison, int8, min_agreement)
        del exported  # the file may be mapped into memory
        # OpenVINO's weights first: a graph without them must never be seen.
        parts = [out.with_suffix(".bin"), out] if format == "openvino" else [out]
        for part in parts:
            with atomic_path(part) as temporary:
                os.replace(file.with_suffix(part.suffix), temporary)
    size = sum(part.stat().st_size for part in parts)
    return Export(out, format + (" aot" if aot else ""), description.precision, size, description, comparison)


def _check_options(model: nn.Module, out: Path, format: str, aot: bool, int8: bool, calibration: str | None) -> None:
    if format not in SUFFIXES:
        raise ClipwiseError(f"--format {format} is not known; known: {', '.join(SUFFIXES)}.")
    if out.suffix != SUFFIXES[format]:
        raise ClipwiseError(f"--out {out}: a file of format {format} must end in {SUFFIXES[format]}.")
    check_writable(out, "--out")
    if aot and format != "torch":
        raise ClipwiseError("--aot compiles torch.export's graph; it needs --format torch.")
    if int8 and format == "torch":
        raise ClipwiseError("--int8 works with --format onnx and openvino.")
    if int8 and not calibration:
        raise ClipwiseError("--int8 needs clips to measure the activations on: --calibration LIST or FOLDER.")
    if calibration and not int8:
        raise ClipwiseError("--calibration is for --int8, which was not given.")


def _refuse_bmn(description: Description, option: str) -> None:
    if description.input == "features":
        raise ClipwiseError(f"{option} reads videos, but this network takes features; leave it out.")


def _calibration_clips(data: str, passport: Passport, description: Description, count: int) -> Iterator[np.ndarray]:
    """First view of each video, (1, …); a list that can't be read is refused at once."""
    _refuse_bmn(description, "--calibration")
    samples = ListSamples(data, passport, description, count)
    return (np.ascontiguousarray(sample.views[:1].numpy()) for sample in samples)


def _accept(comparison: Comparison, int8: bool, min_agreement: float) -> None:
    if int8:
        if comparison.top1_agreement < min_agreement:
            raise WorkError(
                f"the int8 network agrees with the original on {comparison.top1_agreement:.1%} of {plural(comparison.samples, 'sample')}, "
                f"less than {min_agreement:.1%}; nothing was written. Give more calibration videos, or accept it with --min-agreement."
            )
    elif not comparison.max_rel_diff <= FLOAT_TOLERANCE:
        raise WorkError(
            f"the exported network computes something else: its scores differ by up to {comparison.max_abs_diff:.3g} "
            f"({comparison.max_rel_diff:.3g} of the largest, {FLOAT_TOLERANCE:g} is allowed); nothing was written."
        )
