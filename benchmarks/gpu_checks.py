"""Correctness on the device, as parts of benchmarks/gpu.py: golden logits, reduced precision, repeatability, resuming, memory."""

import contextlib
import importlib.util
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_parts import Measurement, Setting, free

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ("slowonly_r50_4", "tsm_r50", "tsn_r50_3seg", "tpn_slowonly_cascade", "tpn_tsm", "slowonly_nl")
"""Networks of tests/golden/mmaction2_0.24.json: MMAction2's own logits, in double precision."""


def golden(s: Setting) -> Iterator[Measurement]:
    def measure(name: str) -> dict[str, Any]:

        place = ROOT / "tests" / "parity" / "test_recognition_zoo.py"
        spec = importlib.util.spec_from_file_location("recognition_zoo", place)
        zoo: Any = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(zoo)  # type: ignore[union-attr]
        entry = json.loads((ROOT / "tests" / "golden" / "mmaction2_0.24.json").read_text())[name]
        model = zoo.make(name).float()
        clips = zoo.views(model, 0, entry["input_shape"]).float()
        zoo.draw_once.cache_clear()
        expected = torch.tensor(entry["test_None"]["row0"])
        s.kernels(deterministic=True)
        found: dict[str, Any] = {}
        with torch.inference_mode():
            cpu = model(clips)
            model.to(s.device)
            place_clips = clips.to(s.device)
            for form in ("fp32", "tf32", "bf16"):
                s.kernels(tf32=form == "tf32", deterministic=True)
                with torch.autocast(s.device.type, torch.bfloat16, enabled=form == "bf16"):
                    logits = model(place_clips).float().cpu()
                found[f"{form}_from_reference"] = float((logits[0, :6] - expected).abs().max())
                found[f"{form}_from_cpu"] = float((logits - cpu).abs().max())
        free()
        return {**found, "ok": found["fp32_from_reference"] <= 1e-4 and found["fp32_from_cpu"] <= 1e-4}

    for name in ("slowonly_r50_4",) if s.tiny else GOLDEN:
        yield name, lambda n=name: measure(n)


def _quiet_train(s: Setting, name: str, folder: str, data: str, **changes: Any) -> Any:
    from clipwise.engine.train import train
    from clipwise.recipe import load_recipe

    steps = changes.pop("max_steps", None)
    words = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    return train(
        load_recipe(name, words),
        data=data,
        work_dir=s.work / "runs" / folder,
        max_steps=steps,
        validate=False,
        device="cpu" if s.on_cpu else None,
        quiet=True,
    )


def clips(s: Setting) -> str:
    """The videos of ``clipwise demo``, made once."""
    from clipwise.prepare.synthetic import make_clips

    folder = s.work / "clips"
    if not (folder / "complete").exists():
        make_clips(folder, train_per_class=2 if s.tiny else 40, val_per_class=1 if s.tiny else 12)
        (folder / "complete").touch()
    return str(folder)


def run(s: Setting) -> Iterator[Measurement]:
    small = dict(num_workers=0 if s.tiny else 8, warmup_epochs=0, batch_size=4 if s.tiny else 16)

    def reduced() -> dict[str, Any]:
        """A network that learned something, in every precision."""
        from clipwise.engine.test import evaluate

        done = _quiet_train(s, "tsm_tiny", "accuracy", clips(s), **small, epochs=1 if s.tiny else 15, amp="bf16")
        found, scores = {}, {}
        for form in ("fp32", "bf16"):
            s.kernels(deterministic=True)
            amp = "bf16" if form == "bf16" else "no"
            result = evaluate(done.last, data=str(Path(clips(s)) / "val"), amp=amp, device="cpu" if s.on_cpu else None)
            found[f"{form}_top1"], scores[form] = (
                result.metrics["top1_acc"],
                torch.as_tensor(np.stack(list(result.scores))),
            )
        found["largest_difference_of_a_probability"] = float((scores["fp32"] - scores["bf16"]).abs().max())
        found["same_class"] = float((scores["fp32"].argmax(1) == scores["bf16"].argmax(1)).float().mean())
        return {**found, "ok": abs(found["fp32_top1"] - found["bf16_top1"]) <= 0.02 or s.tiny}

    def twice(amp: str) -> dict[str, Any]:
        """Two runs with deterministic kernels."""
        from clipwise.engine.checkpoint import read_checkpoint

        models = {} if s.tiny else {"model": "tpn_slowonly_r50"}
        options = dict(**small, **models, deterministic=True, amp=amp, max_steps=2 if s.tiny else 8, epochs=20)
        files = [_quiet_train(s, "slowonly_tiny", f"twice-{amp}-{n}", clips(s), **options).last for n in range(2)]
        one, two = (read_checkpoint(file)[0] for file in files)
        different = [key for key in one if not torch.equal(one[key], two[key])]
        free()
        return {"tensors": len(one), "different": len(different), "ok": not different}

    def killed(amp: str) -> dict[str, Any]:
        """``clipwise train --verify-resume``."""
        from clipwise.engine.verify import verify_resume
        from clipwise.recipe import load_recipe

        words = [f"{key}={json.dumps(value)}" for key, value in small.items()]
        recipe = load_recipe("slowonly_tiny", [*words, "deterministic=true", f"amp={amp}", "epochs=20"])
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = verify_resume(recipe, data=clips(s), device="cpu" if s.on_cpu else None, steps=2)
        return {"said": out.getvalue().strip(), "ok": code == 0}

    def memory() -> dict[str, Any]:
        """A batch that can't fit: what the run says, and whether the batch that it names fits."""
        from clipwise.errors import WorkError

        if s.on_cpu:
            return {"skipped": "a CPU's memory is not the program's own"}
        options: dict[str, Any] = dict(num_workers=0, warmup_epochs=0, epochs=20, max_steps=1, clip_len=64, amp="no")
        options |= {"model": "slowonly_r50", "crop_size": 224, "augment.resize": [256, 256]}
        try:
            _quiet_train(s, "slowonly_tiny", "memory", clips(s), **options, batch_size=64)
        except WorkError as error:
            said = str(error)
        else:
            return {"said": "it fitted", "ok": False}
        free()
        fits = int((re.search(r"About batch_size=(\d+)", said) or ["", "0"])[1])
        _quiet_train(s, "slowonly_tiny", "memory-fits", clips(s), **options, batch_size=fits)  # raises if it does not
        return {"said": said, "used_mb": torch.accelerator.max_memory_allocated() >> 20, "ok": True}

    yield "reduced precision", reduced
    for amp in ("no", "bf16"):
        yield f"deterministic twice, amp {amp}", lambda a=amp: twice(a)
    yield "kill and resume, amp no", lambda: killed("no")
    if not s.tiny:
        yield "kill and resume, amp bf16", lambda: killed("bf16")
    yield "out of memory", memory
