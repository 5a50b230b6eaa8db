"""MMAction2's command lines, turned into clipwise's.

A config that exists is translated into a recipe under ``work_dirs``; the name of one that does not finds the recipe of that
name. ``--cfg-options`` keys that have a counterpart are translated, others refused by name. Where no --data is given and the
config names none, lists are looked for where MMAction2 keeps them.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from pathlib import Path

import _clipwise  # noqa: F401 - puts clipwise on the path

from clipwise import cli
from clipwise.convert.mmaction2 import convert_config
from clipwise.convert.mmaction2.config_network import name_of_weights
from clipwise.convert.mmaction2.config_optim import POLICIES
from clipwise.data.hold_out import test_part
from clipwise.errors import ClipwiseError
from clipwise.recipe import RecognitionRecipe, flatten, load_recipe
from clipwise.recipe.moved import MOVED

# MMAction2's key (0.x, 1.x) -> ours
OPTIONS = {
    "data.videos_per_gpu": "batch_size",
    "train_dataloader.batch_size": "batch_size",
    "data.workers_per_gpu": "num_workers",
    "train_dataloader.num_workers": "num_workers",
    "data.train_dataloader.videos_per_gpu": "batch_size",
    "data.train_dataloader.workers_per_gpu": "num_workers",
    "data.val_dataloader.videos_per_gpu": "val.batch_size",
    "data.test_dataloader.workers_per_gpu": "num_workers",
    "test_dataloader.num_workers": "num_workers",
    "val_dataloader.batch_size": "val.batch_size",
    "data.train.ann_file": "train_data",
    "train_dataloader.dataset.ann_file": "train_data",
    "ann_file_train": "train_data",
    "data.train.data_prefix": "data_root",
    "train_dataloader.dataset.data_prefix.video": "data_root",
    "train_dataloader.dataset.data_prefix.img": "data_root",
    "data_root": "data_root",
    "data.val.ann_file": "val_data",
    "val_dataloader.dataset.ann_file": "val_data",
    "ann_file_val": "val_data",
    "data.val.data_prefix": "val.data_root",
    "val_dataloader.dataset.data_prefix.video": "val.data_root",
    "val_dataloader.dataset.data_prefix.img": "val.data_root",
    "data_root_val": "val.data_root",
    "data.test.ann_file": "test_data",
    "test_dataloader.dataset.ann_file": "test_data",
    "ann_file_test": "test_data",
    "data.test.data_prefix": "val.data_root",
    "test_dataloader.dataset.data_prefix.video": "val.data_root",
    "test_dataloader.dataset.data_prefix.img": "val.data_root",
    "data.train.filename_tmpl": "input.filename_tmpl",
    "train_dataloader.dataset.filename_tmpl": "input.filename_tmpl",
    "optimizer.lr": "lr",
    "optim_wrapper.optimizer.lr": "lr",
    "optimizer.momentum": "optim.momentum",
    "optim_wrapper.optimizer.momentum": "optim.momentum",
    "optimizer.weight_decay": "weight_decay",
    "optim_wrapper.optimizer.weight_decay": "weight_decay",
    "optimizer.nesterov": "optim.nesterov",
    "optim_wrapper.optimizer.nesterov": "optim.nesterov",
    "optimizer_config.grad_clip": "grad_clip",
    "optim_wrapper.clip_grad": "grad_clip",
    "optimizer_config.grad_clip.max_norm": "grad_clip",
    "optim_wrapper.clip_grad.max_norm": "grad_clip",
    "lr_config.step": "schedule.milestones",
    "lr_config.min_lr": "schedule.min_lr",
    "lr_config.warmup_iters": "warmup_epochs",
    "lr_config.warmup_ratio": "schedule.warmup_start",
    "total_epochs": "epochs",
    "runner.max_epochs": "epochs",
    "train_cfg.max_epochs": "epochs",
    "evaluation.interval": "val.every",
    "train_cfg.val_interval": "val.every",
    "checkpoint_config.interval": "checkpoint.every",
    "default_hooks.checkpoint.interval": "checkpoint.every",
    "log_config.interval": "log.every",
    "default_hooks.logger.interval": "log.every",
    "checkpoint_config.max_keep_ckpts": "checkpoint.keep",
    "default_hooks.checkpoint.max_keep_ckpts": "checkpoint.keep",
    "optim_wrapper.accumulative_counts": "accumulate",
    "auto_scale_lr.enable": "auto_scale_lr",
    "auto_scale_lr.base_batch_size": "base_batch_size",
    "load_from": "init",
    "model.pretrained": "init",
    "model.backbone.pretrained": "init",
    "model.backbone.with_cp": "grad_checkpointing",
    "model.backbone.frozen_stages": "model_args.frozen_stages",
    "model.backbone.norm_eval": "model_args.norm_eval",
    "model.backbone.partial_bn": "model_args.partial_bn",
    "model.cls_head.num_classes": "num_classes",
    "model.cls_head.dropout_ratio": "model_args.dropout",
    "model.cls_head.average_clips": "test.average_clips",
    "model.test_cfg.average_clips": "test.average_clips",
    "model.test_cfg.max_testing_views": "test.max_views",
    "seed": "seed",
    "randomness.seed": "seed",
    "randomness.deterministic": "deterministic",
}
# keys of both generations that say nothing here -> why
WITHOUT_EFFECT = {
    "data.test_dataloader.videos_per_gpu": "a test takes one video at a time",
    "test_dataloader.batch_size": "a test takes one video at a time",
    "dist_params.backend": "the backend follows from the device",
    "env_cfg.dist_cfg.backend": "the backend follows from the device",
    "evaluation.save_best": "the best by the main metric is always kept",
    "default_hooks.checkpoint.save_best": "the best by the main metric is always kept",
}
# data set -> (list with {part} and {kind}, folder with {part} and {kind}); kinds are tried in order
LAYOUTS = {
    "kinetics400": ("data/kinetics400/kinetics400_{part}_list_{kind}.txt", "data/kinetics400/{kind}_{part}"),
    "kinetics600": ("data/kinetics600/kinetics600_{part}_list_{kind}.txt", "data/kinetics600/{kind}_{part}"),
    "kinetics700": ("data/kinetics700/kinetics700_{part}_list_{kind}.txt", "data/kinetics700/{kind}_{part}"),
    "sthv1": ("data/sthv1/sthv1_{part}_list_{kind}.txt", "data/sthv1/{kind}"),
    "sthv2": ("data/sthv2/sthv2_{part}_list_{kind}.txt", "data/sthv2/{kind}"),
    "jester": ("data/jester/jester_{part}_list_{kind}.txt", "data/jester/{kind}"),
    "gym99": ("data/gym/annotations/gym99_{part}_list_{kind}.txt", "data/gym/subaction_frames"),
    "ucf101": ("data/ucf101/ucf101_{part}_split_1_{kind}.txt", "data/ucf101/{kind}"),
}


def train(argv: list[str]) -> int:
    """``tools/train.py``: returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools/train.py", allow_abbrev=False)
    parser.add_argument("config", help="MMAction2 config (its name finds the recipe), recipe, or YAML file")
    parser.add_argument("--data", help="folder or list to train on (not in MMAction2)")
    parser.add_argument("--work-dir", help="folder of the run (default work_dirs/CONFIG)")
    parser.add_argument("--resume-from", metavar="CKPT", help="0.x: go on from this checkpoint")
    parser.add_argument(
        "--resume", nargs="?", const="auto", metavar="CKPT", help="1.x: go on from the last or this one"
    )
    parser.add_argument("--validate", action="store_true", help="0.x: validate (the default here)")
    parser.add_argument("--no-validate", action="store_true", help="1.x: do not validate")
    parser.add_argument("--test-last", action="store_true", help="test the last checkpoint at the end")
    parser.add_argument("--test-best", action="store_true", help="test the best checkpoint at the end")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--deterministic", action="store_true")
    parser.add_argument("--diff-seed", "--diff-rank-seed", action="store_true")
    parser.add_argument("--amp", action="store_true", help="mixed precision (bfloat16)")
    parser.add_argument("--auto-scale-lr", action="store_true")
    parser.add_argument("--gpus", type=int)
    parser.add_argument("--gpu-ids", type=int, nargs="+")
    parser.add_argument("--device", help="where to compute (not in MMAction2)")
    _add_shared(parser)
    args = parser.parse_args(argv)
    return cli.guarded("tools/train.py", lambda: _train(args))


def _train(args: argparse.Namespace) -> int:
    recipe = _find(args.config)
    if args.gpu_ids or (args.gpus or 1) > 1:
        count = args.gpus or len(args.gpu_ids)
        raise ClipwiseError(
            "--gpus and --gpu-ids are not taken: choose one device with --device, or use several with "
            f"torchrun --nproc-per-node {count} tools/train.py …"
        )
    _check_launcher(args.launcher)
    if args.diff_seed:
        _say(
            "--diff-seed has no effect: every sample's random numbers follow from the seed and its place in the epoch."
        )
    overrides = _overrides(args.cfg_options)
    work_dir = args.work_dir or _take(overrides, "work_dir") or f"work_dirs/{Path(args.config).stem}"
    resume = args.resume_from or _take(overrides, "resume_from") or args.resume
    where = _data(recipe, args.data, overrides, ("train", "val"))
    words = ["train", recipe, *(f"{k}={v}" for k, v in overrides.items()), "--work-dir", work_dir, *where]
    if args.no_validate:
        words.append("--no-validate")
    for flag, given in (("--deterministic", args.deterministic), ("--auto-scale-lr", args.auto_scale_lr)):
        words += [flag] if given else []
    for option, value in (("--seed", args.seed), ("--device", args.device), ("--amp", "bf16" if args.amp else None)):
        words += [option, str(value)] if value is not None else []
    if resume:
        words += ["--resume", resume]
    _say("clipwise " + " ".join(words))
    code = cli.main(words)
    # A folder without a test part was split by the run: its checkpoint knows what was held out.
    whole = not args.data or (not args.no_validate and test_part(args.data) == Path(args.data))
    data = [] if whole else ["--data", args.data]
    for name, wanted in (("last", args.test_last), ("best", args.test_best)):
        if wanted and code == 0:
            target = ["--out", f"{work_dir}/{name}_pred.pkl"]
            code = cli.main(["test", f"{work_dir}/{name}.safetensors", *data, *target, *_device(args.device)])
    return code


def test(argv: list[str]) -> int:
    """``tools/test.py``: returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools/test.py", allow_abbrev=False)
    parser.add_argument("config", help="MMAction2 config (its name finds the recipe), recipe, or YAML file")
    parser.add_argument(
        "checkpoint", help="our checkpoint, a .pth of MMAction2 (converted on the way), or a name in the zoo"
    )
    parser.add_argument("--data", help="folder or list to test on (not in MMAction2)")
    parser.add_argument("--out", "--dump", help="write the scores: .json, .csv or .pkl")
    parser.add_argument("--eval", nargs="+", metavar="METRIC")
    parser.add_argument("--eval-options", "--options", nargs="+", metavar="key=value", default=[])
    parser.add_argument("--average-clips", choices=("score", "prob"))
    parser.add_argument("--fuse-conv-bn", action="store_true")
    parser.add_argument("--gpu-collect", action="store_true")
    parser.add_argument("--tmpdir")
    parser.add_argument("--work-dir")
    parser.add_argument("--show-dir", metavar="DIR", help="1.x: write a report with pictures of the results there")
    parser.add_argument("--interval", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--wait-time", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--device", help="where to compute (not in MMAction2)")
    for flag in ("--onnx", "--tensorrt", "--show"):
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    _add_shared(parser)
    args = parser.parse_args(argv)
    return cli.guarded("tools/test.py", lambda: _test(args))


def _test(args: argparse.Namespace) -> int:
    recipe = _find(args.config)
    _check_launcher(args.launcher)
    if args.onnx or args.tensorrt:
        raise ClipwiseError(
            "--onnx and --tensorrt are not taken: export with `clipwise export`, which compares the results."
        )
    if args.show:
        raise ClipwiseError(
            "--show is not taken: `clipwise predict CKPT VIDEO --out annotated.mp4` draws results into a video."
        )
    for flag, given in (
        ("--fuse-conv-bn", args.fuse_conv_bn),
        ("--gpu-collect", args.gpu_collect),
        ("--tmpdir", args.tmpdir),
        ("--interval", args.interval),
        ("--wait-time", args.wait_time),
    ):
        if given:
            _say(f"{flag} has no effect here; the scores are the same without it.")
    overrides = _overrides(args.cfg_options)
    words = ["test", recipe, args.checkpoint, *(f"{k}={v}" for k, v in overrides.items())]
    for item in args.eval_options:
        key, _, value = item.partition("=")
        if key != "top_k_accuracy.topk":
            raise ClipwiseError(f"--eval-options {key} has no counterpart; only top_k_accuracy.topk has.")
        words += ["--topk", *re.findall(r"\d+", value)]
    words += _data(recipe, args.data, overrides, ("val",))
    if args.work_dir and not args.out:  # 1.x writes its figures there
        args.out = f"{args.work_dir}/{Path(args.config).stem}.json"
    for option, value in (("--out", args.out), ("--average-clips", args.average_clips), ("--report", args.show_dir)):
        words += [option, value] if value else []
    if args.eval:
        words += ["--eval", *args.eval]
    words += _device(args.device)
    _say("clipwise " + " ".join(words))
    return cli.main(words)


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="key=value", help="translated where there is a counterpart"
    )
    parser.add_argument("--launcher", default="none", choices=("none", "pytorch", "slurm", "mpi"))
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def _find(config: str) -> str:
    """The recipe that a config stands for.

    A config that exists is translated, as it may be the user's own; one that does not is a name.
    """
    path = Path(config)
    if path.suffix == ".py" and path.is_file():
        out = Path("work_dirs") / f"{path.stem}.yaml"
        out.parent.mkdir(exist_ok=True)
        for note in convert_config(path, out)[0]:
            _say(note)
        return str(out)
    if path.suffix in (".yaml", ".yml"):
        return config
    return load_recipe(path.stem if path.suffix == ".py" else config).name


def _data(recipe: str, data: str | None, overrides: dict[str, str], parts: tuple[str, ...]) -> list[str]:
    """Words that say where the data is: --data, --cfg-options, the recipe, or MMAction2's folders, whichever comes first."""
    keys = ("train_data", "features") if "train" in parts else ("test_data", "val_data", "features")
    said = load_recipe(recipe)
    if data:  # with the lists and folders of a config it has nothing to do
        places = ("train_data", "val_data", "test_data", "data_root")
        own = flatten(said.model_dump())
        return [f"{key}=null" for key in (*places, "val.data_root") if own.get(key) and key not in overrides] + [
            "--data",
            data,
        ]
    if overrides.keys() & set(keys) or any(getattr(said, key, None) for key in keys):
        return []
    return _layout(recipe, parts)


def _overrides(items: list[str]) -> dict[str, str]:
    """``--cfg-options`` as our keys; unknown ones are refused, all at once."""
    found, unknown = {}, []
    known = {*OPTIONS, *WITHOUT_EFFECT, *RecognitionRecipe.model_fields}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise ClipwiseError(f"--cfg-options {item!r} is not of the form key=value.")
        value = value.replace("(", "[").replace(")", "]")
        if key == "lr_config.policy":
            if value not in POLICIES:
                raise ClipwiseError(f"--cfg-options {item}: the policies {', '.join(POLICIES)} have a counterpart.")
            found["lr_schedule"] = POLICIES[value]
        elif key in ("model.backbone.pretrained", "model.pretrained"):
            value = re.sub(r"^torchvision://resnet(?=\d+$)", "imagenet_resnet", value)
            found["init"] = "null" if value == "None" else name_of_weights(value)
        elif key == "optimizer.type" or key == "optim_wrapper.optimizer.type":
            found["optimizer"] = value.lower()
        elif key == "optim_wrapper.type" and value in ("AmpOptimWrapper", "OptimWrapper"):
            found["amp"] = "bf16" if value == "AmpOptimWrapper" else "no"
        elif key in WITHOUT_EFFECT:
            _say(f"{item} has no effect: {WITHOUT_EFFECT[key]}.")
        elif key in ("work_dir", "resume_from"):
            found[key] = value
        elif key in OPTIONS:
            found[OPTIONS[key]] = "null" if value == "None" else value
        elif (key in MOVED or key.split(".")[0] in RecognitionRecipe.model_fields) and not key.startswith("model."):
            found[key] = value
        else:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            unknown.append(f"{key}" + (f" (near: {near[0]})" if near else ""))
    if unknown:
        raise ClipwiseError(
            f"--cfg-options without a counterpart: {', '.join(unknown)}. "
            "`clipwise explain RECIPE --keys` lists the keys that a recipe has; they can be given here too."
        )
    return found


def _take(overrides: dict[str, str], key: str) -> str | None:
    return overrides.pop(key, None)


def _layout(recipe: str, parts: tuple[str, ...]) -> list[str]:
    """Overrides that name the lists where MMAction2's documentation puts them."""
    name = Path(recipe).stem.replace("kinetics_rgb", "kinetics400")
    data_set = next((d for d in LAYOUTS if d in name), None)
    looked = []
    kinds = ("videos", "rawframes") if "_video_" in name else ("rawframes", "videos")
    for kind in kinds if data_set else ():
        pattern, folder = LAYOUTS[data_set or ""]
        lists = {part: pattern.format(part=part, kind=kind) for part in parts}
        looked += lists.values()
        if all(Path(path).is_file() for path in lists.values()):
            words = []
            for part, path in lists.items():
                root = folder.format(part=part, kind=kind)
                words += [f"{part}_data={path}", f"{'val_' if part == 'val' else ''}data_root={root}"]
            return words
    where = f" Looked for {', '.join(looked)}." if looked else ""
    raise ClipwiseError(
        f"no data: give --data FOLDER or LIST, or the lists in --cfg-options (data.train.ann_file=…).{where}"
    )


def _check_launcher(launcher: str) -> None:
    if launcher in ("slurm", "mpi"):
        raise ClipwiseError(
            f"--launcher {launcher} is not taken: start the processes with torchrun, under srun if need be."
        )


def _device(device: str | None) -> list[str]:
    return ["--device", device] if device else []


def _say(text: str) -> None:
    print(f"# {text}", file=sys.stderr)
