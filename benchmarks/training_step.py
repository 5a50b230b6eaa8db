"""Processor time of one training step on a CPU, beside MMAction2's or the plain network of the same paper.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py [slowonly_4x16 tpn_tsm …] --peer PYTHON [--batch 1] [--repeat 3] [--json FILE]
    OMP_NUM_THREADS=1 python benchmarks/training_step.py tpn_slowonly --precision bf16 [--compile] [--plain] [--profile]

All forms take a step in turn, so that what else runs on the machine disturbs each alike; ratios are of the medians. PYTHON is the
interpreter of MMAction2's environment (``peer_mmaction2.py`` says how to make it); it computes in fp32, the only thing that it can do on
a CPU. --profile prints what our step consists of. Frames are 224×224, the optimizer SGD with momentum and clipping.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from peer_mmaction2 import Peer
from plain_networks import PlainNetwork, training_step

from clipwise.engine.cpu_kernels import keep_memory, use_products
from clipwise.models import create_model
from clipwise.models.registry import model_arguments

NETWORKS = {
    "tsn": ("tsn_r50", 8),
    "tsm": ("tsm_r50", 8),
    "tsm_nl": ("tsm_r50_nl", 8),
    "slowonly_4x16": ("slowonly_r50", 4),
    "slowonly_8x8": ("slowonly_r50", 8),
    "slowonly_nl": ("slowonly_r50_nl", 4),
    "tpn_slowonly": ("tpn_slowonly_r50", 8),
    "tpn_tsm": ("tpn_tsm_r50", 8),
}
GOAL = {"fp32": {1: 1.0, 4: 1.0}, "bf16": {1: 2.3, 4: 2.6}}
"""By precision and batch: how many times the peer's speed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter that has MMAction2")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--compile", action="store_true", help="each of them also compiled")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--plain", action="store_true", help="also the plain network of the same paper (slow)")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", metavar="FILE", help="add the seconds to this file")
    args = parser.parse_args()
    keep_memory()  # as training does
    peer = Peer(args.peer, torch.get_num_threads()) if args.peer else None
    versions = f", MMAction2 {peer.versions['mmaction2']} on torch {peer.versions['torch']}" if peer else ""
    print(
        f"s of processor time a step, batch {args.batch}, {torch.get_num_threads()} thread(s), torch {torch.__version__}{versions}"
    )
    for kind in args.networks:
        seconds = measure(kind, args, peer)
        report(kind, seconds, args.batch)
        if args.json:
            path = Path(args.json)
            found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            found[f"{kind}, batch {args.batch}"] = seconds
            path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if peer:
        peer.close()
        goals = (f"{name} {GOAL[name][args.batch]:.1f}×" for name in args.precision if args.batch in GOAL[name])
        print(f"  {'goal':14s} {', '.join(goals)} of the peer's speed")


def measure(kind: str, args: argparse.Namespace, peer: Peer | None) -> dict[str, list[float]]:
    """Seconds of each form's steps."""
    name, frames = NETWORKS[kind]
    clips = torch.randn(args.batch, 3, frames, args.size, args.size)
    labels = torch.zeros(args.batch, dtype=torch.long)
    forms: dict[str, Callable[[], float]] = {}
    if peer:
        peer.ask("build", kind=kind, frames=frames, batch=args.batch, size=args.size)
        forms["peer"] = lambda: peer.ask("step")

    def add(form: str, network: torch.nn.Module, amp: bool) -> None:
        optimizer = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.9, weight_decay=1e-4)

        def step() -> float:
            began = time.process_time()
            training_step(network, optimizer, clips, labels, amp)
            return time.process_time() - began

        forms[form] = step

    for precision in args.precision:
        for compiled in (False, True)[: 1 + args.compile]:
            settings = {"num_segments": frames} if "num_segments" in model_arguments(name) else {}
            torch.manual_seed(0)
            network = create_model(name, num_classes=400, **settings).train()
            if compiled:
                network.compile()
            else:
                use_products(network, precision == "bf16")
            add(precision + " compiled" * compiled, network, precision == "bf16")
    if args.plain:
        for precision in args.precision:
            add(f"plain {precision}", PlainNetwork(kind.split("_4")[0], 400, frames).train(), precision == "bf16")
    seconds: dict[str, list[float]] = {form: [] for form in forms}
    for number in range(args.repeat + 1):
        for form, step in forms.items():
            spent = step()
            if number:  # the first step makes the library's code
                seconds[form].append(spent)
    if args.profile:
        for form in set(forms) - {"peer"}:
            profile(form, forms[form])
    return seconds


def report(kind: str, seconds: dict[str, list[float]], batch: int) -> None:
    middle = {form: statistics.median(values) for form, values in seconds.items()}
    words = []
    for form, value in middle.items():
        ratio = f" ({middle['peer'] / value:.2f}×)" if "peer" in middle and form != "peer" else ""
        words.append(f"{form} {value:.2f}{ratio}")
    print(f"  {kind:14s} {', '.join(words)}", flush=True)


def profile(form: str, step: Callable[[], float]) -> None:
    with torch.profiler.profile() as profile:
        step()
    events = profile.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    print(f"    {form}:")
    for event in sorted(events, key=lambda e: -e.self_cpu_time_total)[:12]:
        print(f"    {event.self_cpu_time_total / total:6.1%} {event.count:5d} {event.key}")


if __name__ == "__main__":
    main()
