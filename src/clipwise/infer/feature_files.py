"""A folder of feature files: extracted video by video, gone on with after an interruption, shared among machines.

Beside the files stand ``features.json`` (which network, which windows: one recipe a folder) and for each video ``NAME.json``
(duration, frame rate, frames). Files appear only when they are complete, so what is there is finished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clipwise.data.feature_dataset import SIDECAR, read_sidecar
from clipwise.errors import DataError
from clipwise.infer.features import FeatureExtractor, TwoStream, VideoFeatures
from clipwise.io.files import atomic_path
from clipwise.io.progress import Progress, silent

FileFormat = Literal["npy", "csv"]
_PLACES = ("recognizer",)  # may differ between machines


@dataclass
class ExtractionReport:
    """What was done."""

    folder: Path
    written: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """Were there already."""
    failures: dict[str, str] = field(default_factory=dict)


def extract_features(
    extractor: FeatureExtractor | TwoStream,
    inputs: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    format: FileFormat = "npy",
    frame_rate: float | None = None,
    progress: Progress = silent,
) -> ExtractionReport:
    """Write one feature file per video.

    Args:
        inputs: videos or folders of frames; a file is named after its video.
        out: the folder.
        format: ``npy`` (float32) or ``csv`` (header f0, f1, …; 6 digits).
        frame_rate: of frame folders.
        progress: called with (done, total, message).

    Raises:
        DataError: two inputs of one name, or a folder that holds features of another recipe or format.
    """
    folder = Path(out)
    names: dict[str, str] = {}
    for item in map(str, inputs):
        name = Path(item).name if Path(item).is_dir() else Path(item).stem
        if name in names:
            raise DataError(f"{item} and {names[name]} would both be written to {name}.{format}; names must differ.")
        if f"{name}.json" == SIDECAR:
            raise DataError(f"{item}: the facts of this video would overwrite {SIDECAR}; give the video another name.")
        other = folder / f"{name}.{'csv' if format == 'npy' else 'npy'}"
        if other.is_file():
            raise DataError(
                f"{other} is there already; a folder holds files of one format. Give another --out, or --format {other.suffix[1:]}."
            )
        names[name] = item
    recipe = extractor.describe()
    claim_folder(folder, recipe)
    report = ExtractionReport(folder)
    for done, (name, item) in enumerate(names.items()):
        target = folder / f"{name}.{format}"
        if target.is_file() and (folder / f"{name}.json").is_file():
            report.skipped.append(name)
        else:
            try:
                features = extractor(item, frame_rate=frame_rate)
            except (DataError, OSError) as error:
                report.failures[item] = str(error)
            else:
                write_features(target, features, recipe)
                report.written.append(name)
        progress(done + 1, len(names), name)
    return report


def claim_folder(folder: Path, recipe: dict[str, Any]) -> None:
    """Write the folder's recipe, or find that it is this one."""
    there = read_sidecar(folder)
    if there is None:
        with atomic_path(folder / SIDECAR) as path:
            path.write_text(json.dumps(recipe, indent=2), encoding="utf-8")
        return
    different = [k for k in recipe if k not in _PLACES and k != "flow" and there.get(k) != recipe[k]]
    if different:
        changes = ", ".join(f"{k} {there.get(k)!r} there, {recipe[k]!r} now" for k in different)
        raise DataError(
            f"{folder} holds features that were made otherwise ({changes}). Give another --out, or the same settings."
        )


def write_features(target: Path, features: VideoFeatures, recipe: dict[str, Any]) -> None:
    """One video's file and its ``.json``."""
    with atomic_path(target) as path:
        if target.suffix == ".csv":
            header = ",".join(f"f{i}" for i in range(features.values.shape[1]))
            np.savetxt(path, features.values, fmt="%.6g", delimiter=",", header=header, comments="")
        else:
            with open(path, "wb") as file:
                np.save(file, features.values)
    facts = {
        "duration_s": features.duration_s,
        "fps": features.fps,
        "num_frames": features.num_frames,
        "stride": features.stride,
        "covered_s": features.covered_s,
        "positions": len(features.values),
        "sha256": recipe["sha256"],
    }
    with atomic_path(target.with_suffix(".json")) as path:
        path.write_text(json.dumps(facts), encoding="utf-8")
