"""The training path over valid cells against whole-map convolutions, in values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from clipwise.errors import ClipwiseError
from clipwise.models.bmn import bmn
from clipwise.models.map_convolution import ValidMapConvolutions, tile_plan

SIZES = [
    ("duration_start", 20, 20),
    ("duration_start", 21, 7),
    ("start_end", 17, 17),
    ("duration_start", 2, 1),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("layout", "L", "D"), SIZES)
def test_network_in_training_equals_the_whole_map(layout, L, D, dtype):
    torch.manual_seed(0)
    sampling = "jjboy" if layout == "start_end" else "mmaction2"
    model = bmn(8, L, D, hidden_dim=8, matching_dim=8, map_dim=12, sampling=sampling, layout=layout).to(dtype)
    x = torch.randn(3, 8, L, dtype=dtype)
    valid = model.proposal.matching.valid
    direction = torch.randn(3, 2, *valid.shape, dtype=dtype)

    def run():
        model.zero_grad()
        conf, start, end = model(x)
        ((conf * direction)[:, :, valid].sum() + start.sum() - end.sum()).backward()
        return conf.detach(), [p.grad.clone() for p in model.parameters()]

    model.train()
    conf, grads = run()
    model.eval()  # whole map
    expected, wanted = run()
    assert not conf[:, :, ~valid].any()
    assert D == 1 or expected[:, :, ~valid].any()
    tolerance = {torch.float64: 1e-11, torch.float32: 2e-5}[dtype]
    torch.testing.assert_close(conf[:, :, valid], expected[:, :, valid], atol=tolerance, rtol=0)
    for (name, _), a, b in zip(model.named_parameters(), grads, wanted):
        torch.testing.assert_close(a, b, atol=tolerance * max(1, float(b.abs().max())), rtol=0, msg=name)


def test_convolutions_at_full_size_in_float32():
    torch.manual_seed(0)
    valid = (torch.arange(100)[:, None] + torch.arange(100) < 100).numpy()
    run = ValidMapConvolutions(valid)
    conv1, conv2 = torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.Conv2d(32, 32, 3, padding=1)
    cells, invalid = torch.rand(1, 5050, 32), torch.rand(32)
    grid = invalid.repeat(1, 100, 100, 1)
    grid[:, torch.from_numpy(valid)] = cells
    with torch.no_grad():
        got = run(cells, invalid, conv1.weight, conv1.bias, conv2.weight, conv2.bias)
        expected = F.relu(conv2(F.relu(conv1(grid.permute(0, 3, 1, 2)))))
    expected = expected.permute(0, 2, 3, 1)[:, torch.from_numpy(valid)]
    assert expected.any()
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=0)


def test_tiles_without_a_valid_cell_are_left_out():
    valid = (torch.arange(100)[:, None] + torch.arange(100) < 100).numpy()
    run = ValidMapConvolutions(valid)
    assert len(run.second.index) == 36 * 325  # of 625 tiles
    plan = tile_plan(torch.arange(64).view(8, 8).numpy(), 64, valid[:8, 92:])
    assert len(plan.index) == 36 * 3


def test_inference_gives_the_whole_map_also_in_training_mode():
    model = bmn(8, 12, hidden_dim=8, matching_dim=8, map_dim=8).train()
    x = torch.randn(1, 8, 12)
    with torch.no_grad():
        train = model(x)[0]
        assert torch.equal(train, model.eval()(x)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_valid_cells_only_in_inference(dtype):
    torch.manual_seed(0)
    model = bmn(8, 12, hidden_dim=8, matching_dim=8, map_dim=8, map_cells="valid").eval()
    whole = bmn(8, 12, hidden_dim=8, matching_dim=8, map_dim=8, map_cells="all").train()
    whole.load_state_dict(model.state_dict())
    x, valid = torch.randn(2, 8, 12), model.proposal.matching.valid
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        got, expected = model(x)[0], whole(x)[0]
    assert not got[:, :, ~valid].any()
    assert expected[:, :, ~valid].all()
    torch.testing.assert_close(got[:, :, valid], expected[:, :, valid], atol=2e-6, rtol=0)
    with pytest.raises(ClipwiseError, match="use 'auto', 'all' or 'valid'"):
        bmn(map_cells="some")
