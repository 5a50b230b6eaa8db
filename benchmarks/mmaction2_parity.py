"""MMAction2 and clipwise side by side: same weights, same clips, which difference?

    python benchmarks/mmaction2_parity.py --peer /path/to/env/bin/python [--out docs/en/parity.md] [--only tsm_r50]

The peer's environment has torch, ``mmaction2==1.2.0 mmengine==0.10.7 mmcv-lite==2.1.0 opencv-python-headless==4.11.0.86 "numpy<2"
decord einops scipy "pandas<3" importlib_metadata``; ours has not. Two packages that its wheel imports and does not bring are
replaced by empty ones at run time. For each network, in this order:

1. peer: builds the config's model with random weights and norms, saves a .pth as its training does, computes logits
2. here: reads the .pth, guesses the model from its keys, converts, computes logits of the same clips, in single and double
   precision; takes one training step; writes the weights back for MMAction2
3. peer: loads what was written, strictly, and computes logits; here they are compared once more
4. here: converts the written file again: the weights must be the same, bit for bit
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

# network: config in the wheel, changes of its model, clips (videos, views × frames or views, …)
NETWORKS = {
    "tsn_r50": ("tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb", {}, (2, 3)),
    "tsn_r101": ("tsn/tsn_imagenet-pretrained-r101_8xb32-1x1x8-100e_kinetics400-rgb", {}, (1, 8)),
    "tsn_r50 flow": ("tsn/tsn_imagenet-pretrained-r50_8xb32_5x1x3-110e_kinetics400-flow", {}, (2, 3)),
    "tsm_r50": ("tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb", {}, (2, 8)),
    "tsm_r50 16 frames": ("tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x16-50e_kinetics400-rgb", {}, (1, 16)),
    "tsm_r101": ("tsm/tsm_imagenet-pretrained-r101_8xb16-1x1x8-50e_sthv2-rgb", {}, (1, 8)),
    "tsm_r50 block": (
        "tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb",
        {"backbone.shift_place": "block"},
        (2, 8),
    ),
    "tsm_r50 temporal pool": (
        "tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb",
        {"backbone.temporal_pool": True, "cls_head.temporal_pool": True},
        (2, 8),
    ),
    "tsm_r50_nl embedded Gaussian": (
        "tsm/tsm_imagenet-pretrained-r50-nl-embedded-gaussian_8xb16-1x1x8-50e_kinetics400-rgb",
        {},
        (1, 8),
    ),
    "tsm_r50_nl Gaussian": (
        "tsm/tsm_imagenet-pretrained-r50-nl-gaussian_8xb16-1x1x8-50e_kinetics400-rgb",
        {},
        (1, 8),
    ),
    "tsm_r50_nl dot product": (
        "tsm/tsm_imagenet-pretrained-r50-nl-dot-product_8xb16-1x1x8-50e_kinetics400-rgb",
        {},
        (1, 8),
    ),
    "slowonly_r50 4×16": ("slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb", {}, (2, 1, 4)),
    "slowonly_r50 8×8": ("slowonly/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb", {}, (1, 1, 8)),
    "slowonly_r101 8×8": ("slowonly/slowonly_r101_8xb16-8x8x1-196e_kinetics400-rgb", {}, (1, 1, 8)),
    "slowonly_r50 flow": ("slowonly/slowonly_r50_8xb16-16x4x1-256e_kinetics400-flow", {}, (1, 1, 16)),
    "slowonly_r50_nl": (
        "slowonly/slowonly_r50-in1k-pre-nl-embedded-gaussian_8xb16-4x16x1-steplr-150e_kinetics400-rgb",
        {},
        (1, 1, 4),
    ),
    "slowonly_r50 3x3x3": (
        "slowonly/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb",
        {"backbone.inflate_style": "3x3x3"},
        (1, 1, 8),
    ),
    "slowonly_r50 no pool1, pool2": (
        "slowonly/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb",
        {"backbone.with_pool1": False, "backbone.with_pool2": True},
        (1, 1, 8),
    ),
    "slowonly_r18": (
        "slowonly/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb",
        {"backbone.depth": 18, "cls_head.in_channels": 512},
        (1, 1, 8),
    ),
    "tpn_slowonly_r50": ("tpn/tpn-slowonly_r50_8xb8-8x8x1-150e_kinetics400-rgb", {}, (1, 1, 8)),
    "tpn_slowonly_r50 parallel": (
        "tpn/tpn-slowonly_r50_8xb8-8x8x1-150e_kinetics400-rgb",
        {"neck.flow_type": "parallel"},
        (1, 1, 8),
    ),
    "tpn_tsm_r50": ("tpn/tpn-tsm_imagenet-pretrained-r50_8xb8-1x1x8-150e_sthv1-rgb", {}, (1, 8)),
}
# Settings that no key of a file shows, and that a person would know from the recipe.
INVISIBLE = {
    "tsm_r50 16 frames": {"num_segments": 16},
    "slowonly_r50 no pool1, pool2": {"with_pool1": False, "with_pool2": True},
    "tpn_slowonly_r50 parallel": {"flow": "parallel"},
    "tsm_r50_nl dot product": {"non_local": "dot_product"},
}
SIDE = (64, 80)


# ------------------------------------------------------------------------------------------------ in MMAction2's environment


def peer(step: str, name: str, folder: Path) -> None:
    """Runs in the other environment; imports nothing of clipwise."""
    import importlib.machinery
    import types

    def anything(attribute: str) -> type:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return type(attribute, (), {})

    for missing in (
        "torchvision",
        "torchvision.transforms",
        "mmaction.models.localizers.drn",
        "mmaction.models.localizers.drn.drn",
    ):
        stub = types.ModuleType(missing)
        stub.__spec__ = importlib.machinery.ModuleSpec(missing, None, is_package=True)
        stub.__path__ = []
        stub.__getattr__ = anything
        sys.modules[missing] = stub

    import mmaction
    from mmaction.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmengine.runner import load_checkpoint, save_checkpoint

    init_default_scope("mmaction")
    config, changes, leading = NETWORKS[name]
    settings = Config.fromfile(Path(mmaction.__file__).parent / f".mim/configs/recognition/{config}.py").model
    settings.backbone.pretrained = None
    for key, value in changes.items():
        settings[key.split(".")[0]][key.split(".")[1]] = value
    torch.manual_seed(0)
    model = MODELS.build(settings)
    channels = model.backbone.conv1.conv.in_channels
    shape = (
        (leading[0], leading[1], channels, *SIDE) if len(leading) == 2 else (*leading[:2], channels, leading[2], *SIDE)
    )
    if step == "build":
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.weight.uniform_(0.5, 1.0)
                    module.bias.normal_(std=0.1)
                    module.running_mean.normal_(std=0.1)
                    module.running_var.uniform_(0.5, 1.5)
        save_checkpoint({"meta": {"epoch": 1}, "state_dict": model.state_dict()}, str(folder / "there.pth"))
        torch.save(torch.randn(shape), folder / "clips.pth")
    else:
        load_checkpoint(model, str(folder / "back.pth"), strict=True)
    clips = torch.load(folder / "clips.pth")
    model.eval()
    out = {}
    for precision, dtype in (("single", torch.float32), ("double", torch.float64)):
        torch.set_default_dtype(dtype)
        model.to(dtype)
        with torch.no_grad():
            logits = model(clips.to(dtype), stage="head", mode="tensor")
        out[precision] = logits.reshape(logits.shape[0], -1).numpy()
        if hasattr(model.cls_head, "new_cls"):  # a stale copy that MMAction2 keeps
            del model.cls_head.new_cls
    np.savez(folder / f"{step}.npz", **out)


# ------------------------------------------------------------------------------------------------ here


def compare(name: str, folder: Path, python: str) -> dict:
    from clipwise.convert.weights import (
        convert_state_dict,
        guess_model,
        load_converted,
        read_foreign_checkpoint,
        save_mmaction2,
    )
    from clipwise.models import create_model

    run_peer(python, "build", name, folder)
    there = np.load(folder / "build.npz")
    checkpoint = read_foreign_checkpoint(folder / "there.pth")
    model_name, args = guess_model(checkpoint)
    args |= INVISIBLE.get(name, {})
    if "non_local" in args and model_name == "slowonly_r50":
        args["non_local_use_scale"] = True
    model = create_model(model_name, dropout=0.0, **args)
    report = convert_state_dict(checkpoint, model)
    load_converted(model, report)

    clips = torch.load(folder / "clips.pth")
    clips = clips.flatten(0, 1) if clips.dim() == 6 else clips.transpose(1, 2)
    row = {"network": name, "model": model_name, "tensors": len(report.matched)}
    row["single"] = difference(logits_of(model, clips, torch.float32), there["single"])
    row["double"] = difference(logits_of(model, clips, torch.float64), there["double"])

    model.float().train()
    outputs = model(clips)
    sum(o.square().mean() for o in (outputs if isinstance(outputs, tuple) else (outputs,))).backward()
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    save_mmaction2(folder / "back.pth", model.state_dict(), model)
    run_peer(python, "load", name, folder)
    stepped = {k: v.clone() for k, v in model.state_dict().items()}
    row["back"] = difference(logits_of(model, clips, torch.float64), np.load(folder / "load.npz")["double"])

    again = convert_state_dict(read_foreign_checkpoint(folder / "back.pth"), model)
    row["same"] = again.complete and all(torch.equal(v, again.state_dict[k]) for k, v in stepped.items())
    return row


def logits_of(model: torch.nn.Module, clips: torch.Tensor, dtype: torch.dtype) -> np.ndarray:
    with torch.no_grad():
        return model.eval().to(dtype)(clips.to(dtype)).numpy()


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference over the largest logit."""
    if ours.shape != theirs.shape:
        raise SystemExit(f"shapes differ: ours {ours.shape}, theirs {theirs.shape}")
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def run_peer(python: str, step: str, name: str, folder: Path) -> None:
    command = [python, __file__, "--role", step, "--only", name, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}, {step}: the peer failed\n{done.stderr[-3000:]}")


def table(rows: list[dict]) -> str:
    lines = [
        "| network in MMAction2 1.2.0 | recognized as | tensors | single precision | double precision | back in MMAction2, after a step | converted again |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        same = "same bits" if r["same"] else "DIFFERENT"
        lines.append(
            f"| {r['network']} | {r['model']} | {r['tensors']} | {r['single']:.1e} | {r['double']:.1e} | {r['back']:.1e} | {same} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="python of an environment with MMAction2 1.2.0")
    parser.add_argument("--only", action="append", help="names of networks", choices=list(NETWORKS))
    parser.add_argument("--out", type=Path, help="a Markdown file whose table between the markers is replaced")
    parser.add_argument("--log", type=Path, help="JSON lines, one a network; what is in it is not run again")
    parser.add_argument("--role", default="compare", choices=["compare", "build", "load"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role != "compare":
        peer(options.role, options.only[0], options.folder)
        return
    if not options.peer:
        parser.error("--peer is needed: the python of an environment with MMAction2 1.2.0")
    done = {}
    if options.log and options.log.exists():
        done = {row["network"]: row for row in map(json.loads, options.log.read_text().splitlines())}
    rows = []
    for name in options.only or NETWORKS:
        if name in done:
            rows.append(done[name])
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows.append(compare(name, Path(folder), options.peer))
        print(json.dumps(rows[-1]), flush=True)
        if options.log:
            with open(options.log, "a") as log:
                print(json.dumps(rows[-1]), file=log)
    print(table(rows))
    if options.out:
        begin, end = "<!-- begin: mmaction2_parity -->", "<!-- end: mmaction2_parity -->"
        text = options.out.read_text()
        before, rest = text.split(begin)
        options.out.write_text(before + begin + "\n" + table(rows) + "\n" + end + rest.split(end)[1])
    worst = max(max(r["double"], r["back"]) for r in rows)
    if worst > 1e-9 or not all(r["same"] for r in rows):
        raise SystemExit(f"not identical: {worst:.1e} relative in double precision")


if __name__ == "__main__":
    main()
