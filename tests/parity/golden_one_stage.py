"""Weights, inputs and rules of the one-stage goldens, and what is compared for ActionFormer and TriDet alike."""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from clipwise.convert.one_stage_layouts import convert_one_stage, one_stage_name
from clipwise.models.localizer_rules import LabeledVideo
from helpers import load_script

# what the keys' biases of an attention get is mathematically zero
FLOOR = 1e-10


class Golden:
    """One variant: the network with the golden's weights in double precision, its rules and the expected numbers."""

    def __init__(self, shared: Path, name: str, variant: str, kind, rules, network: dict, recipe: dict):
        from clipwise.recipe import make_recipe

        self.name, self.variant, folder = name, variant, shared / "golden" / name
        self.facts = json.loads((folder / "golden.json").read_text())[variant]
        with np.load(folder / "golden.npz") as arrays:
            self.arrays = {k[len(variant) + 1 :]: arrays[k] for k in arrays.files if k.startswith(f"{variant}_")}
        keys = json.loads((folder / "keys.json").read_text())
        self.keys = keys["keys" if variant == "published" else f"keys_{variant}"]
        self.make = load_script(shared / "golden/make_weights_tad.py")
        state = {k["key"]: torch.from_numpy(np.asarray(self.make.make_tensor(k["key"], k["shape"]))) for k in self.keys}
        self.state = convert_one_stage(state)
        self.network = {"drop_path": 1e-30, **network}  # the layer scales stay, nothing is dropped
        self.recipe = make_recipe(
            {"task": "localization", "model": kind.__name__.lower(), "input": {"rescale": "none"}, **recipe}
        )
        self.rules, self.kind = rules(self.network, self.recipe), kind
        self.distances = "bins" if "bins.scales" in self.state else "distances"

    def model(self):
        model = self.kind(**self.network)
        self.rules.prepare(model)
        assert float(model.loss_norm) == self.facts["train"]["loss_normalizer_init"]
        model.load_state_dict({**self.state, "loss_norm": model.loss_norm})
        return model.double()

    def features(self, which: str):
        facts, dim = self.facts["inputs"][which], self.network["feat_dim"]
        raw = facts.get("raw_length")
        name = f"{self.name}/{self.variant}/{which}" + ("_raw" if raw else "")
        x = torch.from_numpy(self.make.make_features(name, (dim, raw or facts["length"]))).double()
        return F.interpolate(x[None], facts["length"], mode="linear", align_corners=False)[0] if raw else x

    def video(self, which: str) -> LabeledVideo:
        facts = self.facts["inputs"][which]
        count = facts["length"]
        if "meta" not in facts:
            grid = np.array(facts["segments_grid"])
            return LabeledVideo(count, float(count), (grid + 0.5) / count, np.array(facts["labels"]))
        meta = facts["meta"]
        first = (meta["feat_num_frames"] - meta["feat_stride"]) / 2 / meta["fps"]
        covered = count * meta["feat_stride"] / meta["fps"]
        return LabeledVideo(count, covered, first_s=first, duration_s=meta["duration"])

    def level(self, output, number: int, transposed: bool = False):
        start, size = (int(x[number]) for x in self.rules.level_bounds(output.shape[2]))
        part = output[0, :, start : start + size].detach().numpy()
        return part.T if transposed else part

    def parameter(self, model, theirs: str, grad: bool = False):
        """A parameter (or its gradient) by its published name; our level scales are one tensor."""
        scale = theirs.startswith("reg_head.scale.")
        ours = f"{self.distances}.scales" if scale else one_stage_name(theirs, self.distances)
        value = model.get_parameter(ours)
        value = value.grad if grad else value.detach()
        return value[int(theirs.split(".")[2])] if scale else value


def check_outputs(golden: Golden, which: str, names) -> None:
    """Logits, distances and what else forward gives, level by level, then candidates and final segments."""
    model, x = golden.model().eval(), golden.features(which)
    with torch.no_grad():
        outputs = model(golden.rules.inputs([x]))
    compared = 0
    for number in range(6):
        for output, name in zip(outputs, names):
            expected = golden.arrays.get(f"{which}_{name}_l{number}")
            if expected is None:
                continue
            got = golden.level(output, number, transposed=name in ("logits", "offsets"))
            if got.shape != expected.shape:
                got = got.ravel()[np.unique(np.linspace(0, got.size - 1, 512).astype(int))]
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11, err_msg=f"{which} {name} {number}")
            compared += 1
    assert compared >= 12
    if f"{which}_cand_index" in golden.arrays:
        segments, scores, labels = (t.numpy() for t in golden.rules.candidates(outputs, 0, x.shape[1]))
        assert len(scores) == golden.facts["eval"][which]["n_candidates"]
        rows = golden.arrays[f"{which}_cand_index"]
        np.testing.assert_allclose(segments[rows], golden.arrays[f"{which}_cand_segments"], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(scores[rows], golden.arrays[f"{which}_cand_scores"], rtol=1e-9)
        assert (labels[rows] == golden.arrays[f"{which}_cand_labels"]).all()
    if f"{which}_final_scores" in golden.arrays:
        found = golden.rules.decode(outputs, [golden.video(which)])[0]
        expected = golden.arrays[f"{which}_final_scores"]
        assert len(found.scores) == golden.facts["eval"][which]["n_final"]
        count = len(expected)  # in float32, as the compiled NMS of the reference works
        np.testing.assert_allclose(found.scores[:count], expected, rtol=1e-6)
        np.testing.assert_allclose(
            found.segments_s[:count], golden.arrays[f"{which}_final_segments_s"], rtol=3e-7, atol=1e-6
        )
        if found.labels is not None:
            assert (found.labels[:count] == golden.arrays[f"{which}_final_labels"]).all()


def train_losses(golden: Golden, model):
    """Loss terms of the golden's training batch."""
    outputs = model(golden.rules.inputs([golden.features("train0"), golden.features("train1")]))
    videos = [golden.video("train0"), golden.video("train1")]
    return golden.rules.loss(model, outputs, videos, torch.Generator())


def check_training(golden: Golden) -> None:
    """Targets, losses, the running norm and every gradient."""
    model = golden.model().train()
    videos = [golden.video("train0"), golden.video("train1")]
    points = golden.rules.points(golden.facts["train"]["num_points"], torch.device("cpu"))
    targets = golden.rules.targets(videos, points)
    triples = [[row, *pair] for row, one in enumerate(targets) for pair in one.classes.nonzero().tolist()]
    assert triples == golden.arrays["target_bpc"].tolist()
    distances = np.array([targets[row].distances[point].numpy() for row, point, _ in triples])
    np.testing.assert_allclose(distances, golden.arrays["target_offsets"], rtol=1e-9, atol=1e-9)

    terms = train_losses(golden, model)
    expected = golden.facts["train"]
    for ours, theirs in (("loss", "final_loss"), ("cls", "cls_loss"), ("reg", "reg_loss")):
        np.testing.assert_allclose(float(terms[ours].detach()), expected["losses"][theirs], rtol=1e-9, err_msg=ours)
    np.testing.assert_allclose(float(model.loss_norm), expected["loss_normalizer_after"], rtol=1e-12)
    terms["loss"].backward()
    for i, name in enumerate(golden.facts["param_names"]):
        gradient = golden.parameter(model, name, grad=True).flatten()
        norm, samples = golden.arrays["grad_norm"][i], golden.arrays["grad_samples"][i]
        np.testing.assert_allclose(float(gradient.norm()), norm, rtol=1e-9, atol=FLOOR, err_msg=name)
        at = np.linspace(0, len(gradient) - 1, 8).astype(int)
        np.testing.assert_allclose(gradient.numpy()[at], samples, rtol=1e-9, atol=FLOOR, err_msg=name)


def check_four_steps(golden: Golden, published_lr: float, weight_decay: float) -> None:
    """Optimizer groups, warm-up and cosine, clipping, four AdamW steps and the average of the weights, by the loop's own parts."""
    from clipwise.engine.device import make_accelerator
    from clipwise.engine.network import Network, Schedule

    facts = golden.facts["four_steps"]
    table = golden.facts["lr_schedule"]
    recipe = golden.recipe.model_copy(
        update={
            "optimizer": "adamw",
            "lr": published_lr,
            "weight_decay": weight_decay,
            "ema_decay": facts["ema_decay"],
            "lr_schedule": "cosine",
            "warmup_epochs": float(table["warmup_epochs"]),
            "epochs": table["warmup_epochs"] + table["epochs_after_warmup"],
        }
    )
    recipe.optim.param_groups, recipe.optim.ema_ramp = "no_norm_bias", False
    recipe.schedule = recipe.schedule.model_copy(
        update={
            "by": "iteration",
            "warmup_start": 0.0,
            "warmup_to_last": True,
            "after_warmup": True,
            "min_lr": table["eta_min"],
        }
    )
    schedule = Schedule(recipe, table["iters_per_epoch"])
    for step, lr in table["lr_used_at_iteration"].items():
        np.testing.assert_allclose(schedule.factor(int(step)) * published_lr, lr, rtol=1e-9, atol=1e-20)

    network = Network(golden.model().train(), recipe, make_accelerator("cpu"), published_lr)
    bare = network.bare
    decayed = {id(p) for g in network.optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    for group in golden.facts["optimizer"]["groups"]:
        for name in group["params"]:
            ours = (
                one_stage_name(name, golden.distances)
                if "reg_head.scale." not in name
                else f"{golden.distances}.scales"
            )
            assert (id(bare.get_parameter(ours)) in decayed) == (group["weight_decay"] > 0), name
    for step, expected in enumerate(facts["history"]):
        schedule.set(network.optimizer, step)
        terms = train_losses(golden, network.model)
        terms["loss"].backward()
        norm = network.step(facts["clip"])
        np.testing.assert_allclose(float(norm), expected["grad_total_norm"], rtol=1e-9)
        np.testing.assert_allclose(float(terms["loss"].detach()), expected["final_loss"], rtol=1e-9)
        np.testing.assert_allclose(float(bare.loss_norm), expected["loss_normalizer"], rtol=1e-12)
    for i, name in enumerate(golden.facts["param_names"]):
        for kind, model in (("param", bare), ("ema", network.average.module)):
            value = golden.parameter(model, name).flatten()
            np.testing.assert_allclose(
                float(value.norm()), golden.arrays[f"{kind}_norm_after4"][i], rtol=1e-9, err_msg=name
            )
            at = np.linspace(0, len(value) - 1, 8).astype(int)
            np.testing.assert_allclose(
                value.numpy()[at],
                golden.arrays[f"{kind}_samples_after4"][i],
                rtol=1e-9,
                atol=1e-9,
                err_msg=f"{kind} {name}",
            )
