"""Labels, losses, proposals and soft-NMS of BMN against the figures of the references and against plain loops."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from clipwise.errors import ClipwiseError, DataError
from clipwise.models.bmn import bmn
from clipwise.models.bmn_convert import convert_bmn, export_bmn
from clipwise.tasks.localization import BMNTargets, bmn_loss, bmn_targets, valid_mask

BOX_A, BOX_B, BOX_C = [[0.1, 0.35], [0.5, 0.92]], [[0.03, 0.99]], [[0.402, 0.418]]


@pytest.fixture(scope="module")
def recipe(shared):
    spec = importlib.util.spec_from_file_location("make_weights", shared / "golden/make_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden(shared, name):
    with np.load(shared / "golden" / name / "golden.npz") as data:
        arrays = {k: data[k] for k in data.files}
    return arrays, json.loads((shared / "golden" / name / "golden.json").read_text())


def duration_major(start_major):
    """(B, 2, s, e) -> (B, 2, d, s); invalid cells become 0."""
    out = torch.zeros_like(start_major)
    for d in range(start_major.shape[2]):
        out[:, :, d, : start_major.shape[2] - d] = start_major.diagonal(d, 2, 3)
    return out


# ------------------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize(
    ("convention", "name", "layout"),
    [("mmaction2", "bmn_400x100", "duration_start"), ("jjboy", "bmn_jjboy", "start_end")],
)
def test_labels_equal_the_references(shared, convention, name, layout):
    arrays, facts = golden(shared, name)
    boxes = golden(shared, "bmn_400x100")[1]["gt_bbox"]
    got = bmn_targets(boxes, 100, convention=convention, layout=layout)
    valid = valid_mask(100, layout=layout)
    assert not got.iou[:, ~valid].any()
    np.testing.assert_allclose(got.iou[:, valid], torch.from_numpy(arrays["gt_iou_map"])[:, valid], atol=2e-7)
    np.testing.assert_allclose(got.start, arrays["gt_start"], atol=5e-6)
    np.testing.assert_allclose(got.end, arrays["gt_end"], atol=5e-6)
    assert facts["gt_bbox"] == boxes


@pytest.mark.parametrize(
    ("convention", "box", "starts", "ends", "sums"),
    [
        ("jjboy", BOX_A, [9, 10, 11, 49, 50, 51], [34, 35, 36, 91, 92, 93], (6, 6)),
        ("mmaction2", BOX_A, [9, 10, 49, 50], [34, 35, 91, 92], (6, 6)),
        ("paddle", BOX_A, [9, 10, 49, 50], [34, 35, 91, 92], (6, 6)),
        ("opentad", BOX_A, [9, 10, 49, 50], [34, 35, 91, 92], (4, 4)),
        ("jjboy", BOX_B, [2, 3, 4], [98, 99], (3, 2)),
        ("mmaction2", BOX_B, [2, 3], [98, 99], (3, 2.5)),
        ("paddle", BOX_B, [2, 3], [98, 99], (3, 2.5)),
        ("opentad", BOX_B, [2, 3], [98, 99], (2, 2)),
        ("jjboy", BOX_C, [39, 40, 41], [41, 42, 43], None),
        ("mmaction2", BOX_C, [39, 40, 41], [40, 41, 42], None),
        ("paddle", BOX_C, [39, 40, 41], [40, 41, 42], None),
        ("opentad", BOX_C, [39, 40], [41, 42], None),
    ],
)
def test_boundary_labels_of_each_convention(convention, box, starts, ends, sums):
    got = bmn_targets([box], convention=convention)
    assert (got.start[0] > 0.5 + 1e-5).nonzero().flatten().tolist() == starts
    assert (got.end[0] > 0.5 + 1e-5).nonzero().flatten().tolist() == ends
    if sums:
        np.testing.assert_allclose([got.start.sum(), got.end.sum()], sums, atol=1e-5)


@pytest.mark.parametrize(
    ("box", "total", "counts"),
    [
        (BOX_A, 2038.949991, (54, 548, 2868, 1423, 211)),
        (BOX_B, 1777.783128, (91, 551, 2066, 2426, 7)),
        (BOX_C, 107.274868, (0, 1, 11, 2507, 2531)),
    ],
)
def test_iou_map_figures(box, total, counts):
    iou = bmn_targets([box]).iou[0][valid_mask(100)].double()
    assert iou.sum().item() == pytest.approx(total, abs=1e-4)
    zero = int((iou == 0).sum())
    low, middle = int(((iou > 0) & (iou <= 0.3)).sum()), int(((iou > 0.3) & (iou <= 0.7)).sum())
    assert (int((iou > 0.9).sum()), int((iou > 0.7).sum()), middle, low, zero) == counts


def test_batch_and_layouts_agree_with_single_videos():
    boxes = [BOX_A, [], BOX_B, [[0.2, 0.2]], [[-0.5, 0.1], [0.95, 1.7]]]
    batch = bmn_targets(boxes, 40, 25)
    for i, box in enumerate(boxes):
        single = bmn_targets([box], 40, 25)
        for a, b in zip(batch, single):
            assert torch.equal(a[i], b[0])
    assert not any(x[1].any() or x[3].any() for x in batch)  # without actions: no label at all
    square, other = bmn_targets(boxes, 40), bmn_targets(boxes, 40, layout="start_end")
    for d in range(40):
        assert torch.equal(other.iou.diagonal(d, 1, 2), square.iou[:, d, : 40 - d])


def test_brute_force_labels():
    rng = np.random.default_rng(3)
    boxes = np.sort(rng.random((4, 2)), axis=1)
    got = bmn_targets([boxes], 12, 7, convention="mmaction2")
    for d in range(7):
        for s in range(12 - d):
            a, b = s / 12, (s + d + 1) / 12
            inter = [max(min(b, y) - max(a, x), 0) for x, y in boxes]
            best = max(i / (b - a + y - x - i) for i, (x, y) in zip(inter, boxes))
            assert got.iou[0, d, s] == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        ([[[0.1, float("nan")]]], "NaN or infinite"),
        ([[], [[0.5, 0.2]]], "sample 1 ends before it starts"),
        ([[0.1, 0.2, 0.3]], "shape (3,)"),
    ],
)
def test_bad_segments(segments, words):
    with pytest.raises(DataError) as error:
        bmn_targets(segments)
    assert words in str(error.value)


# ------------------------------------------------------------------------------------------------ losses


def reference_predictions(layout):
    rng = np.random.default_rng(7)
    conf = torch.from_numpy(rng.uniform(0.01, 0.99, (2, 2, 100, 100)))
    start, end = (torch.from_numpy(rng.uniform(0.01, 0.99, (2, 100))) for _ in range(2))
    return conf if layout == "start_end" else duration_major(conf), start, end


@pytest.mark.parametrize(
    ("convention", "labels", "layout", "tem", "cls"),
    [
        ("jjboy", "jjboy", "start_end", 2.453950, 0.973805),
        ("mmaction2", "mmaction2", "duration_start", 1.735546, 0.648345),
        ("mmaction2", "jjboy", "duration_start", 2.281684, None),
        ("opentad", "opentad", "duration_start", 2.164018, 0.973810),
    ],
)
def test_loss_figures_of_each_convention(convention, labels, layout, tem, cls):
    targets = bmn_targets([BOX_A, BOX_B], convention=labels, layout=layout)
    torch.manual_seed(0)
    got = bmn_loss(*reference_predictions(layout), targets, convention, layout)
    assert got["tem"].item() == pytest.approx(tem, abs=2e-6)
    if cls:
        assert got["pem_cls"].item() == pytest.approx(cls, abs=2e-6)
    assert got["pem_reg"].item() == pytest.approx(0.08297, abs=5 * 0.0011)


@pytest.fixture(scope="module")
def golden_case(shared, recipe):
    keys = json.loads((shared / "golden/bmn_400x100/keys.json").read_text())["keys"]
    weights = {
        k["key"]: torch.from_numpy(recipe.make_tensor(k["key"], k["shape"]))
        for k in keys
        if not k["key"].endswith("mask")
    }
    x = torch.from_numpy(recipe.make_features("bmn_400x100/x", (2, 400, 100)))
    noise = tuple(
        torch.from_numpy(recipe.rng(f"bmn/rand{i}").random_sample((2, 100, 100)).astype(np.float32))
        for i in range(2)
    )
    return weights, x, noise


@pytest.mark.parametrize("source", ["mmaction2", "jjboy"])
def test_loss_of_the_golden_batch(shared, golden_case, source):
    weights, x, noise = golden_case
    facts = golden(shared, {"mmaction2": "bmn_400x100", "jjboy": "bmn_jjboy"}[source])[1]
    state, args, _ = convert_bmn(weights, source, temporal_dim=100)
    model = bmn(**args)
    model.load_state_dict(state)
    targets = bmn_targets(facts["gt_bbox"], convention=source, layout=model.layout)
    with torch.no_grad():
        out = model(x)
    got = bmn_loss(*out, targets, source, model.layout, noise=noise)
    for key, value in facts["losses_numpy_noise"].items():
        assert got[key].item() == pytest.approx(value, rel=3e-6), key
    if source == "mmaction2":
        torch.manual_seed(1234)
        seeded = bmn_loss(*out, targets, source)
        for key, value in facts["losses_torch_seed1234"].items():
            assert seeded[key].item() == pytest.approx(value, rel=3e-6), key
        tiny = bmn_loss(*out, bmn_targets([[[0.5, 0.5005]]] * 2, convention=source), source)
        assert tiny["loss"].isfinite()  # NaN in MMAction2


def test_gradients_and_one_adam_step_of_the_golden_batch(shared, golden_case):
    weights, x, noise = golden_case
    arrays, facts = golden(shared, "bmn_400x100")
    state, args, _ = convert_bmn(weights, "mmaction2", temporal_dim=100)
    model = bmn(**args).double()
    model.load_state_dict(state)
    targets = bmn_targets(facts["gt_bbox"], convention="mmaction2")
    losses = bmn_loss(*model(x.double()), targets, "mmaction2", noise=noise)
    for key, value in facts["losses_fp64_numpy_noise"].items():
        assert losses[key].item() == pytest.approx(value, rel=1e-7), key
    losses["loss"].backward()
    total = torch.nn.utils.clip_grad_norm_(model.parameters(), 40)
    assert total.item() == pytest.approx(facts["grad_total_norm"], rel=1e-7)

    def named(values):
        return export_bmn(values, "mmaction2")

    def samples(tensor):
        picks = np.unique(np.linspace(0, tensor.numel() - 1, 8).astype(np.int64))
        return tensor.flatten()[picks].numpy()

    grads = named({n: p.grad for n, p in model.named_parameters()})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    optimizer.step()
    after = named({n: p.detach() for n, p in model.named_parameters()})
    for i, name in enumerate(facts["param_names"]):
        assert grads[name].norm().item() == pytest.approx(arrays["grad_norm"][i], rel=1e-5), name
        picked = samples(grads[name])
        np.testing.assert_allclose(picked, arrays["grad_samples"][i][: len(picked)], rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(
            samples(after[name])[: len(picked)],
            arrays["param_samples_after_step"][i][: len(picked)],
            rtol=1e-5,
            atol=2e-7,
        )


@pytest.mark.parametrize("convention", ["paddle", "mmaction2", "jjboy", "opentad"])
@pytest.mark.parametrize(
    "boxes",
    [
        [[]],  # no action
        [[[0.0, 1.0]]],
        [[[0.5, 0.5005]]],  # no cell above 0.3
        [[[i / 20, (i + 1) / 20] for i in range(20)]],  # every position is a boundary
        [[[0.31, 0.34]]],
    ],
)
def test_loss_and_gradient_are_finite_at_batch_size_one(convention, boxes):
    torch.manual_seed(0)
    logits = [torch.randn(1, 2, 20, 20), torch.randn(1, 20) * 30, torch.randn(1, 20) * 30]
    for x in logits:
        x.requires_grad_()
    losses = bmn_loss(
        *(x.sigmoid() for x in logits), bmn_targets(boxes, 20, convention=convention), convention
    )
    assert all(v.isfinite() for v in losses.values())
    losses["loss"].backward()
    assert all(x.grad.isfinite().all() for x in logits)
    assert logits[0].grad[:, 0].any()  # regression always teaches something
    invalid = ~valid_mask(20)
    assert not logits[0].grad[:, :, invalid].any()


def test_all_cells_positive_is_finite():
    everything = BMNTargets(torch.ones(1, 5, 5), torch.ones(1, 5), torch.ones(1, 5))
    for convention in ("jjboy", "mmaction2", "opentad"):
        losses = bmn_loss(torch.full((1, 2, 5, 5), 0.5), *torch.full((2, 1, 5), 0.5), everything, convention)
        assert losses["loss"].isfinite()


def test_regression_draws_as_many_middle_and_low_cells_as_high_ones():
    from clipwise.tasks.localization import LOSS_RULES, _regression_weight

    targets = bmn_targets([BOX_A, BOX_B] * 8)
    cells = valid_mask(100).expand_as(targets.iou)
    weight = _regression_weight(
        targets.iou, cells, (0.7, 0.3), LOSS_RULES["jjboy"], None, torch.Generator().manual_seed(0)
    )
    iou = targets.iou
    high = weight[iou > 0.7].sum().item()
    assert high == (iou > 0.7).sum()
    assert weight[(iou > 0.3) & (iou <= 0.7)].sum().item() == pytest.approx(high, rel=0.05)
    assert weight[(iou > 0) & (iou <= 0.3)].sum().item() == pytest.approx(high, rel=0.05)
    assert not weight[iou == 0].any()
    zero_too = _regression_weight(
        iou, cells, (0.7, 0.3), LOSS_RULES["paddle"], None, torch.Generator().manual_seed(0)
    )
    assert zero_too[(iou == 0) & cells].any()
    assert not zero_too[~cells].any()


def test_loss_names_what_does_not_fit():
    targets = bmn_targets([[]], 10)
    with pytest.raises(ClipwiseError, match="do not fit labels"):
        bmn_loss(torch.zeros(1, 2, 9, 10), torch.zeros(1, 10), torch.zeros(1, 10), targets)
    with pytest.raises(ClipwiseError, match="use one of 'paddle'"):
        bmn_targets([[]], 10, convention="bsn")
