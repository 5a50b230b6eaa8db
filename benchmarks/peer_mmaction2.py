"""MMAction2 in a process of its own, which takes a step when it is told to: the other side of interleaved measurements.

Started by :class:`Peer` with the interpreter of MMAction2's environment (CPU; its wheel can't import its own models without
the stand-ins below):

    python -m venv peer
    peer/bin/pip install torch==2.13.0 'numpy<2' mmengine==0.10.7 mmcv-lite==2.1.0 importlib_metadata einops decord 'setuptools<81'
    peer/bin/pip install --no-deps mmaction2==1.2.0

Lines of JSON in, lines of JSON out. Networks are those of the published configs, with random weights. All of it is fp32: on a CPU
MMEngine's AmpOptimWrapper refuses to start, and under an autocast put around it by hand the heads stop at a bf16 array.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any

CONFIGS = {
    "tsn": "tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb.py",
    "tsm": "tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb.py",
    "tsm_nl": "tsm/tsm_imagenet-pretrained-r50-nl-embedded-gaussian_8xb16-1x1x8-50e_kinetics400-rgb.py",
    "slowonly_4x16": "slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb.py",
    "slowonly_8x8": "slowonly/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb.py",
    "slowonly_nl": "slowonly/slowonly_r50-in1k-pre-nl-embedded-gaussian_8xb16-4x16x1-steplr-150e_kinetics400-rgb.py",
    "tpn_slowonly": "tpn/tpn-slowonly_r50_8xb8-8x8x1-150e_kinetics400-rgb.py",
    "tpn_tsm": "tpn/tpn-tsm_imagenet-pretrained-r50_8xb8-1x1x8-150e_sthv1-rgb.py",
}


class Peer:
    """Our handle on that process.

    Args:
        python: its interpreter.
        threads: of torch there.
    """

    def __init__(self, python: str, threads: int = 1):
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [python, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        self.versions = self._answer()

    def ask(self, call: str, **arguments: Any) -> Any:
        """Run one of :class:`Worker`'s methods there."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps([call, arguments]) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the peer's process ended ({self.process.wait()}); see its messages above.")
        return json.loads(line)


class Worker:
    """What the peer's process does."""

    def __init__(self) -> None:
        warnings.simplefilter("ignore")
        _stand_ins()
        import mmaction
        import torch
        from mmaction.utils import register_all_modules

        register_all_modules()
        self.torch = torch
        self.configs = Path(mmaction.__file__).parent / ".mim" / "configs" / "recognition"
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.network: Any = None
        self.versions = {"mmaction2": mmaction.__version__, "torch": torch.__version__}

    def build(self, kind: str, frames: int, batch: int, size: int, views: int = 0, weights: str = "") -> int:
        """A network of the published configs, with its optimizer and a batch (``views``: one video's views to test).

        Returns: its number of parameters.
        """
        from mmaction.registry import MODELS
        from mmaction.structures import ActionDataSample
        from mmengine import Config
        from mmengine.optim import build_optim_wrapper

        torch = self.torch
        config = Config.fromfile(str(self.configs / CONFIGS[kind]))
        model = config.model
        model.backbone.pretrained = None
        if "init_cfg" in model.backbone:
            model.backbone.pop("init_cfg")
        torch.manual_seed(0)
        self.network = MODELS.build(model)
        if weights:
            self.network.load_state_dict(torch.load(weights))
        flat = model.type == "Recognizer2D"
        count = views or 1
        shape = (count * frames, 3, size, size) if flat else (count, 3, frames, size, size)
        self.inputs = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
        self.samples = [ActionDataSample().set_gt_label(0) for _ in range(batch)]
        self.optimizer = None if views else build_optim_wrapper(self.network, config.optim_wrapper)
        return sum(p.numel() for p in self.network.parameters())

    def step(self) -> float:
        """One training step in fp32 by its optimizer wrapper, clipping as configured: seconds of processor time."""
        self.network.train()
        began = time.process_time()
        losses = self.network(self.inputs, self.samples, mode="loss")
        loss, _ = self.network.parse_losses(losses)
        self.optimizer.update_params(loss)
        return time.process_time() - began

    def test(self) -> dict[str, Any]:
        """One video's views as ``tools/test.py`` scores them: seconds, the process's peak memory, the scores."""
        self.network.eval()
        began = time.process_time()
        with self.torch.no_grad():
            (found,) = self.network(self.inputs, self.samples, mode="predict")
        spent = time.process_time() - began
        return {"seconds": spent, "memory_mb": peak_mb(), "scores": found.pred_score.tolist()}


def peak_mb() -> int:
    """Largest memory of this process so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _stand_ins() -> None:
    """Modules that MMAction2 1.2.0 imports though its wheel lacks them (DRN), or that want packages that no network here uses."""
    for name, content in {
        "mmaction.models.localizers.drn": {},
        "mmaction.models.localizers.drn.drn": {"DRN": type("DRN", (), {})},
        "mmaction.models.multimodal": {"__all__": []},
        "mmaction.models.similarity": {"__all__": []},
    }.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        sys.modules[name] = module


def serve() -> None:
    """Answer calls until the input ends."""
    answers = os.fdopen(os.dup(1), "w")  # whatever the peer prints goes elsewhere
    os.dup2(2, 1)
    worker = Worker()
    print(json.dumps(worker.versions), file=answers, flush=True)
    for line in sys.stdin:
        call, arguments = json.loads(line)
        print(json.dumps(getattr(worker, call)(**arguments)), file=answers, flush=True)


if __name__ == "__main__":
    serve()
