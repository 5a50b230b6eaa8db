"""What benchmarks/gpu.py measures: each part is a list of named measurements, each a function that gives a dictionary."""

import functools
import gc
import importlib.util
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipwise.analyze.measure import synchronize
from clipwise.analyze.peak import matmul_peak
from clipwise.recipe import Recipe, load_recipe

# family -> recipe, overrides of the tiny form, kind of its stand-in
FAMILIES = {
    "SlowOnly 4x16": ("slowonly_r50_4x16x1_256e_kinetics400_rgb", "slowonly_tiny", {"clip_len": 4}, "slowonly"),
    "SlowOnly 8x8": ("slowonly_r50_8x8x1_256e_kinetics400_rgb", "slowonly_tiny", {}, "slowonly"),
    "TSM 8": ("tsm_r50_1x1x8_50e_kinetics400_rgb", "tsm_tiny", {}, "tsm"),
    "TSN 3": ("tsn_r50_1x1x3_100e_kinetics400_rgb", "tsn_tiny", {"num_segments": 3}, "tsn"),
    "TPN-SlowOnly 8x8": (
        "tpn_slowonly_r50_8x8x1_150e_kinetics_rgb",
        "slowonly_tiny",
        {"model": "tpn_slowonly_tiny"},
        "tpn_slowonly",
    ),
    "TPN-TSM 8": ("tpn_tsm_r50_1x1x8_150e_sthv1_rgb", "tsm_tiny", {"model": "tpn_tsm_tiny"}, "tpn_tsm"),
}
BMN = "bmn_400x100_2x8_9e_activitynet_feature"
FP32, TF32, BF16 = "fp32", "tf32", "bf16"
Measurement = tuple[str, Callable[[], dict[str, Any]]]


@dataclass
class Setting:
    """Where and how large.

    Attributes:
        tiny: small networks and little work, to see that everything runs.
        work: folder for videos, kept from part to part.
        done: measurements of all parts so far.
    """

    device: torch.device
    tiny: bool
    work: Path
    done: dict[str, dict[str, dict[str, Any]]]

    @property
    def seconds(self) -> float:
        return 0.0 if self.tiny else 2.0

    @property
    def on_cpu(self) -> bool:
        return self.device.type == "cpu"

    def recipe(self, family: str, **changes: Any) -> Recipe:
        """A family's recipe, without what only the data can switch on."""
        name, tiny, more, _ = FAMILIES[family]
        words = [f"{key}={json.dumps(value)}" for key, value in ((more if self.tiny else {}) | changes).items()]
        return load_recipe(tiny if self.tiny else name, words)

    def result(self, part: str, key: str) -> dict[str, Any] | None:
        """An earlier measurement, unless it failed."""
        found = self.done.get(part, {}).get(key)
        return None if found is None or "error" in found else found

    def kernels(self, *, tf32: bool = False, deterministic: bool = False) -> None:
        """What a run sets on an NVIDIA device."""
        if not self.on_cpu:
            from clipwise.engine.kernels import choose_kernels

            choose_kernels(tf32=tf32, deterministic=deterministic)

    def peak(self, precision: str) -> float:
        """TFLOP/s of a matrix product, measured once."""
        found = self.result("peak", precision)
        return found["tflops"] if found else matmul_peak(self.device, precision, size=256 if self.tiny else None)


def free() -> None:
    """Give a measurement's memory back."""
    torch._dynamo.reset()
    torch.use_deterministic_algorithms(False)
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


def timed(call: Callable[[], Any], device: torch.device, seconds: float, warmup: int = 3) -> float:
    """Seconds of one call: mean over at least so many seconds after a warm-up."""
    for _ in range(warmup):
        call()
    synchronize(device)
    began, count = time.perf_counter(), 0
    while True:
        call()
        count += 1
        if count % 4 == 0 or seconds == 0:
            synchronize(device)
            if time.perf_counter() - began >= seconds:
                return (time.perf_counter() - began) / count


# ------------------------------------------------------------------------------------------------ what the device can do


def peak(s: Setting) -> Iterator[Measurement]:
    size = 256 if s.tiny else None
    for precision in (FP32, TF32, BF16):
        yield precision, lambda p=precision: {"tflops": matmul_peak(s.device, p, size=size)}

    def copies() -> dict[str, Any]:
        count = 2**16 if s.tiny else 2**28
        a = torch.empty(count, device=s.device)
        b, host = torch.empty_like(a), torch.empty(count // 4, pin_memory=not s.on_cpu)
        inside = timed(lambda: b.copy_(a), s.device, s.seconds / 4)
        over = timed(lambda: a[: len(host)].copy_(host, non_blocking=True), s.device, s.seconds / 4)
        return {"device_gb_s": 8 * count / inside / 1e9, "host_to_device_gb_s": 4 * len(host) / over / 1e9}

    yield "copies", copies


# ------------------------------------------------------------------------------------------------ training


def step_speed(s: Setting, recipe: Recipe, precision: str, **options: Any) -> dict[str, Any]:
    """``clipwise bench --train`` on frames that lie on the device."""
    from clipwise.analyze.training_speed import measure_training, with_precision

    try:
        speed = measure_training(
            with_precision(recipe, precision),
            device="cpu" if s.on_cpu else None,
            repeats=2 if s.tiny else 3,
            min_s=s.seconds / 3,
            min_steps=1 if s.tiny else 5,
            warmup=1 if s.tiny else 4,
            peak_tflops=s.peak(precision),
            **options,
        ).to_dict()
    finally:
        free()
    return speed


def best_batch(s: Setting, measure: Callable[[int], dict[str, Any]], batches: tuple[int, ...]) -> dict[str, Any]:
    """The fastest of several batch sizes; one that does not fit ends the search."""
    best: dict[str, Any] = {}
    tried: dict[str, Any] = {}
    for batch in (2,) if s.tiny else batches:
        try:
            found = measure(batch)
        except torch.OutOfMemoryError:
            tried[str(batch)] = "out of memory"
            break
        tried[str(batch)] = round(found["clips_per_s"], 1)
        if not best or found["clips_per_s"] > best["clips_per_s"]:
            best = found
        elif found["clips_per_s"] < 0.97 * best["clips_per_s"]:
            break
    free()  # only now is the traceback gone that held what did not fit
    if not best:
        raise RuntimeError(f"no batch fits: {tried}")
    return {**best, "tried": tried}


def train(s: Setting) -> Iterator[Measurement]:
    for precision, batches in ((BF16, (64, 128, 256)), (TF32, (64, 128)), (FP32, (64,))):
        for family in FAMILIES:

            def measure(family: str = family, precision: str = precision, batches=batches) -> dict[str, Any]:
                return best_batch(
                    s, lambda batch: step_speed(s, s.recipe(family, batch_size=batch), precision), batches
                )

            if not (precision == TF32 and s.on_cpu):
                yield f"{family}, {precision}", measure


def _compiled(s: Setting, mode: str, families: tuple[str, ...]) -> Iterator[Measurement]:
    for family in families:

        def measure(family: str = family) -> dict[str, Any]:
            if s.tiny:  # the compiler's minutes would be all that such a run shows
                return {"skipped": "--tiny does not compile"}
            eager = s.result("train", f"{family}, {BF16}")
            batch = eager["batch_size"] if eager else 64
            return step_speed(s, s.recipe(family, batch_size=batch, compile=mode), BF16)

        yield f"{family}, {BF16}, {mode}", measure


def compile_default(s: Setting) -> Iterator[Measurement]:
    return _compiled(s, "default", tuple(FAMILIES))


def compile_autotune(s: Setting) -> Iterator[Measurement]:
    return _compiled(s, "max-autotune", ("SlowOnly 4x16", "TSM 8", "TPN-SlowOnly 8x8"))


def small_batch(s: Setting) -> Iterator[Measurement]:
    """What graphs save where launches, not arithmetic, take the time."""
    for mode in ("no", "reduce-overhead"):

        def measure(mode: str = mode) -> dict[str, Any]:
            if s.tiny and mode != "no":
                return {"skipped": "--tiny does not compile"}
            changes = {} if mode == "no" else {"compile": mode}
            return step_speed(s, s.recipe("SlowOnly 4x16", batch_size=2 if s.tiny else 8, **changes), BF16)

        yield f"SlowOnly 4x16, batch 8, {mode}", measure


def plain(s: Setting) -> Iterator[Measurement]:
    from plain_networks import PlainNetwork, training_step

    def measure(family: str, precision: str, batch: int) -> dict[str, Any]:
        recipe = s.recipe(family)
        frames, side = recipe.num_segments or recipe.clip_len, 32 if s.tiny else 224
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, precision != FP32
        try:
            torch.manual_seed(0)
            network = PlainNetwork(FAMILIES[family][3], 400, frames).to(s.device).train()
            optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
            clips = torch.randn(batch, 3, frames, side, side, device=s.device)
            labels = torch.randint(0, 400, (batch,), device=s.device)
            one = timed(
                lambda: training_step(network, optimizer, clips, labels, precision == BF16),
                s.device,
                s.seconds,
                1 if s.tiny else 4,
            )
        finally:
            network = optimizer = clips = None  # type: ignore[assignment]
            free()
        return {"clips_per_s": batch / one, "batch_size": batch}

    for precision in (BF16, TF32):
        for family in FAMILIES:
            if not (precision == TF32 and s.on_cpu) and not (s.tiny and family != "SlowOnly 4x16"):
                yield (
                    f"{family}, {precision}",
                    lambda f=family, p=precision: best_batch(s, functools.partial(measure, f, p), (32, 64, 128)),
                )


# ------------------------------------------------------------------------------------------------ test and BMN


def test(s: Setting) -> Iterator[Measurement]:
    from clipwise.analyze.measure import bench_model
    from clipwise.cli.bench import open_target

    def measure(family: str, precision: str, compiled: bool) -> dict[str, Any]:
        if compiled and s.tiny:
            return {"skipped": "--tiny does not compile"}
        name, tiny, _, _ = FAMILIES[family]
        s.kernels(tf32=precision != FP32)
        try:
            amp = "bf16" if precision == BF16 else "no"
            target = open_target(tiny if s.tiny else name, [], "cpu" if s.on_cpu else None, amp, None if s.tiny else 30)
            if compiled:
                target.model.compile()
            speed = bench_model(target, min_runs=2 if s.tiny else 10, min_s=s.seconds).to_dict()
        finally:
            free()
        return {**speed, "precision": precision, "compile": compiled}

    for family in ("SlowOnly 8x8", "SlowOnly 4x16", "TSM 8"):
        for precision, compiled in ((BF16, True), (BF16, False), (TF32, False), (FP32, False)):
            if not (s.on_cpu and precision == TF32) and not (s.tiny and family != "TSM 8"):
                mode = ", compiled" * compiled
                yield f"{family}, {precision}{mode}", lambda f=family, p=precision, c=compiled: measure(f, p, c)


def bmn(s: Setting) -> Iterator[Measurement]:
    from clipwise.models.boundary_matching import BoundaryMatching

    small = dict(feat_dim=16, temporal_dim=16, model_args={"hidden_dim": 16, "matching_dim": 16, "map_dim": 8})

    def step(precision: str, mode: str) -> dict[str, Any]:
        if mode != "no" and s.tiny:
            return {"skipped": "--tiny does not compile"}
        words = [f"{k}={json.dumps(v)}" for k, v in (small if s.tiny else {}).items()]

        def measure(batch: int) -> dict[str, Any]:
            changes = [f"batch_size={batch}", *([] if mode == "no" else [f"compile={mode}"])]
            return step_speed(s, load_recipe(BMN, [*words, *changes]), precision)

        return best_batch(s, measure, (16, 64, 256) if mode == "no" else (64,))

    def layer(method: str, precision: str, batch: int) -> dict[str, Any]:
        sizes = dict(in_channels=16, out_channels=16, temporal_dim=16, max_duration=16) if s.tiny else {}
        module = BoundaryMatching(method=method, **sizes).to(s.device)  # type: ignore[arg-type]
        shape = (batch, module.in_channels, module.temporal_dim)
        x = torch.randn(shape, device=s.device)

        def call(backward: bool) -> None:
            with torch.autocast(s.device.type, torch.bfloat16, enabled=precision == BF16):
                y = module(x.clone().requires_grad_() if backward else x)
            if backward:
                y.float().square().mean().backward()

        with torch.no_grad():
            forward = timed(lambda: call(False), s.device, s.seconds / 2)
        both = timed(lambda: call(True), s.device, s.seconds / 2)
        free()
        return {"forward_ms": 1000 * forward, "forward_backward_ms": 1000 * both, "batch_size": batch}

    for precision in (BF16, TF32, FP32):
        if not (s.on_cpu and precision == TF32):
            yield f"training step, {precision}", lambda p=precision: step(p, "no")
    yield f"training step, {BF16}, default", lambda: step(BF16, "default")
    for method in ("dense", "sparse"):
        for precision in (FP32, BF16):
            if not (method == "sparse" and precision == BF16):
                batch = 1 if s.tiny else 16
                yield f"layer, {method}, {precision}", lambda m=method, p=precision, b=batch: layer(m, p, b)


# ------------------------------------------------------------------------------------------------ decoding


def _encode(job: tuple[str, int, int, int, int]) -> None:
    """One video of drifting texture with a moving disk; x264 with its own key frames."""
    import av

    path, width, height, frames, seed = job
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    with av.open(path + ".part.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        noise = rng.normal(0, 3, (4, height, width)).astype(np.float32)
        for t in range(frames):
            wave = 110 + 50 * np.sin(x * 0.06 + t * 0.05 + seed) + 30 * np.sin(y * 0.09 - t * 0.03)
            disk = np.hypot(x - width * (0.5 + 0.3 * np.sin(t * 0.07)), y - height / 2) < height / 6
            image = np.clip(np.where(disk, 230, wave) + noise[t % 4], 0, 255).astype(np.uint8)
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.repeat(image[..., None], 3, axis=2), format="rgb24"))
            )
        container.mux(stream.encode())
    os.replace(path + ".part.mp4", path)


def videos(s: Setting, width: int, height: int, frames: int, count: int) -> list[Path]:
    """Files of that size, made once."""
    folder = s.work / f"{width}x{height}x{frames}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{n:03d}.mp4" for n in range(count)]
    jobs = [(str(p), width, height, frames, n) for n, p in enumerate(paths) if not p.is_file()]
    if len(jobs) > 2 and not s.tiny:
        with multiprocessing.get_context("spawn").Pool(os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count()) as pool:  # fmt: skip
            pool.map(_encode, jobs)
    else:
        for job in jobs:
            _encode(job)
    return paths


def kinetics_like(s: Setting) -> list[Path]:
    """10 s of 340×256 at 30 frames/s."""
    return videos(s, 96, 72, 40, 4) if s.tiny else videos(s, 340, 256, 300, 64)


def prepared(s: Setting) -> list[Path]:
    """The same after ``clipwise prepare resize``."""
    from clipwise.prepare.prepare import resize_videos

    source = kinetics_like(s)
    target = s.work / "prepared"
    resize_videos(source[0].parent, target, short_side=64 if s.tiny else 256, workers=1 if s.tiny else None)
    return [target / p.name for p in source]


def video_list(s: Setting, name: str, paths: list[Path], entries: int) -> str:
    """A list that goes round the files."""
    file = s.work / f"{name}.txt"
    file.write_text("".join(f"{paths[n % len(paths)].resolve()} {n % 400}\n" for n in range(entries)))
    return str(file)


def workers(s: Setting) -> int:
    return 0 if s.tiny else min(16, os.cpu_count() or 1)


def loader(s: Setting) -> Iterator[Measurement]:
    def measure(family: str, files: Callable[[Setting], list[Path]]) -> dict[str, Any]:
        from clipwise.analyze.training_speed import loader_speed

        paths = files(s)
        batch = 2 if s.tiny else 32
        recipe = s.recipe(family, batch_size=batch, num_workers=workers(s), num_classes=400)
        data = video_list(s, files.__name__, paths, 4 * batch if s.tiny else 4096)
        rate = loader_speed(
            recipe,
            data,
            warmup=1 if s.tiny else 8,
            min_s=4 * s.seconds,
            device="cpu" if s.on_cpu else None,
            limit=2 if s.tiny else None,
        )
        return {"clips_per_s": rate, "workers": workers(s)}

    for family in ("SlowOnly 4x16", "TSM 8"):
        for files in (kinetics_like, prepared):
            name = "as is" if files is kinetics_like else "prepared"
            yield f"{family}, {name}", lambda f=family, p=files: measure(f, p)


def together(s: Setting) -> Iterator[Measurement]:
    def measure(files: Callable[[Setting], list[Path]], **changes: Any) -> dict[str, Any]:
        eager = s.result("train", f"SlowOnly 4x16, {BF16}")
        batch = 2 if s.tiny else (eager["batch_size"] if eager else 64)
        recipe = s.recipe("SlowOnly 4x16", batch_size=batch, num_workers=workers(s), num_classes=400, **changes)
        data = video_list(s, files.__name__, files(s), 4 * batch if s.tiny else 8192)
        return step_speed(s, recipe, BF16, source="files", data=data)

    yield "SlowOnly 4x16, prepared", lambda: measure(prepared)
    fast = {"input.interpolation": "antialias", "input.fused_resize": True}
    yield "SlowOnly 4x16, prepared, fused resize", lambda: measure(prepared, **fast)
    yield "SlowOnly 4x16, as is", lambda: measure(kinetics_like)


def nvdec(s: Setting) -> Iterator[Measurement]:
    def measure(size: tuple[int, int], backend: str) -> dict[str, Any]:
        path = videos(s, *((96, 72, 40, 1) if s.tiny else (*size, 300, 1)))[0]
        if backend == "PyAV":
            from clipwise.video.decode import open_video

            def call() -> None:
                with open_video(str(path)) as reader:
                    reader.frames(np.arange(reader.num_frames))
        else:
            from torchcodec.decoders import VideoDecoder

            def call() -> None:
                decoder = VideoDecoder(str(path), device=str(s.device) if backend == "NVDEC" else "cpu")
                decoder.get_frames_in_range(0, len(decoder))

        frames = 40 if s.tiny else 300
        return {"frames_per_s": frames / timed(call, s.device, s.seconds, 1)}

    for size in ((340, 256), (1920, 1080)):
        for backend in ("PyAV", "TorchCodec CPU", "NVDEC"):

            def call(size=size, backend=backend) -> dict[str, Any]:
                if backend == "NVDEC" and s.on_cpu:
                    return {"skipped": "no NVDEC on a CPU"}
                if backend != "PyAV" and importlib.util.find_spec("torchcodec") is None:
                    return {"skipped": "torchcodec is not installed"}
                return measure(size, backend)

            yield f"{size[0]}x{size[1]}, {backend}", call
