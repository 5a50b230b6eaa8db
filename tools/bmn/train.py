#!/usr/bin/env python3
"""The door for people who come with the Ascend ModelZoo's BMN command lines (seed 003).

    bash test/train_full_1p.sh --data_path=/data/activitynet/
    python tools/bmn/train.py --devices 8 --data_path /data/activitynet --opt-level O1 --loss-scale 128

It turns the options into `clipwise train bmn_ascend_activitynet …`, starts torchrun for several devices, and prints the
speed as the original does: FPS, videos a second of the best epoch, counted from its iteration 5 on, loader included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

AMP_OF = {"O0": "no", "O1": "fp16", "O2": "fp16"}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data_path", "--data-path", "--data", required=True, help="folder that holds csv_mean_100 and the annotations"
    )
    parser.add_argument(
        "--mode", choices=("full", "performance"), default="full", help="performance: one epoch, no validation"
    )
    parser.add_argument("--devices", type=int, default=1, help="processes, one a device")
    parser.add_argument("--finetune", default="0", help="0; or a checkpoint (ours, JJBOY's, MMAction2's) to start from")
    parser.add_argument("--training_lr", "--training-lr", type=float, help="learning rate (default 0.001)")
    parser.add_argument("--weight_decay", "--weight-decay", type=float, help="weight decay (default 0.0001)")
    parser.add_argument("--train_epochs", "--train-epochs", type=int, help="epochs (default 10; 1 in performance mode)")
    parser.add_argument("--batch_size", "--batch-size", type=int, help="videos a device and step (default 16)")
    parser.add_argument(
        "--loss_scale", "--loss-scale", type=float, help="static loss scale of fp16 (default 128); -1: dynamic"
    )
    parser.add_argument(
        "--opt-level", "--opt_level", choices=sorted(AMP_OF), default="O1", help="O0: fp32; O1, O2: mixed precision"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CKPT",
        help="resume from the run's last checkpoint, or from this one",
    )
    parser.add_argument("--recipe", default="bmn_ascend_activitynet", help="recipe (default bmn_ascend_activitynet)")
    parser.add_argument("--work-dir", "--checkpoint_path", help="folder of the run")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="further keys of the recipe")
    args = parser.parse_intermixed_args(argv)
    if args.finetune == "1":
        parser.error(
            "--finetune 1: name the checkpoint instead (--finetune FILE); this repository has no pretrained file to fall back on"
        )
    if args.loss_scale is not None and AMP_OF[args.opt_level] == "no":
        parser.error(
            f"--loss_scale {args.loss_scale:g} has no effect with --opt-level {args.opt_level}, which trains in fp32; leave it out"
        )
    if args.loss_scale is not None and args.loss_scale <= 0 and args.loss_scale != -1:
        parser.error(f"--loss_scale {args.loss_scale:g}: give a positive number, or -1 for a dynamic scale")
    if args.resume and args.finetune != "0":
        parser.error("--finetune has no effect with --resume, whose checkpoint holds the weights; give one of them")
    return args


def command(args: argparse.Namespace, on_cpu: bool) -> list[str]:
    """The `clipwise train` command line that the options mean."""
    epochs = args.train_epochs
    if epochs is None and args.mode == "performance":
        epochs = 1
    work_dir = args.work_dir or f"runs/bmn_{args.mode}_{args.devices}p"
    amp = AMP_OF[args.opt_level]
    if amp == "fp16" and on_cpu:
        unused = "" if args.loss_scale is None else f" (--loss_scale {args.loss_scale:g} has no effect)"
        print(
            f"--opt-level {args.opt_level}: a CPU has no fp16 training; bf16 is used, which needs no loss scale{unused}.",
            file=sys.stderr,
        )
        amp = "bf16"
    scale = 128.0 if args.loss_scale is None else args.loss_scale
    keys = {
        "lr": args.training_lr,
        "weight_decay": args.weight_decay,
        "epochs": epochs,
        "batch_size": args.batch_size,
        "optim.loss_scale": scale if amp == "fp16" and scale > 0 else None,
        "log.every": 5,
    }
    words = ["train", args.recipe, "--data", args.data_path, "--work-dir", work_dir, "--amp", amp]
    words += [f"{key}={value}" for key, value in keys.items() if value is not None]
    if epochs is not None and epochs <= 7:
        words.append("schedule.milestones=[]")
    if args.finetune != "0":
        words += ["--init", args.finetune]
    if args.resume:
        words += ["--resume", args.resume]
    if args.mode == "performance":
        words.append("--no-validate")
    return words + args.overrides


def seed_fps(log: Path, batch_size: int, num_videos: int, processes: int = 1) -> float:
    """Videos trained a second, as the Ascend scripts count: the best epoch's batch · floor(N / batch) over the time from its
    iteration 5 to its end, loader included. The run must have been logged every 5 steps.

    Args:
        log: the run's ``log.jsonl``.
        batch_size: of one process.
        num_videos: N.
    """
    from clipwise.io.parse import read_json_lines

    epochs: dict[int, list[dict]] = {}
    for line in read_json_lines(log):
        if line["mode"] == "train":
            epochs.setdefault(line["epoch"], []).append(line)
    whole = batch_size * processes
    best = 0.0
    for lines in epochs.values():
        if len(lines) == 1:  # an epoch of five steps or fewer has no such time
            lines = [{"iter": 0}, *lines]
        seconds, before = 0.0, lines[0]["iter"]
        for line in lines[1:]:
            seconds += line["time"] * (line["iter"] - before)
            before = line["iter"]
        if seconds > 0:
            best = max(best, whole * (num_videos // whole) / seconds)
    return best


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    import torch

    words = command(args, on_cpu=not torch.accelerator.is_available())
    launch = [sys.executable, "-m", "clipwise"]
    if args.devices > 1:
        launch = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={args.devices}",
            "-m",
            "clipwise",
        ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // args.devices))),
    }
    code = subprocess.run([*launch, *words], env=environment).returncode
    if code:
        return code
    folder = Path(words[words.index("--work-dir") + 1])
    import yaml

    batch = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))["batch_size"]
    from clipwise.engine.checkpoint import read_passport

    passport = read_passport(folder / "last.safetensors")
    fps = seed_fps(folder / "log.jsonl", batch, passport.data["samples"], args.devices)
    facts = {"FPS": round(fps, 2), **{k: round(v, 4) for k, v in passport.metrics.items()}}
    print(f"Final Performance videos/sec : {fps:.2f}")
    if "AR@100" in passport.metrics:
        print(f"Final Train Accuracy (AR@100) : {100 * passport.metrics['AR@100']:.2f}")
    print(json.dumps({"folder": str(folder), **facts}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
