"""Nothing in a step waits for the device: copies on a stream of their own, numbers fetched a step late, one layout.

There is no GPU in these tests. Streams and events are stand-ins that write down what was asked of them in which order;
benchmarks/gpu.py takes the real ones.
"""

import contextlib
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from clipwise.data.loader import prefetch, to_device
from clipwise.data.side_stream import SideStream
from clipwise.engine import out_of_memory, train
from clipwise.engine.average import MovingAverage
from clipwise.engine.device import fetch_later
from clipwise.engine.kernels import choose_kernels, keep_channels_last
from clipwise.engine.network import make_optimizer
from clipwise.errors import WorkError
from clipwise.recipe import load_recipe

TINY = ["epochs=1", "warmup_epochs=0", "batch_size=8", "num_workers=0", "amp=no", "log.every=1"]


class Streams:
    """What ``torch.cuda`` offers, as far as copies need it."""

    def __init__(self):
        self.asked: list[str] = []
        self.now = "computing"

    def Stream(self, device):  # noqa: N802 - torch's name
        return FakeStream(self, "side")

    def current_stream(self, device):
        return FakeStream(self, self.now)

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.now = self.now, stream.name
        yield
        self.now = before


class FakeStream:
    def __init__(self, streams, name):
        self.streams, self.name = streams, name

    def record_event(self):
        self.streams.asked.append(f"event on {self.name}")
        return f"event of {self.name}"

    def wait_event(self, event):
        self.streams.asked.append(f"{self.name} waits for {event}")


class Watched(torch.Tensor):
    """A tensor that notes on which stream it is copied, and for which it is kept."""

    streams: Streams

    def to(self, *args, **kwargs):
        assert kwargs["non_blocking"]
        self.streams.asked.append(f"copy on {self.streams.now}")
        return self

    def record_stream(self, stream):
        self.streams.asked.append(f"kept for {stream.name}")


def test_copies_have_a_stream_of_their_own():
    Watched.streams = streams = Streams()
    batch = {"frames": torch.zeros(2).as_subclass(Watched), "label": torch.zeros(2).as_subclass(Watched), "index": [1]}
    moved = SideStream(torch.device("cpu"), partial(to_device, device=torch.device("cpu")), streams).copy(batch)
    assert moved["index"] == [1]
    assert streams.asked == [
        "copy on side",
        "copy on side",
        "event on side",
        "computing waits for event of side",
        "kept for computing",
        "kept for computing",
    ]
    assert streams.now == "computing"


def test_a_cpu_needs_no_copies():
    batches = [{"frames": torch.zeros(1)}, {"frames": torch.ones(1)}]
    assert [b["frames"] is x["frames"] for b, x in zip(batches, prefetch(batches, torch.device("cpu")))] == [True, True]


def test_a_number_is_fetched():
    assert fetch_later(torch.tensor(3.5, requires_grad=True))() == 3.5
    assert math.isnan(fetch_later(torch.tensor(math.nan))())


def test_no_step_reads_a_number_of_its_own(clips, tmp_path, monkeypatch):
    """``fetch_later`` is all that looks at the device, and only at the step before."""
    order = []

    def later(value):
        step = len([x for x in order if x == "asked"])
        order.append("asked")
        return lambda: order.append(f"read {step}") or value.item()

    reads = []
    scalar = torch.ops.aten._local_scalar_dense.default

    class Mode(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is scalar and "read" not in str(order[-1:]):
                reads.append(args)
            return func(*args, **(kwargs or {}))

    original = train.Run.learn

    def learn(self, *args):
        with Mode():
            figures = original(self, *args)
        order.append("step")
        return figures

    monkeypatch.setattr(train, "fetch_later", later)
    monkeypatch.setattr(train.Run, "learn", learn)
    words = [*TINY, "ema_decay=0.9", "grad_clip=1", "optimizer=sgd", "weight_decay=0.0001"]
    monkeypatch.setattr(MovingAverage, "update_parameters", quiet(MovingAverage.update_parameters, order))
    train.train(load_recipe("tsm_tiny", words), data=str(clips), work_dir=tmp_path, validate=False, quiet=True)
    assert not reads
    assert order[:6] == ["averaged", "asked", "step", "read 0", "averaged", "asked"]


def quiet(call, order):
    """The average's own counter lies in the host's memory; reading it is no wait, which a CPU test can't tell."""

    def update(self, model):
        assert self.n_averaged.device.type == "cpu"
        with torch.utils._python_dispatch._disable_current_modes():
            call(self, model)
        order.append("averaged")

    return update


@pytest.mark.parametrize("ramp", [True, False])
def test_the_average_is_torchs(ramp):
    decay = 0.8
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def update(averages, values, count):
        steps = int(count)
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1 - (min(decay, (1 + steps) / (10 + steps)) if ramp else decay))
        else:
            torch._foreach_copy_(averages, values)

    ours, theirs = MovingAverage(model, decay, ramp), AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    if not ramp:
        theirs.n_averaged.fill_(1)
    for _ in range(5):
        model(torch.randn(2, 3, 8, 8))
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        ours.update_parameters(model)
        theirs.update_parameters(model)
    mine, reference = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(reference)
    assert all(torch.equal(mine[key], reference[key]) for key in mine)


def test_kernels_lie_as_maps_do():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3), nn.Linear(3, 4))
    before = [p.detach().clone() for p in model.parameters()]
    keep_channels_last(model)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[1].weight.is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))


def test_an_odd_batch_is_not_compiled(clips, tmp_path, monkeypatch):
    stances = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, mode: stances.append(mode))
    monkeypatch.setattr(torch.compiler, "set_stance", lambda stance: stances.append(stance) or contextlib.nullcontext())
    words = [*TINY, "batch_size=10", "compile=max-autotune"]  # 24 clips: 10, 10, 4
    train.train(load_recipe("tsm_tiny", words), data=str(clips), work_dir=tmp_path, validate=False, quiet=True)
    assert stances == ["max-autotune", "force_eager"]


def test_the_optimizer_is_one_kernel_where_that_is_faster(monkeypatch):
    model, given = nn.Linear(2, 2), []

    class Optimizer:
        def __init__(self, groups, **options):
            given.append(options["fused"])

    monkeypatch.setattr(torch.optim, "SGD", Optimizer)
    for device_types, word in (((), "null"), (("cpu",), "null"), (("cpu",), "false"), ((), "true")):
        monkeypatch.setattr("clipwise.engine.network._FUSED", device_types)
        make_optimizer(model, load_recipe("slowonly_tiny", ["optimizer=sgd", f"optim.fused={word}"]), 0.1)
    assert given == [None, True, None, True]


def test_fp32s_precision_is_a_choice():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    try:
        choose_kernels(tf32=True, deterministic=False)
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == ("high", True)
        choose_kernels(tf32=False, deterministic=True)
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == ("highest", False)
        assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = before[1:]


def test_out_of_memory_names_the_batch_that_fits(clips, tmp_path, monkeypatch):
    from clipwise.models.cost import measure_cost
    from clipwise.models.recipe_model import build_model

    def loss(self, *args):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("clipwise.engine.recognition.RecognitionTask.loss", loss)
    recipe = load_recipe("slowonly_tiny", [*TINY, "batch_size=500"])
    cost = measure_cost(lambda: build_model(recipe, 6), (3, 8, 64, 80))
    # room for the weights, their gradients and moments, and ten clips with what comes on top
    total = (cost.training_bytes(0, "adamw") + 10.5 * 1.25 * cost.saved_bytes) / 0.92
    for memory, said in ((total, r"About batch_size=10 fits.*accumulate=50 .* 500 samples"), (1, "Not even one sample"), (None, "smaller batch_size")):  # fmt: skip
        monkeypatch.setattr(out_of_memory, "device_memory", lambda device, m=memory: m)
        with pytest.raises(WorkError, match=said):
            train.train(recipe, data=str(clips), work_dir=tmp_path, validate=False, quiet=True)
