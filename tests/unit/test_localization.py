"""Labels, losses, proposals and soft-NMS of BMN against the figures of the references and against plain loops."""

import json

import numpy as np
import pytest
import torch

from clipwise.convert.bmn_layouts import convert_bmn, export_bmn
from clipwise.errors import ClipwiseError, DataError
from clipwise.models.bmn import bmn
from clipwise.tasks.bmn_targets import BMNTargets, bmn_loss, bmn_targets, valid_mask
from clipwise.tasks.detections import (
    ResultWriter,
    VideoClassScores,
    name_proposals,
    name_results,
    read_class_scores,
    read_results,
)
from clipwise.tasks.proposals import Proposals, SoftNMS, generate_proposals, lockstep_soft_nms

BOX_A, BOX_B, BOX_C = [[0.1, 0.35], [0.5, 0.92]], [[0.03, 0.99]], [[0.402, 0.418]]


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
def golden_case(shared, weights_recipe):
    keys = json.loads((shared / "golden/bmn_400x100/keys.json").read_text())["keys"]
    weights = {
        k["key"]: torch.from_numpy(weights_recipe.make_tensor(k["key"], k["shape"]))
        for k in keys
        if not k["key"].endswith("mask")
    }
    x = torch.from_numpy(weights_recipe.make_features("bmn_400x100/x", (2, 400, 100)))
    noise = tuple(
        torch.from_numpy(weights_recipe.rng(f"bmn/rand{i}").random_sample((2, 100, 100)).astype(np.float32))
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
    losses = bmn_loss(*(x.sigmoid() for x in logits), bmn_targets(boxes, 20, convention=convention), convention)
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
    from clipwise.tasks.bmn_targets import LOSS_RULES, _regression_weight

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
    zero_too = _regression_weight(iou, cells, (0.7, 0.3), LOSS_RULES["paddle"], None, torch.Generator().manual_seed(0))
    assert zero_too[(iou == 0) & cells].any()
    assert not zero_too[~cells].any()


def test_loss_names_what_does_not_fit():
    targets = bmn_targets([[]], 10)
    with pytest.raises(ClipwiseError, match="do not fit labels"):
        bmn_loss(torch.zeros(1, 2, 9, 10), torch.zeros(1, 10), torch.zeros(1, 10), targets)
    with pytest.raises(ClipwiseError, match="use one of 'paddle'"):
        bmn_targets([[]], 10, convention="bsn")


# ------------------------------------------------------------------------------------------------ proposals


def snippets_s(num_frames, duration_s):
    """Seconds that whole snippets of 16 frames cover, which BSN, JJBOY and MMAction2 take as the length of a video."""
    return num_frames // 16 * 16 / num_frames * duration_s


def soft_nms(boxes, scores, top_k=100, alpha=0.4, low=0.5, high=0.9, overlap="jjboy"):
    """Of one list (n, 2) or several (B, n, 2) in any order."""
    boxes, scores = np.array(boxes, float), np.array(scores, float)
    boxes, scores = (boxes, scores) if boxes.ndim == 3 else (boxes[None], scores[None])
    order = np.argsort(-scores, axis=1, kind="stable")
    left, right, scores = (np.take_along_axis(x, order, 1) for x in (boxes[..., 0], boxes[..., 1], scores))
    return Proposals(*lockstep_soft_nms(left, right, scores, SoftNMS(top_k, alpha, low, high, overlap)))


def loop_soft_nms(boxes, scores, top_k, alpha, low, high, mm=False):
    """One proposal after the other, as the papers describe it."""
    left = [[a, b, s] for (a, b), s in zip(boxes, scores)]
    kept = []
    while left and len(kept) < top_k:
        best = left.pop(int(np.argmax([p[2] for p in left])))
        kept.append(tuple(best))
        for p in left:
            inter = max(min(p[1], best[1]) - max(p[0], best[0]), 0)
            width = best[1] - best[0]
            union = width - inter + p[1] - p[0] if mm else p[1] - p[0] - inter + best[1] - best[0]
            if inter / union > low + (high - low) * width:
                p[2] *= np.exp(-np.square(inter / union) / alpha)
    return np.array(kept)


def test_soft_nms_has_the_references_rows(shared):
    rows = np.load(shared / "golden/pipeline/metric_inputs.npz")["softnms"]
    facts = json.loads((shared / "golden/pipeline/metrics_1x.json").read_text())
    for overlap, expected in (
        ("mmaction2", facts["soft_nms"]["rows"]),
        ("jjboy", np.load(shared / "golden/bmn_jjboy/golden.npz")["soft_nms"]),
    ):
        got = soft_nms(rows[:, :2], rows[:, 2], 101, overlap=overlap)
        np.testing.assert_allclose(np.column_stack([got.segments[0], got.scores[0]]), expected, atol=3e-16)
    post = facts["post_processing"]
    seconds = soft_nms(rows[:, :2], rows[:, 2], 100, overlap="mmaction2")
    times = seconds.segments[0] * snippets_s(5074, 211.53)
    np.testing.assert_allclose(np.column_stack([seconds.scores[0], times])[:5], post["first5"], rtol=1e-14)
    assert seconds.count[0] == post["n"]


def test_soft_nms_of_mmaction2s_unit_test():
    got = soft_nms([[0, 1], [0, 0.4], [0, 0.95]], [0.5, 0.4, 0.6], 2, 0.75, 0.65, 0.9)
    np.testing.assert_allclose(got.segments[0], [[0, 0.95], [0, 0.4]])
    np.testing.assert_allclose(got.scores[0], [0.6, 0.4])


def test_soft_nms_keeps_the_last_candidate():
    boxes, scores = [[0, 0.2], [0.3, 0.5], [0.6, 0.9]], [0.3, 0.9, 0.5]
    got = soft_nms(boxes, scores)
    assert got.count.tolist() == [3]
    np.testing.assert_allclose(got.scores[0, :4], [0.9, 0.5, 0.3, 0])


@pytest.mark.parametrize("mm", [False, True])
def test_soft_nms_of_a_ragged_batch_equals_the_loop(mm):
    rng = np.random.default_rng(0)
    lists = [
        (np.sort(rng.integers(0, 21, (n, 2)) / 20, 1) + np.array([0, 0.05]), rng.random(n)) for n in (1, 7, 60, 150)
    ]
    boxes, scores = np.zeros((4, 150, 2)), np.full((4, 150), -np.inf)
    for i, (b, s) in enumerate(lists):
        boxes[i, : len(b)], scores[i, : len(b)] = b, s
    got = soft_nms(boxes, scores, 100, overlap="mmaction2" if mm else "jjboy")
    for (b, s), (segments, values) in zip(lists, got):
        expected = loop_soft_nms(b, s, 100, 0.4, 0.5, 0.9, mm)
        np.testing.assert_array_equal(np.column_stack([segments, values]), expected)


def test_proposals_equal_mmaction2s(shared):
    arrays, facts = golden(shared, "bmn_400x100")
    seconds = snippets_s(facts["meta"]["duration_frame"], facts["meta"]["duration_second"])
    got = generate_proposals(
        *(arrays[f"{k}_fp32"] for k in ("conf", "start", "end")), [seconds] * 2, convention="mmaction2"
    )
    for i, (segments, scores) in enumerate(got):
        np.testing.assert_allclose(np.column_stack([scores, segments]), arrays[f"proposals_{i}"], atol=1e-8)


def smooth_maps(num_videos, length, seed=0):
    rng = np.random.default_rng(seed)
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / 1.5) ** 2)
    noise = rng.standard_normal((2, num_videos, length + 6))
    curves = np.stack([[np.convolve(r, kernel / kernel.sum(), "valid") for r in c] for c in noise])
    start, end = 1 / (1 + np.exp(1 - 4 * curves))
    conf = rng.uniform(0.001, 0.999, (num_videos, 2, length, length))
    return conf, start, end


def loop_candidates(conf, start, end, convention):
    """conf[:, s, e] of one video."""
    length, out = len(start), []

    def wanted(curve, i, always):
        if convention == "jjboy":
            return True
        if convention == "mmaction2":
            if i in (0, length - 1):
                return i == always
            return (curve[i] > curve[i - 1] and curve[i] > curve[i + 1]) or curve[i] > 0.5 * curve.max()
        before, after = (curve[i - 1] if i else 0), (curve[i + 1] if i + 1 < length else 0)
        return i == always or (curve[i] > before and curve[i] > after) or curve[i] > 0.5 * curve.max()

    for s in range(length):
        for e in range(s, length):
            read = e if convention == "paddle" else e + 1
            if read < length and wanted(start, s, 0) and wanted(end, read, length - 1):
                out.append((s / length, (e + 1) / length, start[s] * end[read] * conf[1, s, e] * conf[0, s, e]))
    return np.array(out)


@pytest.mark.parametrize("convention", ["paddle", "mmaction2", "jjboy"])
@pytest.mark.parametrize("length", [12, 40])
def test_proposals_equal_the_loop_over_cells(convention, length):
    conf, start, end = smooth_maps(3, length)
    low = 0.55 if convention == "paddle" else 0.5
    got = generate_proposals(conf, start, end, [10, 20, 30], convention=convention, layout="start_end")
    other = generate_proposals(duration_major(torch.from_numpy(conf)), start, end, [10, 20, 30], convention=convention)
    for i, ((segments, scores), seconds) in enumerate(zip(got, (10, 20, 30))):
        rows = loop_candidates(conf[i], start[i], end[i], convention)
        expected = loop_soft_nms(rows[:, :2], rows[:, 2], 100, 0.4, low, 0.9, convention == "mmaction2")
        np.testing.assert_allclose(segments, expected[:, :2] * seconds, rtol=1e-12)
        np.testing.assert_allclose(scores, expected[:, 2], rtol=1e-12)
    np.testing.assert_array_equal(got.segments, other.segments)
    assert (got.segments[..., 1].max(axis=1) == [10, 20, 30]).all() == (convention == "paddle")


def test_looking_at_the_best_candidates_first_changes_nothing(monkeypatch):
    from clipwise.tasks import proposals

    conf, start, end = smooth_maps(6, 40, seed=3)
    whole = generate_proposals(conf, start, end, convention="jjboy")
    for size in (1, 30, 101, 100_000):
        monkeypatch.setattr(proposals, "_FIRST_ROUND", size)
        got = generate_proposals(conf, start, end, convention="jjboy")
        np.testing.assert_array_equal(got.segments, whole.segments)
        np.testing.assert_array_equal(got.scores, whole.scores)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c, s, e: generate_proposals(c, s, e[:, :-1]), "(B, 2, D, L), (B, L) and (B, L) are needed"),
        (lambda c, s, e: generate_proposals(c * np.nan, s, e, convention="jjboy"), "scores of video 0"),
        (
            lambda c, s, e: generate_proposals(c, s, e, [1.0]),
            "one positive number of seconds for each of 2 videos",
        ),
        (
            lambda c, s, e: generate_proposals(c, s, e, convention="mm"),
            "use one of 'paddle', 'filled', 'mmaction2', 'jjboy'",
        ),
        (lambda c, s, e: generate_proposals(c, s, e, layout="se"), "'duration_start' or 'start_end'"),
    ],
)
def test_wrong_maps_are_explained(call, words):
    with pytest.raises(ClipwiseError) as error:
        call(*smooth_maps(2, 8))
    assert words in str(error.value)


# ------------------------------------------------------------------------------------------------ result files


def test_result_file_is_written_video_by_video(tmp_path):
    path = tmp_path / "sub" / "results.json"
    with ResultWriter(path, {"used": False}) as results:
        results.add("v_one", [[0, 1.5], [2, 3]], [0.9, 0.25], ["run", "jump"])
        assert not path.exists()
        results.add("two", np.zeros((0, 2)), [])
        with pytest.raises(DataError, match="'one' was written twice"):
            results.add("one", [[0, 1]], [1])
        with pytest.raises(DataError, match="NaN or infinite"):
            results.add("three", [[0, np.nan]], [1])
    content = json.loads(path.read_text())
    assert content["version"] == "VERSION 1.3"
    assert content["external_data"] == {"used": False}
    assert read_results(path) == {
        "one": [
            {"score": 0.9, "segment": [0.0, 1.5], "label": "run"},
            {"score": 0.25, "segment": [2.0, 3.0], "label": "jump"},
        ],
        "two": [],
    }


def test_a_failed_run_leaves_no_result_file(tmp_path):
    def run():
        with ResultWriter(tmp_path / "r.json") as results:
            results.add("one", [[0, 1]], [1])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run()
    assert not (tmp_path / "r.json").exists()


def test_class_scores_name_proposals(tmp_path):
    lists = tmp_path / "a.json"
    lists.write_text(json.dumps({"results": {"v": [{"label": "b", "score": 0.7}, {"label": "a", "score": 0.2}]}}))
    table = tmp_path / "b.json"
    table.write_text(json.dumps({"results": {"v": [0.2, 0.7]}, "class": ["a", "b"]}))
    for path in (lists, table):
        scores = read_class_scores(path)
        assert scores.top("v", 2) == [("b", 0.7), ("a", 0.2)]
        segments, values, labels = name_proposals([[0, 1], [2, 3]], [0.5, 0.1], scores.top("v", 2))
        assert labels == ["b", "a", "b", "a"]
        np.testing.assert_allclose(values, [0.35, 0.1, 0.07, 0.02])
        np.testing.assert_allclose(segments, [[0, 1], [0, 1], [2, 3], [2, 3]])
    named = name_results({"v": [{"segment": [0, 1], "score": 0.5}]}, scores, top_k=1, score="proposal")
    assert named == {"v": [{"segment": [0.0, 1.0], "score": 0.5, "label": "b"}]}
    with pytest.raises(DataError, match="no class scores for video 'w'"):
        scores.top("w", 1)
    with pytest.raises(DataError, match="there are 2 classes"):
        VideoClassScores(["a", "b"], {"v": np.zeros(3)})


@pytest.mark.parametrize(
    ("content", "read", "words"),
    [
        ("{", read_results, "is not a JSON file"),
        ('{"results": 3}', read_results, "is not an ActivityNet result file"),
        ('{"results": {"v": [{"name": 1}]}}', read_class_scores, "need 'label' and 'score'"),
    ],
)
def test_broken_files_are_named(tmp_path, content, read, words):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(DataError) as error:
        read(path)
    assert words in str(error.value)
    assert "broken.json" in str(error.value)
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "absent.json")


def test_neighboring_cells_vote_on_a_proposals_times():
    """One peak at 2–4 of 8 and one cell beside it: the mean of both, weighted by score and IoU (1 and 2/3)."""
    start, end = torch.zeros(1, 8), torch.zeros(1, 8)
    start[0, 2], end[0, 3], end[0, 4] = 1.0, 1.0, 0.9
    conf = torch.zeros(1, 2, 4, 8)
    conf[0, :, 1, 2], conf[0, :, 2, 2] = 1.0, 0.5**0.5  # positions 2–3 score 1; 2–4 score 0.9 · 0.5
    plain = generate_proposals(conf, start, end, [8.0])
    voted = generate_proposals(conf, start, end, [8.0], voting=0.6)
    assert plain.segments[0, 0].tolist() == [2, 4]
    weight = 0.45 * 2 / 3
    np.testing.assert_allclose(voted.segments[0, 0], [2, (4 + 5 * weight) / (1 + weight)], rtol=1e-6)
    np.testing.assert_array_equal(voted.scores, plain.scores)
    alone = generate_proposals(conf, start, end, [8.0], voting=0.7)  # 2/3 is too little
    np.testing.assert_allclose(alone.segments[0, 0], [2, 4])


def test_filled_lists_begin_with_the_candidates():
    conf, start, end = smooth_maps(3, 24)
    plain = generate_proposals(conf, start, end, top_k=250)
    filled = generate_proposals(conf, start, end, top_k=250, convention="filled")
    assert plain.count.max() < 250
    assert filled.count.tolist() == [250] * 3  # of 300 cells
    first = plain.count.min() // 2  # behind them decay and filling may mix
    np.testing.assert_allclose(filled.segments[:, :first], plain.segments[:, :first])
    np.testing.assert_allclose(filled.scores[:, :first], plain.scores[:, :first])


def test_the_maps_two_scores_alone():
    """OpenTAD's detections: by hand, cell (start 0, two positions) with 0.5 * 0.8, whatever the curves say."""
    conf = torch.zeros(1, 2, 2, 3)
    conf[0, 0, 1, 0], conf[0, 1, 1, 0] = 0.5, 0.8
    start, end = torch.tensor([[0.3, 0.1, 0.1]]), torch.tensor([[0.1, 0.2, 0.1]])
    both, alone = (generate_proposals(conf, start, end, top_k=1, fused=kind) for kind in ("all", "map"))
    assert alone.scores[0, 0] == pytest.approx(0.4)
    assert both.scores[0, 0] == pytest.approx(0.4 * 0.3 * 0.2)
    np.testing.assert_allclose(alone.segments[0, 0], [0, 2 / 3])


def test_the_first_stages_own_weight_decay():
    from clipwise.engine.network import parameter_groups
    from clipwise.models.bmn import BMN

    model = BMN(8, 10, hidden_dim=8, matching_dim=4, map_dim=4)
    groups = parameter_groups(model, "all", 0.1, 1e-4, first_stage_decay=10)
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    base = {id(p) for p in model.base.parameters()}
    assert len(decay) == len(list(model.parameters()))
    assert {id_: pytest.approx(1e-3 if id_ in base else 1e-4) for id_ in decay} == decay
