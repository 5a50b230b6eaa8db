"""Describe this machine and what is installed; the first thing to put into a bug report."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform
import re
import shutil

from clipwise.cli.common import print_json, print_table

_OPTIONAL = {
    "tensorboard": "tb",
    "onnx": "export",
    "onnxruntime": "export",
    "openvino": "openvino",
    "opencv-contrib-python-headless": "flow",
    "fastapi": "serve",
    "torchcodec": "codec",
    "ray": "ray",
}


TORCH = (2, 11), (2, 15), (2, 13)
PYTHON = (3, 11), (3, 14), (3, 13)
"""Oldest and newest supported version, and the newest with which the test suite was run."""


def check_versions(torch: str, python: str) -> list[str]:
    """A sentence for each of the two that is older or newer than what is supported.

    Args:
        torch, python: versions, such as 2.13.0+cpu.
    """
    advice = []
    for name, version, (oldest, newest, tested) in (("torch", torch, TORCH), ("Python", python, PYTHON)):
        own = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        span = f"{'.'.join(map(str, oldest))} to {'.'.join(map(str, newest))}"
        if own > newest:
            advice.append(
                f"{name} {version} is newer than what clipwise supports ({span}): results and speed may differ."
            )
        elif own > tested:
            advice.append(
                f"{name} {version} is supported ({span}), but the test suite was last run with {'.'.join(map(str, tested))}."
            )
        elif own < oldest:
            advice.append(f"{name} {version} is older than what clipwise supports ({span}).")
    return advice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has no options of its own."""


def run(args: argparse.Namespace) -> int:
    import torch

    import clipwise
    from clipwise.io.devices import default_device

    device = default_device()
    facts: dict[str, object] = {
        "clipwise": clipwise.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "device": str(device),
        "devices": torch.accelerator.device_count() if torch.accelerator.is_available() else 0,
        "free disk here (GB)": round(shutil.disk_usage(".").free / 1e9, 1),
    }
    shm = shutil.disk_usage("/dev/shm").free / 1e9 if os.path.isdir("/dev/shm") else None
    if shm is not None:
        facts["free shared memory (GB)"] = round(shm, 1)
    advice = check_versions(torch.__version__, platform.python_version())
    if shm is not None and shm < 1:
        advice.append(
            "little shared memory: loader processes may hang or die; enlarge /dev/shm (containers: --shm-size) or set num_workers=0."
        )
    for package in ("numpy", "av", "accelerate", "pydantic", "safetensors"):
        facts[package] = _version(package) or "MISSING"
        if facts[package] == "MISSING":
            advice.append(f"{package} is missing: pip install clipwise again.")
    for package, extra in _OPTIONAL.items():
        facts[package] = _version(package) or f"not installed (pip install 'clipwise[{extra}]')"
    if _version("torchvision"):
        try:
            importlib.import_module("torchvision")
        except Exception as error:
            advice.append(
                f"torchvision is installed but can't be imported ({error}); clipwise does not need it, other libraries may stumble over it."
            )
    if args.json:
        print_json({**facts, "advice": advice})
    else:
        print_table(facts.items())
        print("\n".join(advice) if advice else "no problems found")
    return 0


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
