"""ActionFormer against numbers of its published code (release of April 2024), in double precision."""

import numpy as np
import pytest
import torch
from golden_one_stage import Golden, check_four_steps, check_outputs, check_training

from clipwise.models.actionformer import ActionFormer, ActionFormerRules, band_attention

THUMOS = (
    "actionformer_thumos",
    {"feat_dim": 96, "temporal_dim": 576, "width": 64},
    {"nms": {"alpha": 0.5, "max_proposals": 200}},
)
ACTIVITYNET = (
    "actionformer_anet",
    {
        "feat_dim": 48,
        "num_classes": 1,
        "temporal_dim": 192,
        "width": 64,
        "window": [7, 7, 7, 7, 7, -1],
        "positions": True,
    },
    {
        "nms": {"alpha": 0.75, "max_proposals": 100, "class_wise": False, "voting": 0.9},
        "points": {
            "class_agnostic": True,
            "min_length": 0.001,
            "label_smoothing": 0.1,
            "distance_weight": 2,
            "loss_norm": 200,
        },
    },
)


@pytest.fixture(scope="module", params=[THUMOS, ACTIVITYNET], ids=["thumos", "anet"])
def golden(request, shared):
    name, network, recipe = request.param
    return Golden(shared, name, "small", ActionFormer, ActionFormerRules, network, recipe)


def test_outputs_candidates_and_segments(golden):
    check_outputs(golden, "eval", ("logits", "offsets"))


def test_a_sequence_longer_than_in_training(shared):
    name, network, recipe = THUMOS
    check_outputs(
        Golden(shared, name, "small", ActionFormer, ActionFormerRules, network, recipe), "long", ("logits", "offsets")
    )


def test_targets_losses_and_gradients(golden):
    check_training(golden)


def test_four_steps_of_training(golden):
    thumos = golden.name.endswith("thumos")
    check_four_steps(golden, 1e-4 if thumos else 1e-3, 0.05)


@pytest.mark.parametrize("variant", ["thumos", "anet"])
def test_the_published_size(shared, variant):
    """Names, shapes and number of parameters of the released networks, without arithmetic; padded lengths."""
    name, _, recipe = THUMOS if variant == "thumos" else ACTIVITYNET
    network = (
        {}
        if variant == "thumos"
        else dict(num_classes=1, feat_dim=512, width=256, temporal_dim=192, window=[7] * 5 + [-1])
    )
    if variant == "anet":
        network["positions"] = True
    with torch.device("meta"):
        model = ActionFormer(**network)
    golden = Golden(shared, name, "published", ActionFormer, ActionFormerRules, {"feat_dim": 2048, **network}, recipe)
    assert {k: v.shape for k, v in golden.state.items()} == {
        k: v.shape for k, v in model.state_dict().items() if k != "loss_norm"
    }
    assert sum(p.numel() for p in model.parameters()) == (29_251_612 if variant == "thumos" else 6_943_497)
    assert golden.rules.multiple() == golden.facts["max_div_factor"]
    assert golden.rules.padded_length(5) == (2304 if variant == "thumos" else 192)
    assert golden.rules.padded_length(2305) == (2880 if variant == "thumos" else 2400)


def test_padding_changes_nothing(shared):
    """The same sequence with twice the padding gives the same scores (the spec's measurement: at most 7e-15)."""
    name, network, recipe = THUMOS
    golden = Golden(shared, name, "small", ActionFormer, ActionFormerRules, network, recipe)
    model, x = golden.model().eval(), golden.rules.inputs([golden.features("eval")])
    with torch.no_grad():
        short, long = model(x)[0], model(torch.nn.functional.pad(x, (0, 576)))[0]
    for number in range(6):
        one, other = golden.level(short, number), golden.level(long, number)
        np.testing.assert_allclose(other[:, : one.shape[1] // 2], one[:, : one.shape[1] // 2], atol=1e-13)


@pytest.mark.parametrize(("padding", "leaks"), [("published", True), ("opentad", False)])
def test_what_leaks_out_of_the_padding(padding, leaks):
    """The biases of embedding and heads reach the video's last positions unless they are masked again."""
    torch.manual_seed(0)
    args = dict(feat_dim=6, num_classes=3, temporal_dim=64, width=16, num_levels=3, window=5, padding=padding)
    model = ActionFormer(**args).double().eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
        if name.startswith(("backbone.norms", "backbone.stem", "backbone.branch")) and "norm" in name:
            torch.nn.init.zeros_(parameter) if name.endswith("bias") else None  # these leak in both
    x = torch.cat([torch.randn(1, 6, 40, dtype=torch.float64), torch.ones(1, 1, 40, dtype=torch.float64)], 1)
    with torch.no_grad():
        bare = model(x)[0][:, :, :40]
        padded = model(torch.nn.functional.pad(x, (0, 24)))[0][:, :, :40]
    torch.testing.assert_close(padded[:, :, :20], bare[:, :, :20], atol=1e-12, rtol=0)
    assert (float((padded - bare).abs().max()) > 1e-3) == leaks


@pytest.mark.parametrize("length", [1, 17, 18, 40])
def test_band_attention_is_dense_attention_within_the_band(length):
    generator = torch.Generator().manual_seed(1)
    q, k, v = torch.randn(3, 2, 3, length, 4, generator=generator, dtype=torch.float64)
    valid = torch.arange(length)[None] < torch.tensor([[length], [max(1, length - 7)]])
    closed = (valid[:, None, None].double() - 1) * 1e4
    distance = (torch.arange(length)[:, None] - torch.arange(length)).abs()
    expected = torch.softmax((q @ k.mT + closed).masked_fill(distance > 4, -1e4), -1) @ v
    got = band_attention(q, k, v, closed, 4)
    rows = valid[:, None, :, None].expand_as(got)
    torch.testing.assert_close(got[rows], expected[rows], atol=1e-13, rtol=0)


def test_class_scores_of_whole_videos(shared):
    """ActivityNet's way: the two best classes of a video, root of the product."""
    from clipwise.tasks.detections import VideoClassScores, name_proposals

    with np.load(shared / "golden/actionformer_anet/golden.npz") as arrays:
        found, scores = arrays["small_eval_final_segments_s"], arrays["small_eval_final_scores"]
        classes, segments = arrays["small_fused_class_scores"], arrays["small_fused_segments_s"]
        expected, labels = arrays["small_fused_scores"], arrays["small_fused_labels"]
    video = VideoClassScores([str(i) for i in range(200)], {"v": classes})
    got = name_proposals(found, scores, video.top("v", 2), "sqrt")
    order = np.argsort(-expected, kind="stable")
    np.testing.assert_allclose(got[1], expected[order], rtol=1e-6)
    wanted = sorted(zip(labels[order].astype(str), segments[order].round(4).tolist()))
    assert sorted(zip(got[2], got[0].round(4).tolist())) == wanted
