"""``train``: from a recipe and data to a run in a folder; and the training loop, one for every model.

A run is a function of the recipe, the data and the seed. Each step's learning rate, samples and random numbers
follow from its number, so a run that was killed resumes from its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import nn

from clipwise.data.loader import prefetch
from clipwise.engine.device import fetch_later, make_accelerator, peak_memory_mb, random_state, seed_everything
from clipwise.engine.log import Averages, RunLog, Watchdog
from clipwise.engine.network import Network, Schedule
from clipwise.engine.run_folder import folder_of, locked, stop_signals
from clipwise.engine.run_result import RunResult
from clipwise.engine.saver import Saver
from clipwise.engine.task import TASKS
from clipwise.errors import WorkError
from clipwise.io.plugins import at_place, trusting
from clipwise.models import contract
from clipwise.models.registry import model_place
from clipwise.recipe import Recipe, load_recipe, scaled_lr

if TYPE_CHECKING:
    from clipwise.engine.callbacks import Callback


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
    model: str | Callable[..., nn.Module] | nn.Module | None = None,
    callbacks: Sequence[Callback] = (),
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
        model: instead of the recipe's: a name, or the function or class that makes it (with the recipe's ``model_args``); or the network
            itself, which its checkpoints then need again: ``clipwise.load(checkpoint, model=network)``.
        callbacks: called with the run's figures, see :class:`clipwise.Callback`.
        trust: whether a model that the recipe names may be imported though it does not come with clipwise.

    Raises:
        RecipeError, DataError, CheckpointError: something given is wrong; nothing was started.
        WorkError: the run can't go on (a loss that is not finite).
    """
    given = dict(locals())
    if isinstance(recipe, str):
        recipe = load_recipe(recipe)
    if isinstance(model, nn.Module):
        from clipwise.models.handed_in import handed_in

        with handed_in(model) as place:
            recipe = recipe.model_copy(update={"model": place, "model_args": {}})
            return train(**{**given, "recipe": recipe, "model": None})
    if model is not None:
        recipe = recipe.model_copy(update={"model": model if isinstance(model, str) else model_place(model)})
    folder = Path(work_dir) if work_dir else folder_of(recipe.name)
    accelerator = make_accelerator(device, recipe, folder)
    log = RunLog(folder, active=accelerator.is_main_process, quiet=quiet)
    with locked(folder, log):
        start = None
        if resume:
            from clipwise.engine.resume import check_resume, find_resume, restore, resumed_recipe

            start = find_resume(resume, folder, log)
            recipe = resumed_recipe(recipe, start, allow_changes, log) if start else recipe
        seed_everything(recipe.seed, recipe.deterministic)
        if accelerator.device.type == "cuda":
            from clipwise.engine.kernels import choose_kernels

            choose_kernels(tf32=recipe.tf32, deterministic=recipe.deterministic)
            if recipe.amp == "no":
                log.say(f"fp32 computes as {'TF32 (tf32=false for all 23 bits)' if recipe.tf32 else 'IEEE fp32'}.")
        with trusting(trust):
            task = at_place(TASKS[recipe.task])(
                recipe, accelerator, log, data=data, val_data=val_data, validate=validate
            )
        recipe = task.recipe  # with what only the data can tell
        assert not isinstance(recipe, str)
        for key, reason in contract.keys_without_effect(task.model, recipe):
            log.say(f"{key} has no effect: {reason}.")
        if start:
            check_resume(start, task, allow_changes, log)
        else:
            task.audit(short_check=check and log.active)
            if init or recipe.init:
                from clipwise.engine.init_weights import init_weights

                init_weights(task.model, str(init or recipe.init), getattr(recipe, "init_first_conv", "average"), log)
        lr, processes = scaled_lr(recipe, accelerator.num_processes), accelerator.num_processes
        if recipe.batch_size * processes > (videos := getattr(task.sampler, "num_samples", math.inf)):
            log.say(
                f"batch_size {recipe.batch_size} (x {processes}) exceeds the list's {videos}: an epoch is one step."
            )
        accelerator.wait_for_everyone()  # all have read their start, which may lie in this folder
        if log.run_folder is not None:
            earlier = log.run_folder.prepare(recipe, start.path if start else None)
            task.keep_lists(folder)
            if recipe.log.trackers:
                from clipwise.engine.callbacks import start_trackers

                log.tracker = start_trackers(accelerator, recipe, folder)
            if earlier:
                log.say(f"{folder} held an earlier run: its files are in {earlier} now. (--resume continues a run.)")
            if lr != recipe.lr:
                log.say(
                    f"learning rate {recipe.lr:g} -> {lr:g} (linear rule, made for a global batch of {recipe.base_batch_size})"
                )
        if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)):
            from clipwise.engine.elastic import check_store

            check_store(log)
        run = Run(recipe, task, accelerator, log, folder, lr)
        if start:
            restore(run, start)
            log.say(f"resuming from {start.path} after epoch {run.epoch}, batch {run.batch}")
        elif log.active:
            run.saver.tidy()  # what a run that was killed before its first checkpoint left
        accelerator.wait_for_everyone()
        validate = validate and task.val_videos is not None
        if "ipykernel" in sys.modules and not quiet:
            from clipwise.engine.live_curve import with_live_curve

            callbacks = with_live_curve(callbacks, task.main_metric, log)
        if callbacks:
            from clipwise.engine.callbacks import attach

            attach(log, callbacks, recipe, validate)
        log.opening(recipe, task, run.batches, run.schedule.steps_per_epoch * recipe.epochs)
        with stop_signals() as stop:
            try:
                result = run.fit(stop, validate, max_steps)
            except torch.OutOfMemoryError:
                from clipwise.engine.out_of_memory import explain

                raise explain(task, accelerator.device) from None
        if recipe.log.trackers:
            accelerator.end_training()
    for callback in callbacks if log.active else ():
        callback.on_end(result)
    return result


class Run:
    """State of a run and the loop over it."""

    def __init__(self, recipe: Recipe, task: Any, accelerator: Accelerator, log: RunLog, folder: Path, lr: float):
        self.recipe, self.task, self.accelerator, self.log, self.folder = recipe, task, accelerator, log, folder
        kind: type[Network] = Network
        if recipe.parallel.mode == "fsdp" and accelerator.num_processes > 1:
            from clipwise.engine.sharding import ShardedNetwork

            kind = ShardedNetwork
        self.network = kind(task.model, recipe, accelerator, lr)
        self.saver = Saver(folder, accelerator, recipe.checkpoint.keep)
        self.watchdog = Watchdog(recipe.log.hang_warning_s, accelerator.process_index)
        self.batches, self.global_batch = len(task.sampler), recipe.batch_size * accelerator.num_processes
        self.schedule = getattr(task, "make_schedule", Schedule)(recipe, -(-self.batches // recipe.accumulate))
        self.epoch = self.batch = self.step = 0  # epochs finished, batches of this epoch taken, optimizer steps
        self.metrics: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.validation: Any = None
        # the last loss and gradient, and how many processes were asked to stop: not yet looked at
        self.pending_loss: tuple[Callable[[], float], dict] | None = None
        self.stop_votes: Callable[[], float] | None = None
        self.best_epoch = 0
        self.averages: dict[str, Averages] = {}  # of the batches since the last log line
        self.waited = self.worked = 0.0  # seconds of those batches
        self.taken = 0  # their number in this process
        self.max_steps: int | None = None
        self.said_slow = False

    # -- the loop

    def fit(self, stop: threading.Event, validate: bool, max_steps: int | None = None) -> RunResult:
        recipe, started, self.max_steps = self.recipe, time.perf_counter(), max_steps
        self.log.began = started, (self.epoch + self.batch / self.batches) / recipe.epochs
        while self.epoch < recipe.epochs and not self._should_stop(stop):
            self.train_epoch(stop)
            if self.batch < self.batches:  # stopped in the middle
                break
            self.epoch, self.batch = self.epoch + 1, 0
            last = self.epoch == recipe.epochs
            better = False
            if validate and (self.epoch % recipe.val.every == 0 or last):
                better = self.validate()
            if better or last or self.epoch % recipe.checkpoint.every == 0:
                self.save(best=better)
        interrupted = self.epoch < recipe.epochs
        enough = bool(max_steps and self.step >= max_steps)
        if interrupted:
            self.save()
            why = f" at step {self.step}, as --max-steps asks," if enough else ""
            self.log.say(f"stopped{why} after epoch {self.epoch}, batch {self.batch}; resume with --resume")
        self.saver.wait()
        self.accelerator.wait_for_everyone()
        self.watchdog.close()
        if self.task.failed:
            self.log.say(
                f"skipped in training, not to be decoded ({len(self.task.failed)} in all): {', '.join(list(self.task.failed)[:5])}"
            )
        best = self.folder / "best.safetensors"
        return RunResult(
            folder=self.folder,
            last=self.folder / "last.safetensors",
            best=best if best.is_file() else None,
            metrics=self.metrics,
            best_metrics=self.best,
            interrupted=interrupted,
            reached_max_steps=enough,
            seconds=time.perf_counter() - started,
            skipped=self.task.failed,
            validation=self.validation,
        )

    def train_epoch(self, stop: threading.Event) -> None:
        recipe, task = self.recipe, self.task
        task.sampler.set_position(self.epoch, self.batch)
        self.network.model.train()
        averages, clock = self.averages, time.perf_counter()
        with self.log.progress(self.batches, f"epoch {self.epoch + 1}/{recipe.epochs}", self.batch) as advance:
            self.watchdog.enter("waiting for data")
            for batch in prefetch(task.loader, self.accelerator.device):
                self.waited += time.perf_counter() - clock
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
                self.taken += 1
                advance()
                self.worked += time.perf_counter() - clock
                if self.batch % recipe.log.every == 0 or self.batch == self.batches:
                    self._log_train(lr, self.waited / self.taken, self.worked / self.taken)
                    self.waited, self.worked, self.taken = 0.0, 0.0, 0
                if self._should_stop(stop):
                    break
                every = recipe.checkpoint.every_steps
                if last_of_step and every and self.step % every == 0 and self.batch < self.batches:
                    self.save()
                self.watchdog.enter("waiting for data")
                clock = time.perf_counter()
        self.check_finite()

    def learn(
        self, batch: dict[str, Any], key: tuple[int, ...], accumulate: int, step: bool
    ) -> dict[str, torch.Tensor]:
        """Forward and backward of one batch, and the optimizer's step when its gradients are complete.

        Args:
            key: numbers that name this batch; its random numbers come from them and the process's rank.
            accumulate: how many batches make a step.
            step: whether this is the last of them.
        """
        accelerator, network = self.accelerator, self.network
        with network.collecting(step, len(batch["index"])):
            loss, figures = self.task.loss(network.model, batch, (*key, accelerator.process_index))
            self.check_finite()
            accelerator.backward(loss / accumulate)
        suspect = loss.detach()
        if step:
            norm = network.step(self.recipe.grad_clip)
            if norm is not None:
                figures["grad_norm"] = norm
                if accelerator.scaler is None:  # with fp16 an overflow is no accident: the scaler skips the step
                    suspect = suspect + 0 * norm
        self.pending_loss = fetch_later(suspect), batch
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
        votes = torch.full((), float(stop.is_set()), device=self.accelerator.device)
        torch.distributed.all_reduce(votes)
        before, self.stop_votes = self.stop_votes, fetch_later(votes)
        return before is not None and before() > 0

    def check_finite(self) -> None:
        """Stop at a loss that is NaN or infinite. It is looked at one step late, so that the device never waits."""
        if self.pending_loss is None:
            return
        (fetch, batch), self.pending_loss = self.pending_loss, None
        if not math.isfinite(loss := fetch()):
            names = ", ".join(self.task.batch_names(batch)[:8])
            raise WorkError(
                f"the loss or its gradient is {loss} at epoch {self.epoch + 1}, step {self.step}; the batch: {names}. "
                "Lower lr, set grad_clip, or use amp: no. The last checkpoint is from before this step."
            )

    def _log_train(self, lr: float, data_time: float, step_time: float) -> None:
        device = self.accelerator.device if self.accelerator.num_processes > 1 else None
        place = {"epoch": self.epoch + 1, "epochs": self.recipe.epochs, "iter": self.batch, "iters": self.batches}
        means = {
            f"{key}{suffix}": v for suffix, average in self.averages.items() for key, v in average.take(device).items()
        }
        costs = {"lr": lr, "memory": peak_memory_mb(), "data_time": data_time}
        best = {name: value for name, value in self.best.items() if name == self.task.main_metric}
        self.log.pace((self.epoch + self.batch / self.batches) / self.recipe.epochs, means["loss"], best)
        self.log.write("train", {**place, **costs, **means, "time": step_time}, self.step)
        if data_time > 0.5 * step_time and step_time > 0.02 and not self.said_slow:
            self.said_slow = True
            self.log.say(
                f"data loading is the bottleneck: {data_time:.2f} of {step_time:.2f} s of each batch are spent waiting for it. More num_workers, "
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
        if not self.best or figures[key] >= self.best[key]:  # of equals the one that was trained longer
            self.best, self.best_epoch = dict(figures), self.epoch
            return True
        return False

    # -- checkpoints

    def save(self, best: bool = False) -> None:
        """Write ``last`` with its training state, and ``best`` when this is it."""
        self.check_finite()
        self.watchdog.enter("saving")
        self.log.check_folder()
        state = {
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "global_batch": self.global_batch,
            "processes": self.accelerator.num_processes,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "metrics": self.metrics,
            "random": random_state(),
            "log": {
                "averages": {suffix: [average.sums, average.count] for suffix, average in self.averages.items()},
                "times": [self.waited, self.worked, self.taken],
            },
            **self.network.state(),
        }
        passport = self.task.passport()
        passport.epoch, passport.step, passport.metrics = self.epoch, self.step, dict(self.metrics)
        self.saver.save(state, self.network.weights(), passport, best=best, whole_epoch=self.batch == 0)
