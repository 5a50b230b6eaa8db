"""The fused form computes what the network computes; what can't be fused says so."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from clipwise.cli import main
from clipwise.engine import cpu_inference
from clipwise.engine.cpu_inference import FusedNetwork, fastest
from clipwise.engine.test import evaluate
from clipwise.models import create_model


def trained_like(name, **settings):
    """Norms as training leaves them: none is an identity, and no branch is zero."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=7, **settings).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.1)
    return model


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "frames"), [("tsn_tiny", 3), ("tsm_tiny", 8), ("slowonly_tiny", 4), ("tpn_tsm_tiny", 8)]
)
def test_fused_scores(name, frames, monkeypatch):
    model = trained_like(name)
    clips = torch.randn(3, 3, frames, 32, 40)
    monkeypatch.setattr(cpu_inference, "PIXELS", 2 * frames * 32 * 40)  # two views at once, the third is filled up
    wanted, fused = model(clips), FusedNetwork(model)
    assert (fused(clips) - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert not fused.obstacle
    assert list(fused.graphs) == [(2, 3, frames, 32, 40)]
    code = next(iter(fused.graphs.values())).code
    assert ("batch_norm" in code) == ("conv3d" in code)  # three-dimensional convolutions, of small networks alone, stay
    in_bf16 = FusedNetwork(model, bf16=True)
    with torch.autocast("cpu", torch.bfloat16):
        usual = (model(clips).float() - wanted).abs().max()
    assert 0 < (in_bf16(clips) - wanted).abs().max() < 2 * usual + 1e-3
    assert "bf16" in in_bf16.form


@torch.no_grad()
def test_what_can_not_be_fused_computes_as_it_is(monkeypatch):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, clips):
            x = self.conv(clips[:, :, 0])
            return x.mean((2, 3)) if float(x.detach().sum()) > -1e9 else x.sum((2, 3))

    model, clips = Odd().eval(), torch.randn(2, 3, 1, 8, 8)
    fused = FusedNetwork(model)
    assert torch.equal(fused(clips), model(clips))
    assert "can't be fused" in fused.form
    monkeypatch.setattr(cpu_inference, "TOLERANCE", 0.0)
    strict = FusedNetwork(trained_like("tsn_tiny"))
    strict(torch.randn(1, 3, 3, 32, 32))
    assert "differ by" in strict.form


def test_only_large_networks_change(monkeypatch):
    model = create_model("slowonly_tiny", num_classes=4).eval()
    assert fastest(model, "bf16") == (model, "bf16")
    monkeypatch.setattr(cpu_inference, "LARGE", 1)
    monkeypatch.setattr(cpu_inference, "keep_memory", lambda: None)
    before = copy.deepcopy(model.state_dict())
    form, amp = fastest(model, "bf16")
    assert (form.bf16, amp) == (True, "no")
    with torch.inference_mode():
        form(torch.randn(1, 3, 4, 32, 32))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_command_says_what_computed(trained, clips, monkeypatch, capsys):
    plain = evaluate(trained, data=clips / "val", device="cpu", overrides=["num_workers=0"])
    assert plain.form == ""
    monkeypatch.setattr(cpu_inference, "LARGE", 1)
    monkeypatch.setattr(cpu_inference, "keep_memory", lambda: None)
    fused = evaluate(trained, data=clips / "val", device="cpu", overrides=["num_workers=0"])
    np.testing.assert_allclose(np.stack(fused.scores), np.stack(plain.scores), atol=1e-5)
    assert fused.metrics == plain.metrics
    assert main(["test", str(trained), "--data", str(clips / "val"), "--device", "cpu", "--num-workers", "0"]) == 0
    assert "computed: norms, activations and shortcuts fused" in capsys.readouterr().err
