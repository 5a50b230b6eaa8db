"""Tar shards (WebDataset's layout) as a list: any sample can be read by itself, so order and resuming are those of any list.

A sample is a run of members with one key: ``000000012.mp4``, ``000000012.cls`` (its label, several separated by commas) and
``000000012.json`` (class name, times). Where each sample lies is found once, from the members' headers, or read from the index
that `clipwise prepare shards` leaves beside a shard; training then asks for byte ranges. Shards lie in a folder, on a web
server or in an object store: everything that fsspec opens.
"""

from __future__ import annotations

import functools
import io
import json
import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clipwise.data.formats.text_lists import finish
from clipwise.data.labels import ClassIndex
from clipwise.data.videolist import ListBuilder, VideoList
from clipwise.errors import DataError, MissingExtraError
from clipwise.io.files import atomic_path
from clipwise.io.parse import parse_json

INDEX_SUFFIX = ".index.json"


class Sample(NamedTuple):
    """Where a sample lies in its shard, and what its small members say."""

    key: str
    start: int
    size: int
    label: str = ""
    meta: dict[str, Any] = {}  # noqa: RUF012 - never changed


def shard_names(source: str | os.PathLike) -> list[str]:
    """The shards of a folder, of one file, or of a pattern such as ``https://host/train-{000000..000099}.tar``.

    Raises:
        DataError: there is none.
    """
    text = os.fspath(source)
    if found := re.search(r"\{(\d+)\.\.(\d+)\}", text):
        first, last = found.groups()
        names = [text.replace(found[0], f"{n:0{len(first)}d}") for n in range(int(first), int(last) + 1)]
    elif "://" in text:
        names = [text]
    else:
        path = Path(text)
        names = [str(p.resolve()) for p in (sorted(path.glob("*.tar")) if path.is_dir() else [path])]
    if not names:
        raise DataError(f"{source}: no .tar files found.")
    return names


def _store(shard: str) -> Any:
    """The file system of a shard that is an address; None for a local file."""
    protocol, colon, _ = shard.partition("://")
    return _filesystem(protocol, os.getpid()) if colon else None


@functools.lru_cache(maxsize=64)
def _filesystem(protocol: str, process: int) -> Any:
    """The file system of a protocol; one for each process, for its connections do not survive a fork."""
    try:
        import fsspec

        return fsspec.core.url_to_fs(f"{protocol}://")[0]
    except ImportError as error:
        raise MissingExtraError(str(error.name or "fsspec"), "shards", f"Reading {protocol}:// shards") from None
    except ValueError as error:
        raise DataError(f"{protocol}://: {error}.") from None


def read_range(shard: str, start: int, size: int) -> bytes:
    """``size`` bytes of a shard.

    Raises:
        DataError: the shard can't be read, or is shorter.
    """
    store = _store(shard)
    try:
        if store is not None:
            data = store.cat_file(shard, start=start, end=start + size)
        else:
            with open(shard, "rb") as file:
                file.seek(start)
                data = file.read(size)
    except OSError as error:
        raise DataError(f"{shard}: cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # fsspec's file systems raise what their libraries raise
        if store is None:
            raise
        raise DataError(f"{shard}: cannot be read: {error or type(error).__name__}.") from error
    if len(data) != size:
        raise DataError(
            f"{shard}: bytes {start} to {start + size} were asked for, {len(data)} came; the shard is cut off."
        )
    return data


def index_shard(shard: str) -> list[Sample]:
    """The samples of a shard: from its index if there is one, else from its members' headers."""
    index, store = f"{shard}{INDEX_SUFFIX}", _store(shard)
    try:
        if store is not None:
            text = store.cat_file(index) if store.exists(index) else None
        else:
            text = Path(index).read_bytes() if os.path.exists(index) else None
        if text is not None:
            samples = [Sample(*row) for row in parse_json(text)]
            if samples and store is None and os.path.getsize(shard) < samples[-1].start + samples[-1].size:
                raise DataError(f"{shard}: shorter than its index says; write this shard again.")
            return samples
    except (ValueError, TypeError, OSError) as error:
        raise DataError(
            f"{index}: not an index of a shard ({error}); delete it, the shard itself is read then."
        ) from error
    return _scan(shard)


def write_index(shard: str) -> None:
    """Leave the index of a local shard beside it."""
    with atomic_path(f"{shard}{INDEX_SUFFIX}") as temporary:
        temporary.write_text(json.dumps(_scan(shard), ensure_ascii=False), encoding="utf-8")


def _scan(shard: str) -> list[Sample]:
    found: list[Sample] = []
    key, start, stop, label = "", 0, 0, ""
    meta: dict[str, Any] = {}
    store = _store(shard)
    try:
        with (
            store.open(shard, "rb") if store is not None else open(shard, "rb") as file,
            tarfile.open(fileobj=file, mode="r:") as tar,
        ):
            for entry in tar:
                if not entry.isfile():
                    continue
                this, ending = _key(entry.name)
                if this != key:
                    if key:
                        found.append(Sample(key, start, stop - start, label, meta))
                    key, start, label, meta = this, entry.offset, "", {}
                stop = entry.offset_data + -(-entry.size // 512) * 512
                if ending in ("cls", "json"):
                    text = tar.extractfile(entry).read()  # type: ignore[union-attr]
                    if ending == "cls":
                        label = text.decode().strip()
                    else:
                        meta = parse_json(text)
            end = file.seek(0, os.SEEK_END)
    except FileNotFoundError as error:
        raise DataError(f"{shard}: there is no such shard.") from error
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(
            f"{shard}: cannot be read after sample {key or '(none)'}: {error}; write this shard again."
        ) from error
    if key:
        if stop + 512 > end:  # the end mark of a tar file is missing
            raise DataError(f"{shard}: sample {key} is cut off; write this shard again.")
        found.append(Sample(key, start, stop - start, label, meta))
    return found


def _key(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return (f"{folder}/{stem}" if folder else stem), ending.lower()


def read_shard_list(
    source: str | os.PathLike,
    *,
    classes: Sequence[str] | None = None,
    num_classes: int | None = None,
    multi_label: bool = False,
) -> VideoList:
    """All samples of the shards as a list of kind "shard", in the order of the shards.

    Raises:
        DataError: no shard, a shard that can't be read, labels that do not fit.
    """
    names = shard_names(source)
    samples = [(name, sample) for name in names for sample in index_shard(name)]
    if classes is None:
        classes = _classes(names, samples)
    index = ClassIndex(classes, num_classes, str(source))
    builder = ListBuilder("shard", str(source))
    for number, (name, sample) in enumerate(samples, 1):
        several = multi_label or sample.label.replace(",", "").isdigit()  # else a comma belongs to a class name
        words = sample.label.split(",") if several else [sample.label]
        labels = [index.resolve(word.strip(), number) for word in words if word.strip()]
        span = (sample.meta["start_s"], sample.meta["end_s"]) if "start_s" in sample.meta else None
        builder.add(f"{name}#{sample.start}+{sample.size}", labels, span_s=span)
    return finish(builder, Path(source), "", index, multi_label, suffix="")


def _classes(names: list[str], samples: list[tuple[str, Sample]]) -> list[str] | None:
    """Class names: of the note beside the shards, else of the samples that say theirs."""
    note = names[0].rpartition("/")[0] + "/shards.json"
    if "://" not in names[0] and os.path.exists(note):
        return parse_json(Path(note).read_text(encoding="utf-8")).get("classes")
    known: dict[int, str] = {}
    for _, sample in samples:
        if sample.label.isdigit() and isinstance(sample.meta.get("class"), str):
            known[int(sample.label)] = sample.meta["class"]
    return [known.get(i, str(i)) for i in range(max(known) + 1)] if known else None


def read_sample(entry: str) -> dict[str, bytes]:
    """The files of an entry ``shard#start+size`` by their endings.

    Raises:
        DataError: the shard can't be read, or no sample lies there.
    """
    shard, _, place = entry.rpartition("#")
    start, _, size = place.partition("+")
    block = read_range(shard, int(start), int(size))
    files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(block), mode="r:") as tar:
            for member in tar:
                if member.isfile():
                    files[_key(member.name)[1]] = tar.extractfile(member).read()  # type: ignore[union-attr]
    except tarfile.TarError as error:
        raise DataError(f"{entry}: no sample of a tar file lies there ({error}).") from error
    return files
