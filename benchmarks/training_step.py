"""Processor time of one training step on a CPU: ours, TPN without its matrix products, and the plain network of the same paper.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py tpn_slowonly tpn_tsm [--amp bf16] [--batch 1] [--repeat 3] [--plain] [--profile]

All forms take a step in turn, so that what else runs on the machine disturbs each alike; ratios are of the medians. --profile
prints what our step consists of. Clips are 8 frames (SlowOnly 4×16: 4, TSN: 3) of 224×224, the optimizer SGD with momentum.
"""

import argparse
import statistics
import time

import torch
from plain_networks import PlainNetwork, training_step

from clipwise.models import create_model, tpn
from clipwise.models.registry import model_arguments

NETWORKS = {
    "tsn": ("tsn_r50", 3),
    "tsm": ("tsm_r50", 8),
    "slowonly": ("slowonly_r50", 4),
    "tpn_slowonly": ("tpn_slowonly_r50", 8),
    "tpn_tsm": ("tpn_tsm_r50", 8),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--amp", choices=("no", "bf16"), default="no")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--plain", action="store_true", help="also the plain network of the same paper (slow)")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    print(f"{'s of processor time':14s} amp {args.amp}, batch {args.batch}, {torch.get_num_threads()} thread(s)")
    for kind in args.networks:
        compare(kind, args)


def compare(kind: str, args: argparse.Namespace) -> None:
    name, frames = NETWORKS[kind]
    settings = {"num_segments": frames} if "num_segments" in model_arguments(name) else {}
    torch.manual_seed(0)
    ours = create_model(name, num_classes=400, **settings)
    networks = [ours, *([PlainNetwork(kind, 400, frames)] if args.plain else [])]
    clips, labels = torch.randn(args.batch, 3, frames, args.size, args.size), torch.zeros(args.batch, dtype=torch.long)
    optimizers = {m: torch.optim.SGD(m.parameters(), 1e-4, momentum=0.9, weight_decay=1e-4) for m in networks}
    as_product = tpn.convolve
    forms = {"ours": (ours, as_product)}
    if kind.startswith("tpn"):
        forms["before"] = (ours, lambda x, conv: conv(x))
    if args.plain:
        forms["plain"] = (networks[1], as_product)
    seconds: dict[str, list[float]] = {form: [] for form in forms}

    def step(form: str) -> float:
        network, tpn.convolve = forms[form]
        began = time.process_time()
        training_step(network.train(), optimizers[network], clips, labels, args.amp == "bf16")
        return time.process_time() - began

    for number in range(args.repeat + 1):
        for form in forms:
            spent = step(form)
            if number:  # the first step makes the library's code
                seconds[form].append(spent)
    tpn.convolve = as_product
    middle = {form: statistics.median(values) for form, values in seconds.items()}
    words = [f"{form} {s:.2f} ({s / middle['ours']:.2f}×)" for form, s in middle.items()]
    print(f"  {kind:14s} {', '.join(words)}", flush=True)
    if args.profile:
        with torch.profiler.profile() as profile:
            step("ours")
        events = profile.key_averages()
        total = sum(event.self_cpu_time_total for event in events)
        for event in sorted(events, key=lambda e: -e.self_cpu_time_total)[:12]:
            print(f"    {event.self_cpu_time_total / total:6.1%}  {event.key}")


if __name__ == "__main__":
    main()
