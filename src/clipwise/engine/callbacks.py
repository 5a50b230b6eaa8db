"""What follows a run from outside: callbacks of one's own, experiment trackers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from clipwise.recipe import Recipe


class Callback:
    """Follows a run; each method may be left out. Called on the main process, after the figures are in the log."""

    def on_step(self, figures: dict[str, Any]) -> None:
        """After each line of training figures (every ``log.every`` batches): epoch, iter, iters, step, lr, loss, …: means since the last."""

    def on_epoch(self, figures: dict[str, Any]) -> None:
        """After each epoch: its validation figures, or without validation its last training figures."""

    def on_end(self, result: Any) -> None:
        """After the run, with its ``RunResult``."""


def attach(log: Any, callbacks: Sequence[Callback], recipe: Recipe, validated: bool) -> None:
    """From now on each line of a run's log goes to the callbacks, too.

    Args:
        log: a ``RunLog``.
        validated: whether the run validates.
    """
    write = log.write

    def write_and_call(mode: str, figures: dict[str, Any], step: int) -> None:
        write(mode, figures, step)
        epoch = figures["epoch"]
        ends = mode == "val"
        if mode == "train":
            for callback in callbacks:
                callback.on_step({**figures, "step": step})
            measured = validated and (epoch % recipe.val.every == 0 or epoch == recipe.epochs)
            ends = figures["iter"] == figures["iters"] and not measured
        if ends:
            for callback in callbacks:
                callback.on_epoch({**figures, "step": step})

    if log.active:
        log.write = write_and_call


def start_trackers(accelerator: Accelerator, recipe: Recipe, folder: Path) -> Any:
    """A function that sends figures to the recipe's trackers; what they keep on disk goes into the run's folder."""
    options = {
        "wandb": {"dir": str(folder), "name": folder.name},
        "mlflow": {"run_name": folder.name},
        "swanlab": {"logdir": str(folder / "swanlog"), "experiment_name": folder.name},
        "trackio": {"name": folder.name, "embed": False},
    }
    config = {k: str(v) for k, v in recipe.model_dump().items()}
    accelerator.init_trackers(recipe.name or "clipwise", config=config, init_kwargs=options)
    return lambda figures, step: accelerator.log(figures, step=step)
