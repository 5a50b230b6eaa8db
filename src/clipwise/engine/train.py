"""The training loop: one, for every model.

A run is a function of the recipe, the data and the seed. Each step's learning rate, samples and random numbers
follow from its number, so a run that was killed goes on from its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from clipwise.data.loader import prefetch
from clipwise.engine import checkpoint as ckpt
from clipwise.engine.device import make_accelerator, peak_memory_mb, random_state, seed_everything, set_random_state
from clipwise.engine.log import Averages, RunLog, Watchdog
from clipwise.engine.network import Network
from clipwise.engine.optim import Schedule
from clipwise.engine.recognition import RecognitionTask
from clipwise.engine.start import check_resume, find_resume, init_weights
from clipwise.errors import CheckpointError, WorkError
from clipwise.recipe import LocalizationRecipe, Recipe, dump_recipe, load_recipe, scaled_lr

_FRESH_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


@dataclass
class RunResult:
    """What a run leaves."""

    folder: Path
    last: Path
    best: Path | None
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last validation."""
    best_metrics: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
    seconds: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    """Training videos that could not be decoded, with the reason."""
    validation: Any = None
    """Of the last validation: a ``TestResult``, or a ``LocalizationResult``."""


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

    Raises:
        RecipeError, DataError, CheckpointError: something given is wrong; nothing was started.
        WorkError: the run can't go on (a loss that is not finite).
    """
    if isinstance(recipe, str):
        recipe = load_recipe(recipe)
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
    if isinstance(recipe, LocalizationRecipe):
        from clipwise.engine.localization import LocalizationTask

        localization = LocalizationTask(recipe, accelerator, log, data=data, val_data=val_data)
        recipe = localization.recipe  # with what only the data can tell
        task: Any = localization
    else:
        task = RecognitionTask(recipe, accelerator, log, data=data, val_data=val_data, validate=validate)
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
        log = task.log = RunLog(folder, quiet=quiet, tracker=_trackers(accelerator, recipe, folder))
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
    run = _Run(recipe, task, accelerator, log, folder, lr)
    if resume_from and passport:
        run.restore(resume_from, passport)
        log.say(f"resuming from {resume_from} after epoch {run.epoch}, batch {run.batch}")
    with _stop_signals() as stop:
        result = run.fit(stop, validate and task.val_videos is not None, max_steps)
    if recipe.trackers:
        accelerator.end_training()
    return result


class _Run:
    """State of a run and the loop over it."""

    def __init__(self, recipe: Recipe, task: Any, accelerator: Accelerator, log: RunLog, folder: Path, lr: float):
        self.recipe, self.task, self.accelerator, self.log, self.folder = recipe, task, accelerator, log, folder
        self.network = Network(task.model, recipe, accelerator, lr)
        self.saver = ckpt.Saver(folder, accelerator, recipe.keep_checkpoints)
        self.watchdog = Watchdog(recipe.hang_warning_s, accelerator.process_index)
        self.batches, self.global_batch = len(task.sampler), recipe.batch_size * accelerator.num_processes
        self.schedule = Schedule(recipe, -(-self.batches // recipe.accumulate))
        self.epoch = self.batch = self.step = 0  # epochs finished, batches of this epoch taken, optimizer steps
        self.metrics: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.validation: Any = None
        self.doubtful: tuple[torch.Tensor, dict] | None = None  # the last loss and gradient, not yet looked at
        self.asked: torch.Tensor | None = None  # how many processes were asked to stop, not yet looked at
        self.max_steps: int | None = None
        self.said_slow = False

    # -- the loop

    def fit(self, stop: threading.Event, validate: bool, max_steps: int | None = None) -> RunResult:
        recipe, started, self.max_steps = self.recipe, time.perf_counter(), max_steps
        while self.epoch < recipe.epochs and not self._should_stop(stop):
            self.train_epoch(stop)
            if self.batch < self.batches:  # stopped in the middle
                break
            self.epoch, self.batch = self.epoch + 1, 0
            last = self.epoch == recipe.epochs
            better = False
            if validate and (self.epoch % recipe.validate_every == 0 or last):
                better = self.validate()
            if better or last or self.epoch % recipe.checkpoint_every == 0:
                self.save(best=better)
        interrupted = self.epoch < recipe.epochs
        if interrupted:
            self.save()
            self.log.say(f"stopped after epoch {self.epoch}, batch {self.batch}; go on with --resume")
        self.saver.wait()
        self.accelerator.wait_for_everyone()
        self.watchdog.close()
        if self.task.failed:
            self.log.say(
                f"{len(self.task.failed)} training videos could not be decoded and were skipped: {', '.join(list(self.task.failed)[:5])}"
            )
        best = self.folder / "best.safetensors"
        return RunResult(
            folder=self.folder,
            last=self.folder / "last.safetensors",
            best=best if best.is_file() else None,
            metrics=self.metrics,
            best_metrics=self.best,
            interrupted=interrupted,
            seconds=time.perf_counter() - started,
            skipped=self.task.failed,
            validation=self.validation,
        )

    def train_epoch(self, stop: threading.Event) -> None:
        recipe, task = self.recipe, self.task
        task.sampler.set_position(self.epoch, self.batch)
        self.network.model.train()
        averages: dict[str, Averages] = {}
        waited = worked = 0.0
        taken, clock = 0, time.perf_counter()
        with self.log.progress(self.batches, f"epoch {self.epoch + 1}/{recipe.epochs}", self.batch) as advance:
            self.watchdog.enter("waiting for data")
            for batch in prefetch(task.loader, self.accelerator.device):
                waited += time.perf_counter() - clock
                self.watchdog.enter("computing")
                lr = self.schedule.set(self.network.optimizer, self.step)
                last_of_step = (self.batch + 1) % recipe.accumulate == 0 or self.batch + 1 == self.batches
                position = self.epoch * self.batches + self.batch
                figures = self.learn(batch, (self.epoch, self.batch), recipe.accumulate, last_of_step)
                averages.setdefault("", Averages()).add(figures, len(batch["index"]))
                if last_of_step:
                    self.step += 1
                    for source, extra in task.auxiliary(position):
                        figures = self.learn(extra, (self.epoch, self.batch, source.number + 1), 1, True)
                        averages.setdefault(f"/{source.source.name}", Averages()).add(figures, len(extra["index"]))
                self.batch += 1
                taken += 1
                advance()
                worked += time.perf_counter() - clock
                if self.batch % recipe.log_every == 0 or self.batch == self.batches:
                    self._log_train(averages, lr, waited / taken, worked / taken)
                    waited, worked, taken = 0.0, 0.0, 0
                if self._should_stop(stop):
                    break
                every = recipe.checkpoint_every_steps
                if last_of_step and every and self.step % every == 0 and self.batch < self.batches:
                    self.save()
                self.watchdog.enter("waiting for data")
                clock = time.perf_counter()
        self.check_finite()

    def learn(self, batch: dict[str, Any], key: tuple[int, ...], parts: int, step: bool) -> dict[str, torch.Tensor]:
        """Forward and backward of one batch, and the optimizer's step when its gradients are complete.

        Args:
            key: numbers that name this batch; its random numbers come from them and the process's rank.
            parts: how many batches make a step.
            step: whether this is the last of them.
        """
        accelerator, network = self.accelerator, self.network
        with network.collecting(step):
            loss, figures = self.task.loss(network.model, batch, (*key, accelerator.process_index))
            self.check_finite()
            accelerator.backward(loss / parts)
        suspect = loss.detach()
        if step:
            norm = network.step(self.recipe.grad_clip)
            if norm is not None:
                figures["grad_norm"] = norm
                if accelerator.scaler is None:  # with fp16 an overflow is no accident: the scaler skips the step
                    suspect = suspect + 0 * norm
        self.doubtful = suspect, batch
        return figures

    def _should_stop(self, stop: threading.Event) -> bool:
        """Whether to end here: accumulated gradients are not lost, for a run stops after a step.

        What other processes were asked is looked at one step late, so that the device never waits.
        """
        if (self.batch % self.recipe.accumulate) and self.batch < self.batches:
            return False
        if self.max_steps and self.step >= self.max_steps:
            return True
        if self.accelerator.num_processes == 1:
            return stop.is_set()
        before, self.asked = self.asked, torch.tensor(float(stop.is_set()), device=self.accelerator.device)
        torch.distributed.all_reduce(self.asked)
        return before is not None and bool(before.item() > 0)

    def check_finite(self) -> None:
        """Stop at a loss that is NaN or infinite. It is looked at one step late, so that the device never waits."""
        if self.doubtful is None:
            return
        (loss, batch), self.doubtful = self.doubtful, None
        if not torch.isfinite(loss).item():
            names = ", ".join(self.task.batch_names(batch)[:8])
            raise WorkError(
                f"the loss or its gradient is {loss.item()} at epoch {self.epoch + 1}, step {self.step}; the batch: {names}. "
                "Lower lr, set grad_clip, or use amp: no. The last checkpoint is from before this step."
            )

    def _log_train(self, averages: dict[str, Averages], lr: float, data_time: float, step_time: float) -> None:
        device = self.accelerator.device if self.accelerator.num_processes > 1 else None
        place = {"epoch": self.epoch + 1, "epochs": self.recipe.epochs, "iter": self.batch, "iters": self.batches}
        means = {f"{key}{suffix}": v for suffix, average in averages.items() for key, v in average.take(device).items()}
        costs = {"lr": lr, "memory": peak_memory_mb(), "data_time": data_time}
        self.log.write("train", {**place, **costs, **means, "time": step_time}, self.step)
        if data_time > 0.5 * step_time and step_time > 0.02 and not self.said_slow:
            self.said_slow = True
            self.log.say(
                f"the loader is the brake: {data_time:.2f} of {step_time:.2f} s a step is waiting for data. More num_workers, "
                "or files made for random access (`clipwise prepare resize`), help."
            )

    def validate(self) -> bool:
        """Measure; True if this is the best so far."""
        self.watchdog.enter("validating")
        self.task.before_validation(self.network.model)
        videos = -(-len(self.task.val_videos) // self.accelerator.num_processes)
        with self.network.validated() as model, self.log.progress(videos, "validation") as advance:
            figures, self.validation = self.task.validate(model, advance)
        self.metrics = figures
        self.log.write("val", {"epoch": self.epoch, "epochs": self.recipe.epochs, **figures}, self.step)
        key = self.task.main_metric
        if not self.best or figures[key] > self.best[key]:
            self.best = dict(figures)
            return True
        return False

    # -- checkpoints

    def save(self, best: bool = False) -> None:
        """Write ``last`` with its training state, and ``best`` when this is it."""
        self.check_finite()
        self.watchdog.enter("saving")
        state = {
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "global_batch": self.global_batch,
            "best": self.best,
            "metrics": self.metrics,
            "random": random_state(),
            **self.network.state(),
        }
        passport = self.task.passport()
        passport.epoch, passport.step, passport.metrics = self.epoch, self.step, dict(self.metrics)
        self.saver.save(state, self.network.weights(), passport, best=best, whole_epoch=self.batch == 0)

    def restore(self, path: Path, passport: ckpt.Passport) -> None:
        """Take everything back from a checkpoint."""
        tensors, _ = ckpt.read_checkpoint(path)
        state = ckpt.load_state(path, passport)
        rank = self.accelerator.process_index
        self.network.restore(tensors, state, path)
        own = state
        if rank:
            try:
                own = ckpt.load_state(path, passport, rank)
                for key, buffer in self.network.bare.named_buffers():
                    buffer.copy_(own["buffers"][key])
            except CheckpointError:
                self.log.say(
                    "the checkpoint was made by fewer processes: the new ones take the first one's batch norm statistics."
                )
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        self.best, self.metrics = state["best"], state["metrics"]
        set_random_state(own["random"])
        self.log.forget_after(self.epoch, self.batch)
        before = state.get("global_batch", self.global_batch)
        if (
            before != self.global_batch
        ):  # other processes or another batch size: the same place of the epoch, counted anew
            whole = self.batch * before // self.global_batch
            self.batch = min(whole - whole % self.recipe.accumulate, self.batches - 1)
            self.step = self.epoch * self.schedule.steps_per_epoch + self.batch // self.recipe.accumulate
            self.log.say(
                f"the global batch was {before} and is {self.global_batch} now: going on with batch {self.batch + 1} of {self.batches}"
            )


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


_FILES_OF_A_RUN = (
    "last.safetensors", "best.safetensors", "epoch_*.safetensors", "state-*.pt", "log.jsonl", "log.csv", "recipe.yaml", "report.html",
)  # fmt: skip


def _prepare_folder(folder: Path, recipe: Recipe, resume_from: Path | None) -> Path | None:
    """Make the run's folder and write its recipe; a new run moves the files of one before it aside, and says where to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"the run's folder {folder} can't be made: {error.strerror}.") from None
    earlier = None
    if resume_from is None and (folder / "last.safetensors").is_file():
        earlier = next(p for n in itertools.count(1) if not (p := folder / f"earlier-{n}").exists())
        earlier.mkdir()
        for old in [path for pattern in _FILES_OF_A_RUN for path in folder.glob(pattern)]:
            old.rename(earlier / old.name)
    if resume_from is None:
        # What a run without a checkpoint left: its log would mix with the new one's.
        for name in ("log.jsonl", "log.csv"):
            (folder / name).unlink(missing_ok=True)
    with ckpt.atomic_path(folder / "recipe.yaml") as path:
        path.write_text(dump_recipe(recipe), encoding="utf-8")
    return earlier


def _trackers(accelerator: Accelerator, recipe: Recipe, folder: Path):
    """A function that sends figures to the recipe's trackers, or None; what they keep on disk goes into the run's folder."""
    if not recipe.trackers:
        return None
    options = {
        "wandb": {"dir": str(folder), "name": folder.name},
        "mlflow": {"run_name": folder.name},
        "swanlab": {"logdir": str(folder / "swanlog"), "experiment_name": folder.name},
    }
    config = {k: str(v) for k, v in recipe.model_dump().items()}
    accelerator.init_trackers(recipe.name or "clipwise", config=config, init_kwargs=options)
    return lambda figures, step: accelerator.log(figures, step=step)
