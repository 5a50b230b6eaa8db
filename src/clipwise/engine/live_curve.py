"""What ``train`` draws in a notebook while it runs: loss and main metric, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clipwise.engine.callbacks import Callback
from clipwise.io.notebook import Output, bar, curves, in_notebook


class LiveCurve(Callback):
    """One output with the curves of the loss (a point a log line) and of the main metric (a point an epoch)."""

    def __init__(self, main_metric: str) -> None:
        self.main_metric, self.output = main_metric, Output()
        self.series: dict[str, list[tuple[float, float]]] = {"loss": [], main_metric: []}
        self.text, self.share = "", 0.0

    def on_step(self, figures: dict[str, Any]) -> None:
        self.series["loss"].append((figures["step"], figures["loss"]))
        done = figures["epoch"] - 1 + figures["iter"] / figures["iters"]
        self.share = done / figures["epochs"]
        self.text = f"epoch {figures['epoch']}/{figures['epochs']}, batch {figures['iter']}/{figures['iters']}, lr {figures['lr']:.3g}"
        self._show()

    def on_epoch(self, figures: dict[str, Any]) -> None:
        if self.main_metric in figures:
            self.series[self.main_metric].append((figures["epoch"], figures[self.main_metric]))
        self._show(now=True)

    def on_end(self, result: Any) -> None:
        self.text = repr(result)
        self._show(now=True)

    def _show(self, now: bool = False) -> None:
        self.output.show(bar(self.text, self.share) + curves(self.series), now)


def with_live_curve(callbacks: Sequence[Callback], main_metric: str, log: Any) -> Sequence[Callback]:
    """In a notebook the curve beside the callbacks; the log's lines of figures, which it shows, are then not printed."""
    if not in_notebook() or not log.active:
        return callbacks
    write = log.write

    def write_silently(mode: str, figures: dict[str, Any], step: int) -> None:
        log.quiet = True
        try:
            write(mode, figures, step)
        finally:
            log.quiet = False

    log.write = write_silently
    return [*callbacks, LiveCurve(main_metric)]
