"""PaddleCV/video's command lines for TSN, turned into clipwise's.

python tools/paddle_style.py train TSN ./configs/tsn.yaml [flags]        as run.sh calls it
python tools/paddle_style.py eval --model_name=TSN --config=… --weights=FILE [flags]

The config's values are taken over where the file exists; without it the packaged recipe, which holds the same values, is used.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

import _clipwise  # noqa: F401 - puts clipwise on the path
import yaml

from clipwise import cli
from clipwise.errors import ClipwiseError, DataError
from clipwise.recipe import parse_yaml

MODES = ("train", "eval", "predict")
COUNTERPARTS = {"TSM": "tsm_r50_1x1x8_50e_kinetics400_rgb", "BMN": "`clipwise recipes bmn`"}
SECTIONS = {"train": "TRAIN", "eval": "TEST", "predict": "INFER"}
# where PaddleCV's tsn.yaml has its lists
LISTS = {"train": "train.list", "eval": "test.list", "predict": "infer.list"}
FOLDER = "data/dataset/kinetics"
PUBLISHED = "tsn_r50_paddle_7seg_45e_kinetics400_rgb"
# key of the config -> ours, in all modes and in training
CONFIG_KEYS = {
    "short_size": ("augment.resize", "val.resize", "test.resize"),
    "target_size": ("crop_size", "val.crop_size", "test.crop_size"),
    "image_mean": ("input.mean",),
    "image_std": ("input.std",),
    "num_reader_threads": ("num_workers",),
    "format": ("lists.format",),
}
TRAINING_KEYS = {
    "learning_rate": "lr",
    "l2_weight_decay": "weight_decay",
    "momentum": "optim.momentum",
    "learning_rate_decay": "schedule.gamma",
    "num_classes": "num_classes",
    "filelist": "train_data",
}
# flag of a training -> ours
FLAGS = {"learning_rate": "lr", "log_interval": "log.every", "valid_interval": "val.every"}
# flag of a prediction -> its counterpart in `clipwise predict CKPT INPUT`, for the help and the documentation
PREDICTION_FLAGS = {
    "weights": "CKPT",
    "video_path": "INPUT, a video",
    "filelist": "INPUT, a list",
    "save_dir": "--json > FILE",
    "use_gpu": "--device cpu for False",
}
WITHOUT_EFFECT = ("no_memory_optimize", "is_profiler", "profiler_path", "infer_topk")


def main(argv: list[str]) -> int:
    """Run one of the three modes; returns the exit code."""

    def work() -> int:
        args = _parse(argv)
        return {"train": _train, "eval": _eval, "predict": _predict}[args.mode](args)

    return cli.guarded("paddle_style", work)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="paddle_style.py", allow_abbrev=False, description=__doc__)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("name", nargs="?", help="TSN")
    parser.add_argument("config_file", nargs="?", help="its YAML")
    parser.add_argument("--model_name")
    parser.add_argument("--config")
    parser.add_argument("--batch_size", type=int, help="over all devices")
    mode = argv[0] if argv else ""
    ours = PREDICTION_FLAGS if mode == "predict" else {}
    parser.add_argument("--use_gpu", type=_literal, default=True, help=ours.get("use_gpu"))
    parser.add_argument("--log_interval", type=int)
    parser.add_argument("--save_dir", help=ours.get("save_dir"))
    if mode == "train":
        for name, kind in (("learning_rate", float), ("epoch", int), ("valid_interval", int)):
            parser.add_argument(f"--{name}", type=kind)
        for name in ("pretrain", "resume", "profiler_path"):
            parser.add_argument(f"--{name}")
        parser.add_argument("--fix_random_seed", type=_literal, default=False)
        parser.add_argument("--is_profiler", type=int)
        parser.add_argument("--no_memory_optimize", action="store_true", default=None)
    else:
        parser.add_argument("--weights", help=ours.get("weights"))
    if mode == "predict":
        for name in ("filelist", "video_path"):
            parser.add_argument(f"--{name}", help=ours[name])
        parser.add_argument("--infer_topk", type=int)
    args = parser.parse_args(argv)
    if mode != "train":
        for flag in ("batch_size", "log_interval"):
            if getattr(args, flag) is not None:
                _say(f"--{flag} has no effect: videos are scored one by one, and all results are printed at the end.")
    name = (args.model_name or args.name or "TSN").upper()
    if name != "TSN":
        hint = f" Its counterpart: {COUNTERPARTS[name]}." if name in COUNTERPARTS else ""
        raise ClipwiseError(f"model {name} is not run with Paddle's flags; only TSN is.{hint}")
    args.config = args.config or args.config_file
    for flag in WITHOUT_EFFECT:
        if getattr(args, flag, None) is not None:
            _say(
                f"--{flag} has no effect here (nor has it in the original)."
                if flag != "is_profiler"
                else f"--{flag} is not taken."
            )
    return args


def _literal(text: str) -> bool:
    try:
        return bool(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False") from None


def _settings(args: argparse.Namespace, mode: str) -> dict[str, Any]:
    """MODEL's values under those of the mode's section, lower-case keys, as in Paddle; empty without a file."""
    if args.config is None:
        return {}
    path = Path(args.config)
    if not path.is_file():
        if path.name in ("tsn.yaml", "tsn.txt"):
            _say(f"{path} is not here; the packaged recipe has its values, lists are looked for in {FOLDER}.")
            return {"filelist": f"{FOLDER}/{LISTS[mode]}", "_valid": {"filelist": f"{FOLDER}/val.list"}}
        raise ClipwiseError(f"config {path} does not exist.")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ClipwiseError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not isinstance(content.get("MODEL"), dict):
        raise ClipwiseError(f"{path} is not a config of PaddleCV/video: it has no MODEL section.")
    return {**content["MODEL"], **(content.get(SECTIONS[mode]) or {}), "_valid": content.get("VALID") or {}}


def _recipe(args: argparse.Namespace, mode: str, found: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The recipe's name and what the config changes in it."""
    name = "tsn_r50_paddle_3seg_45e_kinetics400_rgb" if mode == "predict" else "tsn_r50_paddle_7seg_45e_kinetics400_rgb"
    keys: dict[str, Any] = {}
    if found.get("num_layers", 50) != 50:
        keys["model"] = {101: "tsn_r101"}.get(found["num_layers"])
        if keys["model"] is None:
            raise ClipwiseError(f"num_layers {found['num_layers']} is not here; 50 and 101 are.")
        keys["model_args"] = "{dropout: 0.0, fc_std: null}"
    if "seglen" in found and found["seglen"] != 1:
        raise ClipwiseError("seglen other than 1 is not here.")
    if "seg_num" in found:
        keys["num_segments" if mode == "train" else "test.num_segments"] = found["seg_num"]
    convert = {
        "image_mean": _pixels,
        "image_std": _pixels,
        "num_reader_threads": lambda count: min(int(count), os.cpu_count() or 1),
        "format": _list_format,
    }
    for theirs, ours in CONFIG_KEYS.items():
        if theirs in found:
            value = convert[theirs](found[theirs]) if theirs in convert else found[theirs]
            keys.update(dict.fromkeys(ours, value))
    return name, keys


def _pixels(values: list[float]) -> list[float]:
    return [round(255 * value, 6) for value in values]


def _list_format(name: str) -> str:
    formats = {"pkl": "paddle_pkl", "mp4": "paddle_mp4"}
    if name not in formats:
        raise ClipwiseError(f"MODEL.format is {name!r}; {' and '.join(formats)} are read.")
    return formats[name]


def _train(args: argparse.Namespace) -> int:
    found = _settings(args, "train")
    recipe, keys = _recipe(args, "train", found)
    keys |= {ours: found[theirs] for theirs, ours in TRAINING_KEYS.items() if theirs in found}
    given = {flag: getattr(args, flag) for flag in FLAGS}
    if given["valid_interval"] == 0:  # no validation, see below
        del given["valid_interval"]
    keys |= {FLAGS[flag]: value for flag, value in given.items() if value is not None}
    epochs = args.epoch or found.get("epoch")
    if epochs:
        keys["epochs"], keys["schedule.milestones"] = epochs, [epochs / 3, 2 * epochs / 3]
    if "filelist" in found.get("_valid", {}):
        keys["val_data"] = found["_valid"]["filelist"]
    batch = args.batch_size or found.get("batch_size")
    processes = int(os.environ.get("WORLD_SIZE", 1))
    if batch:
        keys["batch_size"] = max(1, batch // processes)
    if args.use_gpu and processes == 1 and _devices() > 1:
        _say(
            f"one of {_devices()} devices is used, with the whole batch; all of them: "
            f"torchrun --nproc-per-node {_devices()} tools/train.py --model_name=TSN …"
        )
    if args.fix_random_seed:
        keys.update(seed=1000, deterministic=True)
    words = ["train", recipe, *_overrides(keys), "--work-dir", args.save_dir or "data/checkpoints/TSN"]
    if args.valid_interval == 0:
        words.append("--no-validate")
    if args.resume:
        path = Path(args.resume)
        path = path if path.exists() else Path(args.resume + ".pdparams")
        if path.suffix == ".pdparams":
            _say(
                f"{path} holds weights, classifier included; the run starts anew from them (its optimizer state is Paddle's)."
            )
            words += ["--init", str(path)]
        else:
            words += ["--resume", args.resume]
    elif args.pretrain:
        words += ["--init", args.pretrain]
    return _run(args, words)


def _eval(args: argparse.Namespace) -> int:
    found = _settings(args, "eval")
    recipe, keys = _recipe(args, "eval", found)
    words = ["test", recipe, _weights(args), *_overrides(keys), "--eval", "top_k_accuracy", "--topk", "1", "5"]
    if found.get("filelist"):
        words += ["--data", found["filelist"]]
    if args.save_dir:
        words += ["--out", f"{args.save_dir}/TSN_scores.json"]
        Path(args.save_dir).mkdir(parents=True, exist_ok=True)
    return _run(args, words)


def _predict(args: argparse.Namespace) -> int:
    from clipwise.data.entries import open_entry
    from clipwise.data.lists import read_list
    from clipwise.engine.pretrained import resolve
    from clipwise.infer.predictor import load
    from clipwise.recipe import load_recipe

    found = _settings(args, "predict")
    recipe, keys = _recipe(args, "predict", found)
    list_format = keys.pop("lists.format", "auto")
    video = args.video_path or found.get("video_path")
    if video:
        sources = [(video, lambda: predictor(video))]
    else:
        listed = args.filelist or found.get("filelist")
        if not listed:
            raise ClipwiseError("nothing to predict: give --video_path VIDEO or --filelist LIST.")
        videos = read_list(listed, format=list_format)

        def listed_one(index: int):
            with open_entry(videos, index) as reader:
                return predictor(reader)

        sources = [(videos.entry(i), functools.partial(listed_one, i)) for i in range(len(videos))]
    predictor = load(resolve(_weights(args), load_recipe(recipe, _overrides(keys))), None if args.use_gpu else "cpu")
    labels = found.get("kinetics_labels")
    if labels and Path(labels).is_file():
        predictor.classes = _names(labels, predictor.passport.model_args["num_classes"])
    topk, results, failures = found.get("topk", 5), [], 0
    for path, predict in sources:
        try:
            prediction = predict()
        except (DataError, OSError) as error:
            failures += 1
            print(f"paddle_style: {error}", file=sys.stderr)
            continue
        prediction.source = path
        results.append(prediction.to_dict(topk))
        print(f"video_id {path} , topk({topk}) preds:")
        for name, probability in prediction.top(topk):
            print(f"    class: {name},  probability:  {probability:.6f}", flush=True)
    if args.save_dir:
        folder = Path(args.save_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "TSN_predictions.json").write_text(
            json.dumps(results, ensure_ascii=False, indent=1), encoding="utf-8"
        )
    if failures:
        return 1 if results else 2
    return 0


def _names(path: str, outputs: int) -> list[str]:
    """The names of kinetics_labels, one for each output of the network."""
    from clipwise.data.labels import read_classes

    names = read_classes(path)
    if len(names) != outputs:
        raise ClipwiseError(f"kinetics_labels: {path} has {len(names)} names, but the network has {outputs} outputs.")
    return names


def _weights(args: argparse.Namespace) -> str:
    if not args.weights:
        _say(f"--weights is not given: the published model {PUBLISHED} is taken, and downloaded if need be.")
    return args.weights or PUBLISHED


def _devices() -> int:
    import torch

    return torch.accelerator.device_count()


def _run(args: argparse.Namespace, words: list[str]) -> int:
    words += [] if args.use_gpu else ["--device", "cpu"]
    _say("clipwise " + " ".join(words))
    return cli.main(words)


def _overrides(keys: dict[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in keys.items()]


def _say(text: str) -> None:
    print(f"# {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
