"""Which format a file of lists or annotations has, by its content. The one place that decides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from clipwise.data.formats.text_lists import LABEL_KEYS, PATH_KEYS, load_json, open_text
from clipwise.errors import DataError
from clipwise.io.safe_xml import root_tag

_SAMPLE = 200  # lines that are looked at


def detect(path: Path) -> str:
    """The name of a format: of ``clipwise.data.lists``, or of ``clipwise.data.formats.annotation_kinds``.

    "auto" leaves the meaning of columns of text to ``text_lists.read_columns``.

    Raises:
        DataError: something that is known and can't be used, such as a file of class names or a project of an image tool.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        return "mstcn"
    try:
        if suffix in (".json", ".boris"):
            return detect_json(load_json(path))
        if suffix in (".xml", ".eaf", ".zip"):
            return _detect_xml(path)
        return _detect_text(path)
    except UnicodeError as error:
        raise DataError(f"{path} is not readable as text: {error}.") from None
    except DataError as error:
        text = str(error)
        raise DataError(text if str(path) in text else f"{path}: {text}") from None


def _detect_xml(path: Path) -> str:
    if path.suffix.lower() == ".zip":
        return "cvat"
    tag = root_tag(path)
    if tag is None:
        from clipwise.io.safe_xml import read_xml

        read_xml(path)  # says what is wrong
    if tag == "View":
        raise DataError("this is a labeling configuration of Label Studio; its export is a JSON file.")
    if tag in ("annotations", "ANNOTATION_DOCUMENT"):
        return "cvat" if tag == "annotations" else "elan"
    raise DataError(f"XML with the root <{tag}> is not known; CVAT's has <annotations>, ELAN's <ANNOTATION_DOCUMENT>.")


def detect_json(content: Any) -> str:
    """The format of JSON.

    Raises:
        DataError: a file that belongs to a known tool and holds no annotations of videos.
    """
    from clipwise.data.formats import boris, fiftyone_json, label_studio, split_lists, thumos, via, vidat, x_anylabeling

    if isinstance(content, dict) and isinstance(content.get("database"), dict):
        return "activitynet"
    if isinstance(content, dict) and isinstance(content.get("results"), dict):
        return "activitynet-results"
    for name, matches in (
        ("via", via.matches),
        ("x-anylabeling", x_anylabeling.matches),
        ("vidat", vidat.matches),
        ("boris", boris.matches),
        ("fiftyone", fiftyone_json.matches),
        ("actions-json", thumos.matches_json),
        ("kinetics-json", split_lists.matches_kinetics),
        ("diving48", split_lists.matches_diving),
        ("label-studio", label_studio.matches),
    ):
        if matches(content):
            return name
    if isinstance(content, dict):
        values = next(iter(content.values()), None)
        if isinstance(values, dict) and {"timestamps", "sentences"} <= set(values):
            raise DataError("these are captions of segments (ActivityNet Captions, DiDeMo), not classes.")
        whole = isinstance(values, dict) and (
            "duration_second" in values or isinstance(values.get("annotations"), list)
        )
        return "activitynet" if whole else "json"
    first = content[0] if isinstance(content, list) and content else None
    known = isinstance(first, dict) and "id" in first and ("template" in first or len(first) == 1)
    return "something" if known else "json"


def _detect_text(path: Path) -> str:
    from clipwise.data.formats import (
        boris,
        charades,
        epic_kitchens,
        frame_labels,
        label_studio,
        segment_tables,
        split_lists,
        thumos,
    )

    suffix = path.suffix.lower()
    with open_text(path) as file:
        lines = [line.strip("\r\n") for line, _ in zip(file, range(_SAMPLE))]
    filled = [line.strip() for line in lines if line.strip()]
    first = filled[0] if filled else ""
    if re.match(r"Clabel:", first):
        raise DataError("this is a file of class names, not a list of videos.")
    if first.lower().endswith((".pkl", ".pickle")) and len(first.split()) == 1:
        return "paddle_pkl"
    if re.fullmatch(r"\S{11}_E_\d+_\d+_A_\d+_\d+ \d+", first):
        return "gym99"
    header = [cell.strip().strip('"').lower() for cell in re.split(r"[,;\t]", first)]
    if "youtube_id" in header and "time_start" in header:
        return "kinetics_csv"
    if label_studio.matches_header(header):
        return "label-studio"
    if charades.matches_header(header):
        return "charades"
    if epic_kitchens.matches_header(header):
        return "epic-kitchens"
    if {"id", "key", "instances"} <= set(header):
        raise DataError("this is a table of EPIC-KITCHENS' classes, not of its segments.")
    if boris.matches_table(lines):
        return "boris-table"
    if first.startswith(("# Exported using VGG", "# CSV_HEADER", "#CSV_HEADER")):
        raise DataError("this is VIA's CSV, a dump with JSON in its cells; save the project (JSON) and give that.")
    if suffix in (".csv", ".tsv") and re.fullmatch(r"[\w-]{11},\d{4}(,[\d.]+){4}.*", first):
        raise DataError("this is AVA's table of boxes; spatial detection is not covered.")
    if suffix == ".csv" and re.fullmatch(r"\d+;[^;]*", first) and not re.fullmatch(r"\d+;\d+", first):
        return "jester"
    if suffix in (".csv", ".tsv") and segment_tables.header_of_rows(
        [x for x in filled if not segment_tables.is_comment(x)]
    ):
        return "segments"
    if filled and segment_tables.is_comment(first):  # above the header
        below = next((line for line in filled if not segment_tables.is_comment(line)), "")
        cells = re.split(r"[,;\t]", below)
        if len(cells) > 2 and segment_tables.matches_header(cells):
            return "segments"
    ours = {"start_s", "end_s"} <= set(header) and any(cell in PATH_KEYS for cell in header)
    if (
        len(header) > 2
        and not ours
        and segment_tables.matches_header(header)
        and "label" in segment_tables.columns(header)
    ):
        return "segments"
    if not ours and "video" in segment_tables.columns(header) and (times := segment_tables.unknown_times(header)):
        raise DataError(
            f"the columns {', '.join(times)} look like times of segments, but not like both bounds. Name them start and end (seconds or "
            "HH:MM:SS), start_ms and end_ms, start and duration, or start_frame and end_frame."
        )
    if len(header) > 1 and header[0] in PATH_KEYS and all(re.fullmatch(r"[a-z_ ]+", cell) for cell in header):
        return "csv"
    if any(cell in LABEL_KEYS for cell in header) and any(cell in PATH_KEYS for cell in header):
        return "csv"
    if suffix in (".txt", ""):
        if split_lists.matches_ucf(path, filled):
            return "ucf101"
        if split_lists.matches_hmdb(path, filled):
            return "hmdb51"
        if found := frame_labels.matches_text(path, filled):
            return found
        if thumos.matches_text(path, filled):
            return "thumos"
    return "auto"
