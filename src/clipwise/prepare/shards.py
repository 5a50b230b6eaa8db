"""Data sets as a few large tar files (shards), for storage that is slow with many small ones. The layout is WebDataset's.

What a sample holds: ``clipwise.data.formats.tar_shards``, which reads them. ``shards.json`` beside the shards says what they were
made from; ``shard-000000.tar.index.json`` says where each sample lies.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.data.formats.tar_shards import write_index
from clipwise.data.lists import VideoList
from clipwise.errors import DataError
from clipwise.io.files import atomic_path
from clipwise.io.parse import parse_json
from clipwise.io.progress import Progress
from clipwise.io.unfinished import remove_stale
from clipwise.prepare.folder_work import PrepareResult
from clipwise.prepare.parallel import run_jobs

INDEX_NAME = "shards.json"


def write_shards(videos: VideoList, target: str | os.PathLike, *, samples_per_shard: int = 1000, shuffle_seed: int | None = 0,
                 workers: int | None = None, progress: Progress | None = None) -> PrepareResult:  # fmt: skip
    """Packs the files of a list into tar shards.

    A shard appears when it is complete; called again with the same list and settings, it makes only those that are missing.

    Args:
        videos: of videos, images or frame folders.
        target: folder for ``shard-000000.tar`` and so on.
        samples_per_shard: samples in each shard but the last.
        shuffle_seed: samples are shuffled over the shards, as readers shuffle only nearby ones; None keeps the list's order.
        workers: processes, None: one a core.

    Returns:
        ``outputs`` maps shard names to paths; ``failed`` names shards of which a file could not be read.

    Raises:
        DataError: the folder holds shards of another list or of other settings.
    """
    if videos.kind not in ("video", "image", "rawframes"):
        raise DataError(f"a list of kind {videos.kind} cannot be packed into shards; allowed: video, image, rawframes")
    if samples_per_shard < 1:
        raise DataError(f"samples_per_shard must be 1 or more, not {samples_per_shard}")
    out = Path(target)
    out.mkdir(parents=True, exist_ok=True)
    order = (
        np.arange(len(videos)) if shuffle_seed is None else np.random.default_rng(shuffle_seed).permutation(len(videos))
    )
    names = [f"shard-{number:06}.tar" for number in range(-(-len(order) // samples_per_shard))]
    plan = {
        "list": videos.fingerprint(),
        "samples_per_shard": samples_per_shard,
        "shuffle_seed": shuffle_seed,
        "classes": videos.classes,
        "shards": {
            name: len(order[at * samples_per_shard : (at + 1) * samples_per_shard]) for at, name in enumerate(names)
        },
    }
    note = out / INDEX_NAME
    if note.exists() and parse_json(note.read_text(encoding="utf-8")) != plan:
        raise DataError(
            f"{out}: holds shards of another list or of other settings; choose another folder or delete them"
        )
    remove_stale(out)
    with atomic_path(note) as temporary:
        temporary.write_text(json.dumps(plan), encoding="utf-8")
    result = PrepareResult()
    jobs = []
    for at, name in enumerate(names):
        path = out / name
        if path.exists():
            result.add(name, str(path), None)
        else:
            members = order[at * samples_per_shard : (at + 1) * samples_per_shard]
            jobs.append(_Shard(str(path), videos.subset(members), members))
    for job, outcome in zip(
        jobs, run_jobs(_write_shard, jobs, workers=workers, progress=progress, describe=lambda job: job.path)
    ):
        result.add(os.path.basename(job.path), job.path, outcome)
    return result


@dataclass(frozen=True)
class _Shard:
    path: str
    videos: VideoList
    numbers: np.ndarray  # of these entries in the whole list


def _write_shard(job: _Shard) -> str:
    with atomic_path(job.path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index, number in enumerate(job.numbers.tolist()):
            for name, data in _members(job.videos, index, f"{number:09}"):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    write_index(job.path)
    return ""


def _members(videos: VideoList, index: int, key: str) -> Iterator[tuple[str, bytes]]:
    path = videos.path(index)
    try:
        if videos.kind == "rawframes":
            for name in sorted(name for name in os.listdir(path) if not name.startswith(".")):
                yield f"{key}.{name}", Path(path, name).read_bytes()
        else:
            yield f"{key}{os.path.splitext(path)[1].lower() or '.bin'}", Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    labels: Any = videos.many_labels[index].tolist() if videos.many_labels is not None else videos.label(index)
    meta: dict[str, Any] = {"path": videos.entry(index)}
    if labels is not None:
        numbers = labels if isinstance(labels, list) else [labels]
        text = ",".join(map(str, numbers))
        # One label of a multi-label list ends in a comma, which keeps it a list.
        yield f"{key}.cls", (text + "," if isinstance(labels, list) and len(numbers) == 1 else text).encode()
        meta["class"] = (
            [videos.class_name(number) for number in numbers]
            if isinstance(labels, list)
            else videos.class_name(numbers[0])
        )
    if (span := videos.span(index)) is not None:
        meta["start_s"], meta["end_s"] = span
    if (frames := videos.num_frames(index)) is not None:
        meta["num_frames"] = frames
    yield f"{key}.json", json.dumps(meta, ensure_ascii=False).encode()
