"""Data sets as a few large tar files (shards), for storage that is slow with many small ones. The layout is WebDataset's.

A sample is a run of members with one key: ``000000012.mp4`` (the file as it is), ``000000012.cls`` (its label, a number; several
separated by commas) and ``000000012.json`` (path in the list, class name, times). ``shards.json`` beside the shards says how many
samples each holds, so that reading can begin anywhere.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.data.lists import VideoList
from clipwise.errors import DataError
from clipwise.io.files import atomic_path, remove_stale
from clipwise.prepare.folder_work import PrepareResult
from clipwise.prepare.parallel import Progress, run_jobs

INDEX_NAME = "shards.json"


@dataclass(frozen=True)
class ShardSample:
    """One sample out of a shard.

    Attributes:
        key: its key in the shard.
        files: ending -> bytes, such as ``{"mp4": …, "cls": b"3", "json": …}``.
        position: number of this sample in its reader's stream; pass ``start=position + 1`` to go on after it.
    """

    key: str
    files: dict[str, bytes]
    position: int

    @property
    def video(self) -> bytes:
        """The video file, for ``open_video``.

        Raises:
            DataError: the sample holds no single video.
        """
        found = [data for ending, data in self.files.items() if ending not in ("cls", "json", "txt", "__key__")]
        if len(found) != 1:
            raise DataError(f"sample {self.key} holds {', '.join(sorted(self.files))}: there is not one video in it")
        return found[0]

    @property
    def label(self) -> int | list[int] | None:
        """Class index, several for a multi-label sample, None without a label."""
        text = self.files.get("cls", b"").decode().strip()
        if not text:
            return None
        numbers = [int(part) for part in text.split(",") if part]
        return numbers if "," in text else numbers[0]

    @property
    def meta(self) -> dict[str, Any]:
        return json.loads(self.files.get("json", b"{}"))


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
        raise DataError(
            f"a list of kind {videos.kind} cannot be packed into shards; allowed are video, image, rawframes"
        )
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
    if note.exists() and json.loads(note.read_text()) != plan:
        raise DataError(
            f"{out}: holds shards of another list or of other settings; choose another folder or delete them"
        )
    remove_stale(out)
    with atomic_path(note) as temporary:
        temporary.write_text(json.dumps(plan))
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
    return ""


def _members(videos: VideoList, index: int, key: str) -> Iterator[tuple[str, bytes]]:
    path = videos.path(index)
    try:
        if videos.kind == "rawframes":
            for name in sorted(os.listdir(path)):
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


def read_shards(
    source: str | os.PathLike | Sequence[str | os.PathLike], *, start: int = 0, rank: int = 0, world: int = 1
) -> Iterator[ShardSample]:
    """Streams the samples of shards, written here or by WebDataset, in their order.

    Args:
        source: a folder of ``*.tar``, one tar file, or a list of tar files.
        start: skip so many samples of this stream; whole shards are skipped without reading them where ``shards.json`` is there.
        rank, world: this reader takes every ``world``-th shard, from ``rank`` on.

    Yields:
        ShardSample

    Raises:
        DataError: nothing is there, a shard is cut off, or ``world`` readers are more than there are shards.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    else:
        shards = [Path(shard) for shard in source]
    if not shards:
        raise DataError(f"{source}: holds no .tar files")
    if not 0 <= rank < world:
        raise DataError(f"rank must be 0 to {world - 1}, not {rank}")
    if world > len(shards):
        raise DataError(
            f"{len(shards)} shards cannot be shared by {world} readers; write more shards (samples_per_shard) or use fewer workers"
        )
    counts = _known_counts(shards)
    position = 0
    for shard in shards[rank::world]:
        known = counts.get(str(shard))
        if known is not None and position + known <= start:
            position += known
            continue
        first = position
        for key, files in _samples(shard):
            if position >= start:
                yield ShardSample(key, files, position)
            position += 1
        if known is not None and position - first != known:
            raise DataError(
                f"{shard}: holds {position - first} samples, {INDEX_NAME} says {known}; write this shard again"
            )


def _known_counts(shards: list[Path]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for folder in {shard.parent for shard in shards}:
        note = folder / INDEX_NAME
        if note.exists():
            counts.update({str(folder / name): count for name, count in json.loads(note.read_text())["shards"].items()})
    return counts


def _samples(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    key = ""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(shard, "r|") as tar:
            for entry in tar:
                if not entry.isfile():
                    continue
                folder, _, name = entry.name.rpartition("/")
                stem, _, ending = name.partition(".")
                this = f"{folder}/{stem}" if folder else stem
                if this != key and files:
                    yield key, files
                    files = {}
                key = this
                data = tar.extractfile(entry).read()  # type: ignore[union-attr]
                if len(data) != entry.size:
                    raise tarfile.ReadError("unexpected end of data")
                files[ending] = data
    except FileNotFoundError as error:
        raise DataError(f"{shard}: there is no such shard") from error
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"{shard}: cannot be read after sample {key or '(none)'}: {error}; write this shard again"
        ) from error
    if files:
        yield key, files
