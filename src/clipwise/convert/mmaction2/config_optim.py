"""The optimization of an MMAction2 config: optimizer, schedule, length, bookkeeping."""

from __future__ import annotations

from typing import Any

from clipwise.convert.mmaction2.consumed import Keys
from clipwise.io.text import plural

POLICIES = {"step": "step", "CosineAnnealing": "cosine", "fixed": "constant"}  # of 0.x's lr_config
METRICS = ("top_k_accuracy", "mean_class_accuracy", "mean_average_precision", "mmit_mean_average_precision")
HOOKS = {"runtime_info": "RuntimeInfoHook", "timer": "IterTimerHook", "param_scheduler": "ParamSchedulerHook",
         "sampler_seed": "DistSamplerSeedHook", "sync_buffers": "SyncBuffersHook", "logger": "LoggerHook",
         "checkpoint": "CheckpointHook"}  # fmt: skip
FIXED = {  # what must hold for the run to be ours
    "default_scope": ("mmaction",),
    "optim_wrapper.clip_grad.norm_type": (2,),
    "optim_wrapper.clip_grad": (None, {}),
    "optimizer_config.grad_clip.norm_type": (2,),
    "optimizer_config.grad_clip": (None, {}),
    "train_cfg.type": ("EpochBasedTrainLoop",),
    "train_cfg.by_epoch": (True,),
    "train_cfg.val_begin": (1,),
    "val_cfg.type": ("ValLoop",),
    "val_cfg.fp16": (False,),
    "test_cfg.type": ("TestLoop",),
    "test_cfg.fp16": (False,),
    "val_evaluator": ({"type": "AccMetric"}, [{"type": "AccMetric"}]),
    "test_evaluator": ({"type": "AccMetric"}, [{"type": "AccMetric"}]),
    "runner.type": ("EpochBasedRunner",),
    "resume": (False,),
    "resume_from": (None,),
    "omnisource": (False,),
    "custom_hooks": ([],),
    "randomness.diff_rank_seed": (False,),
    "default_hooks.checkpoint.by_epoch": (True,),
    "default_hooks.checkpoint.save_best": ("auto", None, "acc/top1"),
    "evaluation.save_best": ("auto", None, "top1_acc"),
    "evaluation.by_epoch": (True,),
    "checkpoint_config.by_epoch": (True,),
} | {f"default_hooks.{name}.type": (kind,) for name, kind in HOOKS.items()}  # fmt: skip
ASIDE = {  # what does not change what is computed: the command line, the machine, how it is logged
    "work_dir": (), "log_level": ("INFO",), "launcher": ("none",), "gpu_ids": ([0],), "dist_params": ({"backend": "nccl"},),
    "env_cfg.cudnn_benchmark": (False,), "env_cfg.mp_cfg.mp_start_method": ("fork",), "env_cfg.mp_cfg.opencv_num_threads": (0,),
    "env_cfg.dist_cfg.backend": ("nccl",), "mp_start_method": ("fork",), "opencv_num_threads": (0,), "omp_num_threads": (1,),
    "mkl_num_threads": (1,), "cudnn_benchmark": (False,), "find_unused_parameters": (False,), "experiment_name": (),
    "log_processor.type": ("LogProcessor",), "log_processor.window_size": (20,), "log_processor.by_epoch": (True,),
    "visualizer": ({"type": "ActionVisualizer", "vis_backends": [{"type": "LocalVisBackend"}]},),
    "vis_backends": ([{"type": "LocalVisBackend"}],), "default_hooks.logger.ignore_last": (False,),
    "evaluation.topk": ([1, 5],), "log_config.hooks": ([{"type": "TextLoggerHook"}],),
}  # fmt: skip


def translate_optimization(run: Keys, notes: list[str], batch_size: int, old: bool) -> dict[str, Any]:
    """The recipe's keys of everything but the model and the data; what is left in ``run`` has no counterpart."""
    groups = "optimizer" if old else "optim_wrapper"
    found = {
        **_optimizer(run, "optimizer" if old else "optim_wrapper.optimizer", groups),
        "grad_clip": run.take("optimizer_config.grad_clip.max_norm" if old else "optim_wrapper.clip_grad.max_norm"),
        "accumulate": run.take("optim_wrapper.accumulative_counts"),
        "epochs": _first(run, "total_epochs", "runner.max_epochs", "train_cfg.max_epochs"),
        "validate_every": run.take("evaluation.interval" if old else "train_cfg.val_interval"),
        "checkpoint_every": run.take("checkpoint_config.interval" if old else "default_hooks.checkpoint.interval"),
        "keep_checkpoints": _first(run, "checkpoint_config.max_keep_ckpts", "default_hooks.checkpoint.max_keep_ckpts"),
        "log_every": run.take("log_config.interval" if old else "default_hooks.logger.interval"),
        "base_batch_size": run.take("auto_scale_lr.base_batch_size"),
        "auto_scale_lr": run.take("auto_scale_lr.enable", False),
        "seed": _first(run, "seed", "randomness.seed"),
        "deterministic": _first(run, "deterministic", "randomness.deterministic"),
    }
    if found["epochs"] is None:
        run.put("total_epochs" if old else "train_cfg.max_epochs", None)
    found |= _precision(run, notes)
    if found["base_batch_size"] is None:
        found["base_batch_size"] = 8 * batch_size
        notes.append(f"base_batch_size is 8 devices x {batch_size}, for which 0.x's configs state their lr.")
    found |= _old_schedule(run, found["epochs"]) if old else _schedulers(run, notes, found["epochs"])
    metrics = run.take("evaluation.metrics", [])
    if not isinstance(metrics, list) or not set(metrics) <= set(METRICS):
        run.put("evaluation.metrics", metrics)
    workflow = run.take("workflow", [])
    if any(len(stage) != 2 or stage[0] != "train" for stage in workflow):
        run.put("workflow", workflow)
    elif workflow not in ([], [["train", 1]]):
        run.aside.append(f"workflow = {workflow}")
    for path, allowed in FIXED.items():
        run.expect(path, *allowed)
    for path, usual in ASIDE.items():
        run.set_aside(path, *usual)
    return found


def _first(run: Keys, *paths: str) -> Any:
    """The value of the first of these keys that is there; the others stay, to be refused."""
    return next((value for path in paths if (value := run.take(path)) is not None), None)


def _optimizer(run: Keys, where: str, groups: str) -> dict[str, Any]:
    kind = run.take(f"{where}.type", "SGD")
    if kind.lower() not in ("sgd", "adam", "adamw"):
        run.put(f"{where}.type", kind)
    constructor = run.take(f"{groups}.constructor")
    tsm = constructor in ("TSMOptimizerConstructor", "TSMOptimWrapperConstructor") and run.take(
        f"{groups}.paramwise_cfg.fc_lr5", False
    )
    if constructor and not tsm:
        run.put(f"{groups}.constructor", constructor)
    found = {"optimizer": kind.lower(), "lr": run.take(f"{where}.lr"), "param_groups": "tsm" if tsm else "all"}
    if found["lr"] is None:
        run.put(f"{where}.lr", None)
    # torch's defaults where the config is silent
    found["weight_decay"] = run.take(f"{where}.weight_decay", 0.01 if kind == "AdamW" else 0.0)
    if kind == "SGD":
        found |= {"momentum": run.take(f"{where}.momentum", 0.0), "nesterov": run.take(f"{where}.nesterov", False)}
    else:
        found["betas"] = run.take(f"{where}.betas")
    return found


def _precision(run: Keys, notes: list[str]) -> dict[str, Any]:
    kind = run.take("optim_wrapper.type", "OptimWrapper")
    old = run.take("fp16.loss_scale")
    if kind == "AmpOptimWrapper":
        dtype = run.take("optim_wrapper.dtype", "float16")
        amp = {"float16": "fp16", "bfloat16": "bf16"}.get(dtype)
        if amp is None:
            run.put("optim_wrapper.dtype", dtype)
        scale = run.take("optim_wrapper.loss_scale", "dynamic")
    elif old is not None:
        amp, scale = "fp16", old
    else:
        if kind != "OptimWrapper":
            run.put("optim_wrapper.type", kind)
        return {}
    if amp == "fp16":
        notes.append("Mixed precision became amp: fp16; bf16 needs no loss scale where the device has it.")
    if isinstance(scale, dict):
        run.put("optim_wrapper.loss_scale", scale)
    return {"amp": amp, "loss_scale": scale if amp == "fp16" and isinstance(scale, int | float) else None}


def _old_schedule(run: Keys, epochs: int | None) -> dict[str, Any]:
    """0.x: ``lr_config``; the schedule runs on under the warm-up."""
    policy = run.take("lr_config.policy", "fixed")
    found: dict[str, Any] = {"lr_schedule": POLICIES.get(policy)}
    if found["lr_schedule"] is None:
        run.put("lr_config.policy", policy)
    if policy == "step":
        steps = run.take("lr_config.step")
        # one number is a period
        found["milestones"] = steps if isinstance(steps, list) else list(range(steps, epochs or steps + 1, steps))
        found["gamma"] = run.take("lr_config.gamma", 0.1)
    if policy == "CosineAnnealing":
        found["min_lr"] = run.take("lr_config.min_lr", 0.0)
    by_epoch = run.take("lr_config.by_epoch", True)
    if not by_epoch and policy == "step":
        run.put("lr_config.by_epoch", by_epoch)
    elif not by_epoch:
        found["schedule_by"] = "iteration"
    if (warmup := run.take("lr_config.warmup")) is not None:
        counted = run.take("lr_config.warmup_by_epoch", False)
        if warmup == "linear" and counted:
            found["warmup_epochs"] = run.take("lr_config.warmup_iters")
            found["warmup_start"] = run.take("lr_config.warmup_ratio", 0.1)
        elif warmup == "linear":
            run.put("lr_config.warmup_by_epoch", f"{counted}, but recipes count the warm-up in epochs")
        else:
            run.put("lr_config.warmup", warmup)
            run.take("lr_config.warmup_by_epoch")
    return found


def _schedulers(run: Keys, notes: list[str], epochs: int | None) -> dict[str, Any]:
    """1.x: ``param_scheduler``: at most one warm-up from the start and one schedule; a schedule that begins later counts from there."""
    found: dict[str, Any] = {"lr_schedule": "constant"}
    schedulers = run.take("param_scheduler") or []
    main = ""
    for number, scheduler in enumerate(schedulers if isinstance(schedulers, list) else [schedulers]):
        keys = Keys(scheduler, run.aside)
        kind, begin, end = keys.take("type"), keys.take("begin", 0), keys.take("end")
        by_iteration = keys.take("convert_to_iter_based", False)
        keys.expect("by_epoch", True)
        if kind == "LinearLR" and begin == 0 and end and number == 0:
            found |= {"warmup_epochs": end, "warmup_start": keys.take("start_factor", 1 / 3)}
            keys.expect("end_factor", 1.0)
            if not by_iteration:
                notes.append("MMAction2 moves this warm-up once an epoch; here it moves at every step.")
        elif kind in ("MultiStepLR", "CosineAnnealingLR") and not main and begin in (0, found.get("warmup_epochs", 0)):
            main = kind
            found["shift_schedule"] = begin > 0
            if kind == "MultiStepLR":
                found |= {
                    "lr_schedule": "step",
                    "milestones": keys.take("milestones"),
                    "gamma": keys.take("gamma", 0.1),
                }
                needed = begin + max(found["milestones"], default=0) + 1
            else:
                found |= {"lr_schedule": "cosine", "min_lr": keys.take("eta_min", 0.0)}
                keys.expect("T_max", (epochs or 0) - begin)
                needed = epochs or 0
            if end is not None and end < needed:
                keys.put("end", end)
            elif end not in (None, epochs):
                notes.append(f"{kind}: end = {end} has no effect on {plural(epochs, 'epoch')}.")
            if by_iteration:
                found["schedule_by"] = "iteration"
        else:
            second = " beside another schedule" if main else ""
            keys.put("begin", f"{begin}, end = {end}{second}")
        for line in keys.left():
            run.put(f"param_scheduler {kind}, {line}", "no counterpart")
    return found
