"""Runs that go on where they stopped."""

from __future__ import annotations

import contextlib
import json
import random
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipwise.engine.checkpoint import Passport, load_tensors, read_checkpoint, read_passport
from clipwise.engine.device import from_first, world
from clipwise.engine.log import Averages, RunLog
from clipwise.engine.network import Network, Schedule
from clipwise.engine.saver import Saver
from clipwise.errors import CheckpointError, RecipeError
from clipwise.io.files import atomic_path
from clipwise.io.parse import read_json_lines
from clipwise.io.text import plural
from clipwise.io.unfinished import link_or_copy
from clipwise.io.unpickle import read_torch
from clipwise.models.localizer_rules import keep_settled
from clipwise.recipe import Recipe, make_recipe


@dataclass
class Start:
    """A checkpoint from which a run resumes."""

    path: Path
    tensors: dict[str, torch.Tensor]
    passport: Passport
    state: dict[str, Any]
    """Of the first process; it is complete."""
    own: dict[str, Any] | None
    """This process's; None if the checkpoint was made by fewer processes."""
    processes: int
    """How many made it."""


def find_resume(resume: str | bool, folder: Path, log: RunLog) -> Start | None:
    """The checkpoint that ``train(resume=…)`` means, read and found whole by all processes.

    Where ``last`` or a state of it is damaged, ``previous`` takes its place.

    Returns:
        None where ``auto`` finds no checkpoint yet.

    Raises:
        CheckpointError: there is none, or none is whole.
    """
    if resume not in (True, "auto"):
        start, error = _read_together(Path(str(resume)))
        if start is None:
            raise CheckpointError(f"--resume: {error}")
        return start
    pairs = [folder / "last.safetensors", folder / "previous.safetensors"]
    found = from_first([path for path in pairs if path.is_file()])
    if not found:
        if resume == "auto":
            return None
        raise CheckpointError(
            f"--resume: {folder} holds no checkpoint (last.safetensors). Start the run without --resume."
        )
    errors = []
    for path in found:
        start, error = _read_together(path)
        if start is None:
            errors.append(str(error))
            continue
        if path != pairs[0]:
            reason = errors[0] if errors else f"{pairs[0]} is not there."
            log.say(f"{reason} Falling back to the checkpoint before, {path}.")
            if log.active:
                if pairs[0].is_file():  # kept, but out of the way of the next checkpoints
                    pairs[0].replace(pairs[0].with_name("last.safetensors.damaged"))
                link_or_copy(path, pairs[0])
        return start
    raise CheckpointError(
        f"--resume: no checkpoint of {folder} is whole. {' '.join(errors)} --init starts a new run from the weights of a whole one."
    )


def resumed_recipe(recipe: Recipe, start: Start, allow_changes: bool, log: RunLog) -> Recipe:
    """The recipe of the run that goes on: its own settings where the caller gave none, and what it found for "auto"."""
    from clipwise.engine.own_settings import with_own_settings

    if not allow_changes:
        recipe = with_own_settings(recipe, start.passport.recipe, log)
    return keep_settled(recipe, start.passport.recipe)


def _read_together(path: Path) -> tuple[Start | None, str | None]:
    """The checkpoint and this process's state, or the reason why one of the processes can't read its part."""
    start, error = None, None
    try:
        start = _read_start(path)
    except CheckpointError as problem:
        error = str(problem)
    if world()[1] > 1:
        errors: list[str | None] = [None] * world()[1]
        torch.distributed.all_gather_object(errors, error)
        error = next((e for e in errors if e is not None), None)
    return (None, error) if error else (start, None)


def _read_start(path: Path) -> Start:
    tensors, passport = read_checkpoint(path)
    state = load_state(path, passport)
    # 0.1 did not write how many processes there were
    made_by = state.get("processes") or max(1, state.get("global_batch", 1) // passport.recipe.get("batch_size", 1))
    rank = world()[0]
    own = state if rank == 0 else load_state(path, passport, rank) if rank < made_by else None
    return Start(path, tensors, passport, state, own, made_by)


def load_state(checkpoint: str | Path, passport: Passport, rank: int = 0) -> dict:
    """The training state that belongs to a checkpoint.

    Raises:
        CheckpointError: the checkpoint has none, or it can't be read.
    """
    if passport.state is None:
        raise CheckpointError(
            f"{checkpoint} has no training state beside it, so a run can't resume from it. Use --init {checkpoint} to start from its weights."
        )
    path = Path(checkpoint).parent / passport.state.format(rank=rank)
    if not path.is_file():
        raise CheckpointError(
            f"{path}, the training state of {checkpoint}, is not there. Use --init {checkpoint} to start from the weights alone."
        )
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes checksums and does not look at them
            if (record := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{record} does not match its checksum")
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return read_torch(path)


def check_resume(start: Start, task: Any, allow_changes: bool, log: RunLog) -> None:
    """Refuse to resume on other data or another model than the checkpoint's, or with a recipe that makes it another run.

    Args:
        allow_changes: log what makes it another run instead.
    """
    passport, now = start.passport, task.passport()
    if (passport.model, passport.model_args) != (now.model, now.model_args):
        raise CheckpointError(
            f"the checkpoint is a {passport.model} {passport.model_args}, this run is a {now.model} {now.model_args}. "
            "Resume with the same recipe, or start a new run with --init."
        )
    if passport.data.get("fingerprint") != now.data["fingerprint"]:
        raise CheckpointError(
            f"the training list, of {plural(now.data['samples'], 'sample')}, is not the one that the checkpoint was trained on, of "
            f"{passport.data.get('samples', '?')}. Resume with the same --data and --no-validate as before (without a validation part, a "
            "fifth of the data is held out to validate), or use --init to start a new run from its weights."
        )
    changed, harmful = _recipe_changes(start, task)
    if harmful and not allow_changes:
        raise CheckpointError(
            f"--resume: the recipe differs from the checkpoint's in {', '.join(harmful)}, so the run would not be the one that it continues. "
            "Resume with the old values, or give --allow-changes to train the remaining steps with the new ones."
        )
    if changed:
        log.say(f"the recipe differs from the checkpoint's: {', '.join(changed)}")


def _recipe_changes(start: Start, task: Any) -> tuple[list[str], list[str]]:
    """What differs between the checkpoint's recipe and this one, and of that what makes the resumed run another run."""
    recipe = task.recipe
    try:  # a recipe of an older version, in the words of this one
        before = make_recipe(start.passport.recipe, source=str(start.path))
        values = before.model_dump(mode="json")
    except RecipeError:
        before, values = None, start.passport.recipe
    old, new = _flat(values), _flat(recipe.model_dump(mode="json"))
    for key in ("num_classes", "feat_dim"):  # the data may have told them
        if recipe.model_dump().get(key) in (None, "auto") or old.get(key) in (None, "auto"):
            old.pop(key, None), new.pop(key, None)
    same_batch = start.state.get("global_batch") == recipe.batch_size * world()[1]
    same_past = before is not None and _same_learning_rates(before, recipe, task, start.state["step"])
    changed, harmful = [], []
    for key in [k for k in new if k in old and old[k] != new[k]]:
        text = f"{key} {old[key]} -> {new[key]}"
        changed.append(text)
        names = {key, key.partition(".")[0]}
        exact = bool(names & _EXACT) and key != "val.precise_bn_samples"
        exact = exact or (bool(names & _SCHEDULE) and same_past) or (key == "batch_size" and same_batch)
        if not exact:
            harmful.append(text)
    return changed, harmful


def _same_learning_rates(before: Recipe, now: Recipe, task: Any, steps: int) -> bool:
    """Whether the steps that were taken would have had the same learning rate factors (up to 2,000 of them are compared)."""
    if now.task == "recognition" and now.multigrid.shapes:
        return False  # the shapes of the steps that were taken would change, too
    per_epoch = -(-len(task.sampler) // now.accumulate)
    old, new = Schedule(before, per_epoch), Schedule(now, per_epoch)
    return all(old.factor(s) == new.factor(s) for s in range(0, steps, max(1, steps // 2000)))


# Keys, and whole groups, that change nothing of the steps of a run.
_EXACT = frozenset((
    "name", "paper", "published", "notes", "deterministic", "num_workers", "base_batch_size", "grad_checkpointing", "optim.fused",
    "train_data", "val_data", "test_data", "data_root", "features", "annotations", "init", "init_first_conv",
    "parallel", "val", "test", "checkpoint", "log", "lists.format", "input.decode_timeout_s", "input.video_info",
    "input.in_memory", "input.tolerant", "input.allow_missing", "nms", "bmn.proposals",
))  # fmt: skip
_SCHEDULE = frozenset(("epochs", "lr_schedule", "warmup_epochs", "schedule"))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def complete(start: Start, folder: Path, saver: Saver, recipe: Recipe, log: RunLog) -> dict[str, float]:
    """Bring ``best`` and ``epoch_N`` to where the checkpoint is: the run may have been killed before it wrote them.

    Returns:
        The figures of the best checkpoint that the folder holds now; all processes get them.
    """
    if not log.active:
        return from_first(None)
    state, passport = start.state, start.passport
    figures, whole_epoch = state["best"], state["batch"] == 0
    validated = passport.epoch % recipe.val.every == 0 or passport.epoch == recipe.epochs
    since = state.get("best_epoch", passport.epoch if validated and figures == state["metrics"] else None)
    path, held = folder / "best.safetensors", None
    for place in (path, start.path.with_name(path.name)):
        with contextlib.suppress(CheckpointError):
            held = read_checkpoint(place)[1]
            if held.metrics == figures and place != path:
                link_or_copy(place, path)
            break
    if figures and (held is None or held.metrics != figures or since not in (None, held.epoch)):
        if since == passport.epoch and whole_epoch:
            saver.write_copies(start.tensors, passport, best=True, whole_epoch=False)
        else:
            log.say(
                f"{path} is {'not there or damaged' if held is None else 'of another epoch'}: the best of the remaining epochs counts."
            )
            figures = held.metrics if held else {}
    epoch = folder / f"epoch_{passport.epoch:04d}.safetensors"
    if whole_epoch and saver.keep and not epoch.is_file():
        saver.write_copies(start.tensors, passport, best=False, whole_epoch=True)
    for pair in (folder / "previous.safetensors", folder / "last.safetensors"):
        with contextlib.suppress(CheckpointError):
            saver.named.append(str(read_passport(pair).state))
    saver.tidy()
    return from_first(figures)


def restore(run: Any, start: Start) -> None:
    """Take everything of a run back from a checkpoint.

    Args:
        run: a ``train.Run`` that has not begun.
    """
    state, own = start.state, start.own
    groups = [{k: v for k, v in g.items() if k != "params"} for g in run.network.optimizer.param_groups]
    _restore_network(run.network, start)
    for group, recipes in zip(run.network.optimizer.param_groups, groups):
        group.update(recipes)  # with --allow-changes they differ from the checkpoint's
    if own is None:
        own = {"random": state["random"]}
    elif run.accelerator.process_index:
        for key, buffer in run.network.bare.named_buffers():
            buffer.copy_(own["buffers"][key])
    if start.processes < run.accelerator.num_processes:
        run.log.say(
            f"the checkpoint was made by {start.processes} of now {plural(run.accelerator.num_processes, 'process', 'processes')}: "
            "the new ones take the first one's batch norm statistics."
        )
    for suffix, (sums, count) in own.get("log", {}).get("averages", {}).items():
        average = run.averages.setdefault(suffix, Averages())
        average.count = count
        average.sums = {k: v.to(run.accelerator.device) if torch.is_tensor(v) else v for k, v in sums.items()}
    run.waited, run.worked, run.taken = own.get("log", {}).get("times", (0.0, 0.0, 0))
    run.epoch, run.batch, run.step = state["epoch"], state["batch"], state["step"]
    run.best = complete(start, run.folder, run.saver, run.recipe, run.log)
    run.best_epoch, run.metrics = state.get("best_epoch", 0), state["metrics"]
    set_random_state(own["random"])
    _forget_after(run.log, run.epoch, run.batch)
    before = state.get("global_batch", run.global_batch)
    if before != run.global_batch:  # other processes or another batch size: the same place of the epoch, recomputed
        whole = run.batch * before // run.global_batch
        run.batch = min(whole - whole % run.recipe.accumulate, run.batches - 1)
        run.step = run.epoch * run.schedule.steps_per_epoch + run.batch // run.recipe.accumulate
        run.log.say(
            f"the global batch was {before} and is {run.global_batch} now: resuming with batch {run.batch + 1} of {run.batches}"
        )


def _restore_network(network: Network, start: Start) -> None:
    """Inverse of ``Network.state`` and ``Network.weights``, which were those of the first process."""
    state = start.state
    weights, average, moments = state["model"] or start.tensors, state["ema"], state["optimizer"]
    if network.sharded:
        from clipwise.engine.sharding import scatter, scatter_optimizer

        weights = scatter(weights, network.bare.state_dict())
        moments = scatter_optimizer(moments, network.optimizer)
        if network.average is not None and average is not None:
            average = scatter(average, network.average.state_dict())
    load_tensors(network.bare, weights, start.path)
    if network.average is not None and average is not None:
        network.average.load_state_dict(average)
    network.optimizer.load_state_dict(moments)
    if state["scaler"] is not None and network.accelerator.scaler:
        network.accelerator.scaler.load_state_dict(state["scaler"])


def set_random_state(state: dict) -> None:
    """Inverse of ``device.random_state``."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    n = state["numpy"]
    np.random.set_state(("MT19937", np.array(n["key"], np.uint32), n["pos"], n["gauss"][0], n["gauss"][1]))
    torch.set_rng_state(state["torch"])
    if "device" in state and torch.accelerator.is_available():
        torch.get_device_module().set_rng_state(state["device"])


def _forget_after(log: RunLog, epoch: int, batch: int) -> None:
    """A resumed run starts at its checkpoint: drop lines that the killed run wrote later than that.

    Args:
        epoch, batch: finished epochs, and batches taken of the next.
    """
    path = log.folder / "log.jsonl" if log.folder else None
    if path is None or not path.is_file():
        return
    kept = [
        line
        for line in read_json_lines(path)
        if line["epoch"] <= epoch or (line["epoch"] == epoch + 1 and line.get("iter", batch + 1) <= batch)
    ]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(x, ensure_ascii=False) + "\n" for x in kept), encoding="utf-8")
    log.rewrite_csv()
