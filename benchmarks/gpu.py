"""Everything that can only be measured on a GPU, in parts that resume; makes its own videos and writes docs/en/speed.md's tables.

    python benchmarks/gpu.py --list
    python benchmarks/gpu.py [--part NAME …] [--results FILE] [--minutes 8]      measure what FILE does not hold yet
    python benchmarks/gpu.py --write [--results FILE]                            the tables, from FILE
    python benchmarks/gpu.py --device cpu --tiny                                 does everything run?

Needs clipwise's own dependencies and nothing else; TorchCodec is measured where it is installed. After every measurement the
results are written, so a part that is stopped goes on where it was. Without --part each part runs in a process of its own, one
after the other, the most telling first. --minutes ends a part before its next measurement when the time is up.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]
# for the runs that are killed and resumed, if clipwise is not installed
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])

import gpu_checks  # noqa: E402
import gpu_inference  # noqa: E402
import gpu_parts  # noqa: E402
import gpu_tables  # noqa: E402
import torch  # noqa: E402

# Most telling first; the minutes that each may take on a fast device.
PARTS = {
    "peak": (gpu_parts.peak, "rate of matrix products and of copies", 1),
    "train": (gpu_parts.train, "training steps of every family in bf16, TF32 and fp32, at the best batch", 5),
    "golden": (gpu_checks.golden, "logits against MMAction2's own, and against the CPU", 1),
    "run": (gpu_checks.run, "bf16 accuracy, deterministic runs, kill and resume, out of memory", 4),
    "plain": (gpu_parts.plain, "the same papers' plain networks (stand-in for MMAction2)", 4),
    "together": (gpu_parts.together, "training from video files", 3),
    "test": (gpu_parts.test, "30-view test", 2),
    "bmn": (gpu_parts.bmn, "BMN's step and its layer in each form", 2),
    "compile": (gpu_parts.compile_default, "training with torch.compile", 6),
    "loader": (gpu_parts.loader, "reading videos alone", 2),
    "small": (gpu_parts.small_batch, "small batches with and without CUDA graphs", 2),
    "autotune": (gpu_parts.compile_autotune, "training with compile: max-autotune", 8),
    "graphs": (gpu_inference.graphs, "one clip or sequence at a time, with and without CUDA graphs", 1),
    "clips": (gpu_inference.device_clips, "training clips decoded on the device, and how far their colors are off", 1),
    "nvdec": (gpu_parts.nvdec, "decoding on the device", 1),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), metavar="NAME", help="only these; see --list")
    parser.add_argument("--list", action="store_true", help="name the parts")
    parser.add_argument("--results", type=Path, default=Path("gpu_results.json"), help="read and added to")
    parser.add_argument("--minutes", type=float, default=8.0, help="of one part (default 8)")
    parser.add_argument("--only", metavar="TEXT", help="measurements whose name has this in it")
    parser.add_argument("--again", action="store_true", help="measure once more what is there")
    parser.add_argument("--retry", action="store_true", help="measure once more what failed")
    parser.add_argument("--device", choices=("cpu",), help="stay off an accelerator")
    parser.add_argument("--tiny", action="store_true", help="small networks and little work")
    parser.add_argument("--work", type=Path, help="folder for videos (default: one in the system's temporary folder)")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/en/speed.md")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "en" / "speed.md", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.list:
        for name, (_, what, minutes) in PARTS.items():
            print(f"{name:10s} about {minutes} min  {what}")
        return 0
    if args.write:
        gpu_tables.write_page(args.page, json.loads(args.results.read_text(encoding="utf-8")))
        return 0
    if args.part is None and not args.tiny:
        return _each_in_its_process(args)
    device = torch.device("cpu") if args.device or not torch.accelerator.is_available() else torch.device("cuda")
    work = args.work or Path(tempfile.gettempdir()) / f"clipwise-gpu-{os.getuid()}{'-tiny' * args.tiny}"
    results = json.loads(args.results.read_text(encoding="utf-8")) if args.results.is_file() else {}
    results |= _about(device)
    done = results.setdefault("parts", {})
    setting = gpu_parts.Setting(device, args.tiny, work, done)
    failed = 0
    if "run" in (args.part or ()):  # cuBLAS reads it once, at its start
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for part in args.part or PARTS:
        failed += _measure(part, setting, results, args)
    return min(failed, 1)


def _measure(part: str, setting: Any, results: dict[str, Any], args: argparse.Namespace) -> int:
    """Take a part's measurements that are missing; how many failed."""
    began, failed = time.perf_counter(), 0
    found = setting.done.setdefault(part, {})
    for name, call in PARTS[part][0](setting):
        if args.only and args.only not in name:
            continue
        if name in found and not args.again and not (args.retry and "error" in found[name]):
            continue
        if time.perf_counter() - began > 60 * args.minutes:
            print(f"{part}: {args.minutes:g} minutes are over; call it again for the rest", flush=True)
            return failed
        start = time.perf_counter()
        try:
            value = call()
        except Exception as error:  # one measurement's failure is no other's
            value = {"error": f"{type(error).__name__}: {error}"[:2000], "trace": traceback.format_exc()[-3000:]}
            gpu_parts.free()
        failed += "error" in value or value.get("ok") is False
        found[name] = {**value, "seconds": round(time.perf_counter() - start, 2)}
        _keep(args.results, results)
        print(f"{part}: {name}: {_short(found[name])}", flush=True)
    return failed


def _each_in_its_process(args: argparse.Namespace) -> int:
    """A device error that ends one process leaves the next part unharmed."""
    given = sys.argv[1:]
    codes = []
    for part in PARTS:
        try:
            done = subprocess.run([sys.executable, __file__, *given, "--part", part], timeout=60 * args.minutes + 120)
            codes.append(done.returncode)
        except subprocess.TimeoutExpired:
            print(f"{part}: stopped; what it had measured is kept", flush=True)
            codes.append(1)
    return max(codes)


def _about(device: torch.device) -> dict[str, Any]:
    from clipwise.analyze.training_speed import device_name, versions

    return {"device": device_name(device), "versions": versions(), "cores": os.cpu_count()}


def _keep(path: Path, results: dict[str, Any]) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _short(value: dict[str, Any]) -> str:
    keys = (
        "error", "skipped", "ok", "clips_per_s", "batch_size", "share_of_peak", "videos_per_s", "frames_per_s", "tflops",
        "forward_ms", "forward_backward_ms", "device_gb_s", "host_to_device_gb_s", "fp32_from_reference", "said", "tried", "seconds",
    )  # fmt: skip
    shown = {k: (f"{value[k]:.4g}" if isinstance(value[k], float) else value[k]) for k in keys if k in value}
    return ", ".join(f"{k} {v}" for k, v in shown.items())


if __name__ == "__main__":
    sys.exit(main())
