"""One training step of ActionFormer and TriDet: ours, and the papers' loops written plainly, in turn in the same process.

    OMP_NUM_THREADS=1 python benchmarks/localizer_step.py [--models actionformer tridet] [--sizes small medium] [--repeat 5]

A step is forward, targets, losses, backward, clipping, AdamW and the moving average, from features that lie in memory. The plain form takes the
same weights and is written as the papers' code is organized: norms spelled out, attention over windows cut out for each position, every level by
itself, boundaries of all points computed before the positive ones are chosen (TriDet), one update for each tensor of the average. Before anything is
timed both losses of a batch are compared. Processor seconds, medians; memory is what the first step
of each form adds in a process of its own (Linux).

small: width 64, 5 levels, 96 positions, 8 videos (the packaged recipes for own data); medium: width 256, 6 levels, 1,152 positions, 2 videos.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipwise.engine.average import MovingAverage
from clipwise.engine.network import make_optimizer
from clipwise.models.localizer_rules import LabeledVideo, localizer_rules
from clipwise.models.recipe_model import build_model, model_args
from clipwise.recipe import load_recipe

SIZES = {"small": (64, 5, 96, 8), "medium": (256, 6, 1152, 2)}
CLASSES, FEATURES = 20, 64


class Plain:
    """Both networks and their losses over the parameters of one of ours."""

    def __init__(self, kind: str, model: Any, rules: Any, window: int, heads: int, bins: int):
        self.kind, self.rules, self.window, self.heads, self.bins = kind, rules, window, heads, bins
        self.p = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
        self.average = {name: value.detach().clone() for name, value in self.p.items()}
        self.norm, self.levels = 100.0, rules.num_levels
        groups: dict[bool, list[Tensor]] = {True: [], False: []}
        for name, value in self.p.items():
            groups[value.dim() == 3 and not name.endswith("scale")].append(value)
        wanted = [{"params": groups[True], "weight_decay": 0.05}, {"params": groups[False], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(wanted, lr=1e-3, foreach=False)

    # -- networks

    def layer_norm(self, x: Tensor, name: str) -> Tensor:
        off = x - x.mean(1, keepdim=True)
        x = off / torch.sqrt((off**2).mean(1, keepdim=True) + 1e-5)
        return x * self.p[f"{name}.weight"][None, :, None] + self.p[f"{name}.bias"][None, :, None]

    def conv(self, x: Tensor, mask: Tensor | None, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.p[f"{name}.weight"]
        x = F.conv1d(x, weight, self.p.get(f"{name}.bias"), stride, weight.shape[2] // 2, groups=groups)
        return x if mask is None else x * mask

    def head(self, x: Tensor, mask: Tensor, name: str) -> Tensor:
        for i in range(2):
            x = F.relu(self.layer_norm(self.conv(x, mask, f"{name}.layers.{i}.conv"), f"{name}.layers.{i}.norm"))
        return self.conv(x, mask, f"{name}.last")

    def attention(self, x: Tensor, mask: Tensor, name: str, stride: int) -> Tensor:
        parts = []
        for part in ("query", "key", "value"):
            y = self.layer_norm(self.conv(x, mask, f"{name}.{part}.conv", stride, x.shape[1]), f"{name}.{part}.norm")
            y = self.conv(y, None, f"{name}.{part}.linear")
            parts.append(y.view(len(y), self.heads, -1, y.shape[2]).transpose(2, 3))
        query, key, value = parts
        half = self.window // 2
        key, value = (F.pad(t, (0, 0, half, half)).unfold(2, 2 * half + 1, 1) for t in (key, value))
        closed = F.pad(mask, (half, half)).unfold(2, 2 * half + 1, 1)[:, :, :, None]  # (B, 1, T, 1, window)
        scores = query[:, :, :, None] * query.shape[3] ** -0.5 @ key
        share = torch.softmax(scores + (closed - 1) * 1e4, 4)
        mixed = (share @ value.transpose(3, 4))[:, :, :, 0]
        return self.conv(mixed.transpose(2, 3).flatten(1, 2), mask, f"{name}.out")

    def block(self, x: Tensor, mask: Tensor, name: str, stride: int) -> tuple[Tensor, Tensor]:
        mask = mask[:, :, ::stride]
        small = F.max_pool1d(x, 3, 2, 1) if stride > 1 else x
        one, two = (self.p.get(f"{name}.residual{i}.scale", 1.0) for i in (1, 2))
        if self.kind == "actionformer":
            mixed = self.attention(self.layer_norm(x, f"{name}.norm1"), mask, f"{name}.attention", stride)
            x = small * mask + one * mixed
            hidden = F.gelu(self.conv(self.layer_norm(x, f"{name}.norm2"), None, f"{name}.mlp.0"))
            return x + two * (self.conv(hidden, None, f"{name}.mlp.2") * mask), mask
        z = self.layer_norm(small, f"{name}.norm")
        point, gate, near, far, mean = (
            lambda y, part=part: self.conv(y, None, f"{name}.{part}", groups=y.shape[1])
            for part in ("point", "gate", "near", "far", "mean_gate")
        )
        x = small * mask + one * (point(z) * F.relu(mean(z.mean(2, keepdim=True))) + (near(z) + far(z)) * gate(z) + z)
        grouped = F.group_norm(x, 16, self.p[f"{name}.group_norm.weight"], self.p[f"{name}.group_norm.bias"])
        return x + two * self.conv(F.gelu(self.conv(grouped, None, f"{name}.mlp.0")), None, f"{name}.mlp.2"), mask

    def forward(self, given: Tensor) -> list[list[Tensor]]:
        """Outputs, each a list of levels."""
        x, mask = given[:, :-1], given[:, -1:]
        for i in range(2):
            name = f"backbone.embed.layers.{i}"
            x = F.relu(self.layer_norm(self.conv(x, mask, f"{name}.conv"), f"{name}.norm"))
        x, mask = self.block(x, mask, "backbone.stem.0", 1)
        pairs = [(x, mask)]
        for i in range(self.levels - 1):
            pairs.append(self.block(*pairs[-1], f"backbone.branch.{i}", 2))
        pairs = [(self.layer_norm(x, f"backbone.norms.{i}"), m) for i, (x, m) in enumerate(pairs)]
        logits = [self.head(x, m, "classes") for x, m in pairs]
        name = "distances" if self.kind == "actionformer" else "bins"
        spans = [F.relu(self.head(x, m, name) * self.p[f"{name}.scales"][i]) for i, (x, m) in enumerate(pairs)]
        if self.kind == "actionformer":
            return [logits, spans]
        return [logits, spans, *([self.head(x.detach(), m, side) for x, m in pairs] for side in ("starts", "ends"))]

    # -- losses

    def targets(self, video: LabeledVideo, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Classes, distances, which points stand on the video, which for a segment; level after level."""
        grid = torch.from_numpy(video.segments * video.positions - 0.5)
        classes, spans, valid = [], [], []
        for level, (low, high) in enumerate(self.rules.ranges):
            stride = 2**level
            at = torch.arange(0, length, stride, dtype=torch.float64)[:, None]
            left, right = at - grid[:, 0], grid[:, 1] - at
            middle = grid.mean(1)
            near = (at - torch.maximum(middle - 1.5 * stride, grid[:, 0]) > 0) & (
                torch.minimum(middle + 1.5 * stride, grid[:, 1]) - at > 0
            )
            reach = torch.maximum(left, right)
            size = (grid[:, 1] - grid[:, 0]).expand(len(at), -1).clone()
            size[~(near & (reach >= low) & (reach <= high))] = torch.inf
            least, which = size.min(1)
            chosen = (size <= least[:, None] + 1e-3) & (size < torch.inf)
            hot = F.one_hot(torch.from_numpy(video.labels), CLASSES).double()
            classes.append((chosen.double() @ hot).clamp(max=1))
            spans.append(torch.stack([left, right], 2)[torch.arange(len(at)), which] / stride)
            valid.append(at[:, 0] < video.positions)
        classes, spans, valid = (torch.cat(x) for x in (classes, spans, valid))
        return classes, spans, valid, (classes.sum(1) > 0) & valid

    def loss(self, outputs: list[list[Tensor]], videos: list[LabeledVideo], length: int) -> Tensor:
        rows = [self.targets(video, length) for video in videos]
        wanted, spans, valid, positive = (torch.stack(x) for x in zip(*rows))
        logits = torch.cat([x.transpose(1, 2) for x in outputs[0]], 1)
        if self.kind == "actionformer":
            found = torch.cat([x.transpose(1, 2) for x in outputs[1]], 1)[positive]
            true = spans[positive].float()
        else:
            found, true = self.boundaries(outputs, wanted * valid[:, :, None]), None
            where = (wanted * valid[:, :, None]).bool()
            found, true = found[where], spans[:, :, None].expand(*where.shape, 2)[where].float()
        both = torch.minimum(found, true).sum(1)
        union = found.sum(1) + true.sum(1) - both
        hull = torch.maximum(found, true).sum(1)
        iou = both / union.clamp(min=1e-8)
        apart = (found[:, 1] - found[:, 0] - true[:, 1] + true[:, 0]) / 2
        reg = (1 - iou + (apart / hull.clamp(min=1e-8)) ** 2).sum()
        hot = wanted.float()
        probability = torch.sigmoid(logits)
        terms = F.binary_cross_entropy_with_logits(logits, hot, reduction="none")
        right = probability * hot + (1 - probability) * (1 - hot)
        terms = terms * (0.25 * hot + 0.75 * (1 - hot)) * (1 - right) ** 2
        if self.kind == "tridet":
            terms = terms.index_put(torch.where(where), terms[where] * iou.clamp(min=1e-8) ** 0.2)
        self.norm = 0.9 * self.norm + 0.1 * max(int(positive.sum()), 1)
        return (terms[valid].sum() + reg) / self.norm

    def boundaries(self, outputs: list[list[Tensor]], wanted: Tensor) -> Tensor:
        """(B, P, K, 2) distances of all points for all classes."""
        count, every = self.bins, []
        steps = torch.arange(count + 1, dtype=torch.float32)
        for bins, starts, ends in zip(*outputs[1:]):
            bins = bins.transpose(1, 2).unflatten(2, (2, 1, count + 1))  # (B, T, 2, 1, N + 1)
            before = F.pad(starts, (count, 0)).unfold(2, count + 1, 1).transpose(1, 2)  # (B, T, K, N + 1)
            behind = F.pad(ends, (0, count)).unfold(2, count + 1, 1).transpose(1, 2)
            left = torch.softmax(before + bins[:, :, 0], 3) @ (count - steps)
            right = torch.softmax(behind + bins[:, :, 1], 3) @ steps
            every.append(torch.stack([left, right], 3))
        return torch.cat(every, 1)

    def step(self, given: Tensor, videos: list[LabeledVideo]) -> float:
        loss = self.loss(self.forward(given), videos, given.shape[2])
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.p.values()), 1.0, foreach=False)
        self.optimizer.step()
        with torch.no_grad():
            for name, value in self.average.items():
                value.copy_(0.999 * value + 0.001 * self.p[name])
        return loss.item()


class Ours:
    """As the engine does it."""

    def __init__(self, model: Any, rules: Any, recipe: Any):
        self.model, self.rules = model.train(), rules
        rules.prepare(model)
        self.optimizer, self.average = make_optimizer(model, recipe, recipe.lr), MovingAverage(model, 0.999)
        self.generator = torch.Generator().manual_seed(0)

    def step(self, given: Tensor, videos: list[LabeledVideo]) -> float:
        loss = self.rules.loss(self.model, self.model(given), videos, self.generator)["loss"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return loss.item()


def pair(kind: str, size: str) -> tuple[Ours, Plain, Tensor, list[LabeledVideo]]:
    """Both forms with the same weights, and a batch."""
    width, levels, length, batch = SIZES[size]
    window = 9 if size == "small" else 19
    args = {"width": width, "num_levels": levels, "drop_path": 0.0}
    args |= {"window": window} if kind == "actionformer" else {"mlp_width": 2 * width}
    changes = [f"model_args.{key}={value}" for key, value in args.items()]
    recipe = load_recipe(f"{kind}_tiny", [*changes, f"temporal_dim={length}", f"feat_dim={FEATURES}"])
    torch.manual_seed(0)
    model: Any = build_model(recipe, CLASSES)
    rules: Any = localizer_rules(recipe.model, model_args(recipe, CLASSES), recipe)
    with torch.no_grad():  # scales of 1e-4 would hide a difference
        for name, value in model.named_parameters():
            if name.endswith("scale") or (kind == "tridet" and value.dim() == 3 and value.shape[1] == 1):
                value.add_(0.3 * torch.randn_like(value))
    rng = np.random.default_rng(0)
    videos = []
    for _ in range(batch):
        count = length - int(rng.integers(0, length // 4))
        start = np.sort(rng.uniform(0, 0.9, max(4, count // 60)))
        segments = np.column_stack([start, start + rng.uniform(0.01, 0.1, len(start))])
        videos.append(LabeledVideo(count, float(count), segments, rng.integers(0, CLASSES, len(start))))
    given = rules.inputs([torch.randn(FEATURES, v.positions) for v in videos])
    plain = Plain(kind, model, rules, window, 4, 12)
    return Ours(copy.deepcopy(model), rules, recipe), plain, given, videos


def compare(kind: str, size: str, repeat: int) -> None:
    ours, plain, given, videos = pair(kind, size)
    one, other = ours.step(given, videos), plain.step(given, videos)
    np.testing.assert_allclose(one, other, rtol=1e-4)
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(repeat):
        for name, form in (("ours", ours), ("plain", plain)):
            began = time.process_time()
            form.step(given, videos)
            times[name].append(time.process_time() - began)
    middle = {name: statistics.median(values) for name, values in times.items()}
    memory = {}
    for name in times:
        words = [sys.executable, __file__, "--memory-of", name, "--models", kind, "--sizes", size]
        memory[name] = float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    print(
        f"{kind:13s} {size:7s} loss {one:.5f} = {other:.5f}; ours {1000 * middle['ours']:.0f} ms, {memory['ours']:.0f} MB; plain "
        f"{1000 * middle['plain']:.0f} ms ({middle['plain'] / middle['ours']:.2f}×), {memory['plain']:.0f} MB",
        flush=True,
    )


def memory_mb(line: str) -> float:
    """Of this process, as Linux counts: VmRSS now, VmHWM at its peak."""
    lines = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return int(lines[line].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["actionformer", "tridet"])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--memory-of", choices=("ours", "plain"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        ours, plain, given, videos = pair(args.models[0], args.sizes[0])
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory_mb("VmRSS")
        (ours if args.memory_of == "ours" else plain).step(given, videos)
        print(memory_mb("VmHWM") - before)
        return
    for size in args.sizes:
        for kind in args.models:
            compare(kind, size, args.repeat)


if __name__ == "__main__":
    main()
