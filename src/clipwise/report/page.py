"""Pages from templates: one file with everything in it, no remote script or font, light and dark, English and Chinese."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import clipwise
from clipwise.io.files import atomic_path

Language = Literal["en", "zh"]

FIGURE_NAMES = {
    "top1_acc": "top-1 accuracy",
    "top5_acc": "top-5 accuracy",
    "mean_class_accuracy": "mean class accuracy",
    "mean_average_precision": "mean average precision",
    "mmit_mean_average_precision": "mAP by video",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "loss_cls": "classification loss",
    "loss_aux": "auxiliary loss",
    "time": "seconds per step",
    "data_time": "seconds waiting for data",
    "memory": "memory (MB)",
}
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        anchor, title: id and heading.
        template: file in ``templates/sections`` that draws ``data``.
        note: a line under the heading.
    """

    anchor: str
    title: str
    template: str
    data: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @classmethod
    def table(
        cls,
        anchor: str,
        title: str,
        head: Sequence[str],
        rows: Sequence[Sequence[Any]],
        numeric: Sequence[int] = (),
        *,
        note: str = "",
        keep: Sequence[int] = (),
    ) -> Section:
        """A plain table.

        Args:
            numeric: columns that are aligned as numbers.
            keep: columns that are never translated.
        """
        return cls(anchor, title, "table", dict(head=head, rows=rows, numeric=numeric, keep=keep), note)


@cache
def _environment():
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"duration": duration, "tail": tail}
    environment.globals["source"] = lambda name: Markup((_TEMPLATES / name).read_text(encoding="utf-8"))
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return environment


def render(template: str, **values: Any) -> Any:
    """A template with its values, as markup that other templates do not escape again."""
    from markupsafe import Markup

    return Markup(_environment().get_template(template).render(values))


def markup(pattern: str, *values: Any) -> Any:
    """Markup with values, which are escaped."""
    from markupsafe import Markup

    return Markup(pattern).format(*values)


def write_page(
    path: str | Path,
    title: str,
    sections: Sequence[Section | None],
    *,
    kind: str,
    tiles: Sequence[tuple[str, str, str]] = (),
    results: Mapping[str, Any] | None = None,
    language: Language = "en",
) -> Path:
    """Write a page; a reader never sees half of it.

    Args:
        path: the HTML file.
        title: name of the run or model.
        sections: in their order; None is left out.
        kind: what the page is, above the title.
        tiles: key figures under the title as (label, value, note).
        results: a table of several results under the title: head, rows.
        language: in which it opens; the reader can switch.

    Raises:
        ClipwiseError: the file cannot be written.
    """
    html = render(
        "page.html",
        title=title,
        sections=[s for s in sections if s is not None],
        kind=kind,
        tiles=tiles,
        results=results,
        language=language,
        version=clipwise.__version__,
        date=time.strftime("%Y-%m-%d %H:%M"),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def tail(path: str, parts: int = 2) -> str:
    """The last parts of a path."""
    return "/".join(str(path).replace("\\", "/").rstrip("/").split("/")[-parts:])


def duration(seconds: float) -> str:
    """A time with three digits in ms, s, min or h."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"
