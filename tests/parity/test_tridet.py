"""TriDet against numbers of its published code (December 2023), in double precision."""

import numpy as np
import pytest
import torch
from golden_one_stage import Golden, check_four_steps, check_outputs, check_training

from clipwise.models.tridet import TriDet, TriDetRules

SMALL = {"feat_dim": 96, "temporal_dim": 576, "width": 64, "mlp_width": 96}
NMS = {"alpha": 0.5, "max_proposals": 2000}
VARIANTS = {
    "small": (SMALL, {"nms": NMS}),
    "w15": (
        {**SMALL, "window": 15, "reach": 1.3, "positions": True},
        {"nms": NMS, "points": {"label_smoothing": 0.1, "distance_weight": 2, "iou_power": 1}},
    ),
}
OUTPUTS = ("logits", "offsets", "start_logits", "end_logits")


@pytest.fixture(scope="module", params=list(VARIANTS))
def golden(request, shared):
    return Golden(shared, "tridet_thumos", request.param, TriDet, TriDetRules, *VARIANTS[request.param])


@pytest.mark.parametrize("which", ["eval", "long"])
def test_outputs_candidates_and_segments(golden, which):
    check_outputs(golden, which, OUTPUTS)


def test_distances_of_every_class(golden):
    model, x = golden.model().eval(), golden.features("eval")
    with torch.no_grad():
        outputs = model(golden.rules.inputs([x]))
    start, size = golden.rules.level_bounds(outputs[0].shape[2])
    for number in (1, 5):
        points = torch.arange(int(start[number]), int(start[number] + size[number]))
        expected = golden.arrays.get(f"eval_decoded_offsets_l{number}")
        if expected is None or expected.ndim != 3:
            continue
        for label in (0, 19):
            got = golden.rules.distances(outputs, 0, points, torch.full_like(points, label))
            np.testing.assert_allclose(got.numpy(), expected[label], rtol=1e-9, atol=1e-11)


def test_targets_losses_and_gradients(golden):
    check_training(golden)


def test_four_steps_of_training(shared):
    golden = Golden(shared, "tridet_thumos", "small", TriDet, TriDetRules, *VARIANTS["small"])
    check_four_steps(golden, 1e-4, 0.025)


def test_the_published_size(shared):
    with torch.device("meta"):
        model = TriDet()
    golden = Golden(shared, "tridet_thumos", "published", TriDet, TriDetRules, {"feat_dim": 2048}, {"nms": NMS})
    assert {k: v.shape for k, v in golden.state.items()} == {
        k: v.shape for k, v in model.state_dict().items() if k != "loss_norm"
    }
    assert sum(p.numel() for p in model.parameters()) == 15_989_604
    assert golden.rules.multiple() == golden.facts["max_div_factor"]


def test_first_weights():
    """Zero depthwise convolutions, no bias but the classes' prior of 1 %, layer scales of 1e-4 in the branch only."""
    model = TriDet(feat_dim=8, width=32, num_levels=3)
    assert not model.backbone.branch[0].near.weight.any()
    for head in (model.classes, model.starts, model.ends):
        torch.testing.assert_close(head.last.bias.detach(), torch.full((20,), -4.59512), atol=1e-5, rtol=0)
    assert model.backbone.stem[0].residual1.scale is None
    assert float(model.backbone.branch[0].residual1.scale.detach().mean()) == pytest.approx(1e-4)
    assert all(not p.any() for n, p in model.named_parameters() if n.endswith(".bias") and ".mlp." in n)
