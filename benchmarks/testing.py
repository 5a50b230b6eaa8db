"""Processor time and memory of one video's views on a CPU: MMAction2, our network as it is, and the forms that `clipwise test` takes.

    OMP_NUM_THREADS=1 python benchmarks/testing.py --peer PYTHON [--views 30] [--repeat 2] [--forms plain fp32 bf16] [--int8 FILE]

SlowOnly ResNet-50 4×16, views of 4 frames of 256×256 (ten clips, three crops), random weights. Every form has a process of its own,
whose peak memory counts; they score the video in turn, so that what else runs on the machine disturbs each alike. PYTHON is the
interpreter of MMAction2's environment (``peer_mmaction2.py``). FILE is an export of the same network, which is timed as well:
``clipwise export CKPT --format openvino --int8 --calibration LIST``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from types import SimpleNamespace

from peer_mmaction2 import Peer, peak_mb

FORMS = {"plain": "as it is, fp32", "fp32": "fused, fp32", "bf16": "fused, bf16", "int8": "exported, int8"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter that has MMAction2")
    parser.add_argument("--views", type=int, default=30)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--forms", nargs="+", choices=list(FORMS)[:3], default=list(FORMS)[:3])
    parser.add_argument("--int8", metavar="FILE", help="also this export")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args)
        return
    forms = {form: Ours(form, args) for form in [*args.forms, *(["int8"] if args.int8 else [])]}
    peer = Peer(args.peer) if args.peer else None
    if peer:
        peer.ask("build", kind="slowonly_4x16", frames=4, batch=1, size=args.size, views=args.views)
    found: dict[str, list[dict]] = {name: [] for name in (["peer"] if peer else []) + list(forms)}
    for number in range(args.repeat + 1):
        for name, answers in found.items():
            answer = peer.ask("test") if name == "peer" and peer else forms[name].score()
            if number:  # the first one makes graphs and the library's code
                answers.append(answer)
    middle = {name: statistics.median(answer["seconds"] for answer in answers) for name, answers in found.items()}
    print(f"{args.views} views of 4 frames of {args.size}×{args.size}, one thread, s of processor time")
    for name, answers in found.items():
        ratio = f"{middle['peer'] / middle[name]:.2f}×" if peer else ""
        what = "MMAction2" if name == "peer" else f"clipwise, {FORMS[name]}"
        print(f"  {what:24s} {middle[name]:6.2f} s {ratio:6s} {max(answer['memory_mb'] for answer in answers):5d} MB")
        for form in forms.values():
            form.process.stdin.close()


class Ours:
    """A process that scores the video when told to."""

    def __init__(self, form: str, args: argparse.Namespace):
        words = [sys.executable, __file__, "--worker", form, "--views", str(args.views), "--size", str(args.size)]
        if form == "int8":
            words += ["--int8", args.int8]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def score(self) -> dict:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def work(args: argparse.Namespace) -> None:
    """Score the video once for each line of input, as ``clipwise test`` does from decoded frames on."""
    import torch

    from clipwise.engine.cpu_inference import fastest
    from clipwise.export.runtimes import load_exported_model
    from clipwise.models import create_model
    from clipwise.tasks.logits import score_clip

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if args.worker == "int8":
        model, _ = load_exported_model(args.int8)
    else:
        model = create_model("slowonly_r50", num_classes=400).eval()
    if args.worker in ("fp32", "bf16"):
        model, _ = fastest(model, "bf16" if args.worker == "bf16" else "no")
    frames = torch.randint(0, 256, (1, args.views, 4, args.size, args.size, 3), dtype=torch.uint8)
    spec = SimpleNamespace(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    for _ in sys.stdin:
        began = time.process_time()
        score_clip(model, frames, spec)
        print(json.dumps({"seconds": time.process_time() - began, "memory_mb": peak_mb()}), flush=True)


if __name__ == "__main__":
    main()
