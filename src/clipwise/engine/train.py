"""``train``: from a recipe and data to a run in a folder. The loop itself is in ``loop.py``."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from clipwise.data.loader import worker_deaths
from clipwise.engine.device import from_first, make_accelerator, seed_everything
from clipwise.engine.log import RunLog
from clipwise.engine.loop import Run, RunResult
from clipwise.engine.run_folder import RunFolder
from clipwise.engine.task import task_class
from clipwise.errors import CheckpointError
from clipwise.io.plugins import trusting
from clipwise.models import contract
from clipwise.models.registry import model_place
from clipwise.recipe import Recipe, load_recipe, scaled_lr

_FRESH_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


def train(
    recipe: Recipe | str,
    *,
    data: str | None = None,
    val_data: str | None = None,
    work_dir: str | Path | None = None,
    validate: bool = True,
    init: str | None = None,
    resume: str | bool | None = None,
    allow_changes: bool = False,
    max_steps: int | None = None,
    check: bool = False,
    device: str | None = None,
    quiet: bool = False,
    model: str | Callable[..., nn.Module] | None = None,
    trust: bool = False,
) -> RunResult:
    """Train a recipe.

    Args:
        recipe: a recipe object, or its name or file.
        data: folder or list, instead of the recipe's ``train_data`` and ``val_data``.
        val_data: validation folder or list.
        work_dir: the run's folder; ``runs/NAME`` if not given.
        validate: measure on the validation data during training.
        init: checkpoint whose weights are the start.
        resume: True to resume from the run's newest checkpoint, ``auto`` to do so if there is one (elastic restarts),
            or a checkpoint's path.
        allow_changes: resume although the recipe differs from the checkpoint's in what makes it another run.
        max_steps: stop, resumably, after so many optimizer steps.
        check: look at a sample of the data before the first epoch and say what is wrong.
        device: ``cpu`` to keep off an accelerator.
        quiet: nothing on the terminal.
        model: instead of the recipe's: a name, or the function or class that makes it (with the recipe's ``model_args``).
        trust: whether a model that the recipe names may be imported though it does not come with clipwise.

    Raises:
        RecipeError, DataError, CheckpointError: something given is wrong; nothing was started.
        WorkError: the run can't go on (a loss that is not finite).
    """
    if isinstance(recipe, str):
        recipe = load_recipe(recipe)
    if model is not None:
        recipe = recipe.model_copy(update={"model": model if isinstance(model, str) else model_place(model)})
    folder = Path(work_dir or Path("runs") / recipe.name)
    accelerator = make_accelerator(
        recipe.amp,
        device=device,
        trackers=recipe.log.trackers,
        folder=folder,
        loss_scale=recipe.optim.loss_scale,
        static_graph=recipe.parallel.static_graph,
    )
    log = RunLog(folder, active=accelerator.is_main_process, quiet=quiet)
    with _locked(folder, log), worker_deaths():
        start = None
        if resume:
            from clipwise.engine.init_resume import check_resume, find_resume

            start = find_resume(resume, folder, log)
        seed_everything(recipe.seed, recipe.deterministic)
        with trusting(trust):
            kind = task_class(recipe.task)
            task = kind(recipe, accelerator, log, data=data, val_data=val_data, validate=validate)
        recipe = task.recipe  # with what only the data can tell
        assert not isinstance(recipe, str)
        for key, reason in contract.keys_without_effect(task.model, recipe):
            log.say(f"{key} has no effect: {reason}.")
        if start:
            check_resume(start, task, allow_changes, log)
        else:
            task.audit(short_check=check and log.active)
            if init or recipe.init:
                from clipwise.engine.init_resume import init_weights

                init_weights(task.model, str(init or recipe.init), getattr(recipe, "init_first_conv", "average"), log)
        lr, batch = scaled_lr(recipe, accelerator.num_processes), recipe.batch_size * accelerator.num_processes
        if batch > (videos := getattr(task.sampler, "num_samples", batch)):
            log.say(
                f"batch_size {recipe.batch_size} x {accelerator.num_processes} processes is more than the {videos} training videos: "
                "an epoch is one step."
            )
        accelerator.wait_for_everyone()  # all have read their start, which may lie in this folder
        if log.run_folder is not None:
            earlier = log.run_folder.prepare(recipe, start.path if start else None)
            task.keep_lists(folder)
            if recipe.log.trackers:
                log.tracker = _trackers(accelerator, recipe, folder)
            if earlier:
                log.say(f"{folder} held an earlier run: its files are in {earlier} now. (--resume continues a run.)")
            if lr != recipe.lr:
                log.say(
                    f"learning rate {recipe.lr:g} -> {lr:g} (linear rule, made for a global batch of {recipe.base_batch_size})"
                )
        if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) and os.environ.get(_FRESH_STORE) != "1":
            log.say(
                f"torchrun may restart these processes, but {_FRESH_STORE}=1 is not set in its environment: restarted processes may then "
                "find the addresses of those before them, and fail with 'Connection refused'."
            )
        run = Run(recipe, task, accelerator, log, folder, lr)
        if start:
            run.restore(start)
            log.say(f"resuming from {start.path} after epoch {run.epoch}, batch {run.batch}")
        elif log.active:
            run.saver.tidy()  # what a run that was killed before its first checkpoint left
        accelerator.wait_for_everyone()
        with _stop_signals() as stop:
            result = run.fit(stop, validate and task.val_videos is not None, max_steps)
        if recipe.log.trackers:
            accelerator.end_training()
    return result


@contextmanager
def _locked(folder: Path, log: RunLog) -> Iterator[None]:
    """The run's folder, locked by the main process while the block runs; all processes learn of a refusal."""
    refusal = None
    if log.active:
        try:
            log.run_folder = RunFolder(folder)
        except CheckpointError as error:
            refusal = str(error)
    refusal = from_first(refusal)
    if refusal:
        raise CheckpointError(refusal)
    try:
        yield
    finally:
        if log.run_folder is not None:
            log.run_folder.close()


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM ask the loop to save and end after this step; a second Ctrl-C, a second later, ends at once."""
    stop = threading.Event()
    first = 0.0

    def ask(number, frame):
        nonlocal first
        if (
            stop.is_set() and number == signal.SIGINT and time.monotonic() - first > 1
        ):  # torchrun repeats the terminal's
            raise KeyboardInterrupt
        first = first or time.monotonic()
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _trackers(accelerator: Accelerator, recipe: Recipe, folder: Path):
    """A function that sends figures to the recipe's trackers; what they keep on disk goes into the run's folder."""
    options = {
        "wandb": {"dir": str(folder), "name": folder.name},
        "mlflow": {"run_name": folder.name},
        "swanlab": {"logdir": str(folder / "swanlog"), "experiment_name": folder.name},
    }
    config = {k: str(v) for k, v in recipe.model_dump().items()}
    accelerator.init_trackers(recipe.name or "clipwise", config=config, init_kwargs=options)
    return lambda figures, step: accelerator.log(figures, step=step)
