"""The first 20 training losses of five recipes, as text files beside this script.

    python tests/golden/loss_curves.py FOLDER [CLIPS]      train (on CLIPS) and write FOLDER/NAME.txt

The committed files were written by version 0.1 (commit 85c590f) on the clips that the test makes, so a version that trains
otherwise shows.
"""

import json
import sys
from pathlib import Path

import numpy as np

STEPS = 20
COMMON = ["epochs=5", "warmup_epochs=1", "log_every=1", "num_workers=0", "amp=no", "seed=3"]
SMALL = ["batch_size=6", "train_resize=[46, 36]", "crop_size=[40, 32]", "lr=0.001"]
RECIPES = {
    "tsm": ("tsm_tiny", [*SMALL, "param_groups=tsm", "optimizer=sgd", "lr=0.002", "flip=0.5"]),
    "slowonly": ("slowonly_tiny", [*SMALL, "accumulate=1", "train_crop=random_resized"]),
    "tpn": ("tsm_tiny", [*SMALL, "model=tpn_tsm_tiny", "optimizer=sgd", "lr=0.002", "nesterov=true"]),
    "modern": (
        "slowonly_tiny",
        [*SMALL, "label_smoothing=0.1", "ema_decay=0.9", "mixup=0.2", "model_args.drop_path=0.1", "layer_decay=0.8"],
    ),
    "bmn": (
        "bmn_tiny",
        # the network of 0.1's bmn_tiny, and whole videos
        [
            "model_args={max_duration: 16, hidden_dim: 64, matching_dim: 48, map_dim: 24, num_samples: 16}",
            "window_s=null",
            "bmn.proposals=paddle",
            "temporal_dim=32",
            "batch_size=3",
            "lr=0.002",
            "weight_decay=0.01",
        ],
    ),
}


def write_features(folder: Path) -> Path:
    """Twelve videos whose features rise inside the one segment; annotations in ActivityNet's form."""
    (folder / "features").mkdir(parents=True)
    database = {}
    for number in range(14):
        rng = np.random.default_rng(number)
        rows = rng.normal(size=(60, 24)).astype(np.float32)
        start, length = int(rng.integers(5, 25)), int(rng.integers(10, 30))
        rows[start : start + length, :8] += 2
        np.save(folder / "features" / f"v_{number}.npy", rows)
        database[f"v_{number}"] = {
            "duration": 60.0,
            "subset": "training" if number < 12 else "validation",
            "annotations": [{"segment": [float(start), float(start + length)], "label": "rise"}],
        }
    (folder / "annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")
    return folder


def losses(name: str, clips: Path, features: Path, folder: Path) -> list[float]:
    """The losses of the first steps, from the run's log."""
    from clipwise.engine.train import train
    from clipwise.recipe import load_recipe

    recipe, words = RECIPES[name]
    data = features if name == "bmn" else clips
    train(
        load_recipe(recipe, [*COMMON, *words]),
        data=str(data),
        work_dir=folder,
        validate=False,
        max_steps=STEPS,
        quiet=True,
    )
    lines = map(json.loads, (folder / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["loss"] for line in lines if line.get("mode") == "train"]


def make_data(folder: Path) -> Path:
    """24 training clips in six classes."""
    from clipwise.prepare.synthetic import make_clips

    return make_clips(folder, train_per_class=4, val_per_class=1, seed=11)


def main() -> None:
    import tempfile

    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        clips = Path(sys.argv[2]) if len(sys.argv) > 2 else make_data(Path(scratch) / "clips")
        features = write_features(Path(scratch) / "features")
        for name in RECIPES:
            values = losses(name, clips, features, Path(scratch) / name)
            (out / f"{name}.txt").write_text("".join(f"{v:.7g}\n" for v in values), encoding="utf-8")


if __name__ == "__main__":
    main()
