"""ELAN: one ``.eaf`` file per video. Times are whole milliseconds; segments of one tier do not overlap, those of several may."""

from __future__ import annotations

import itertools
import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from clipwise.data.formats.annotation_parts import Collector, FormatOptions, overlapping_layers, plain_path, video_of
from clipwise.data.formats.annotations import AnnotationSet, VideoAnnotation
from clipwise.data.formats.written import write_whole
from clipwise.data.videolist import is_video
from clipwise.errors import DataError
from clipwise.io.names import did_you_mean
from clipwise.io.safe_xml import read_xml

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
Span = tuple[float, float]


def read(path: Path, options: FormatOptions) -> AnnotationSet:
    """The annotations of all tiers that depend on no other, or of the tier ``layer``, whatever it depends on.

    A label is an annotation's text; in a tier where nobody wrote any, the tier's name.
    """
    root = read_xml(path)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise DataError(f"{path}: the root is <{root.tag}>; ELAN's files begin with <ANNOTATION_DOCUMENT>.")
    collector = Collector(path, options)
    media, origin_ms = _media(root, path, collector)
    draft = collector.video(media)
    tiers = {tier.get("TIER_ID", ""): tier for tier in root.iter("TIER")}
    if options.layer is not None and options.layer not in tiers:
        known = list(tiers)
        hint = did_you_mean(options.layer, known) or f"; it has {', '.join(known)}."
        raise DataError(f"{path} has no tier {options.layer!r}{hint}")
    entries = {e.get("CVE_ID"): e.findtext("CVE_VALUE") or "" for e in root.iter("CV_ENTRY_ML")}
    slots = _slots(root, collector)
    spans: dict[str, Span] = {}
    for tier in tiers.values():
        spans |= _aligned(tier, slots, collector)
    _follow(root, spans, collector)
    for name, tier in tiers.items():
        if options.layer is None and tier.get("PARENT_REF"):
            if tier.find("ANNOTATION") is not None:
                collector.note("dependent tiers, left out (name one as layer to read it)", f"tier {name!r}")
            continue
        if options.layer in (None, name):
            _vocabulary(root, tier, collector)
            rows = list(_rows(tier, entries))
            unnamed = not any(text for _, text in rows)
            for key, text in rows:
                where = f"tier {name!r}, annotation {key}"
                if key not in spans:
                    collector.leave_out("annotations without times", where)
                    continue
                start, end = ((ms + origin_ms) / 1000 for ms in spans[key])
                draft.add(start, end, name if unnamed else text, where=where)
    return collector.result()


def _media(root: ElementTree.Element, path: Path, collector: Collector) -> tuple[str, float]:
    """The video, and milliseconds of it before the document's zero."""
    header = root.find("HEADER")
    units = (header.get("TIME_UNITS") if header is not None else None) or "milliseconds"
    if units != "milliseconds":
        raise DataError(f"{path}: its times are {units}; ELAN writes milliseconds.")
    found = [] if header is None else list(header.iter("MEDIA_DESCRIPTOR"))

    def is_film(one: ElementTree.Element) -> bool:
        name = plain_path(one.get("MEDIA_URL") or one.get("RELATIVE_MEDIA_URL") or "")
        return (one.get("MIME_TYPE") or "").startswith("video/") or is_video(Path(name).name)

    films = [one for one in found if is_film(one)]
    if len(films) > 1:
        collector.note("documents of several videos, of which the first was taken", path.name)
    if not found:
        older = (header.get("MEDIA_FILE") if header is not None else None) or path.stem
        return older, 0.0
    chosen = (films or found)[0]
    name = unquote(chosen.get("RELATIVE_MEDIA_URL") or "") or chosen.get("MEDIA_URL") or path.stem
    return name, collector.number(chosen.get("TIME_ORIGIN") or 0, "TIME_ORIGIN") if chosen.get("TIME_ORIGIN") else 0.0


def _slots(root: ElementTree.Element, collector: Collector) -> dict[str, float | None]:
    slots: dict[str, float | None] = {}
    for slot in root.iter("TIME_SLOT"):
        name, value = slot.get("TIME_SLOT_ID", ""), slot.get("TIME_VALUE")
        slots[name] = None if value is None else collector.number(value, f"time slot {name}")
    return slots


def _aligned(tier: ElementTree.Element, slots: dict[str, float | None], collector: Collector) -> dict[str, Span]:
    """Spans of a tier's aligned annotations; slots without a time are spread evenly between their neighbors."""
    pairs = []
    for one in tier.iter("ALIGNABLE_ANNOTATION"):
        refs = one.get("TIME_SLOT_REF1", ""), one.get("TIME_SLOT_REF2", "")
        missing = [ref for ref in refs if ref not in slots]
        if missing:
            raise DataError(
                f"{collector.source}, annotation {one.get('ANNOTATION_ID')}: there is no time slot {missing[0]!r}."
            )
        pairs.append((one.get("ANNOTATION_ID", ""), *refs))
    if any(slots[ref] is None for _, *refs in pairs for ref in refs):
        chain = [ref for _, *refs in pairs for ref in refs]
        times = _spread(list(dict.fromkeys(chain)), slots)
        collector.note("time slots without a time, spread between their neighbors", f"tier {tier.get('TIER_ID')!r}")
    else:
        times = slots
    spans = {}
    for key, first, last in pairs:
        start, end = times[first], times[last]
        if start is not None and end is not None:
            spans[key] = (start, end)
    return spans


def _spread(chain: list[str], slots: dict[str, float | None]) -> dict[str, float | None]:
    times = {ref: slots[ref] for ref in chain}
    known = [i for i, ref in enumerate(chain) if slots[ref] is not None]
    for before, after in itertools.pairwise(known):
        start, end = slots[chain[before]] or 0.0, slots[chain[after]] or 0.0
        for i in range(before + 1, after):
            times[chain[i]] = start + (end - start) * (i - before) / (after - before)
    return times


def _follow(root: ElementTree.Element, spans: dict[str, Span], collector: Collector) -> None:
    """Times of annotations that refer to others: those of the referred one, shared evenly along a subdivision."""
    refs = {one.get("ANNOTATION_ID", ""): one for one in root.iter("REF_ANNOTATION")}
    groups: dict[str, list[str]] = {}
    for key, one in refs.items():
        groups.setdefault(one.get("ANNOTATION_REF", ""), []).append(key)
    pending = dict(groups)
    while pending:
        ready = [parent for parent in pending if parent in spans]
        if not ready:
            collector.note("references to annotations that are not there, left out", next(iter(pending)))
            return
        for parent in ready:
            start, end = spans[parent]
            members = pending.pop(parent)
            by_tier: dict[bool, list[str]] = {True: [], False: []}
            following = {refs[key].get("PREVIOUS_ANNOTATION") for key in members}
            for key in members:
                divided = refs[key].get("PREVIOUS_ANNOTATION") is not None or key in following
                by_tier[divided].append(key)
            for key in by_tier[False]:
                spans[key] = (start, end)
            _divide(by_tier[True], refs, start, end, spans)


def _divide(
    keys: list[str], refs: dict[str, ElementTree.Element], start: float, end: float, spans: dict[str, Span]
) -> None:
    after = {refs[key].get("PREVIOUS_ANNOTATION"): key for key in keys}
    for first in [key for key in keys if refs[key].get("PREVIOUS_ANNOTATION") is None]:
        chain = [first]
        while (follower := after.get(chain[-1])) is not None and follower not in chain:
            chain.append(follower)
        step = (end - start) / len(chain)
        for i, key in enumerate(chain):
            spans[key] = (start + i * step, start + (i + 1) * step)


def _rows(tier: ElementTree.Element, entries: dict[str | None, str]) -> Any:
    """(id, label) of each annotation of a tier."""
    for annotation in tier.iter("ANNOTATION"):
        for one in annotation:
            value = one.find("ANNOTATION_VALUE")
            text = "" if value is None else " ".join("".join(value.itertext()).split())
            reference = one.get("CVE_REF") or (value.get("CVE_REF") if value is not None else None)
            yield one.get("ANNOTATION_ID", ""), entries.get(reference, text) if reference else text


def _vocabulary(root: ElementTree.Element, tier: ElementTree.Element, collector: Collector) -> None:
    """The controlled vocabulary of a tier's type is the list of its classes."""
    kind = tier.get("LINGUISTIC_TYPE_REF")
    types = {t.get("LINGUISTIC_TYPE_ID"): t.get("CONTROLLED_VOCABULARY_REF") for t in root.iter("LINGUISTIC_TYPE")}
    for vocabulary in root.iter("CONTROLLED_VOCABULARY"):
        if types.get(kind) and vocabulary.get("CV_ID") == types[kind]:
            first = [e.find("CVE_VALUE") for e in vocabulary.iter("CV_ENTRY_ML")]  # others are translations
            values = [e.text or "" for e in [*first, *vocabulary.iter("CV_ENTRY")] if e is not None]
            collector.vocabulary += [" ".join(v.split()) for v in values if v.strip()]


# ---- writing


def write(annotations: AnnotationSet, path: Path, options: FormatOptions) -> list[Path]:
    """A document a video: ``path`` itself, or for several videos a folder of them. Overlaps go to further tiers."""
    videos = list(annotations.videos.values())
    if len(videos) == 1 and path.suffix:
        targets = [path]
    else:
        path.mkdir(parents=True, exist_ok=True)
        targets = [path / f"{Path(video.name).name}.eaf" for video in videos]
    for video, target in zip(videos, targets):
        root = _document(video, annotations, options)
        ElementTree.indent(root, space="    ")
        write_whole(target, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
    return targets


def _document(video: VideoAnnotation, annotations: AnnotationSet, options: FormatOptions) -> ElementTree.Element:
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT", AUTHOR="clipwise", DATE="2000-01-01T00:00:00+00:00", FORMAT="3.0", VERSION="3.0"
    )
    root.set("xmlns:xsi", _INSTANCE)
    root.set("xsi:noNamespaceSchemaLocation", _SCHEMA)
    name = video_of(video, options)
    found = options.videos.find(name)
    kind = mimetypes.guess_type(Path(name).name)[0] or "video/mp4"
    header = ElementTree.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    url = found.resolve().as_uri() if found is not None else name
    ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=url, MIME_TYPE=kind, RELATIVE_MEDIA_URL=name)
    order = ElementTree.SubElement(root, "TIME_ORDER")
    spans = [(round(1000 * a), max(round(1000 * a) + 1, round(1000 * b))) for a, b in video.segments.tolist()]
    slots = sorted((time, i, side) for i, span in enumerate(spans) for side, time in enumerate(span))
    names = {(i, side): f"ts{n}" for n, (_, i, side) in enumerate(slots, 1)}
    for time, i, side in slots:
        ElementTree.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=names[i, side], TIME_VALUE=str(time))
    count = 0
    for number, layer in enumerate(overlapping_layers(video) or [[]], 1):
        tier = ElementTree.SubElement(
            root, "TIER", LINGUISTIC_TYPE_REF="action", TIER_ID="actions" + (f" {number}" if number > 1 else "")
        )
        for i in layer:
            count += 1
            place = ElementTree.SubElement(ElementTree.SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", ANNOTATION_ID=f"a{count}",
                                           TIME_SLOT_REF1=names[i, 0], TIME_SLOT_REF2=names[i, 1])  # fmt: skip
            ElementTree.SubElement(place, "ANNOTATION_VALUE").text = video.labels[i]
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", GRAPHIC_REFERENCES="false", LINGUISTIC_TYPE_ID="action", TIME_ALIGNABLE="true",
                           CONTROLLED_VOCABULARY_REF="classes")  # fmt: skip
    ElementTree.SubElement(root, "LANGUAGE", LANG_ID="und", LANG_LABEL="undetermined (und)")
    vocabulary = ElementTree.SubElement(root, "CONTROLLED_VOCABULARY", CV_ID="classes")
    ElementTree.SubElement(vocabulary, "DESCRIPTION", LANG_REF="und")
    for n, label in enumerate(dict.fromkeys([*annotations.vocabulary, *annotations.classes])):
        entry = ElementTree.SubElement(vocabulary, "CV_ENTRY_ML", CVE_ID=f"cve{n}")
        ElementTree.SubElement(entry, "CVE_VALUE", DESCRIPTION="", LANG_REF="und").text = label
    return root
