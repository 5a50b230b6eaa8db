"""Parts of benchmarks/gpu.py about one input at a time: CUDA graphs at batch 1, and clips that are decoded on the device."""

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gpu_parts import BMN, Measurement, Setting, free, kinetics_like, timed

from clipwise.recipe import load_recipe


def graphs(s: Setting) -> Iterator[Measurement]:
    """``--cuda-graphs``: one clip or sequence, eager and replayed, and whether the outputs are the same bits."""
    from clipwise.infer.cuda_graphs import WARM, GraphedNetwork
    from clipwise.models.recipe_model import build_model

    def measure(recipe: Any, shape: tuple[int, ...], precision: str, form: str) -> dict[str, Any]:
        torch.manual_seed(0)
        network = build_model(recipe, 400).to(s.device).eval()
        inputs = [torch.randn(1, *shape, device=s.device) for _ in range(2)]
        model: Any = GraphedNetwork(network) if form == "graph" and not s.on_cpu else network
        try:
            with torch.inference_mode(), torch.autocast(s.device.type, torch.bfloat16, enabled=precision == "bf16"):
                one = timed(lambda: model(inputs[0]), s.device, s.seconds / 2, WARM + 2)
                same = all(
                    torch.equal(a, b) for x in inputs for a, b in zip(_flat(model(x)), _flat(network(x)), strict=True)
                )
        finally:
            network = model = None
            free()
        if form == "graph" and s.on_cpu:
            return {"skipped": "a CPU has no graphs"}
        return {"ms": 1000 * one, "clips_per_s": 1 / one, "ok": bool(same)}

    for family in ("SlowOnly 4x16", "TSM 8"):
        recipe = s.recipe(family)
        frames, side = recipe.num_segments or recipe.clip_len, 64 if s.tiny else 224
        for precision in ("fp32", "bf16"):
            for form in ("eager", "graph"):
                yield (
                    f"{family}, batch 1, {precision}, {form}",
                    lambda r=recipe, n=frames, x=side, p=precision, f=form: measure(r, (3, n, x, x), p, f),
                )
    small = ["feat_dim=16", "temporal_dim=16", "model_args={hidden_dim: 16, matching_dim: 16, map_dim: 8}"]
    bmn = load_recipe(BMN, small if s.tiny else [])
    for form in ("eager", "graph"):
        yield f"BMN, batch 1, fp32, {form}", lambda f=form: measure(bmn, (bmn.feat_dim, bmn.temporal_dim), "fp32", f)


def device_clips(s: Setting) -> Iterator[Measurement]:
    """Training clips of one process: decoded by PyAV, by TorchCodec, and on the device; the frames and how far their colors are off."""

    def measure(form: str) -> dict[str, Any]:
        from clipwise.analyze.decoder_speed import decoder_speeds
        from clipwise.data.clip_spec import ClipSpec

        if importlib.util.find_spec("torchcodec") is None and form != "PyAV":
            return {"skipped": "torchcodec is not installed"}
        if form == "NVDEC" and s.on_cpu:
            return {"skipped": "no NVDEC on a CPU"}
        spec = ClipSpec.from_recipe(s.recipe("SlowOnly 4x16").model_dump(), "train")
        paths = [str(path) for path in kinetics_like(s)]
        if form == "PyAV":
            rng = np.random.default_rng(0)

            def read() -> None:
                with spec.open_video(paths[0]) as reader:
                    torch.from_numpy(spec.read(reader, rng)[0]).to(s.device)

            return {"clips_per_s": 1 / timed(read, s.device, s.seconds, 1)}
        name = "torchcodec on the device" if form == "NVDEC" else "torchcodec"
        speeds = decoder_speeds(paths, spec, clips=4 if s.tiny else 64)
        there = replace(spec, video_backend="torchcodec", decode_device="cuda" if form == "NVDEC" else "cpu")
        gap, fell_back = 0, None
        for number, path in enumerate(paths[:4]):
            with there.open_video(path) as reader, spec.open_video(path) as plain:
                one = torch.as_tensor(there.read(reader, np.random.default_rng(number))[0]).cpu().int()
                other = torch.as_tensor(spec.read(plain, np.random.default_rng(number))[0]).int()
                gap, fell_back = max(gap, int((one - other).abs().max())), fell_back or reader.fell_back
        return {"clips_per_s": 1000 / speeds[name], "largest_difference": gap, "fell_back": fell_back, "ok": gap <= 2}

    for form in ("PyAV", "TorchCodec CPU", "NVDEC"):
        yield f"SlowOnly 4x16 clips, {form}", lambda f=form: measure(f)


def _flat(outputs: Any) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else [t for o in outputs for t in _flat(o)]
