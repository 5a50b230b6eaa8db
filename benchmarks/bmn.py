"""BMN against the dense formulation, and its post-processing against plain loops, in one run.

    python benchmarks/bmn.py layer network memory proposals evaluation [--threads 1] [--batch 1 4 16] [--repeat 3]

Both sides are checked to give the same numbers before they are timed. Times are the least of the repetitions, of the
process's CPU time (which other programs on the machine disturb least) and of the clock. The dense formulation keeps
0.3 GB a sample for the forward pass alone, so batches above --dense-chunk are run through it in parts, one after the
other, as gradient accumulation would.
"""

import argparse
import ctypes
import functools
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipwise.convert.bmn_layouts import sample_mask
from clipwise.models.bmn import BMN, bmn
from clipwise.models.boundary_matching import BoundaryMatching
from clipwise.tasks.bmn_targets import bmn_loss, bmn_targets
from clipwise.tasks.metrics import average_recall_at_avg_proposals, detection_map
from clipwise.tasks.proposals import generate_proposals

TIOU = np.linspace(0.5, 0.95, 10)


# ------------------------------------------------------------------------------------------------ dense formulation


class DenseMatching(nn.Module):
    """f @ mask, then a (32, 1, 1) convolution: (B, C, L) -> (B, O, D, L)."""

    def __init__(self, layer: BoundaryMatching):
        super().__init__()
        self.register_buffer(
            "mask", sample_mask(layer.temporal_dim, layer.max_duration, layer.num_samples, "mmaction2")
        )
        self.weight = nn.Parameter(layer.weight.detach().permute(2, 0, 1)[..., None, None].contiguous())
        self.bias = nn.Parameter(layer.bias.detach().clone())

    def forward(self, features: Tensor) -> Tensor:
        batch, channels, length = features.shape
        samples = torch.matmul(features, self.mask).view(batch, channels, self.weight.shape[2], -1, length)
        return F.conv3d(samples, self.weight, self.bias).squeeze(2)


class DenseBMN(nn.Module):
    """The whole network as the references write it."""

    def __init__(self, model: BMN):
        super().__init__()
        self.base, self.start, self.end = model.base, model.start, model.end
        part = model.proposal
        self.reduce, self.matching = part.reduce, DenseMatching(part.matching)
        self.squeeze = nn.Conv2d(part.squeeze.in_features, part.squeeze.out_features, 1)
        with torch.no_grad():
            self.squeeze.weight.copy_(part.squeeze.weight[..., None, None])
            self.squeeze.bias.copy_(part.squeeze.bias)
        self.conv1, self.conv2, self.score = part.conv1, part.conv2, part.score

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.base(features)
        grid = F.relu(self.squeeze(F.relu(self.matching(F.relu(self.reduce(hidden))))))
        grid = F.relu(self.conv2(F.relu(self.conv1(grid))))
        return torch.sigmoid(self.score(grid)), self.start(hidden), self.end(hidden)


def make(what: str, which: str) -> tuple[nn.Module, int]:
    """Layer or network, ours or dense, and how many channels it takes."""
    torch.manual_seed(0)
    if what == "layer":
        layer = BoundaryMatching()
        return (layer if which == "ours" else DenseMatching(layer)), 256
    model = bmn()
    return (model if which == "ours" else DenseBMN(model)), 400


def forward(model: nn.Module, what: str, x: Tensor) -> None:
    model.eval()
    with torch.no_grad():
        model(x)


def train_step(model: nn.Module, what: str, x: Tensor, optimizer: torch.optim.Optimizer | None, chunk: int) -> None:
    """Forward, loss, backward and the optimizer's step, if there is one. The layer alone: forward, and backward of noise."""
    model.train()
    model.zero_grad(set_to_none=True)
    for part in x.split(chunk):
        if what == "layer":
            y = model(part.clone().requires_grad_())
            y.backward(upstream(y.shape))
        else:
            boxes = [[[0.1, 0.35], [0.5, 0.92]]] * len(part)
            bmn_loss(*model(part), bmn_targets(boxes))["loss"].backward()
    if optimizer is not None:
        optimizer.step()


@functools.cache
def upstream(shape: torch.Size) -> Tensor:
    """What the layer's backward is given; made once, so that no timed call makes it."""
    return torch.randn(shape)


def check_same(what: str) -> None:
    (ours, channels), (dense, _) = make(what, "ours"), make(what, "dense")
    torch.manual_seed(1)
    x = torch.randn(1, channels, 100)
    with torch.no_grad():
        a, b = ours.eval()(x), dense.eval()(x)
    if what == "layer":
        b = b.flatten(2)[:, :, ours.operator.cell].transpose(1, 2)  # type: ignore[union-attr]
        a, b = (a,), (b,)
    for p, q in zip(a, b):
        torch.testing.assert_close(p, q, atol=2e-6, rtol=1e-5)


def best_times(call, repeat: int) -> tuple[float, float]:
    """Least CPU and clock time in seconds."""
    cpu, clock = [], []
    for _ in range(repeat):
        c, t = time.process_time(), time.perf_counter()
        call()
        cpu.append(time.process_time() - c)
        clock.append(time.perf_counter() - t)
    return min(cpu), min(clock)


def speed(what: str, args: argparse.Namespace) -> None:
    check_same(what)
    print(f"\n{what}, C = 256, L = D = 100, {args.threads} thread(s): ms of CPU time (clock)")
    for batch in args.batch:
        torch.manual_seed(1)
        for mode in ("forward", "forward, valid", "training step"):
            if what == "layer" and mode == "forward, valid":
                continue
            if mode != "forward, valid":  # the dense formulation has one forward pass only
                result = {}
            for which in ("dense", "ours"):
                if which in result and which == "dense":
                    continue
                model, channels = make(what, which)
                if mode == "forward, valid" and which == "ours":
                    model.proposal.map_cells = "valid"
                x = torch.randn(batch, channels, 100)
                optimizer = torch.optim.Adam(model.parameters(), 1e-3) if what == "network" else None
                chunk = min(batch, args.dense_chunk) if which == "dense" else batch

                def call(model=model, x=x, optimizer=optimizer, chunk=chunk, mode=mode):
                    if mode.startswith("forward"):
                        for part in x.split(chunk):
                            forward(model, what, part)
                    else:
                        train_step(model, what, x, optimizer, chunk)

                call() if which == "ours" or batch <= args.dense_chunk else call(x=x[: args.dense_chunk])  # warm up
                repeat = args.repeat * 3 if which == "ours" else max(1, args.repeat // (1 + batch // 4))
                result[which] = best_times(call, repeat)
            (dense_cpu, dense_clock), (cpu, clock) = result["dense"], result["ours"]
            note = f"; dense in parts of {args.dense_chunk}" if batch > args.dense_chunk else ""
            print(
                f"  batch {batch:2d} {mode:14s} dense {dense_cpu * 1e3:9.1f} ({dense_clock * 1e3:9.1f})  "
                f"ours {cpu * 1e3:8.1f} ({clock * 1e3:8.1f})  {dense_cpu / cpu:6.1f}x ({dense_clock / clock:.1f}x){note}",
                flush=True,
            )


# ------------------------------------------------------------------------------------------------ memory


def peak_of(what: str, which: str, batch: int, mode: str) -> float:
    """MiB above the level before the call; run in a process of its own."""

    def status(name: str) -> float:
        line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(name))
        return int(line.split()[1]) / 1024

    small = bmn(
        8, 8, hidden_dim=8, matching_dim=8, map_dim=8
    )  # loads the libraries' code, which is no part of the memory of a step
    bmn_loss(*small(torch.randn(1, 8, 8)), bmn_targets([[[0.1, 0.5]]], 8))["loss"].backward()
    model, channels = make(what, which)
    x = torch.randn(batch, channels, 100)
    ctypes.CDLL(None).malloc_trim(0)  # what building the network left free would hide part of the peak
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = status("VmRSS")
    if mode == "forward":
        forward(model, what, x)
    else:
        train_step(model, what, x, None, batch)
    return status("VmHWM") - before


def memory(args: argparse.Namespace) -> None:
    print("\npeak memory above the start, MiB (constant operator of the dense form: 122 MiB more)")
    for what in ("layer", "network"):
        for mode in ("forward", "with backward"):
            for batch in args.batch:
                row = {}
                for which in ("dense", "ours"):
                    if which == "dense" and batch > args.dense_chunk:
                        continue
                    case = json.dumps([what, which, batch, mode])
                    done = subprocess.run(
                        [sys.executable, __file__, "--peak", case, "--threads", str(args.threads)],
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                    row[which] = float(done.stdout)
                dense = f"{row['dense']:8.0f}" if "dense" in row else " not run"
                ratio = f"{row['dense'] / row['ours']:6.1f}x" if "dense" in row else ""
                print(
                    f"  {what:8s} batch {batch:2d} {mode:13s} dense {dense}  ours {row['ours']:7.0f}  {ratio}",
                    flush=True,
                )


# ------------------------------------------------------------------------------------------------ proposals


def smooth_maps(num_videos: int, length: int = 100, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """conf (n, 2, s, e), start and end (n, L): smooth curves, and maps with a few good proposals."""
    rng = np.random.default_rng(seed)
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    noise = rng.standard_normal((2, num_videos, length + 12))
    curves = np.stack([[np.convolve(r, kernel / kernel.sum(), "valid") for r in c] for c in noise])
    start, end = (1 / (1 + np.exp(1 - 4 * curves))).astype(np.float32)
    i, j = np.arange(length)[:, None], np.arange(length)
    conf = np.empty((num_videos, 2, length, length), np.float32)
    for v in range(num_videos):
        best = np.zeros((length, length))
        for _ in range(3):
            a = rng.uniform(0, 0.8) * length
            b = a + rng.uniform(0.05, 0.9) * (length - a)
            inter = np.maximum(np.minimum(b, j + 1) - np.maximum(a, i), 0)
            best = np.maximum(best, inter / np.maximum((b - a) + (j + 1 - i) - inter, 1e-9))
        for c in range(2):
            conf[v, c] = np.clip(best ** (1 + c) + 0.05 * rng.standard_normal((length, length)), 0.001, 0.999)
    return conf, start, end


def loop_proposals(conf: np.ndarray, start: np.ndarray, end: np.ndarray, convention: str) -> np.ndarray:
    """One video, cell by cell and proposal by proposal: (n, 3) start, end, score."""
    length = len(start)
    is_start, is_end = np.zeros(length, bool), np.zeros(length, bool)
    is_start[0] = is_end[-1] = True
    for i in range(1, length - 1):
        for curve, flag in ((start, is_start), (end, is_end)):
            if (curve[i] > curve[i - 1] and curve[i] > curve[i + 1]) or curve[i] > 0.5 * curve.max():
                flag[i] = True
    rows = []
    for s in range(length):
        for e in range(s + 1, length):
            if convention == "jjboy" or (is_start[s] and is_end[e]):
                score = start[s] * end[e] * conf[1, s, e - 1] * conf[0, s, e - 1]
                rows.append([s / length, e / length, score])
    rows.sort(key=lambda r: -r[2])
    begin, stop, value = ([float(r[i]) for r in rows] for i in range(3))
    kept = []
    while value and len(kept) < 100:
        best = max(range(len(value)), key=value.__getitem__)
        b, t, v = begin.pop(best), stop.pop(best), value.pop(best)
        kept.append([b, t, v])
        for k in range(len(value)):
            inter = max(min(t, stop[k]) - max(b, begin[k]), 0)
            if convention == "jjboy":
                union = (stop[k] - begin[k]) - inter + t - b
            else:
                union = (t - b) - inter + stop[k] - begin[k]
            if inter / union > 0.5 + 0.4 * (t - b):
                value[k] *= np.exp(-np.square(inter / union) / 0.4)
    return np.array(kept)


def proposals(args: argparse.Namespace) -> None:
    conf, start, end = smooth_maps(args.videos)
    print(f"\ncandidates and soft-NMS of {args.videos} videos, L = D = 100: ms of CPU time a video")
    for convention in ("jjboy", "mmaction2"):
        c, t = time.process_time(), time.perf_counter()
        expected = [loop_proposals(*maps, convention) for maps in zip(conf, start, end)]
        loop = (time.process_time() - c, time.perf_counter() - t)

        def call(convention=convention):
            return generate_proposals(conf, start, end, convention=convention, layout="start_end")

        for (segments, scores), rows in zip(call(), expected):
            np.testing.assert_allclose(np.column_stack([segments, scores]), rows, rtol=1e-12)
        ours = best_times(call, args.repeat * 3)
        a, b = (x / args.videos * 1e3 for x in (loop[0], ours[0]))
        print(
            f"  {convention:9s} loop {a:7.2f}  ours {b:6.3f}  {a / b:6.1f}x (clock {loop[1] / ours[1]:.1f}x)",
            flush=True,
        )


# ------------------------------------------------------------------------------------------------ evaluation


def synthetic_results(num_videos: int, per_video: int, num_classes: int = 200, seed: int = 0) -> tuple[dict, dict]:
    """Ground truth of ActivityNet's size and jittered predictions, in ActivityNet's form."""
    rng = np.random.default_rng(seed)
    truth, predictions = {}, {}
    for v in range(num_videos):
        duration = rng.uniform(10, 230)
        count = 1 if rng.random() < 0.7 else int(rng.integers(2, 7))
        boxes = np.sort(rng.uniform(0, duration, (count, 2)), axis=1)
        label = f"class {rng.integers(num_classes)}"
        truth[f"v{v}"] = [{"segment": b, "label": label} for b in boxes.tolist()]
        pick = rng.integers(count, size=per_video)
        width = (boxes[pick, 1] - boxes[pick, 0])[:, None]
        moved = boxes[pick] + rng.standard_normal((per_video, 2)) * 0.5 * width * rng.random((per_video, 1))
        moved = np.sort(moved.clip(0, duration), axis=1)
        predictions[f"v{v}"] = [
            {"segment": b, "score": s, "label": label if u < 0.8 else f"class {int(u * 1e6) % num_classes}"}
            for b, s, u in zip(moved.tolist(), rng.random(per_video).tolist(), rng.random(per_video).tolist())
        ]
    return truth, predictions


def pair_iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    inter = (np.minimum(box[1], others[:, 1]) - np.maximum(box[0], others[:, 0])).clip(0)
    return inter / (others[:, 1] - others[:, 0] + box[1] - box[0] - inter)


def loop_average_recall(truth: dict, predictions: dict, max_avg: int = 100) -> tuple[np.ndarray, float]:
    """AR@AN as ActivityNet's script goes about it: video by video, overlap by overlap, number by number."""
    total = sum(len(p) for p in predictions.values())
    ratio = max_avg * len(truth) / total
    tables, kept_total = [], 0
    for video, actions in truth.items():
        rows = np.array([[*p["segment"], p["score"]] for p in predictions[video]])
        rows = rows[rows[:, 2].argsort()[::-1]]
        rows = rows[: min(int(len(rows) * ratio), len(rows))]
        kept_total += len(rows)
        tables.append(np.stack([pair_iou(np.array(a["segment"]), rows[:, :2]) for a in actions]))
    share = np.arange(1, max_avg + 1) / max_avg * (max_avg * len(truth) / kept_total)
    recall = np.zeros((len(TIOU), max_avg))
    for t, threshold in enumerate(TIOU):
        found, positives = np.zeros((len(tables), max_avg)), np.zeros(len(tables))
        for v, table in enumerate(tables):
            hits = table >= threshold
            positives[v] = len(table)
            for k in range(max_avg):
                n = min(int(table.shape[1] * share[k]), table.shape[1])
                found[v, k] = np.count_nonzero(hits[:, :n].sum(axis=1))
        recall[t] = found.sum(axis=0) / positives.sum()
    numbers = share * (kept_total / len(truth))
    average = recall.mean(axis=0)
    return recall, float(np.trapezoid(average, numbers) / numbers[-1] * 100)


def loop_detection_map(truth: dict, predictions: dict) -> np.ndarray:
    """mAP class by class, prediction by prediction, without tables."""
    labels = list(dict.fromkeys(a["label"] for actions in truth.values() for a in actions))
    by_class: dict[str, list] = {label: [] for label in labels}
    for video, rows in predictions.items():
        for p in rows:
            if p["label"] in by_class:
                by_class[p["label"]].append((p["score"], video, p["segment"]))
    truth_of: dict[str, dict[str, list]] = {label: {} for label in labels}
    for video, actions in truth.items():
        for a in actions:
            truth_of[a["label"]].setdefault(video, []).append(a["segment"])
    result = np.zeros((len(TIOU), len(labels)))
    for c, label in enumerate(labels):
        boxes = {v: np.array(segments) for v, segments in truth_of[label].items()}
        rows = by_class[label]
        order = np.array([r[0] for r in rows]).argsort()[::-1]
        hits = np.zeros((len(TIOU), len(rows)))
        used = {v: np.zeros((len(TIOU), len(b)), bool) for v, b in boxes.items()}
        for place, r in enumerate(order):
            _, video, segment = rows[r]
            if video not in boxes:
                continue
            iou = pair_iou(np.array(segment), boxes[video])
            for t, threshold in enumerate(TIOU):
                for j in iou.argsort()[::-1]:
                    if iou[j] < threshold:
                        break
                    if not used[video][t, j]:
                        used[video][t, j] = hits[t, place] = True
                        break
        total = sum(len(b) for b in boxes.values())
        result[:, c] = [interpolated_precision(row, total) for row in hits]
    return result.mean(axis=1)


def table_detection_map(truth: dict, predictions: dict) -> np.ndarray:
    """The same as ActivityNet's script does it, with pandas: tables, of which each prediction asks for its video's actions."""
    import pandas

    def table(by_video: dict) -> "pandas.DataFrame":
        rows = [(v, *e["segment"], e["label"], e.get("score")) for v, entries in by_video.items() for e in entries]
        return pandas.DataFrame(rows, columns=["video", "start", "end", "label", "score"])

    actions, found = table(truth), table(predictions)
    actions_of, found_of = actions.groupby("label"), found.groupby("label")
    result = []
    for label in actions["label"].unique():
        own = actions_of.get_group(label).reset_index(drop=True)
        rows = found_of.get_group(label).reset_index(drop=True)
        rows = rows.loc[rows["score"].values.argsort()[::-1]].reset_index(drop=True)
        by_video, used = own.groupby("video"), np.zeros((len(TIOU), len(own)), bool)
        hits = np.zeros((len(TIOU), len(rows)))
        for place, row in rows.iterrows():
            try:
                here = by_video.get_group(row["video"])
            except KeyError:
                continue
            here = here.reset_index()
            place_of = here["index"].values
            iou = pair_iou(row[["start", "end"]].values, here[["start", "end"]].values)
            for t, threshold in enumerate(TIOU):
                for j in iou.argsort()[::-1]:
                    if iou[j] < threshold:
                        break
                    if not used[t, place_of[j]]:
                        used[t, place_of[j]] = hits[t, place] = True
                        break
        result.append([interpolated_precision(row, len(own)) for row in hits])
    return np.array(result).T.mean(axis=1)


def interpolated_precision(hits: np.ndarray, total: int) -> float:
    done = hits.cumsum()
    precision = np.hstack([[0], done / np.arange(1, len(hits) + 1), [0]])
    recall = np.hstack([[0], done / total, [1]])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    step = np.where(recall[1:] != recall[:-1])[0] + 1
    return ((recall[step] - recall[step - 1]) * precision[step]).sum()


def evaluation(args: argparse.Namespace) -> None:
    for per_video in (11, 100):
        truth, predictions = synthetic_results(4728, per_video)
        count = sum(len(p) for p in predictions.values())
        print(f"\n{count:,} predictions in 4,728 videos, from dictionaries to numbers: s of CPU time")
        for name, loop, ours in (
            ("AR@AN, AUC", loop_average_recall, average_recall_at_avg_proposals),
            ("mAP", loop_detection_map, detection_map),
            *([("mAP, tables", table_detection_map, detection_map)] if importlib.util.find_spec("pandas") else []),
        ):
            c, t = time.process_time(), time.perf_counter()
            expected = loop(truth, predictions)
            slow = (time.process_time() - c, time.perf_counter() - t)
            got = ours(truth, predictions)
            if name.startswith("mAP"):
                np.testing.assert_allclose(got.per_tiou, expected, rtol=1e-12)
            else:
                np.testing.assert_allclose(got.recall, expected[0], rtol=1e-12)
                np.testing.assert_allclose(got.auc, expected[1], rtol=1e-12)
            fast = best_times(functools.partial(ours, truth, predictions), args.repeat)
            print(
                f"  {name:11s} loop {slow[0]:7.2f}  ours {fast[0]:6.3f}  {slow[0] / fast[0]:6.1f}x "
                f"(clock {slow[1] / fast[1]:.1f}x)",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ["layer", "network", "memory", "proposals", "evaluation"]
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(parts)}; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--dense-chunk", type=int, default=4, help="largest batch of the dense formulation")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--videos", type=int, default=200, help="for the proposals")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.parts) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    torch.set_num_threads(args.threads)
    if args.peak:
        print(peak_of(*json.loads(args.peak)))
        return
    print(f"torch {torch.__version__}, numpy {np.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    for part in args.parts or parts:
        if part in ("layer", "network"):
            speed(part, args)
        else:
            {"memory": memory, "proposals": proposals, "evaluation": evaluation}[part](args)


if __name__ == "__main__":
    main()
