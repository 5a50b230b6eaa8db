"""What a run leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(repr=False)
class RunResult:
    """What a run leaves."""

    folder: Path
    last: Path
    best: Path | None
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last validation."""
    best_metrics: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
    """Whether epochs remain; the run can resume."""
    reached_max_steps: bool = False
    seconds: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    """Training videos that could not be decoded, with the reason."""
    validation: Any = None
    """Of the last validation: a ``TestResult``, or a ``LocalizationResult``."""

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in (self.best_metrics or self.metrics).items())
        state = "interrupted" if self.interrupted else "complete"
        return (
            f"RunResult({str(self.folder)!r}, {state}, {self.seconds:.0f} s{', best: ' + figures if figures else ''})"
        )

    def to_pandas(self) -> Any:
        """A data frame with the lines of the run's log; needs the extra ``notebook``."""
        from clipwise.io.parse import read_json_lines
        from clipwise.io.tables import data_frame

        return data_frame(read_json_lines(self.folder / "log.jsonl"), "RunResult.to_pandas()")
