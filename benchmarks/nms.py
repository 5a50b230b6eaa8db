"""``clipwise.tasks.nms`` against plain loops with the rules of ActionFormer's and TriDet's suppression, on one thread.

    OMP_NUM_THREADS=1 python benchmarks/nms.py [--candidates 10000] [--classes 20] [--top-k 200] [--repeats 5]

Candidates are jittered copies of made-up actions of one video. Loops, all written here, class after class, everything kept until the
best ``--top-k`` of all classes are cut off at the end, as the references do:

  python  one pair of candidates at a time
  torch   one kept candidate at a time, its overlaps with the rest of its class by torch's vector operations
  C       one pair at a time, compiled (cc -O2): what a compiled extension does; left out where there is no compiler

All get the same candidates in turn in the same process; processor seconds, the median of the repeats (python: one). Kept candidates and
scores are compared with ours.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipwise.tasks.nms import nms

SIGMA, THRESHOLD, FLOOR, EPSILON = 0.5, 0.5, 0.001, 1e-6

# The best remaining candidate goes to place i, the others decay, those below the floor leave. kept: its place in the class's arrays.
C_LOOP = """
#include <math.h>
long soft(long n, const float *left, const float *right, float *score, long *order, float sigma, float threshold, float lowest, int gauss) {
  for (long i = 0; i < n; i++) {
    long best = i;
    for (long j = i + 1; j < n; j++) if (score[order[j]] > score[order[best]]) best = j;
    long chosen = order[best]; order[best] = order[i]; order[i] = chosen;
    float a = left[chosen], b = right[chosen], size = b - a + 1e-6f;
    for (long j = i + 1; j < n; ) {
      long k = order[j];
      float low = left[k] > a ? left[k] : a, high = right[k] < b ? right[k] : b;
      float both = high > low ? high - low : 0.f;
      float iou = both / (size + (right[k] - left[k] + 1e-6f) - both);
      if (gauss) score[k] *= expf(-(iou * iou) / sigma); else if (iou >= threshold) score[k] = 0.f;
      if (score[k] < lowest) order[j] = order[--n]; else j++;
    }
  }
  return n;
}
"""

Answer = tuple[np.ndarray, np.ndarray]
ClassLoop = Callable[[np.ndarray, np.ndarray, bool], Answer]


def python_class(boxes: np.ndarray, scores: np.ndarray, gaussian: bool) -> Answer:
    rest = [[a, b, s, i] for i, ((a, b), s) in enumerate(zip(boxes.tolist(), scores.tolist()))]
    kept = []
    while rest:
        best = max(rest, key=lambda r: r[2])
        kept.append(best)
        others = []
        for r in rest:
            if r is best:
                continue
            both = max(0.0, min(r[1], best[1]) - max(r[0], best[0]))
            iou = both / ((r[1] - r[0] + EPSILON) + (best[1] - best[0] + EPSILON) - both)
            if gaussian:
                r[2] *= math.exp(-iou * iou / SIGMA)
            elif iou >= THRESHOLD:
                r[2] = 0.0
            if r[2] >= FLOOR:
                others.append(r)
        rest = others
    return np.array([r[3] for r in kept], np.int64), np.array([r[2] for r in kept])


def torch_class(boxes: np.ndarray, scores: np.ndarray, gaussian: bool) -> Answer:
    rest, score = torch.from_numpy(boxes), torch.from_numpy(scores.copy())
    index = torch.arange(len(score))
    kept, values = [], []
    while len(score):
        best = int(score.argmax())
        kept.append(int(index[best]))
        values.append(float(score[best]))
        both = (torch.minimum(rest[:, 1], rest[best, 1]) - torch.maximum(rest[:, 0], rest[best, 0])).clamp(min=0)
        size = rest[:, 1] - rest[:, 0] + EPSILON
        iou = both / (size + size[best] - both)
        score = score * torch.exp(-(iou**2) / SIGMA) if gaussian else score * (iou < THRESHOLD)
        stay = score >= FLOOR
        stay[best] = False
        rest, score, index = rest[stay], score[stay], index[stay]
    return np.array(kept, np.int64), np.array(values)


def compiled_class(folder: str) -> ClassLoop | None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source, library = Path(folder) / "loop.c", Path(folder) / "loop.so"
    source.write_text(C_LOOP)
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(source), "-o", str(library), "-lm"], check=True)
    soft = ctypes.CDLL(str(library)).soft
    soft.restype = ctypes.c_long

    def run(boxes: np.ndarray, scores: np.ndarray, gaussian: bool) -> Answer:
        left, right, score = boxes[:, 0].copy(), boxes[:, 1].copy(), scores.copy()
        order = np.arange(len(score))
        floats = [ctypes.c_float(v) for v in (SIGMA, THRESHOLD, FLOOR)]
        arrays = [ctypes.c_void_p(x.ctypes.data) for x in (left, right, score, order)]
        kept = soft(ctypes.c_long(len(score)), *arrays, *floats, ctypes.c_int(gaussian))
        return order[:kept], score[order[:kept]]

    return run


def all_classes(loop: ClassLoop, boxes: Any, scores: Any, labels: Any, gaussian: bool, top_k: int) -> Answer:
    kept, values = [], []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        index, score = loop(boxes[members], scores[members], gaussian)
        kept.append(members[index])
        values.append(score)
    index, score = np.concatenate(kept), np.concatenate(values)
    order = np.argsort(-score, kind="stable")[:top_k]
    return index[order], score[order]


def candidates(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A video of 2,304 positions with 60 actions; each candidate is one of them, shifted and stretched."""
    rng = np.random.default_rng(seed)
    start, length = rng.uniform(0, 2200, 60), rng.uniform(4, 100, 60)
    which = rng.integers(0, 60, count)
    shift = rng.normal(0, 0.4, (count, 2)) * length[which, None]
    boxes = np.sort(np.stack([start[which], start[which] + length[which]], 1) + shift, 1).astype(np.float32)
    return boxes, rng.beta(1, 4, count).clip(0.001).astype(np.float32), rng.integers(0, classes, count)


def seconds(function: Callable[..., Any], *args: Any, **options: Any) -> tuple[float, Any]:
    start = time.process_time()
    answer = function(*args, **options)
    return time.process_time() - start, answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--top-k", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{args.candidates:,} candidates, the best {args.top_k} kept; milliseconds of one thread (times ours)")
    with tempfile.TemporaryDirectory() as folder:
        loops: dict[str, ClassLoop | None] = {
            "python": python_class,
            "torch": torch_class,
            "C": compiled_class(folder),
        }
        print(f"{'':34}{'clipwise':>12}" + "".join(f"{name:>22}" for name, loop in loops.items() if loop))
        for method in ("gaussian", "vanilla"):
            for classes in (args.classes, 1):
                boxes, scores, labels = candidates(args.candidates, classes)
                options: dict[str, Any] = dict(sigma=SIGMA, threshold=THRESHOLD, min_score=FLOOR, top_k=args.top_k)
                times: dict[str, list[float]] = {"clipwise": []}
                for repeat in range(args.repeats):
                    spent, ours = seconds(nms, boxes, scores, labels, method=method, **options)
                    times["clipwise"].append(spent)
                    for name, loop in loops.items():
                        if loop is None or (name == "python" and repeat):
                            continue
                        spent, (index, score) = seconds(
                            all_classes, loop, boxes, scores, labels, method == "gaussian", args.top_k
                        )
                        times.setdefault(name, []).append(spent)
                        # of candidates whose scores agree to the last digit, another may come first
                        assert len(set(index.tolist()) ^ set(ours.indices.tolist())) <= 2, (name, method)
                        np.testing.assert_allclose(score, ours.scores, rtol=1e-4)
                middle = {name: 1000 * statistics.median(values) for name, values in times.items()}
                line = f"{method + f', {classes} class' + 'es' * (classes > 1):34}{middle['clipwise']:12.2f}"
                for name in list(middle)[1:]:
                    line += f"{middle[name]:13.1f} ({middle[name] / middle['clipwise']:5.1f})"
                print(line, flush=True)


if __name__ == "__main__":
    main()
