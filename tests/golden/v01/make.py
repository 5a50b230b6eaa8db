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


def run(*words: object) -> str:
    """What a command prints; on one thread, for sums over several come out otherwise."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "clipwise", *map(str, words)], capture_output=True, text=True, env=environment
    )
    assert done.returncode in (0, 130), done.stderr
    return done.stdout


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def digest(tensors: dict[str, np.ndarray]) -> str:
    return sha256(b"".join(tensors[key].tobytes() for key in sorted(tensors))).hexdigest()


def _make() -> None:
    import torch
    import yaml
    from clipwise.data.synthetic import draw_action, write_video
    from safetensors.numpy import save_file

    import clipwise
    from clipwise.engine.checkpoint import Passport, save_weights
    from clipwise.recipe import dump_recipe, list_recipes, load_recipe

    if not (HERE / "clips").is_dir():
        for label, name in enumerate(CLASSES):
            (HERE / "clips" / name).mkdir(parents=True)
            for n in range(6):
                frames = draw_action(name, 14 + n, np.random.default_rng((label, n)))
                write_video(HERE / "clips" / name / f"{n}.mp4", frames)
    expected: dict = {"machine": machine(), "made_with": clipwise.__version__}
    work = Path(tempfile.gettempdir()) / "v01"  # paths of the run are in its files
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    # a recognizer
    model = clipwise.create_model("tsm_tiny", num_classes=len(CLASSES))
    start = {
        k: torch.from_numpy(filling(k, tuple(v.shape), "I64" if v.dtype == torch.int64 else "F32"))
        for k, v in model.state_dict().items()
    }
    save_weights(work / "start.safetensors", start, Passport("tsm_tiny", {"num_classes": 3, "num_segments": 8}))
    shutil.copytree(HERE / "clips", work / "clips")
    line = ["train", *RECOGNIZER, "--data", work / "clips", "--init", work / "start.safetensors", "--work-dir"]
    kept = work / "recognizer"
    run(*line, kept, "--max-steps", RECOGNIZER_STOPS)
    scores = json.loads(run("predict", kept / "last.safetensors", work / "clips", "--json", "--topk", 3))["predictions"]
    expected["scores"] = {
        f"{Path(v['source']).parent.name}/{Path(v['source']).name}": {p["class"]: p["score"] for p in v["predictions"]}
        for v in scores
    }
    shutil.copytree(kept, work / "resumed")
    run("train", *RECOGNIZER, "--data", work / "clips", "--work-dir", work / "resumed", "--resume")
    run(*line, work / "whole")
    final = tensors_of(work / "resumed/last.safetensors")
    assert digest(final) == digest(tensors_of(work / "whole/last.safetensors"))
    trained = [k for k, v in final.items() if not np.array_equal(v, start[k].numpy())]
    expected["recognizer"] = {"sha256": digest(final), "trained": trained, "files": {}}
    save_file({k: final[k] for k in trained}, HERE / "recognizer_final.safetensors")
    for path in kept.glob("*.safetensors"):
        data = path.read_bytes()
        own = {k: v for k, v in tensors_of(path).items() if k in trained}
        assert rebuild(read_header(data), own) == data
        expected["recognizer"]["files"][path.name] = sha256(data).hexdigest()
        path.with_suffix(".header").write_bytes(read_header(data))
        save_file(own, path.with_suffix(".trained"))
        path.unlink()
    # a BMN
    write_long_data(work / "long")
    kept = work / "bmn"
    run("train", *BMN, "--data", work / "long", "--work-dir", kept, "--max-steps", BMN_STOPS)
    shutil.copytree(kept, work / "bmn_resumed")
    run("train", *BMN, "--data", work / "long", "--work-dir", work / "bmn_resumed", "--resume")
    run("train", *BMN, "--data", work / "long", "--work-dir", work / "bmn_whole")
    final = tensors_of(work / "bmn_resumed/last.safetensors")
    assert digest(final) == digest(tensors_of(work / "bmn_whole/last.safetensors"))
    expected["bmn"] = {"sha256": digest(final)}
    save_file(final, HERE / "bmn_final.safetensors")
    found = json.loads(
        run(
            "localize",
            kept / "last.safetensors",
            work / "long/features",
            "--gt",
            work / "long/annotations.json",
            "--no-names",
            "--json",
        )
    )["videos"]
    expected["segments"] = {
        Path(v["source"]).stem: [[s["start_s"], s["end_s"], s["score"]] for s in v["segments"]] for v in found
    }
    # every recipe as 0.1 writes it out
    full = {name: yaml.safe_load(dump_recipe(load_recipe(name))) for name in list_recipes()}
    groups: dict = {}
    for task in ("recognition", "localization"):
        own = {name: recipe for name, recipe in full.items() if recipe["task"] == task}
        first = next(iter(own.values()))
        groups[task] = {
            "first": first,
            "changes": {
                name: {k: v for k, v in recipe.items() if k not in first or first[k] != v}
                for name, recipe in own.items()
            },
        }
        assert all(set(recipe) == set(first) for recipe in own.values())
    (HERE / "recipes.json").write_text(json.dumps(groups, indent=0, ensure_ascii=False))
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1))
    for name in ("recognizer", "bmn"):
        shutil.rmtree(HERE / name, ignore_errors=True)
        shutil.copytree(work / name, HERE / name, ignore=shutil.ignore_patterns("report.html"))


if __name__ == "__main__":
    _make()
