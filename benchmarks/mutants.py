"""Does the test suite notice planted bugs?

    python benchmarks/mutants.py [--only WORD] [--list] [--suite]

Each mutant changes one place of a copy of the source, found by its text wherever it stands, and runs the tests named with it
(``--suite``: all tests of the default suite). A mutant that every test survives is a hole; one whose text is not in the source
any more is reported as stale. The exit code is 0 if at least 95 % were caught.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
ORACLES = "tests/engine/test_oracles.py"
CURVES = "tests/parity/test_loss_curves.py"
PARTS = "tests/engine/test_parts.py"
MODERN = "tests/engine/test_modern.py"
SAMPLING = "tests/unit/test_sampling.py"
TRANSFORMS = "tests/unit/test_transforms.py"
AUGMENT = "tests/unit/test_augment.py"
BLOCKS = "tests/parity/test_recognition_blocks.py"
GOLDEN = "tests/parity/test_recognition_golden.py"
BMN = "tests/parity/test_bmn.py"
PROPOSALS = "tests/unit/test_localization.py"
METRICS = "tests/unit/test_metrics.py"
TRAINING = "tests/e2e/test_training.py"
LOCALIZE = "tests/e2e/test_localization.py"
FUSION = "tests/unit/test_fusion.py"
STREAM = "tests/unit/test_stream.py"


class Mutant(NamedTuple):
    what: str
    old: str
    new: str
    tests: tuple[str, ...]


M = Mutant
MUTANTS = [
    # the eleven that once survived
    M(
        "stacked flow: channels before fields",
        "frames = frames.transpose(2, 0, 3, 4, 1, 5).reshape(-1, self.num_segments, h, w, self.clip_len * channels)",
        "frames = frames.transpose(2, 0, 3, 4, 5, 1).reshape(-1, self.num_segments, h, w, self.clip_len * channels)",
        (ORACLES,),
    ),
    M(
        "the same augmentation in every epoch",
        "rng = np.random.default_rng((self.seed, epoch, key[1], attempt))",
        "rng = np.random.default_rng((self.seed, 0, key[1], attempt))",
        (ORACLES, CURVES),
    ),
    M("accumulation not divided", "accelerator.backward(loss / accumulate)", "accelerator.backward(loss)", (ORACLES,)),
    M(
        "learning rate one step late",
        "lr = self.schedule.set(self.network.optimizer, self.step)",
        "lr = self.schedule.set(self.network.optimizer, max(self.step - 1, 0))",
        (ORACLES, CURVES),
    ),
    M("best is the worst", "figures[key] >= self.best[key]", "figures[key] <= self.best[key]", (ORACLES,)),
    M(
        "decay of the average flipped",
        "decay = min(self.decay, (1 + steps) / (10 + steps)) if self.ramp else self.decay",
        "decay = 1 - min(self.decay, (1 + steps) / (10 + steps)) if self.ramp else self.decay",
        (ORACLES,),
    ),
    M(
        "raw weights validated instead of the average",
        "yield self.bare if self.average is None else self.average.module",
        "yield self.bare",
        (ORACLES,),
    ),
    M("grad_clip ignored", "grad_clip) if grad_clip else None", "grad_clip) if False else None", (ORACLES,)),
    M("half of the data held out", "share: float = 0.2", "share: float = 0.5", (ORACLES, TRAINING)),
    M(
        "feature windows half a stride late",
        "starts = np.floor(centers - self.window / 2)",
        "starts = np.floor(centers - self.window / 2 + self.rule.stride / 2)",
        (ORACLES,),
    ),
    M(
        "label smoothing ignored",
        "F.cross_entropy(logits, labels, label_smoothing=label_smoothing)",
        "F.cross_entropy(logits, labels)",
        (ORACLES, CURVES),
    ),
    # sampling
    M("train clips start one early", "free = num_frames - span + 1", "free = num_frames - span", (SAMPLING,)),
    M("loop becomes clamp", "return (frames % num_frames).astype", "return np.minimum(frames, num_frames - 1).astype", (SAMPLING,)),
    M("test clips at the begin", "starts = (begins + part / 2).astype(np.int64)", "starts = begins.astype(np.int64)", (SAMPLING,)),
    M("1.x clips truncate", "np.round(np.arange(total) * step)", "np.floor(np.arange(total) * step)", (SAMPLING,)),
    M("dense windows from 0", "np.linspace(0, positions - 1, num_sample_positions)", "np.linspace(0, positions, num_sample_positions)", (SAMPLING,)),
    M("dense step", "steps = np.arange(num_clips) * (sample_range // num_clips)", "steps = np.arange(num_clips) * (sample_range // num_clips + 1)", (SAMPLING,)),
    M("repeat_last repeats the first", "last_valid = np.where(valid, frames, 0).max(axis=1, keepdims=True)", "last_valid = np.where(valid, frames, 0).min(axis=1, keepdims=True)", (SAMPLING,)),
    M("twice-sampled halves swapped", "return np.concatenate([starts, begins.astype(np.int64)]) if twice else starts\n\n\ndef wrap", "return np.concatenate([begins.astype(np.int64), starts]) if twice else starts\n\n\ndef wrap", (SAMPLING,)),
    M("paddle centers as mp4", "(part - (segment_len if source == \"pkl\" else 1)) // 2", "(part - 1) // 2", (SAMPLING,)),
    # geometry
    M("resize rounds down", "return int(height * factor + 0.5), int(width * factor + 0.5)", "return int(height * factor), int(width * factor)", (TRANSFORMS,)),
    M("area of crops", "areas = rng.uniform(*area_range, 10) * (height * width)", "areas = rng.uniform(*area_range, 10) * (height * height)", (TRANSFORMS,)),
    M("aspect inverted", "widths = np.round(np.sqrt(areas * ratios)).astype(int)", "widths = np.round(np.sqrt(areas / ratios)).astype(int)", (TRANSFORMS,)),
    M("three crops in another order", "for k in (0, 2, 1)]", "for k in (0, 1, 2)]", (TRANSFORMS,)),
    M("center crop rounds up", "if paddle else rest // 2", "if paddle else -(-rest // 2)", (TRANSFORMS,)),
    M("scale gap", "if abs(i - j) <= max_scale_gap", "if abs(i - j) < max_scale_gap", (TRANSFORMS,)),
    M("corner grid", "grid = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)]", "grid = [(0, 0), (4, 0), (0, 4), (4, 4), (1, 1)]", (TRANSFORMS,)),
    # losses and scores
    M("softmax after the mean", "return activate(logits, activation).mean(1)", "return activate(logits.mean(1), activation)", ("tests/unit/test_logits.py",)),
    M("distillation without T²", 'reduction="batchmean", log_target=True) * temperature**2', 'reduction="batchmean", log_target=True)', (MODERN,)),
    M("distillation mirrored", "F.kl_div(student, target,", "F.kl_div(target, student,", ("tests/unit/test_logits.py",)),
    M("top-k one more", "float((rank < k).sum() / len(rank))", "float((rank <= k).sum() / len(rank))", (METRICS,)),
    M("confusion transposed", "counts = np.bincount(real * side + pred,", "counts = np.bincount(pred * side + real,", (METRICS,)),
    M("AP ignores ties", "last_of_tie[:, :-1] = scores[:, :-1] != scores[:, 1:]", "last_of_tie[:, :-1] = True", (METRICS,)),
    M("precision one off", "precision = hits / np.arange(1, scores.shape[1] + 1)", "precision = hits / np.arange(2, scores.shape[1] + 2)", (METRICS,)),
    # networks
    M("shift the other way", "first, second = (previous, following) if self.reverse else (following, previous)\n        shifted", "first, second = (following, previous) if self.reverse else (following, previous)\n        shifted", (BLOCKS, GOLDEN, "tests/parity/test_recognition_zoo.py")),
    M("shift one fold too many", "second[..., fold : 2 * fold], rows[..., 2 * fold :]", "second[..., fold : 3 * fold], rows[..., 3 * fold :]", (BLOCKS, GOLDEN)),
    M("non-local without scale", "self.scale = inner**-0.5 if use_scale else 1.0", "self.scale = 1.0", (BLOCKS, GOLDEN)),
    M("dot product not averaged", "y = query @ (key.transpose(1, 2) @ value) / key.shape[1]", "y = query @ (key.transpose(1, 2) @ value)", (BLOCKS, GOLDEN)),
    M("no ReLU after the sum", "x = F.relu(x + branch)", "x = x + branch", (BLOCKS, GOLDEN)),
    M("drop path not scaled", ".bernoulli_(keep) / keep", ".bernoulli_(keep)", (MODERN,)),
    M("inflation not divided", "return value.expand(-1, -1, time, -1) / time", "return value.expand(-1, -1, time, -1)", ("tests/parity/test_convert.py", BLOCKS, "tests/parity/test_recognition_init.py")),
    M("flow's first layer from one channel", "value = value.mean(1, keepdim=True)", "value = value[:, :1]", ("tests/parity/test_convert.py", BLOCKS)),
    # optimizer
    M("norms decay", 'not (norm or name.endswith("bias")', 'not (name.endswith("bias")', (MODERN, PARTS, CURVES)),
    M("TSM's classifier ×1", "factors, decays = [1, 2, 1, 2, 1, 5, 10]", "factors, decays = [1, 2, 1, 2, 1, 1, 2]", (GOLDEN, PARTS, CURVES, "tests/unit/test_recipes.py")),
    M("cosine ends at half", "math.cos(math.pi * min(epoch / epochs, 1))", "math.cos(math.pi * min(epoch / epochs, 1) / 2)", (PARTS,)),
    M("milestone one epoch late", "sum(epoch >= m for m in", "sum(epoch > m for m in", (PARTS,)),
    M("nesterov dropped", "nesterov=more.nesterov", "nesterov=False", (CURVES, GOLDEN)),
    # BMN
    M("start weights half", "per_cell = torch.where(positive, 0.5 * ratio * log_positive,", "per_cell = torch.where(positive, 0.25 * ratio * log_positive,", (PROPOSALS, BMN)),
    M("IoU above is high", "high = (iou > thresholds[0]) & cells", "high = (iou > thresholds[1]) & cells", (PROPOSALS, BMN)),
    M("end score one position off", 'read_behind = convention in ("mmaction2", "jjboy")', 'read_behind = convention not in ("mmaction2", "jjboy")', (PROPOSALS,)),
    M("regression left out of the score", "* kind[:, 1] * kind[:, 0]", "* kind[:, 1]", (PROPOSALS,)),
    M("soft-NMS decays by IoU", "np.exp(-np.square(inter.ravel()[close]) / options.alpha)", "np.exp(-inter.ravel()[close] / options.alpha)", (PROPOSALS,)),
    M("soft-NMS threshold flat", "close = np.flatnonzero(inter > options.low + (options.high - options.low) * w)", "close = np.flatnonzero(inter > options.low + 0 * w)", (PROPOSALS,)),
    M("peaks: half becomes all", "peak |= curve > 0.5 * curve.amax", "peak |= curve > 0.9 * curve.amax", (PROPOSALS,)),
    M("durations not used", "return Proposals(found.segments * durations[:, None, None], found.scores, found.count)", "return found", (PROPOSALS, LOCALIZE)),
    # detection metrics
    M("IoU over the hull", "return inter / ((a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - inter)", "return inter / ((a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]))", (METRICS,)),
    M("recall counts equal ranks", "recall = np.stack([(row[:, None] < allowed[video_of_box]).sum(0) for row in first])", "recall = np.stack([(row[:, None] <= allowed[video_of_box]).sum(0) for row in first])", (METRICS,)),
    M("mAP over one overlap", "return DetectionMAP(float(per_tiou.mean()), per_tiou", "return DetectionMAP(float(per_tiou[0]), per_tiou", (METRICS,)),
    M("snippets of 16 frames ignored", "return self.feature_frames / self.num_frames * self.duration_s", "return self.duration_s", ("tests/unit/test_features.py",)),
    # the loader
    M("epochs in the same order", "rng = np.random.default_rng((self.seed, epoch))", "rng = np.random.default_rng((self.seed, 0))", (ORACLES, CURVES, PARTS, TRAINING)),
    M("resume at the epoch's start", "for batch in range(self.start, len(self)):", "for batch in range(0, len(self)):", (TRAINING,)),
    M("ranks take blocks", "for i in part[self.rank :: self.world]]", "for i in part[: len(part) // self.world]]", (PARTS, "tests/dist")),
    M("each process scores all", "self.indices = range(rank, num_samples, world)", "self.indices = range(0, num_samples, world)", (PARTS, "tests/dist")),
    # the engine
    M("statistics not averaged", "mean += layer.running_mean", "mean = layer.running_mean", (PARTS,)),
    M("class balance inverted", "of_class = np.where(counts > 0, share**class_power, 0.0)", "of_class = np.where(counts > 0, share ** (1 - class_power), 0.0)", (PARTS,)),
    # augmentation
    M("mixup keeps the labels", "return share * clips + (1 - share) * clips[other], share * soft + (1 - share) * soft[other]", "return share * clips + (1 - share) * clips[other], soft", (AUGMENT,)),
    M("contrast about zero", "other = other.mean((-3, -2), keepdim=True)", "other = other.mean((-3, -2), keepdim=True) * 0", (AUGMENT,)),
    M("hue turned twice", "turns = torch.as_tensor((rng.uniform(-hue, hue, count) * 255).astype(np.int32))", "turns = torch.as_tensor((rng.uniform(-hue, hue, count) * 510).astype(np.int32))", (AUGMENT,)),
    # normalization, views
    M("not divided by the deviation", "pixels.div_(spread)", "pixels", (TRANSFORMS, GOLDEN)),
]  # fmt: skip


def place(mutant: Mutant, source: Path) -> tuple[Path, str] | None:
    """The file that holds the mutant's text, and its content; None if no file or more than one place does."""
    found = [(p, t) for p in sorted(source.rglob("*.py")) if mutant.old in (t := p.read_text(encoding="utf-8"))]
    if len(found) != 1 or found[0][1].count(mutant.old) != 1:
        return None
    return found[0]


def run(mutant: Mutant, tests: list[str]) -> tuple[str, float]:
    """``caught``, ``SURVIVED`` or ``stale``, and seconds."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        found = place(mutant, source)
        if found is None:
            return "stale", 0.0
        path, text = found
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        known = [t for t in tests if (ROOT / t).exists()]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", *known],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
    if done.returncode not in (0, 1):
        sys.exit(f"pytest could not run for {mutant.what!r}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return ("caught" if done.returncode == 1 else "SURVIVED"), time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="mutants whose description holds this word")
    parser.add_argument("--list", action="store_true", help="list the mutants and whether their text is found")
    parser.add_argument("--suite", action="store_true", help="run the whole default suite for each")
    args = parser.parse_args()
    chosen = [m for m in MUTANTS if not args.only or args.only in m.what]
    results: dict[str, int] = {}
    for mutant in chosen:
        if args.list:
            result, seconds = ("found" if place(mutant, ROOT / "src") else "stale"), 0.0
        else:
            result, seconds = run(mutant, ["tests"] if args.suite else list(mutant.tests))
        results[result] = results.get(result, 0) + 1
        print(f"{result:9s} {seconds:5.0f} s  {mutant.what}", flush=True)
    print(", ".join(f"{count} {result}" for result, count in sorted(results.items())))
    caught = results.get("caught", 0) + results.get("found", 0)
    return 0 if caught >= 0.95 * len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
