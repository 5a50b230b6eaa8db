"""Products are the convolutions they stand for, and memory that is kept costs no page faults."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from clipwise.engine import cpu_kernels, network
from clipwise.engine.cpu_kernels import use_products
from clipwise.engine.train import train
from clipwise.recipe import load_recipe


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [
        ((1, 1), (1, 1), (0, 0), (9, 8)),
        ((1, 1), (2, 2), (0, 0), (9, 8)),
        ((3, 3), (1, 1), (1, 1), (6, 7)),
        ((3, 3), (2, 2), (1, 1), (9, 6)),
        ((3, 1), (1, 1), (1, 0), (4, 49)),
    ],
)
def test_a_product_is_the_convolution(kernel, stride, padding, size, everything, monkeypatch):
    monkeypatch.setattr(cpu_kernels, "_MANY", 1)
    monkeypatch.setattr(cpu_kernels, "_VERY_MANY", 1 if everything else 2**60)
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, kernel, stride, padding, bias=False)
    exact = copy.deepcopy(conv).bfloat16().double()  # what bf16 numbers give when sums are exact
    use_products(conv, True)
    conv = copy.deepcopy(conv)  # as a moving average does
    assert conv._conv_forward.__self__ is conv
    x = torch.randn(2, 8, *size).bfloat16().float().contiguous(memory_format=torch.channels_last).requires_grad_()
    wide = x.detach().double().requires_grad_()
    grad = torch.randn_like(exact(wide)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    y.backward(grad)
    exact(wide).backward(grad.double())
    for ours, theirs in ((y, exact(wide)), (x.grad, wide.grad), (conv.weight.grad, exact.weight.grad)):
        error = (ours.double() - theirs).norm() / theirs.norm()
        assert error < 2**-8  # bf16 keeps 8 bits


@pytest.mark.parametrize("stride", [1, 2])
def test_values_and_gradients_in_double_precision(stride):
    """TPN's convolutions of many weights on few pixels, which are products in fp32 as well."""
    torch.manual_seed(0)
    conv = nn.Conv2d(512, 1024, 3, stride, 1, bias=False).double()
    x = torch.randn(2, 512, 5, 4, dtype=torch.double, requires_grad=True)
    expected = conv(x)
    upstream = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (x, conv.weight), upstream)
    use_products(conv, False)
    found = conv(x)
    assert found.grad_fn.name() == "_ProductBackward"
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)
    for ours, theirs in zip(torch.autograd.grad(found, (x, conv.weight), upstream), wanted):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


def test_what_keeps_its_convolution(monkeypatch):
    monkeypatch.setattr(cpu_kernels, "_MANY", 1)
    torch.manual_seed(0)
    others = nn.ModuleList(
        [
            nn.Conv2d(8, 8, 3, groups=2, bias=False),
            nn.Conv2d(8, 8, 3),
            nn.Conv2d(8, 8, 3, dilation=2, bias=False),
            nn.Conv2d(8, 8, 3, padding="same", bias=False),
        ]
    )
    conv = nn.Conv2d(8, 8, 1, bias=False)
    use_products(nn.ModuleList([others, conv]), True)
    assert not any("_conv_forward" in vars(other) for other in others)
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(conv(x), nn.Conv2d._conv_forward(conv, x, conv.weight, None))  # fp32
    monkeypatch.setattr(cpu_kernels, "_FEW", 49)
    with torch.autocast("cpu", torch.bfloat16):
        assert conv(x).grad_fn.name() == "ConvolutionBackward0"  # 50 pixels
        assert conv(x[:1]).grad_fn.name() == "_ProductBackward"


def test_large_networks_train_with_them(clips, tmp_path, monkeypatch):
    prepared = []
    monkeypatch.setattr(network, "LARGE", 1_000_000)
    monkeypatch.setattr(cpu_kernels, "keep_memory", lambda: prepared.append(True))
    monkeypatch.setattr(cpu_kernels, "_MANY", 2**16)
    settings = ["epochs=1", "warmup_epochs=0", "num_workers=0", "batch_size=4", "ema_decay=0.9", "crop_size=[32, 32]"]
    for amp, seen in (("bf16", 1), ("no", 2)):
        recipe = load_recipe("slowonly_tiny", [*settings, f"amp={amp}"])
        result = train(recipe, data=str(clips), work_dir=tmp_path / amp, device="cpu", quiet=True, max_steps=2)
        assert result.last.is_file()
        assert len(prepared) == seen
    recipe = load_recipe("slowonly_tiny", [*settings, "amp=bf16"])  # whose weights lie otherwise than in the file
    done = train(recipe, data=str(clips), work_dir=tmp_path / "bf16", resume=True, device="cpu", quiet=True)
    assert not done.interrupted


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_memory_is_kept():
    code = """
import resource, torch
from clipwise.engine.cpu_kernels import keep_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        torch.zeros(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
if keep_memory():
    print(first, min(faults() for _ in range(10)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if done.stdout:
        before, after = map(int, done.stdout.split())
        assert after < 100
        assert before == 0 or before > after
