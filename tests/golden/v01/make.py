"""Makes this folder with clipwise 0.1 (commit 85c590f): ``PYTHONPATH=/path/to/0.1/src python tests/golden/v01/make.py``.

``clips`` are encoded once and kept, for an encoder's output is not the same everywhere. ``recognizer`` and ``bmn`` are
runs that stopped in mid-epoch. The recognizer's backbone is frozen, and its weights follow from ``filling``: of its
checkpoint only the file's header and the trained tensors are kept; ``rebuild`` makes the file again, byte for byte.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zlib
from hashlib import sha256
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
WORK = Path(tempfile.gettempdir()) / "v01"  # its name is in the files
CLASSES = ("grows", "moves left", "ring")
RECOGNIZER = [
    "tsm_tiny", "--seed", "5", "--deterministic", "epochs=3", "batch_size=2", "accumulate=2", "num_workers=0", "amp=no",
    "warmup_epochs=1", "lr=0.003", "mixup=0.2", "label_smoothing=0.1", "color_jitter=mmaction2_0.24", "log_every=1",
    "model_args.frozen_stages=4", "model_args.dropout=0.3",
]  # fmt: skip
RECOGNIZER_STOPS = 6
"""Optimizer steps: the eight batches of the first epoch, and half of the second."""
BMN = [
    "bmn_tiny", "--seed", "5", "--deterministic", "features=features", "annotations=annotations.json", "epochs=4", "lr=0.02", "batch_size=2",
    "temporal_dim=16", "model_args={max_duration: 12, hidden_dim: 8, matching_dim: 8, map_dim: 4, num_samples: 8}", "log_every=1",
    "num_workers=0",
]  # fmt: skip
BMN_STOPS = 7
TWO = [*BMN, "ema_decay=0.9", "validate_every=9", "epochs=3", "batch_size=1"]
"""The same by two processes, with averaged weights."""
TWO_STOP = 4
FEAT_DIM = 12


def filling(name: str, shape: tuple[int, ...], dtype: str = "F32") -> np.ndarray:
    """Values of a tensor from its name. NumPy promises that ``RandomState.random_sample`` never changes."""
    if dtype == "I64":  # a norm's count of batches
        return np.zeros(shape, np.int64)
    uniform = 2 * np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape) - 1
    if name.endswith("running_var"):
        return (1 + 0.5 * uniform).astype(np.float32)
    if name.endswith("weight") and len(shape) == 1:  # of a norm; small enough for features of about 1
        return (0.45 + 0.2 * uniform).astype(np.float32)
    scale = (6 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.2
    return (scale * uniform).astype(np.float32)


def read_header(data: bytes) -> bytes:
    return data[: 8 + int.from_bytes(data[:8], "little")]


def rebuild(header: bytes, trained: dict[str, np.ndarray]) -> bytes:
    """The file that a header belongs to, with ``trained`` tensors in it and all others from ``filling``."""
    tensors = {key: value for key, value in json.loads(header[8:]).items() if key != "__metadata__"}
    parts = sorted(tensors.items(), key=lambda item: item[1]["data_offsets"])
    return header + b"".join(
        (trained[name] if name in trained else filling(name, tuple(value["shape"]), value["dtype"])).tobytes()
        for name, value in parts
    )


def write_long_data(folder: Path) -> None:
    """Annotations and features of eight videos of 20 s: the features rise where something happens."""
    database = {}
    (folder / "features").mkdir(parents=True)
    for n in range(8):
        uniform = np.random.RandomState(n).random_sample(40 * FEAT_DIM + 8)
        values = uniform[8:].reshape(40, FEAT_DIM)  # a position each half second
        spans = [
            (round(1 + 3 * uniform[0], 2), round(5 + 4 * uniform[1], 2)),
            (round(11 + 2 * uniform[2], 2), round(15 + 4 * uniform[3], 2)),
        ]
        for k, (start, end) in enumerate(spans):
            values[round(2 * start) : round(2 * end), k::2] += 1
        np.save(folder / "features" / f"video_{n}.npy", values.astype(np.float32))
        database[f"video_{n}"] = {
            "duration": 20.0,
            "subset": "training" if n < 5 else "validation",
            "annotations": [{"segment": list(span), "label": "ab"[k]} for k, span in enumerate(spans)],
        }
    (folder / "annotations.json").write_text(json.dumps({"database": database}))


def machine() -> dict[str, str | None]:
    """What decides whether the same arithmetic gives the same bits."""
    import torch

    cpu = platform.processor()
    if (facts := Path("/proc/cpuinfo")).exists():
        names = (line for line in facts.read_text().splitlines() if line.startswith("model name"))
        cpu = next((name.split(":")[1].strip() for name in names), cpu)
    return {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(), "cpu": cpu}


def run(*words: object, processes: int = 1) -> str:
    """What a command prints; on one thread, for sums over several come out otherwise."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    line = [sys.executable, *torchrun, "-m", "clipwise", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment)
    stopped = "stopped after epoch" in done.stderr  # 130, which torchrun turns into 1
    assert done.returncode == 0 or stopped, done.stderr
    return done.stdout


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def digest(tensors: dict[str, np.ndarray]) -> str:
    return sha256(b"".join(tensors[key].tobytes() for key in sorted(tensors))).hexdigest()


# -- with 0.1 on the path


def _clips() -> None:
    from clipwise.data.synthetic import draw_action, write_video

    for label, name in enumerate(CLASSES):
        (HERE / "clips" / name).mkdir(parents=True)
        for n in range(6):
            frames = draw_action(name, 14 + n, np.random.default_rng((label, n)))
            write_video(HERE / "clips" / name / f"{n}.mp4", frames)


def _run_and_resume(
    name: str, words: list, stop: int, *, first: tuple = (), processes: int = 1
) -> dict[str, np.ndarray]:
    """Leave an interrupted run in WORK/NAME; the weights that a resumed copy of it reaches, and a whole run too."""
    folder = WORK / name
    run("train", *words, *first, "--work-dir", folder, "--max-steps", stop, processes=processes)
    shutil.copytree(folder, WORK / f"{name}_resumed")
    run("train", *words, "--work-dir", WORK / f"{name}_resumed", "--resume", processes=processes)
    run("train", *words, *first, "--work-dir", WORK / f"{name}_whole", processes=processes)
    final = tensors_of(WORK / f"{name}_resumed/last.safetensors")
    assert digest(final) == digest(tensors_of(WORK / f"{name}_whole/last.safetensors"))
    return final


def _keep(name: str, final: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    save_file(final, HERE / f"{name}_final.safetensors")
    shutil.rmtree(HERE / name, ignore_errors=True)
    shutil.copytree(WORK / name, HERE / name, ignore=shutil.ignore_patterns("report.html"))


def _recognizer() -> dict:
    import torch
    from safetensors.numpy import save_file

    import clipwise
    from clipwise.engine.checkpoint import Passport, save_weights

    shutil.copytree(HERE / "clips", WORK / "clips")
    state = clipwise.create_model("tsm_tiny", num_classes=len(CLASSES)).state_dict()
    start = {k: filling(k, tuple(v.shape), "I64" if v.dtype == torch.int64 else "F32") for k, v in state.items()}
    passport = Passport("tsm_tiny", {"num_classes": 3, "num_segments": 8})
    save_weights(WORK / "start.safetensors", {k: torch.from_numpy(v) for k, v in start.items()}, passport)
    words = [*RECOGNIZER, "--data", WORK / "clips"]
    final = _run_and_resume("recognizer", words, RECOGNIZER_STOPS, first=("--init", WORK / "start.safetensors"))
    printed = run("predict", WORK / "recognizer/last.safetensors", WORK / "clips", "--json", "--topk", 3)
    scores = {
        "/".join(Path(video["source"]).parts[-2:]): {each["class"]: each["score"] for each in video["predictions"]}
        for video in json.loads(printed)["predictions"]
    }
    trained = [k for k, v in final.items() if not np.array_equal(v, start[k])]
    files = {}
    for path in (WORK / "recognizer").glob("*.safetensors"):
        data = path.read_bytes()
        own = {k: v for k, v in tensors_of(path).items() if k in trained}
        assert rebuild(read_header(data), own) == data
        files[path.name] = sha256(data).hexdigest()
        path.with_suffix(".header").write_bytes(read_header(data))
        save_file(own, path.with_suffix(".trained"))
        path.unlink()
    _keep("recognizer", {k: final[k] for k in trained})
    return {"scores": scores, "recognizer": {"sha256": digest(final), "trained": trained, "files": files}}


def _bmn() -> dict:
    final = _run_and_resume("bmn", [*BMN, "--data", WORK / "long"], BMN_STOPS)
    line = ["localize", WORK / "bmn/last.safetensors", WORK / "long/features", "--gt", WORK / "long/annotations.json"]
    found = json.loads(run(*line, "--no-names", "--json"))["videos"]
    segments = {Path(v["source"]).stem: [[s["start_s"], s["end_s"], s["score"]] for s in v["segments"]] for v in found}
    _keep("bmn", final)
    return {"bmn": {"sha256": digest(final)}, "segments": segments}


def _two() -> dict:
    final = _run_and_resume("two", [*TWO, "--data", WORK / "long"], TWO_STOP, processes=2)
    _keep("two", final)
    return {"two": {"sha256": digest(final)}}


def _recipes() -> None:
    """Every recipe as 0.1 writes it out: the first of each task, and where the others differ from it."""
    import yaml

    from clipwise.recipe import dump_recipe, list_recipes, load_recipe

    full = {name: yaml.safe_load(dump_recipe(load_recipe(name))) for name in list_recipes()}
    groups: dict = {}
    for task in ("recognition", "localization"):
        own = {name: recipe for name, recipe in full.items() if recipe["task"] == task}
        first = next(iter(own.values()))
        assert all(set(recipe) == set(first) for recipe in own.values())
        changes = {name: {k: v for k, v in recipe.items() if first[k] != v} for name, recipe in own.items()}
        groups[task] = {"first": first, "changes": changes}
    (HERE / "recipes.json").write_text(json.dumps(groups, indent=0, ensure_ascii=False))


if __name__ == "__main__":
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    if not (HERE / "clips").is_dir():
        _clips()
    write_long_data(WORK / "long")
    _recipes()
    facts = {"machine": machine(), **_recognizer(), **_bmn(), **_two()}
    (HERE / "expected.json").write_text(json.dumps(facts, indent=1))
