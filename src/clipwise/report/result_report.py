"""Reports of test results: classes, confusions, mistakes, calibration, time, failures; and the demo's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipwise.engine.evaluate import TestResult
from clipwise.io.text import plural
from clipwise.report.page import (
    FIGURE_NAMES,
    Language,
    Section,
    Series,
    duration,
    line_chart,
    round_ticks,
    tail,
    write_page,
)
from clipwise.report.run_report import class_section, curves_section, read_run
from clipwise.report.run_times import time_section
from clipwise.report.scores import (
    Calibration,
    calibration,
    confused_pairs,
    label_names,
    probabilities,
    similarity_order,
    usable,
    worst_mistakes,
)
from clipwise.report.thumbs import film_strips

_SMALL_MATRIX = 24  # classes up to which a confusion matrix is a table with numbers


def result_report(
    result: TestResult, folder: str | Path, *, title: str = "Test", mistakes: int = 24, language: Language = "en"
) -> Path:
    """``index.html`` in a folder for a test result: classes, confusions, mistakes, calibration, time, failures.

    Args:
        result: what ``clipwise test`` measured.
        mistakes: film strips to show.
    """
    known = calibration(result)
    sections = [
        class_section({"": result}),
        confusion_section({"": result}),
        _pairs_section(result),
        _mistakes_section(result, "mistakes", mistakes),
        _calibration_section(result, known) if known else None,
        _speed_section(result),
        failures_section(result.failures, "They count as wrong."),
    ]
    path = Path(folder) / "index.html"
    tiles = _result_tiles(result, known)
    return write_page(path, title, sections, kind="Test report", tiles=tiles, language=language)


def demo_report(
    out: str | Path,
    runs: Mapping[str, str | Path],
    results: Mapping[str, TestResult],
    timelines: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    *,
    title: str = "clipwise demo",
    story: Sequence[str] = (),
    facts: Sequence[tuple[str, str, str]] = (),
    predictions: Sequence[Mapping[str, Any]] = (),
    mistakes: int = 12,
    language: Language = "en",
) -> Path:
    """Several runs and their test results on one page.

    Args:
        out: the HTML file, or a folder that gets ``index.html``.
        runs: name -> run folder (or log).
        results: name -> ``TestResult``; the first one is the one that the classes are sorted by.
        timelines: of one or more long videos; each has ``video`` (its name), ``segments`` (found), and where known
            ``truth``, ``duration_s`` and ``curves`` (``time_s``, ``start``, ``end``: probabilities of a start and an
            end); a segment has ``start_s``, ``end_s``, and where known ``class`` and ``score``.
        story: paragraphs that say what is shown.
        facts: more figures as (label, value, note).
        predictions: of new files; each with ``source`` and ``top`` (pairs of class and share).
        mistakes: film strips per model.
    """
    logs = [read_run(folder, name) for name, folder in runs.items()]
    sections: list[Section | None] = []
    if story:
        sections.append(Section("story", "What this shows", "words", {"paragraphs": story}))
    if results:
        sections.append(class_section(results))
    if logs:
        sections.append(curves_section(logs))
    sections.append(confusion_section(results))
    for n, (name, result) in enumerate(results.items()):
        sections.append(_mistakes_section(result, f"mistakes-{n}", mistakes, f"Worst mistakes: {name}"))
    if predictions:
        strips = film_strips([str(p["source"]) for p in predictions])
        shown = [{**p, "source": str(p["source"]), "strip": strip} for p, strip in zip(predictions, strips)]
        sections.append(Section("predictions", "Predictions on new files", "predictions", {"predictions": shown}))
    if timelines:
        names: dict[str, int] = {}
        videos = [video_timeline(v, names) for v in ([timelines] if isinstance(timelines, Mapping) else timelines)]
        sections.append(Section("timeline", "What happens when", "timelines", {"videos": videos}))
    sections.append(time_section(logs))
    path = Path(out)
    path = path if path.suffix == ".html" else path / "index.html"
    summary = _comparison_table(results) if results else None
    return write_page(path, title, sections, kind="Demo", tiles=facts, results=summary, language=language)


def _result_tiles(result: TestResult, known: Calibration | None) -> list[tuple[str, str, str]]:
    """A test result in a line of figures."""
    items = [(FIGURE_NAMES.get(k, k), f"{v:.2%}", "") for k, v in result.metrics.items()]
    if not items and len(result.paths):
        items.append(("correct", f"{result.correct.mean():.2%}", ""))
    items.append(("videos", f"{len(result.paths):,}", plural(int((result.class_counts > 0).sum()), "class", "classes")))
    if result.failures:
        items.append(("not decodable", f"{len(result.failures):,}", "counted as wrong"))
    if result.seconds:
        mean = duration(result.seconds / max(len(result.paths), 1))
        items.append(("time per video", mean, f"{duration(result.seconds)} in all"))
    if known:
        items.append(("calibration error", f"{known.ece:.2%}", "ECE, 15 bins"))
    return items


def _comparison_table(results: Mapping[str, TestResult]) -> dict[str, Any]:
    """The same figures of several results, one row each."""
    from markupsafe import Markup

    keys = list(dict.fromkeys(k for r in results.values() for k in r.metrics))
    rows = []
    for n, (name, r) in enumerate(results.items()):
        figures = [f"{r.metrics[k]:.2%}" if k in r.metrics else "–" for k in keys]
        speed = duration(r.seconds / max(len(r.paths), 1)) if r.seconds else "–"
        label = Markup('<i class="key s{}"></i><span data-keep>{}</span>').format(n % 8, name)
        rows.append((label, *figures, len(r.paths), speed))
    return {"head": ("model", *(FIGURE_NAMES.get(k, k) for k in keys), "videos", "time per video"), "rows": rows}


def confusion_section(results: Mapping[str, TestResult]) -> Section | None:
    """Confusion matrices: numbers for a few classes, images to zoom into for many."""
    shown = {name: r for name, r in results.items() if not r.multi_label and r.confusion.any()}
    matrices = [{"name": name, **_matrix(r)} for name, r in shown.items()]
    note = "Rows are true classes, columns are predictions. Blue: correct; red: wrong, the stronger the larger the share of its class."
    return Section("confusion", "Confusion matrix", "confusion", {"matrices": matrices}, note) if shown else None


def _matrix(result: TestResult) -> dict[str, Any]:
    counts = result.confusion
    if result.num_classes > _SMALL_MATRIX:
        i, j = np.nonzero(counts)
        cells = {
            "names": result.names,
            "cells": np.stack([i, j, counts[i, j]], 1).ravel().tolist(),
            "similar": similarity_order(counts).tolist(),
            "accuracy": np.argsort(np.nan_to_num(result.class_accuracy, nan=2.0), kind="stable").tolist(),
        }
        return {"cells": cells}
    shown = [k for k in range(result.num_classes) if counts[k].any() or counts[:, k].any()]
    total = np.maximum(counts.sum(1), 1)
    rows = [[(int(counts[i, j]), counts[i, j] / total[i]) for j in shown] for i in shown]
    return {"names": [result.names[k] for k in shown], "rows": rows}


def _pairs_section(result: TestResult, limit: int = 20) -> Section | None:
    """The pairs of classes that are confused most."""
    pairs: list[dict[str, Any]] = [
        {
            "a": result.names[i],
            "b": result.names[j],
            "there": there,
            "back": back,
            "share": there / max(int(result.class_counts[i]), 1),
        }
        for i, j, there, back in (confused_pairs(result, limit) if not result.multi_label else ())
    ]
    most = max((p["there"] + p["back"] for p in pairs), default=0)
    return Section("pairs", "Most confused pairs", "pairs", {"pairs": pairs, "most": most}) if pairs else None


def _mistakes_section(result: TestResult, anchor: str, limit: int, title: str = "Worst mistakes") -> Section | None:
    """The mistakes with the largest margin, as strips that play."""
    chosen = worst_mistakes(result, limit)
    p, said = probabilities(result), result.predictions
    mistakes = [
        {
            "strip": strip,
            "path": result.paths[n],
            "said": result.names[said[n]],
            "said_share": p[n, said[n]],
            "true": label_names(result, n),
            "true_share": None if result.multi_label else p[n, int(result.truth[n])],
        }
        for n, strip in zip(chosen, film_strips([result.paths[n] for n in chosen]))
    ]
    note = "The wrong predictions with the largest margin over the true class. A strip plays while you point at it or when it is focused; Enter keeps it playing."
    return Section(anchor, title, "mistakes", {"mistakes": mistakes}, note) if chosen else None


def _calibration_section(result: TestResult, known: Calibration) -> Section:
    """Reliability diagram and its verdict."""
    gap = known.overall_confidence - known.overall_accuracy
    words = "The model is well calibrated."
    if abs(gap) >= 0.02:
        words = "The model is overconfident." if gap > 0 else "The model is underconfident."
    p, right = probabilities(result)[usable(result)].max(1), result.correct[usable(result)]
    order = np.argsort(-p, kind="stable")
    kept = np.arange(1, len(order) + 1)
    curve = line_chart(
        "accuracy when only the surest videos are answered",
        [Series("accuracy", kept / len(order) * 100, np.cumsum(right[order]) / kept, 0)],
        x_label="% of videos answered",
        percent=True,
        y_max=1.0,
        width=520,
        height=260,
    )
    columns = zip(known.edges, known.edges[1:], known.counts, known.accuracy, known.confidence)
    names = ("low", "high", "count", "accuracy", "confidence")
    bins = [dict(zip(names, column)) for column in columns if column[2]]
    data = {"known": known, "words": words, "bins": bins, "tallest": known.counts.max(), "curve": curve}
    note = "Bars on the diagonal: at 80 % confidence, 8 of 10 predictions are correct. Red gaps: overconfident; green gaps: underconfident. Below: number of videos with that confidence."
    return Section("calibration", "Calibration", "calibration", data, note)


def _speed_section(result: TestResult, worst: int = 10) -> Section | None:
    """Time per video; its distribution where each video was timed."""
    from markupsafe import Markup

    if not result.seconds:
        return None
    mean = result.seconds / max(len(result.paths), 1)
    rows = [
        ("in all", duration(result.seconds)),
        ("per video, on average", duration(mean)),
        ("videos per second", f"{1 / mean:.2f}"),
    ]
    slowest = []
    if result.video_seconds:
        times = np.asarray(result.video_seconds, float)
        rows += [
            (f"{q} % of the videos take at most", duration(float(np.nanpercentile(times, q)))) for q in (50, 90, 99)
        ]
        for n in np.argsort(-np.nan_to_num(times))[:worst]:
            slowest.append(
                (Markup("<span data-keep>{}</span>").format(tail(result.paths[n])), duration(float(times[n])))
            )
    return Section("speed", "Time per video", "speed", {"rows": rows, "slowest": slowest})


def failures_section(failures: Mapping[str, str], note: str) -> Section | None:
    """Files that could not be decoded, and why."""
    title, head = "Files that could not be decoded", ("file", "reason")
    return (
        Section.table("failures", title, head, list(failures.items()), note, numeric=(), keep=(0, 1))
        if failures
        else None
    )


def video_timeline(video: Mapping[str, Any], colors: dict[str, int]) -> dict[str, Any]:
    """Segments along the time of a long video, which plays above them if ``address`` is given; ``colors`` grows with the classes."""
    everything = [*video["segments"], *video.get("truth", ())]
    length = float(video.get("duration_s") or max((float(s["end_s"]) for s in everything), default=1.0)) or 1.0
    rows = []
    for kind, key in (("truth", "truth"), ("predicted segments", "segments")):
        if video.get(key):
            placed = _lanes(video[key])
            blocks = [_block(s, lane, length, colors) for lane, s in placed]
            rows.append({"kind": kind, "blocks": blocks, "lanes": 1 + max(lane for lane, _ in placed)})
    curves, boundaries = video.get("curves"), None
    if curves:
        lines = [Series(name, curves["time_s"], curves[name], color) for name, color in (("start", 2), ("end", 4))]
        boundaries = line_chart(
            "start and end probability", lines, x_label="s", y_min=0.0, y_max=1.0, width=1080, height=190
        )
    marks = [(t / length * 100, f"{t:g}") for t in round_ticks(0, length, 8) if t <= length * 1.0001]
    played = {"address": video.get("address"), "length": length}
    return {"name": str(video["video"]), "rows": rows, "marks": marks, "boundaries": boundaries, **played}


def _block(segment: Mapping[str, Any], lane: int, length: float, colors: dict[str, int]) -> dict[str, Any]:
    name, score = str(segment.get("class") or ""), segment.get("score")
    start, end = float(segment["start_s"]), float(segment["end_s"])
    return {
        "lane": lane,
        "color": colors.setdefault(name, len(colors)) % 8,
        "label": (name if score is None else f"{name} {float(score):.2f}").strip(),
        "tip": f"{name} {start:.2f}–{end:.2f} s" + ("" if score is None else f", {float(score):.2f}"),
        "left": start / length * 100,
        "width": max(end - start, 0) / length * 100,
        "strength": 1.0 if score is None else 0.35 + 0.65 * min(max(float(score), 0.0), 1.0),
    }


def _lanes(segments: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Overlapping segments go below one another."""
    ends: list[float] = []
    placed = []
    for s in sorted(segments, key=lambda s: float(s["start_s"])):
        lane = next((n for n, end in enumerate(ends) if end <= float(s["start_s"]) + 1e-9), len(ends))
        if lane == len(ends):
            ends.append(0.0)
        ends[lane] = float(s["end_s"])
        placed.append((lane, s))
    return placed
