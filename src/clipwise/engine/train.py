"""``train``: from a recipe and data to a run in a folder. The loop itself is in ``loop.py``."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from clipwise.engine import checkpoint as ckpt
from clipwise.engine.device import make_accelerator, seed_everything
from clipwise.engine.init_resume import check_resume, find_resume, init_weights
from clipwise.engine.log import RunLog
from clipwise.engine.loop import Run, RunResult
from clipwise.engine.task import task_class
from clipwise.errors import CheckpointError
from clipwise.io.files import atomic_path
from clipwise.io.plugins import trusting
from clipwise.models.registry import model_place
from clipwise.recipe import Recipe, dump_recipe, load_recipe, scaled_lr

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
        resume: True to go on from the run's newest checkpoint, ``auto`` to do so if there is one (elastic restarts),
            or a checkpoint's path.
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
        trackers=recipe.trackers,
        folder=folder,
        loss_scale=recipe.loss_scale,
        static_graph=recipe.static_graph,
    )
    main = accelerator.is_main_process
    resume_from = find_resume(resume, folder) if resume else None
    passport = ckpt.read_passport(resume_from) if resume_from else None
    log = RunLog(folder, active=main, quiet=quiet)
    seed_everything(recipe.seed, recipe.deterministic)
    with trusting(trust):
        kind = task_class(recipe.task)
        task = kind(recipe, accelerator, log, data=data, val_data=val_data, validate=validate)
    recipe = task.recipe  # with what only the data can tell
    assert not isinstance(recipe, str)
    if passport:
        check_resume(passport, task)
    else:
        task.audit(short_check=check and main)
        if init or recipe.init:
            init_weights(task.model, str(init or recipe.init), getattr(recipe, "init_first_conv", "average"), log)
    lr = scaled_lr(recipe, accelerator.num_processes)
    accelerator.wait_for_everyone()  # all have read their start, which may lie in this folder
    if main:
        earlier = _prepare_folder(folder, recipe, resume_from)
        task.keep_lists(folder)
        if recipe.trackers:
            log.tracker = _trackers(accelerator, recipe, folder)
        if earlier:
            log.say(f"{folder} held an earlier run: its files are in {earlier} now. (--resume goes on with a run.)")
        if lr != recipe.lr:
            log.say(
                f"learning rate {recipe.lr:g} -> {lr:g} (linear rule, made for a global batch of {recipe.base_batch_size})"
            )
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) and os.environ.get(_FRESH_STORE) != "1":
        log.say(
            f"torchrun may restart these processes, but {_FRESH_STORE}=1 is not set in its environment: restarted processes may then find "
            "the addresses of those before them, and fail with 'Connection refused'."
        )
    run = Run(recipe, task, accelerator, log, folder, lr)
    if resume_from and passport:
        run.restore(resume_from, passport)
        log.say(f"resuming from {resume_from} after epoch {run.epoch}, batch {run.batch}")
    with _stop_signals() as stop:
        result = run.fit(stop, validate and task.val_videos is not None, max_steps)
    if recipe.trackers:
        accelerator.end_training()
    return result


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM ask the loop to save and end after this step; a second Ctrl-C ends at once."""
    stop = threading.Event()

    def ask(number, frame):
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
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


# The last one makes a folder a run's: if the process is killed while it moves them, the next one moves the rest.
_FILES_OF_A_RUN = (
    "best.safetensors", "epoch_*.safetensors", "state-*.pt", "log.jsonl", "log.csv", "recipe.yaml", "report.html", "last.safetensors",
)  # fmt: skip


def _prepare_folder(folder: Path, recipe: Recipe, resume_from: Path | None) -> Path | None:
    """Make the run's folder and write its recipe. Unless that run goes on, its files are moved aside; returns where to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"the run's folder {folder} can't be made: {error.strerror}.") from None
    earlier = None
    goes_on = resume_from is not None and resume_from.resolve().parent == folder.resolve()
    if not goes_on and (folder / "last.safetensors").is_file():
        earlier = next(p for n in itertools.count(1) if not (p := folder / f"earlier-{n}").exists())
        earlier.mkdir()
        if (folder / "lists").is_dir():  # a copy, for the new run may be about to train on them
            shutil.copytree(folder / "lists", earlier / "lists")
        for old in [path for pattern in _FILES_OF_A_RUN for path in folder.glob(pattern)]:
            old.rename(earlier / old.name)
    if not goes_on:
        # What a run without a checkpoint left: its log would mix with the new one's.
        for name in ("log.jsonl", "log.csv"):
            (folder / name).unlink(missing_ok=True)
    with atomic_path(folder / "recipe.yaml") as path:
        path.write_text(dump_recipe(recipe), encoding="utf-8")
    return earlier


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
