"""``clipwise localize --jsonl``: a line of JSON for each segment once it is settled, and one at the end of each video."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from clipwise.engine.result_files import check_writable
from clipwise.infer.segments import Localization, Segment
from clipwise.io.files import make_parent
from clipwise.io.text import json_text


class SegmentLines:
    """Writes lines, each at once.

    Args:
        path: file, which is overwritten; ``-`` for stdout.
    """

    def __init__(self, path: str):
        self.source = ""
        self.file: IO[str] = sys.stdout
        if path != "-":
            check_writable(path, "--jsonl")
            make_parent(Path(path))
            self.file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> SegmentLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.file is not sys.stdout:
            self.file.close()

    def segment(self, segment: Segment) -> None:
        """A segment of the video ``source``."""
        self._write(segment.to_dict())

    def end(self, found: Localization) -> None:
        """The video is done: how many of its segments are the answer, and the score of the weakest of them."""
        weakest = min((s.score for s in found.segments), default=None)
        facts: dict[str, Any] = {
            "done": True,
            "duration_s": round(found.duration_s, 3),
            "segments": len(found.segments),
        }
        facts["min_score"] = weakest if weakest is None else round(weakest, 5)
        facts |= {key: value for key, value in (("damage", found.damage), ("note", found.note)) if value}
        self._write(facts)

    def failed(self, reason: str) -> None:
        """The video can't be used."""
        self._write({"error": reason})

    def _write(self, facts: dict[str, Any]) -> None:
        self.file.write(json_text({"source": self.source, **facts}) + "\n")
        self.file.flush()
