"""The doors to the reports; each writes one self-contained HTML file and returns its path."""

# ruff: noqa: PT028 - test_report is a report of a test, not a test
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipwise.report import analyze_sections as analyze_parts
from clipwise.report import compare_sections as compare_parts
from clipwise.report import result_sections as result_parts
from clipwise.report import run_sections as run_parts
from clipwise.report import sections as parts
from clipwise.report.comparison import Comparison
from clipwise.report.page import Language, render_page, write_page
from clipwise.report.runs import RunLog, read_run
from clipwise.report.scores import ScoreTable


def run_report(
    folder: str | Path, result: Any = None, *, name: str | None = None, mistakes: int = 12, language: Language = "en"
) -> Path:
    """A run's ``report.html`` beside its log: figures, curves, recipe, and the validation's classes and mistakes.

    Args:
        folder: with ``log.jsonl`` and ``recipe.yaml``.
        result: the last validation's ``TestResult``, if there is one.
        name: of the run; the folder's name if not given.
        mistakes: film strips to show.
        language: "en" or "zh", in which the page opens.

    Raises:
        DataError: the folder has no log.
    """
    run = read_run(folder, name)
    table = ScoreTable.of(result) if result is not None else None
    content: list[parts.Section | None] = [run_parts.curves_section([run])]
    if table is not None:
        content += _result_parts({"": table}, mistakes)
    content.append(run_parts.time_section([run]))
    if run.recipe:
        content.append(run_parts.recipe_section(run.recipe))
    html = render_page(run.name, content, kind="Training run", lead=run_parts.run_tiles(run), language=language)
    return write_page(Path(folder) / "report.html", html)


def test_report(
    result: Any, folder: str | Path, *, title: str = "Test", mistakes: int = 24, language: Language = "en"
) -> Path:
    """``index.html`` in a folder for a test result: classes, confusions, mistakes, calibration, time, failures.

    Args:
        result: a ``TestResult``, or a ``ScoreTable``.
        mistakes: film strips to show.
    """
    table = ScoreTable.of(result)
    lead = result_parts.result_tiles(table)
    html = render_page(title, _result_parts({"": table}, mistakes), kind="Test report", lead=lead, language=language)
    return write_page(Path(folder) / "index.html", html)


test_report.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks of the name


def curves_report(
    runs: Sequence[RunLog], out: str | Path, *, keys: Sequence[str] | None = None, weight: float | None = None
) -> Path:
    """Curves and times of runs on one page."""
    content = [run_parts.curves_section(runs, keys=keys, weight=weight), run_parts.time_section(runs)]
    lead = run_parts.run_tiles(runs[0]) if len(runs) == 1 else ""
    return write_page(out, render_page(", ".join(r.name for r in runs), content, kind="Curves", lead=lead))


def compare_report(comparison: Comparison, folder: str | Path, *, language: Language = "en") -> Path:
    """``index.html`` in a folder for two results of the same videos."""
    a, b = comparison.names
    content = [
        compare_parts.verdict_section(comparison),
        compare_parts.flips_section(comparison),
        compare_parts.changed_section(comparison),
        result_parts.confusion_section({a: comparison.a, b: comparison.b}),
    ]
    lead = compare_parts.compare_tiles(comparison)
    html = render_page(f"{a} → {b}", content, kind="Comparison", lead=lead, language=language)
    return write_page(Path(folder) / "index.html", html)


def analyze_report(facts: Mapping[str, Any], folder: str | Path, *, language: Language = "en") -> Path:
    """``index.html`` in a folder for what ``clipwise analyze`` found (its JSON)."""
    content = [
        analyze_parts.verdict_section(facts),
        analyze_parts.importance_section(facts),
        analyze_parts.class_table_section(facts),
        analyze_parts.failures_section(facts),
    ]
    lead = analyze_parts.analyze_tiles(facts)
    html = render_page(facts["model"], content, kind="What it looks at", lead=lead, language=language)
    return write_page(Path(folder) / "index.html", html)


def demo_report(
    out: str | Path,
    runs: Mapping[str, str | Path],
    results: Mapping[str, Any],
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
        timelines: of one or more long videos; see ``sections.timeline_section``.
        story: paragraphs that say what is shown.
        facts: more figures as (label, value, note).
        predictions: of new files; each with ``source`` and ``top`` (pairs of class and share).
        mistakes: film strips a model.
    """
    logs: list[RunLog] = [read_run(folder, name) for name, folder in runs.items()]
    tables = {name: ScoreTable.of(r) for name, r in results.items()}
    lead = (parts.tiles(facts) if facts else "") + ("<br>" if facts and tables else "")
    lead += result_parts.comparison_tiles(tables) if tables else ""
    content: list[parts.Section | None] = []
    if story:
        content.append(parts.words_section("story", "What this shows", story))
    if tables:
        content.append(result_parts.class_section(tables))
    if logs:
        content.append(run_parts.curves_section(logs))
    content.append(result_parts.confusion_section(tables))
    for n, (name, table) in enumerate(tables.items()):
        content.append(result_parts.mistakes_section(table, f"mistakes-{n}", mistakes, f"Worst mistakes: {name}"))
    if predictions:
        content.append(parts.predictions_section(predictions))
    if timelines:
        content.append(parts.timeline_section([timelines] if isinstance(timelines, Mapping) else timelines))
    content.append(run_parts.time_section(logs))
    path = Path(out)
    path = path if path.suffix == ".html" else path / "index.html"
    return write_page(path, render_page(title, content, kind="Demo", lead=lead, language=language))


def _result_parts(tables: Mapping[str, ScoreTable], mistakes: int) -> list[parts.Section | None]:
    table = next(iter(tables.values()))
    known = bool((table.class_counts > 0).any())
    return [
        result_parts.class_section(tables) if known else None,
        result_parts.confusion_section(tables),
        result_parts.pairs_section(table),
        result_parts.mistakes_section(table, limit=mistakes),
        result_parts.calibration_section(table),
        result_parts.speed_section(table),
        result_parts.failures_section(table),
    ]
