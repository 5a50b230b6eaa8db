"""How a config trains: optimizer, schedule, bookkeeping."""

from __future__ import annotations

from typing import Any

from clipwise.convert.mmaction2.consumed import FOLLOWS, Keys

RUN_FIXED = {
    "optim_wrapper.type": "OptimWrapper",
    "optim_wrapper.clip_grad.norm_type": 2,
    "optimizer_config.grad_clip.norm_type": 2,
    "train_cfg.type": "EpochBasedTrainLoop",
    "train_cfg.val_begin": 1,
    "runner.type": "EpochBasedRunner",
} | dict.fromkeys(
    ("evaluation", "log_config", "checkpoint_config", "default_hooks.logger", "default_hooks.checkpoint", "default_hooks.runtime_info",
     "default_hooks.timer", "default_hooks.param_scheduler", "default_hooks.sampler_seed", "default_hooks.sync_buffers"), FOLLOWS)  # fmt: skip
# The variables that MMAction2 itself looks at and that change a run. Others are the config's own shorthand, or about the machine.
RUN_KEYS = ("optimizer", "optimizer_config", "optim_wrapper", "lr_config", "param_scheduler", "train_cfg", "runner", "evaluation",
            "checkpoint_config", "log_config", "default_hooks", "custom_hooks", "omnisource", "fp16", "load_from", "total_epochs",
            "auto_scale_lr")  # fmt: skip
POLICIES = {"step": "step", "CosineAnnealing": "cosine", "fixed": "constant"}  # of 0.x's lr_config


def translate_optimization(run: Keys, notes: list[str], batch_size: int, old: bool) -> dict[str, Any]:
    where, groups = ("optimizer", "optimizer") if old else ("optim_wrapper.optimizer", "optim_wrapper")
    kind = run.take(f"{where}.type", "SGD")
    if kind.lower() not in ("sgd", "adam", "adamw"):
        run.put(f"{where}.type", kind)
    constructor = run.take(f"{groups}.constructor") or ""
    tsm = constructor.startswith("TSMOptim") and run.take(f"{groups}.paramwise_cfg.fc_lr5", False)
    if constructor and not tsm:
        run.put(f"{groups}.constructor", constructor)
    found: dict[str, Any] = {
        "optimizer": kind.lower(),
        "lr": run.take(f"{where}.lr"),
        "momentum": run.take(f"{where}.momentum"),
        "nesterov": run.take(f"{where}.nesterov"),
        "weight_decay": run.take(f"{where}.weight_decay", 0.0),
        "betas": run.take(f"{where}.betas"),
        "param_groups": "tsm" if tsm else "all",
        "grad_clip": run.take("optimizer_config.grad_clip.max_norm") or run.take("optim_wrapper.clip_grad.max_norm"),
        "epochs": run.take("total_epochs") or run.take("runner.max_epochs") or run.take("train_cfg.max_epochs"),
        "validate_every": run.take("evaluation.interval") or run.take("train_cfg.val_interval"),
        "checkpoint_every": run.take("checkpoint_config.interval") or run.take("default_hooks.checkpoint.interval"),
        "keep_checkpoints": run.take("default_hooks.checkpoint.max_keep_ckpts"),
        "log_every": run.take("log_config.interval") or run.take("default_hooks.logger.interval"),
        "base_batch_size": run.take("auto_scale_lr.base_batch_size"),
    }
    run.take("auto_scale_lr")
    if run.take("optim_wrapper.type") == "AmpOptimWrapper":
        found["amp"] = "fp16"
        notes.append("AmpOptimWrapper became amp: fp16; bf16 needs no loss scale where the device has it.")
        run.expect({"optim_wrapper.loss_scale": "dynamic"})
    if found["base_batch_size"] is None:
        found["base_batch_size"] = 8 * batch_size
        notes.append(f"base_batch_size is 8 devices x {batch_size}, for which 0.x's configs state their lr.")
    return found | (_old_schedule(run) if old else _schedulers(run, notes, found["epochs"]))


def _old_schedule(run: Keys) -> dict[str, Any]:
    """0.x: ``lr_config``; the schedule runs on under the warm-up."""
    policy = run.take("lr_config.policy", "fixed")
    found: dict[str, Any] = {"lr_schedule": POLICIES.get(policy)}
    if found["lr_schedule"] is None:
        run.put("lr_config.policy", policy)
    if policy == "step":
        steps = run.take("lr_config.step")
        found["milestones"], found["gamma"] = (
            steps if isinstance(steps, list) else [steps],
            run.take("lr_config.gamma", 0.1),
        )
    if policy == "CosineAnnealing":
        found["min_lr"] = run.take("lr_config.min_lr", 0.0)
    if run.take("lr_config.by_epoch", True) is False:
        found["schedule_by"] = "iteration"
    if (warmup := run.take("lr_config.warmup")) is not None:
        by_epoch = run.take("lr_config.warmup_by_epoch", False)
        if warmup == "linear" and by_epoch:
            found |= {
                "warmup_epochs": run.take("lr_config.warmup_iters"),
                "warmup_start": run.take("lr_config.warmup_ratio", 0.1),
            }
        else:
            run.put("lr_config.warmup", warmup if by_epoch else f"{warmup} over iterations, where recipes count epochs")
    return found


def _schedulers(run: Keys, notes: list[str], epochs: int | None) -> dict[str, Any]:
    """1.x: ``param_scheduler``; a schedule that begins later counts from there."""
    found: dict[str, Any] = {"lr_schedule": "constant"}
    schedulers = run.take("param_scheduler") or []
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        keys = Keys(scheduler)
        kind, begin, end = keys.take("type"), keys.take("begin", 0), keys.take("end")
        by_iteration = keys.take("convert_to_iter_based", False)
        keys.expect({"by_epoch": True})
        if kind == "LinearLR" and begin == 0 and end:
            found |= {"warmup_epochs": end, "warmup_start": keys.take("start_factor", 1 / 3)}
            keys.expect({"end_factor": 1.0})
            if not by_iteration:
                notes.append("MMAction2 moves this warm-up once an epoch, we at every step.")
            left = []
        elif kind in ("MultiStepLR", "CosineAnnealingLR") and begin in (0, found.get("warmup_epochs", 0)):
            found["shift_schedule"] = begin > 0
            if kind == "MultiStepLR":
                found |= {
                    "lr_schedule": "step",
                    "milestones": keys.take("milestones"),
                    "gamma": keys.take("gamma", 0.1),
                }
                ends_early: bool = end is not None and end - begin <= max(found["milestones"])
            else:
                found |= {"lr_schedule": "cosine", "min_lr": keys.take("eta_min", 0.0)}
                keys.expect({"T_max": (epochs or 0) - begin})
                ends_early = end not in (None, epochs)
            if ends_early:
                keys.put("end", end)
            if by_iteration:
                found["schedule_by"] = "iteration"
            left = keys.left()
        else:
            left = [f"begin = {begin}, end = {end}"]
        for line in left:
            run.put(f"param_scheduler {kind}, {line}", "no counterpart")
    return found
