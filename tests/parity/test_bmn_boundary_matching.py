"""The re-associated boundary-matching layer against the dense formulation written out, in values and gradients."""

import copy
import io
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clipwise.convert.bmn_layouts import sample_mask
from clipwise.models.bmn import bmn
from clipwise.models.boundary_matching import (
    BoundaryMatching,
    boundary_matching,
    sampling_operator,
    valid_cells,
)

CASES = [
    ("mmaction2", "duration_start", 24, 24),
    ("mmaction2", "duration_start", 24, 9),
    ("jjboy", "start_end", 24, 24),
]


def weights_by_the_book(T, N, K, low, high):
    """{(t, n): weight} of one proposal, point by point, as the references' loops do it."""
    out = {}
    for j in range(N * K):
        x = low + j * (high - low) / (N * K - 1.0)
        down = int(x)  # towards zero
        frac, up = x - down, int(np.ceil(x))
        for t, w in ((down, 1 - frac), (up, frac)):
            if 0 <= t < T and w:
                out[t, j // K] = out.get((t, j // K), 0) + w / K
    return out


def dense_matching(layer, mask, features):
    """matmul with the whole mask, then a (N, 1, 1) convolution: (B, O, rows, L)."""
    B, C, L = features.shape
    N = layer.num_samples
    samples = (features @ mask.to(features.dtype)).view(B, C, N, -1, L)
    return F.conv3d(samples, layer.weight.permute(2, 0, 1)[..., None, None], layer.bias).squeeze(2)


@pytest.mark.parametrize(("sampling", "layout", "L", "D"), CASES)
def test_operator_matches_the_sampling_rule(sampling, layout, L, D):
    operator = sampling_operator(L, D, sampling=sampling, layout=layout)
    matrix = operator.dense(torch.float64).view(-1, L, 32)
    start, duration, cell = valid_cells(L, D, layout)
    assert len(cell) == len(matrix) == sum(L - d for d in range(D))
    for p in range(len(cell)):
        s, last = start[p], start[p] + duration[p] + (sampling == "jjboy")
        margin = 0.5 * (last - s + 1)
        expected = torch.zeros(L, 32, dtype=torch.float64)
        for (t, n), w in weights_by_the_book(L, 32, 3, s - margin, last + margin).items():
            expected[t, n] = w
        torch.testing.assert_close(matrix[p], expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("method", ["sparse", "dense"])
@pytest.mark.parametrize(("sampling", "layout", "L", "D"), CASES)
def test_values_and_gradients_equal_the_dense_formulation(sampling, layout, L, D, method, dtype):
    torch.manual_seed(0)
    layer = BoundaryMatching(12, 20, L, D, sampling=sampling, layout=layout, method=method).to(dtype)
    features = torch.randn(3, 12, L, dtype=dtype, requires_grad=True)
    direction = torch.randn(3, len(layer.operator.cell), 20, dtype=dtype)
    mask = sample_mask(L, D, 32, sampling)
    expected = dense_matching(layer, mask, features).flatten(2)[:, :, layer.operator.cell].transpose(1, 2)
    inputs = (features, layer.weight, layer.bias)
    expected_grads = torch.autograd.grad((expected * direction).sum(), inputs)
    got = layer(features)
    grads = torch.autograd.grad((got * direction).sum(), inputs)
    tight = {torch.float64: 1e-12, torch.float32: 2e-5}[dtype]
    for a, b in zip((got, *grads), (expected, *expected_grads)):
        torch.testing.assert_close(a, b, rtol=0, atol=tight * float(b.detach().abs().max()))


def test_gradcheck():
    torch.manual_seed(0)
    layer = BoundaryMatching(3, 4, 6, 5, num_samples=4).double()
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    op = layer.operator
    operator = [op.index, op.offsets, op.values, op.index_t, op.offsets_t, op.values_t]
    call = lambda f, w, b: boundary_matching(f, w, b, operator)  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, layer.weight, layer.bias))
    torch.library.opcheck(torch.ops.clipwise.boundary_matching.default, (x, layer.weight, layer.bias, operator))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_float32(dtype):
    torch.manual_seed(0)
    layer = BoundaryMatching(32, 24, 40, 40)
    features, direction = torch.randn(2, 32, 40), torch.randn(2, 820, 24)
    expected = layer(features)
    wanted = torch.autograd.grad((expected * direction).sum(), layer.parameters())
    got = layer(features.to(dtype))
    assert got.dtype == dtype
    grads = torch.autograd.grad((got.float() * direction).sum(), layer.parameters())
    error = {torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
    for a, b in zip((got, *grads), (expected, *wanted)):
        assert a.isfinite().all()
        assert (a.float() - b).norm() < error * b.norm()
    # weights in half precision must not round the sampling weights for good
    assert copy.deepcopy(layer).half().float().operator.values.equal(layer.operator.values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_network_trains_under_autocast(dtype):
    torch.manual_seed(0)
    model = bmn(feat_dim=16, temporal_dim=20, hidden_dim=16, matching_dim=16, map_dim=8)
    x = torch.randn(2, 16, 20)
    with torch.no_grad():
        reference = model(x)
    with torch.autocast("cpu", dtype=dtype):
        got = model(x)
    for a, b in zip(got, reference):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, atol=2e-2, rtol=0)
    sum(o.square().mean() for o in got).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.dtype == torch.float32
        assert p.grad.isfinite().all(), name
        assert p.grad.any(), name


def test_checkpoints_hold_parameters_only_and_models_can_be_copied():
    model = bmn(feat_dim=16, temporal_dim=20, hidden_dim=16, matching_dim=16, map_dim=8).eval()
    assert not list(model.buffers())
    assert sum(v.numel() for v in model.state_dict().values()) == sum(p.numel() for p in model.parameters())
    buffer = io.BytesIO()
    torch.save(bmn().state_dict(), buffer)
    assert buffer.tell() < 20_100_000  # the references' files have 148 MB
    x = torch.randn(1, 16, 20)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(torch.equal(a, b) for a, b in zip(model(x), twin(x)))


def test_torch_compile_in_one_graph_with_the_same_numbers():
    torch.manual_seed(0)
    model = bmn(feat_dim=16, temporal_dim=20, hidden_dim=16, matching_dim=16, map_dim=8)
    x, valid = torch.randn(2, 16, 20), model.proposal.matching.valid

    def run(network):
        model.zero_grad()
        conf, start, end = network(x)
        outputs = conf[:, :, valid], start, end
        sum(o.square().mean() for o in outputs).backward()
        return *outputs, *(p.grad.clone() for p in model.parameters())

    for a, b in zip(run(torch.compile(model, fullgraph=True, backend="aot_eager")), run(model)):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("sampling", "layout"), [("mmaction2", "duration_start"), ("jjboy", "start_end")])
def test_torch_export_with_any_batch_size(sampling, layout):
    torch.manual_seed(0)
    model = bmn(16, 20, hidden_dim=16, matching_dim=16, map_dim=8, sampling=sampling, layout=layout).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (torch.randn(2, 16, 20),), dynamic_shapes=({0: batch},))
    x = torch.randn(5, 16, 20)
    for a, b in zip(program.module()(x), model(x)):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert not any("clipwise" in str(node.target) for node in program.graph.nodes)


def test_onnx_file_gives_the_same_numbers(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = bmn(feat_dim=16, temporal_dim=20, hidden_dim=16, matching_dim=16, map_dim=8).eval()
    path = tmp_path / "bmn.onnx"
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.onnx.export(model, (torch.randn(2, 16, 20),), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    x = torch.randn(3, 16, 20)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    for a, b in zip(outputs, model(x)):
        np.testing.assert_allclose(a, b.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("B", [1, 3])
def test_short_sequences_work(B):
    model = bmn(feat_dim=4, temporal_dim=2, hidden_dim=4, matching_dim=4, map_dim=4)
    conf, start, end = model(torch.randn(B, 4, 2))
    assert (conf.shape, start.shape, end.shape) == ((B, 2, 2, 2), (B, 2), (B, 2))


@pytest.mark.skipif(not (shutil.which("g++") or os.environ.get("CXX")), reason="torch.compile needs a C++ compiler")
def test_the_compiled_network_gives_the_same_numbers_without_gradients():
    """As in the validation of a compiled run, whose last batch is a smaller one."""
    torch.manual_seed(0)
    model = bmn(feat_dim=8, temporal_dim=12, hidden_dim=8, matching_dim=8, map_dim=4, num_samples=4).eval()
    compiled = torch.compile(model)
    for batch in (4, 2):
        x = torch.randn(batch, 8, 12)
        with torch.no_grad():
            for one, other in zip(compiled(x), model(x)):
                torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
