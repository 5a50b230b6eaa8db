"""What several commands print and parse."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from clipwise.errors import ClipwiseError
from clipwise.export import SUFFIXES

EXPORTED_SUFFIXES = tuple(SUFFIXES.values())


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    from clipwise.io.text import json_text, with_schema

    print(json_text(with_schema(value), indent=2))


def print_table(rows: Iterable[Sequence[Any]], header: Sequence[str] | None = None) -> None:
    """Aligned columns on stdout; numbers to the right."""
    body = [["" if cell is None else _shown(str(cell)).replace("\n", "\\n") for cell in row] for row in rows]
    everything = ([list(header)] if header else []) + body
    if not everything:
        return
    widths = [max(_width(row[i]) for row in everything) for i in range(len(everything[0]))]
    right = [bool(body) and all(_is_number(row[i]) for row in body) for i in range(len(widths))]
    for n, row in enumerate(everything):
        cells = [" " * (w - _width(c)) + c if r else c + " " * (w - _width(c)) for c, w, r in zip(row, widths, right)]
        print("  ".join(cells).rstrip())
        if header and n == 0:
            print("  ".join("-" * w for w in widths))


def fail(verb: str, message: str) -> None:
    """One line on stderr."""
    print(_shown(f"clipwise {verb}: {message}"), file=sys.stderr)


def _shown(text: str) -> str:
    if text.isprintable():
        return text
    from clipwise.io.text import printable

    return printable(text)


def _width(text: str) -> int:
    """Columns on a terminal; Chinese characters take two."""
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).replace("%", "", 1).replace(" ", "").isdigit()


def add_font(parser: argparse.ArgumentParser) -> None:
    """``--font`` of the commands that draw class names."""

    def font(path: str) -> str:
        from clipwise.infer.fonts import use_font

        use_font(path)
        return path

    parser.add_argument(
        "--font",
        metavar="FILE",
        type=font,
        help="font of drawn names (default: one of the system with their characters)",
    )


def add_shard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shard", metavar="I/N", help="work on the I-th of N parts of the inputs (1/4 … 4/4)")


def shard_of(text: str | None) -> tuple[int, int]:
    """``--shard I/N`` as (number from 0, how many): part i takes every n-th input from its i-th on."""
    if text is None:
        return 0, 1
    part, slash, parts = text.partition("/")
    if not (slash and part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise ClipwiseError(f"--shard {text}: write I/N with 1 <= I <= N, for example 2/8.")
    return int(part) - 1, int(parts)


def add_cuda_graphs(parser: argparse.ArgumentParser) -> None:
    """The switch of :mod:`clipwise.infer.cuda_graphs`."""
    parser.add_argument(
        "--cuda-graphs",
        action="store_true",
        help="replay the network's kernels as CUDA graphs, one a shape (default off)",
    )


def with_cuda_graphs(owner: Any, args: argparse.Namespace) -> Any:
    """A loaded predictor or localizer, with graphs if they were asked for."""
    if not args.cuda_graphs:
        return owner
    from clipwise.infer.cuda_graphs import with_graphs

    return with_graphs(owner, lambda text: print(text, file=sys.stderr))


def load_any(checkpoint: str, device: str | None, amp: str = "no", max_views: int | None = None):
    """A predictor for a checkpoint or for an exported model."""
    if checkpoint.endswith(EXPORTED_SUFFIXES):
        from clipwise.export.runtimes import load_exported

        return load_exported(checkpoint, device, amp=amp, max_views=max_views)
    from clipwise.infer.predictor import load

    return load(checkpoint, device, amp=amp, max_views=max_views)
