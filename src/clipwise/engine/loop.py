"""The training loop: one, for every model.

A run is a function of the recipe, the data and the seed. Each step's learning rate, samples and random numbers
follow from its number, so a run that was killed resumes from its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from clipwise.data.loader import prefetch
from clipwise.engine import checkpoint as ckpt
from clipwise.engine.device import peak_memory_mb, random_state, set_random_state
from clipwise.engine.log import Averages, RunLog, Watchdog
from clipwise.engine.network import Network
from clipwise.engine.optim import Schedule
from clipwise.errors import WorkError
from clipwise.recipe import Recipe


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
    """Whether epochs remain; the run can resume."""
    reached_max_steps: bool = False
    seconds: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    """Training videos that could not be decoded, with the reason."""
    validation: Any = None
    """Of the last validation: a ``TestResult``, or a ``LocalizationResult``."""


class Run:
    """State of a run and the loop over it."""

    def __init__(self, recipe: Recipe, task: Any, accelerator: Accelerator, log: RunLog, folder: Path, lr: float):
        self.recipe, self.task, self.accelerator, self.log, self.folder = recipe, task, accelerator, log, folder
        self.network = Network(task.model, recipe, accelerator, lr)
        self.saver = ckpt.Saver(folder, accelerator, recipe.checkpoint.keep)
        self.watchdog = Watchdog(recipe.log.hang_warning_s, accelerator.process_index)
        self.batches, self.global_batch = len(task.sampler), recipe.batch_size * accelerator.num_processes
        self.schedule = Schedule(recipe, -(-self.batches // recipe.accumulate))
        self.epoch = self.batch = self.step = 0  # epochs finished, batches of this epoch taken, optimizer steps
        self.metrics: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.validation: Any = None
        self.pending_loss: tuple[torch.Tensor, dict] | None = None  # the last loss and gradient, not yet looked at
        self.stop_votes: torch.Tensor | None = None  # how many processes were asked to stop, not yet looked at
        self.best_epoch = 0
        self.averages: dict[str, Averages] = {}  # of the batches since the last log line
        self.waited = self.worked = 0.0  # seconds of those batches
        self.taken = 0  # their number in this process
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
        with network.collecting(step):
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
        self.pending_loss = suspect, batch
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
        before, self.stop_votes = self.stop_votes, torch.tensor(float(stop.is_set()), device=self.accelerator.device)
        torch.distributed.all_reduce(self.stop_votes)
        return before is not None and bool(before.item() > 0)

    def check_finite(self) -> None:
        """Stop at a loss that is NaN or infinite. It is looked at one step late, so that the device never waits."""
        if self.pending_loss is None:
            return
        (loss, batch), self.pending_loss = self.pending_loss, None
        if not torch.isfinite(loss).item():
            names = ", ".join(self.task.batch_names(batch)[:8])
            raise WorkError(
                f"the loss or its gradient is {loss.item()} at epoch {self.epoch + 1}, step {self.step}; the batch: {names}. "
                "Lower lr, set grad_clip, or use amp: no. The last checkpoint is from before this step."
            )

    def _log_train(self, lr: float, data_time: float, step_time: float) -> None:
        device = self.accelerator.device if self.accelerator.num_processes > 1 else None
        place = {"epoch": self.epoch + 1, "epochs": self.recipe.epochs, "iter": self.batch, "iters": self.batches}
        means = {
            f"{key}{suffix}": v for suffix, average in self.averages.items() for key, v in average.take(device).items()
        }
        costs = {"lr": lr, "memory": peak_memory_mb(), "data_time": data_time}
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

    def restore(self, start: Any) -> None:
        """Take everything back from a checkpoint (an ``init_resume.Start``)."""
        from clipwise.engine.init_resume import complete

        state, own = start.state, start.own
        groups = [{k: v for k, v in g.items() if k != "params"} for g in self.network.optimizer.param_groups]
        self.network.restore(start.tensors, state, start.path)
        for group, recipes in zip(self.network.optimizer.param_groups, groups):
            group.update(recipes)  # with --allow-changes they differ from the checkpoint's
        if own is None:
            own = {"random": state["random"]}
        elif self.accelerator.process_index:
            for key, buffer in self.network.bare.named_buffers():
                buffer.copy_(own["buffers"][key])
        if start.processes < self.accelerator.num_processes:
            self.log.say(
                f"the checkpoint was made by {start.processes} of now {self.accelerator.num_processes} processes: "
                "the new ones take the first one's batch norm statistics."
            )
        for suffix, (sums, count) in own.get("log", {}).get("averages", {}).items():
            average = self.averages.setdefault(suffix, Averages())
            average.count = count
            average.sums = {k: v.to(self.accelerator.device) if torch.is_tensor(v) else v for k, v in sums.items()}
        self.waited, self.worked, self.taken = own.get("log", {}).get("times", (0.0, 0.0, 0))
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        self.best = complete(start, self.folder, self.saver, self.recipe, self.log)
        self.best_epoch, self.metrics = state.get("best_epoch", 0), state["metrics"]
        set_random_state(own["random"])
        self.log.forget_after(self.epoch, self.batch)
        before = state.get("global_batch", self.global_batch)
        if (
            before != self.global_batch
        ):  # other processes or another batch size: the same place of the epoch, recomputed
            whole = self.batch * before // self.global_batch
            self.batch = min(whole - whole % self.recipe.accumulate, self.batches - 1)
            self.step = self.epoch * self.schedule.steps_per_epoch + self.batch // self.recipe.accumulate
            self.log.say(
                f"the global batch was {before} and is {self.global_batch} now: resuming with batch {self.batch + 1} of {self.batches}"
            )
