"""Run every command with two source trees on the demo's files, and show where their results differ.

    python benchmarks/compare_verbs.py --before ../v0.1/src --after src --work /tmp/verbs
    python benchmarks/compare_verbs.py --before ../v0.1/src --after src --work /tmp/verbs --reuse-before --only 'test|predict'

The demo (its videos and checkpoints) is made once, by the first tree, in WORK/demo. Compared are exit codes, what is
printed (JSON key by key, numbers exactly), and the files written: their JSON and YAML, hashes of tensors, arrays and videos.
Times, memory, versions and paths are left out (``IGNORED``), and how sentences are worded, unless --words. Exits with 1
where something differs that ``compare_verbs_explained.txt`` gives no reason for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import pickle
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

IGNORED = re.compile(
    r"(^|\.)(time|data_time|seconds|memory|versions?|torch|device|cpu|threads|elapsed_s|\w*_per_s(econd)?|\w*_ms\w*|\w*memory\w*|epoch_s|"
    r"(decode|wait|compute|forward|load|wall|total)\w*_s|sha256|size_bytes|file_mb|created|times_real_time|free disk[^.]*|latency\w*)(\[|\.|$)"
)
COMMANDS = Path(__file__).with_suffix(".txt")
"""A name and a command a line; a command with ``{recipe}`` stands for as many as there are packaged recipes."""
QUICK = "warmup_epochs=0 batch_size=8 num_workers=0 log_every=1 amp=no"
CONFIG = """
model = dict(type='Recognizer2D', backbone=dict(type='ResNetTSM', pretrained='torchvision://resnet50', depth=50, shift_div=8),
             cls_head=dict(type='TSMHead', num_classes=174, in_channels=2048, dropout_ratio=0.5, init_std=0.001, is_shift=True))
optimizer = dict(type='SGD', constructor='TSMOptimizerConstructor', paramwise_cfg=dict(fc_lr5=True), lr=0.01, momentum=0.9, weight_decay=0.0005)
optimizer_config = dict(grad_clip=dict(max_norm=20, norm_type=2))
lr_config = dict(policy='step', step=[20, 40])
total_epochs = 50
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_bgr=False)
sample = dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=8)
train_pipeline = [sample, dict(type='RawFrameDecode'), dict(type='Resize', scale=(-1, 256)), dict(type='RandomResizedCrop'),
                  dict(type='Resize', scale=(224, 224), keep_ratio=False), dict(type='Flip', flip_ratio=0.5), dict(type='Normalize', **norm)]
val_pipeline = [dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=8, test_mode=True), dict(type='RawFrameDecode'), dict(type='Resize', scale=(-1, 256)),
                dict(type='CenterCrop', crop_size=224), dict(type='Normalize', **norm)]
data = dict(videos_per_gpu=8, train=dict(type='RawframeDataset', ann_file='train.txt', data_prefix='d', pipeline=train_pipeline),
            val=dict(type='RawframeDataset', ann_file='val.txt', data_prefix='d', pipeline=val_pipeline),
            test=dict(type='RawframeDataset', ann_file='val.txt', data_prefix='d', pipeline=val_pipeline))
"""

EXPLAINED = Path(__file__).with_name("compare_verbs_explained.txt")
"""Differences that are meant, each with its reason."""


def write_inputs(work: Path) -> None:
    """Lists, a config and published annotation files for the commands, made from the demo's clips."""
    clips = sorted((work / "demo/videos/val").glob("*/00[0-2].mp4"))
    names = sorted({clip.parent.name for clip in clips})
    lines = [f"{clip}\t{names.index(clip.parent.name)}\n" for clip in clips]
    (work / "small.txt").write_text("".join(lines))
    (work / "classes.txt").write_text("\n".join(names) + "\n")
    (work / "half.mp4").write_bytes(clips[0].read_bytes()[:3000])
    (work / "small.txt.mp4").write_text("no video")
    (work / "broken.txt").write_text(
        "".join(lines) + f"{work}/half.mp4\t0\n{work}/gone.mp4\t1\n{clips[1]}\t4\n{clips[2]}\t5\n"
    )
    (work / "config.py").write_text(CONFIG)
    rng = [0.9, 0.02, 0.02, 0.02, 0.02, 0.02]
    scores = [{"path": f"long_{n:03d}.mp4", "label": 0, "scores": rng[n % 6 :] + rng[: n % 6]} for n in range(32)]
    (work / "class_scores.json").write_text(json.dumps({"classes": names, "results": scores}))
    clip, other = "0LtLS9wROrk_E_002407_002435_A_0003_0005", "0LtLS9wROrk_E_002407_002435_A_0006_0008"
    texts = {
        "jester/jester-v1-labels.csv": "Swiping Left\nSwiping Right\n",
        "jester/jester-v1-train.csv": "7;Swiping Left\n99;Swiping Left\n",
        "jester/jester-v1-validation.csv": "8;Swiping Right\n",
        **{f"jester/f/{n}/{i:05}.jpg": "" for n in (7, 8) for i in (1, 2, 3)},
        "gym/gym99_train_element_v1.1.txt": f"{clip} 1\n",
        "gym/gym99_val_element.txt": f"{other} 0\n",
        "gym/gym99_categories.txt": "Clabel: 0; set: 1; Glabel: 1; (VT) a\nClabel: 1; set: 1; Glabel: 2; (VT) b\n",
        **{f"gym/v/{name}.mp4": "" for name in (clip, other)},
    }
    for name, text in texts.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)


def commands(before: Path, work: Path) -> list[tuple[str, list[str]]]:
    """(name, words) of every command, and of the help of every verb."""
    demo = work / "demo"
    places = {
        "demo": demo, "work": work, "before": work / "before", "gt": demo / "long_ground_truth.json", "quick": QUICK, "tsm": demo / "tsm_tiny/last.safetensors",
        "tsn": demo / "tsn_tiny/last.safetensors", "bmn": demo / "bmn/best.safetensors",
    }  # fmt: skip
    recipes = sorted(path.stem for path in (before / "clipwise/recipes").rglob("*.yaml"))
    found = []
    for line in COMMANDS.read_text().splitlines():
        name, words = line.split(maxsplit=1)
        for recipe in recipes if "{recipe}" in words else [""]:
            text = words.format(recipe=recipe, **places)
            found.append((f"{name}-{recipe}" if recipe else name, shlex.split(text)))
    overview = subprocess.run(
        [sys.executable, "-m", "clipwise", "--help"], capture_output=True, text=True, env=_path(before)
    ).stdout
    verbs = re.findall(r"^  ([a-z][a-z-]+) {2,}\S", overview, re.M)
    return [*((f"options-{verb}", [verb, "--help"]) for verb in verbs), *found]


def _path(src: Path) -> dict[str, str]:
    more = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(src), *([more] if more else [])]),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
    }


# -- running: a process for each tree, which loads the libraries once and forks for each command


def work_through(side: Path, todo: list[tuple[str, list[str]]], src: str) -> None:
    sys.path.remove(str(Path(__file__).parent))
    import clipwise

    assert Path(clipwise.__file__).is_relative_to(src), f"{clipwise.__file__} is not of {src}"
    for name in clipwise.__all__:  # the expensive imports, once
        getattr(clipwise, name)
    fork = multiprocessing.get_context("fork")
    for name, words in todo:
        folder = side / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        process = fork.Process(target=_command, args=(folder, words))
        process.start()
        answers = _ask_server(folder, Path(words[1]).parents[1]) if name == "serve" else {}
        if answers:
            os.kill(process.pid, signal.SIGTERM)
        process.join(600)
        if process.is_alive():
            process.kill()
        out = (folder / "stdout").read_text()
        result = {
            "words": words,
            "rc": process.exitcode,
            "stdout": _reduce(name, out),
            "files": _files(folder),
            **answers,
        }
        if name == "demo":  # what it learns differs from run to run with the encoded videos
            result |= {"stdout": sorted(result["stdout"]), "files": sorted(result["files"])}
        text = _places(side, json.dumps(result, default=str)).replace(src, "@src")
        (side / f"{name}.json").write_text(text)
        print(f"{side.name} {name}: rc {process.exitcode}", file=sys.stderr, flush=True)


def _places(side: Path, text: str) -> str:
    """A text without the folders that differ between the two sides."""
    return text.replace(f"{side}/", "@/").replace(f"{side.parent}/before/", "@/")


def _command(folder: Path, words: list[str]) -> None:
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["clipwise", *words]
    runpy.run_module("clipwise", run_name="__main__", alter_sys=True)


def _ask_server(folder: Path, demo: Path) -> dict[str, Any]:
    """One request to each route of a server that is just starting."""
    for _ in range(600):
        if found := re.search(
            r"http://[\d.]+:\d+", (folder / "stderr").read_text() if (folder / "stderr").exists() else ""
        ):
            break
        time.sleep(0.1)
    else:
        return {"server": "did not start"}
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="v.mp4"\r\n\r\n%s\r\n--b--\r\n'
    video = body % (demo / "long/long_024.mp4").read_bytes()
    asked = {
        "/healthz": None,
        "/v1/model": None,
        "/openapi.json": None,
        "/v1/predict": video,
        "/v1/predict?segments=true&topk=2": video,
        "/nowhere": None,
    }
    answers = {}
    for route, data in asked.items():
        request = urllib.request.Request(
            found[0] + route, data, {"Content-Type": "multipart/form-data; boundary=b"} if data else {}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                content = json.load(answer)
                answers[route.replace(".", "_")] = _interface(content) if "openapi" in content else content
        except urllib.error.HTTPError as error:
            answers[route] = error.code
    return answers


def _interface(document: dict[str, Any]) -> dict[str, Any]:
    """What a client generated from an OpenAPI document relies on."""
    return {
        f"{method} {path}": {
            "operation": operation["operationId"],
            "parameters": {each["name"]: each["in"] for each in operation.get("parameters", [])},
            "answers": sorted(operation["responses"]),
        }
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def _reduce(name: str, text: str) -> Any:
    """Printed text as something to compare: JSON, lines of JSON, a help's options, or lines."""
    if name.startswith("options-"):
        return dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text), True)
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return text.splitlines()


def _files(folder: Path) -> dict[str, Any]:
    paths = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in ("stdout", "stderr"))
    return {str(p.relative_to(folder)): _contents(p) for p in paths}


def _hash(value: Any) -> str:
    return f"{value.dtype}{tuple(value.shape)} {hashlib.sha256(value.tobytes()).hexdigest()[:12]}"


def _contents(path: Path) -> Any:
    import av
    import numpy as np
    import torch
    import yaml
    from safetensors import safe_open

    kind = path.suffix
    if kind in (".json", ".jsonl"):
        return _reduce("", path.read_text())
    if kind in (".yaml", ".yml"):
        return yaml.safe_load(path.read_text())
    if kind in (".txt", ".csv", ".srt"):
        return path.read_text().splitlines() if path.name != "log.csv" else "exists"
    if kind == ".safetensors":
        with safe_open(path, "np") as file:
            tensors = {key.replace(".", "/"): _hash(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118
            return {"tensors": tensors, "metadata": {k: json.loads(v) for k, v in (file.metadata() or {}).items()}}
    if kind in (".npy", ".npz"):
        arrays = np.load(path)
        return _hash(arrays) if kind == ".npy" else {key: _hash(arrays[key]) for key in arrays.files}
    if kind == ".pth":
        content = torch.load(path, weights_only=True)
        return {
            key.replace(".", "/"): _hash(value.numpy()) for key, value in content.get("state_dict", content).items()
        }
    if kind == ".pkl":
        return [_hash(np.asarray(each)) for each in pickle.loads(path.read_bytes())]
    if kind == ".mp4":  # H.264 encoded by several threads is not the same twice
        with av.open(str(path)) as video:
            stream = video.streams.video[0]
            return f"{stream.width}x{stream.height}, {sum(1 for _ in video.decode(stream))} frames"
    if kind == ".jpg":
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return "exists"


# -- comparing


def differences(before: Any, after: Any, at: str = "") -> list[tuple[str, bool]]:
    """Where two JSON values differ, each with whether it is only the wording of a sentence."""
    if isinstance(before, dict) and isinstance(after, dict):
        found = []
        for key in [*before, *(k for k in after if k not in before)]:
            place = f"{at}.{key}" if at else key
            if IGNORED.search(place):
                continue
            if key not in after:
                found.append((f"{place}: gone (was {_short(before[key])})", False))
            elif key not in before:
                found.append((f"{place}: new ({_short(after[key])})", False))
            else:
                found += differences(before[key], after[key], place)
        return found
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [each for i, (a, b) in pairs for each in differences(a, b, f"{at}[{i}]")]
    sentences = all(isinstance(value, str) and value.count(" ") >= 3 for value in (before, after))
    return [] if before == after else [(f"{at}: {_short(before)} -> {_short(after)}", sentences)]


def _short(value: Any, size: int = 90) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= size else text[:size] + "…"


def _is_done(side: Path, name: str, words: list[str]) -> bool:
    result = side / f"{name}.json"
    return result.is_file() and json.loads(result.read_text())["words"] == json.loads(_places(side, json.dumps(words)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, metavar="SRC")
    parser.add_argument("--after", type=Path, required=True, metavar="SRC")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--reuse-before", action="store_true", help="keep the results of --before that are in WORK")
    parser.add_argument("--only", default="", metavar="REGEX", help="commands whose name matches")
    parser.add_argument("--show", type=int, default=6, help="differences to print of a command")
    parser.add_argument("--words", action="store_true", help="also compare the wording of sentences")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    work, before, after = args.work.resolve(), args.before.resolve(), args.after.resolve()
    if args.worker:
        side, src = args.worker
        work_through(work / side, json.load(sys.stdin), src)
        return 0
    if not (work / "demo/report.html").is_file():
        subprocess.run(
            [sys.executable, "-m", "clipwise", "demo", "--out", str(work / "demo")], check=True, env=_path(before)
        )
    write_inputs(work)
    todo = [each for each in commands(before, work) if re.search(args.only, each[0])]
    for side, src in (("before", before), ("after", after)):
        left = (
            todo
            if side == "after" or not args.reuse_before
            else [each for each in todo if not _is_done(work / side, *each)]
        )
        words = [
            sys.executable,
            __file__,
            "--before",
            str(before),
            "--after",
            str(after),
            "--work",
            str(work),
            "--worker",
            side,
            str(src),
        ]
        subprocess.run(words, input=json.dumps(left), text=True, check=True, env=_path(src))
    rules = [re.split(r" +\| ", line) for line in EXPLAINED.read_text().splitlines() if not line.startswith("#")]
    different, reasons = 0, Counter[str]()
    for name, words in todo:
        one, two = (json.loads((work / side / f"{name}.json").read_text()) for side in ("before", "after"))
        found = [line for line, sentence in differences(one, two) if args.words or not sentence]
        if name.startswith("options-"):  # options may be added
            found = [line for line in found if ": new" not in line]
        known = {
            line: why
            for line in found
            for command, what, why in rules
            if re.fullmatch(command, name) and re.search(what, line)
        }
        lines = [line for line in found if line not in known]
        different += bool(lines)
        reasons.update(set(known.values()))
        state = f"{len(lines)} different" if lines else f"{len(known)} explained" if known else "same"
        print(f"{words[0]:<16} {name:<60} {state}")
        for line in lines[: args.show]:
            print(f"    {line}")
    for why, count in reasons.most_common():
        print(f"explained in {count} command{'s' * (count != 1)}: {why}")
    verbs = {words[0] for _, words in todo}
    print(
        f"{len(todo)} commands of {len(verbs)} verbs: {len(todo) - different} the same or explained, {different} different"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
