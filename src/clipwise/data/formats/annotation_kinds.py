"""All formats of annotations: the table of them, and reading any into an ``AnnotationSet``.

``detect`` says which format a file has. A folder is read file by file, all of one format: side-cars, a file per class, a file per video.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clipwise.data.formats.annotation_parts import FormatOptions
from clipwise.data.formats.annotations import AnnotationSet, VideoAnnotation
from clipwise.data.formats.detect import detect
from clipwise.data.formats.segment_tables import has_times
from clipwise.data.videolist import natural_key
from clipwise.errors import DataError
from clipwise.io.names import did_you_mean


@dataclass(frozen=True)
class Kind:
    """A format: where it is read and written (``module:function`` in this folder), how its files end, and its description."""

    title: str
    reader: str | None = None
    writer: str | None = None
    suffixes: tuple[str, ...] = (".json",)
    many: bool = False
    """Files are read only together, from a folder of them; written, they become a folder."""
    whole: bool = False
    """Labels of whole videos can be written; other formats get segments of the full length instead."""


KINDS = {
    "activitynet": Kind("ActivityNet 1.3, HACS segments, BSN, MMAction2", "activitynet_files:read", "activitynet_files:write", whole=True),
    "activitynet-results": Kind("ActivityNet results", "activitynet_files:read_results", "activitynet_files:write_results", whole=True),
    "label-studio": Kind("Label Studio", "label_studio:read", "label_studio_tasks:write", whole=True),
    "cvat": Kind("CVAT for images 1.1 (tags)", "cvat:read", "cvat:write", (".xml", ".zip"), whole=True),
    "cvat-tracks": Kind("CVAT for video 1.1 (tracks)", "cvat:read", "cvat:write_tracks", (".xml", ".zip")),
    "via": Kind("VGG VIA 3", "via:read", "via:write", whole=True),
    "elan": Kind("ELAN", "elan:read", "elan:write", (".eaf",)),
    "boris": Kind("BORIS project", "boris:read", "boris:write", (".boris", ".json")),
    "boris-table": Kind("BORIS exports of events", "boris:read_table", None, (".tsv", ".csv")),
    "x-anylabeling": Kind("X-AnyLabeling video classifier", "x_anylabeling:read", "x_anylabeling:write"),
    "vidat": Kind("Vidat", "vidat:read", "vidat:write"),
    "fiftyone": Kind("FiftyOne on disk", "fiftyone_json:read", "fiftyone_json:write", whole=True),
    "segments": Kind("CSV: video, label, start, end", "segment_tables:read", "segment_tables:write", (".csv", ".tsv"), whole=True),
    "thumos": Kind("THUMOS14, MultiTHUMOS (text)", "thumos:read", "thumos:write", (".txt",), many=True),
    "actions-json": Kind("MultiTHUMOS, Charades (JSON)", "thumos:read_json"),
    "charades": Kind("Charades", "charades:read", "charades:write", (".csv",)),
    "epic-kitchens": Kind("EPIC-KITCHENS-100", "epic_kitchens:read", "epic_kitchens:write", (".csv",)),
    "mstcn": Kind("MS-TCN's frame labels (Breakfast, 50Salads, GTEA)", "frame_labels:read", "frame_labels:write", (".txt",), many=True),
    "salads50": Kind("50Salads' intervals", "frame_labels:read_salads", None, (".txt",)),
    "breakfast": Kind("Breakfast's intervals", "frame_labels:read_breakfast", None, (".txt",)),
    "ucf101": Kind("UCF101", "split_lists:read_ucf", None, (".txt",)),
    "hmdb51": Kind("HMDB51", "split_lists:read_hmdb", None, (".txt",)),
    "diving48": Kind("Diving48", "split_lists:read_diving"),
    "kinetics-json": Kind("Kinetics (JSON)", "split_lists:read_kinetics", "split_lists:write_kinetics", whole=True),
}  # fmt: skip
_SAME = {
    "csv": "segments",
    "xanylabeling": "x-anylabeling",
    "labelstudio": "label-studio",
    "via3": "via",
    "eaf": "elan",
    "ms-tcn": "mstcn",
}


def kind_name(name: str, *, writing: bool = False) -> str:
    """The name of a format as the table has it.

    Raises:
        DataError: an unknown format, or one that is not written.
    """
    plain = name.strip().lower().replace("_", "-")
    plain = _SAME.get(plain, plain)
    known = [key for key, kind in KINDS.items() if kind.writer or not writing]
    if plain not in known:
        what = "is read, but not written" if plain in KINDS else "is unknown"
        raise DataError(
            f"the annotation format {name!r} {what}{did_you_mean(plain, known) or '; known: ' + ', '.join(known) + '.'}"
        )
    return plain


def read_kind(
    path: str | Path,
    kind: str = "auto",
    options: FormatOptions | None = None,
    read_list: Callable[[Path, str, FormatOptions], AnnotationSet] | None = None,
) -> AnnotationSet:
    """Read annotations of any format of the table.

    Args:
        path: a file, or a folder of files of one format.
        kind: a name of ``KINDS``; "auto" finds out.
        read_list: reads a file of another format.

    Raises:
        DataError: what is wrong, with file and place.
    """
    path, options = Path(path), options or FormatOptions()
    if not path.exists():
        raise DataError(f"annotations {path} do not exist.")
    kind = kind if kind in ("auto", "annotations") else kind_name(kind)
    kind = "auto" if kind == "annotations" else kind
    if not path.is_dir():
        kind = detect(path) if kind == "auto" else kind
        if kind == "csv" and has_times(path):
            kind = "segments"
        if kind not in KINDS and read_list is None:
            raise DataError(f"{path} is not recognized as annotations of {', '.join(KINDS)}.")
        found = read_file(path, kind, options) if kind in KINDS or read_list is None else read_list(path, kind, options)
        if not found.videos:
            raise DataError(" ".join(found.notes) or f"{path}: there is no video in it.")
        return found
    from clipwise.data.formats.frame_labels import is_folder

    if is_folder(path):
        return read_file(path, "mstcn", options)
    files = list(_files_of(path, kind, options))
    if not files:
        raise DataError(f"{path} holds no annotation file" + ("." if kind == "auto" else f" of format {kind}."))
    kinds = {found for _, found in files}
    if len(kinds) > 1:
        some = ", ".join(f"{file.name} ({found})" for found, file in {found: file for file, found in files}.items())
        raise DataError(
            f"{path} holds annotations of several formats: {some}. Give one file, or the format (--from, lists.format)."
        )
    return merge(str(path), [read_file(file, found, options) for file, found in files])


def _files_of(folder: Path, kind: str, options: FormatOptions) -> Iterable[tuple[Path, str]]:
    """The annotation files of a folder with their formats; of UCF101 and HMDB51 those of split ``layer`` (1 if not given)."""
    from clipwise.data.formats.thumos import is_class_list

    endings = {s for name, one in KINDS.items() for s in one.suffixes if kind in ("auto", name)}
    for file in sorted(folder.iterdir(), key=lambda p: natural_key(p.name)):
        if not file.is_file() or file.name.startswith(".") or file.suffix.lower() not in endings or is_class_list(file):
            continue
        try:
            found = detect(file)
        except DataError:
            if kind == "auto" and file.suffix.lower() not in (".json", ".eaf", ".boris"):
                continue
            if kind == "auto" and not _declares_nothing(file):
                raise
            continue
        split = options.layer or "1"
        if found == "hmdb51" and not file.stem.endswith(f"split{split}"):
            continue
        numbered = re.search(r"list0*(\d+)", file.stem)
        if found == "ucf101" and numbered and numbered[1] != split:
            continue
        same = {found, kind} <= {"cvat", "cvat-tracks"}
        if found in KINDS and (kind == "auto" or found == kind or same):
            yield file, found


def holds_annotations(folder: Path) -> bool:
    """Whether a folder has annotation files in it."""
    from clipwise.data.formats.frame_labels import is_folder

    return is_folder(folder) or next(iter(_files_of(folder, "auto", FormatOptions())), None) is not None


def annotation_files(folder: Path) -> list[Path]:
    """What in a folder may hold annotations of long videos: files of tools and data sets, or a folder of side-cars in it."""
    if not folder.is_dir():
        return []
    from clipwise.data.formats.frame_labels import is_folder

    if is_folder(folder):
        return [folder]
    files = [(f, kind) for f, kind in _files_of(folder, "auto", FormatOptions()) if kind not in _TRIMMED]
    single = {kind for _, kind in files if kind in _PER_VIDEO}
    if len(files) > 1 and len({kind for _, kind in files}) == len(single) == 1:
        return [folder]
    below = [p for p in sorted(folder.iterdir()) if p.is_dir() and is_folder(p)]
    return [f for f, _ in files] + below


_TRIMMED = ("ucf101", "hmdb51", "diving48", "kinetics-json")
_PER_VIDEO = ("elan", "x-anylabeling", "vidat", "cvat", "thumos", "salads50", "breakfast")


def _declares_nothing(file: Path) -> bool:
    """Whether a JSON file that was refused is one that only goes with annotations: a configuration, a table of classes."""
    return "config" in file.stem.lower() or "class" in file.stem.lower()


def read_file(path: Path, kind: str, options: FormatOptions) -> AnnotationSet:
    """One file of a format of the table."""
    read: Callable[[Path, FormatOptions], AnnotationSet] = load_function(KINDS[kind].reader)
    try:
        found = read(path, options)
    except (
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
        RecursionError,
    ) as error:  # of a file that is built otherwise
        raise DataError(
            f"{path} is not in the form of {KINDS[kind].title} files ({type(error).__name__}: {error})."
        ) from None
    except UnicodeError as error:
        raise DataError(f"{path} is not readable as text: {error}.") from None
    if options.classes is not None:
        found = replace(found, vocabulary=tuple(options.classes))
    return found


def load_function(place: str | None) -> Callable:
    module, _, name = str(place).partition(":")
    return getattr(importlib.import_module(f"clipwise.data.formats.{module}"), name)


def merge(source: str, sets: Sequence[AnnotationSet]) -> AnnotationSet:
    """Several sets as one; segments of a video that is in several are put together."""
    videos: dict[str, VideoAnnotation] = {}
    for one in sets:
        for name, video in one.videos.items():
            known = videos.get(name)
            videos[name] = video if known is None else together(known, video, source)
    vocabulary = tuple(dict.fromkeys(label for one in sets for label in one.vocabulary))
    return AnnotationSet(source, videos, vocabulary, tuple(note for one in sets for note in one.notes))


def together(a: VideoAnnotation, b: VideoAnnotation, source: str) -> VideoAnnotation:
    if a.subset != b.subset and a.subset and b.subset:
        raise DataError(f"{source}: video {a.name!r} is in the subsets {a.subset} and {b.subset}.")
    segments = np.concatenate([a.segments, b.segments])
    order = np.lexsort((segments[:, 1], segments[:, 0]))
    labels = [*a.labels, *b.labels]
    scores = [*a.scores, *b.scores]
    return replace(
        a,
        duration_s=b.duration_s if math.isnan(a.duration_s) else a.duration_s,
        subset=a.subset or b.subset,
        segments=segments[order],
        labels=tuple(labels[i] for i in order),
        scores=tuple(scores[i] for i in order) if len(scores) == len(labels) else (),
        whole=tuple(dict.fromkeys([*a.whole, *b.whole])),
        whole_scores=(),
    )
