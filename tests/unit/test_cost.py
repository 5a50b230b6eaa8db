"""Parameters, MACs and memory against the published tables (specification 1.9 and 7.3)."""

import pytest
import torch

from clipwise.models import create_model
from clipwise.models.cost import measure_cost

# name, settings, view: parameters; GMAC of convolutions and linear layers; of attention
PUBLISHED = [
    ("slowonly_r50", {}, (3, 4, 256, 256), 32_454_096, 27.26, 0),
    ("slowonly_r50", {}, (3, 4, 224, 224), 32_454_096, 20.87, 0),
    ("slowonly_r50", {}, (3, 8, 256, 256), 32_454_096, 54.52, 0),
    ("slowonly_r101", {}, (3, 8, 256, 256), 60_359_120, 111.56, 0),
    ("slowonly_r50_nl", {}, (3, 4, 256, 256), 39_808_464, 38.00, 5.10),
    ("slowonly_r50", {"in_channels": 2}, (2, 4, 256, 256), 32_450_960, None, 0),
    ("slowonly_r50", {"num_classes": 600}, (3, 8, 64, 64), 32_863_896, None, 0),
    ("tpn_slowonly_r50", {}, (3, 8, 256, 256), 91_498_336, 65.67, 0),
    ("tpn_tsm_r50", {"num_classes": 174}, (3, 8, 256, 256), 82_445_724, 53.86, 0),
    ("tsn_r50", {}, (3, 1, 224, 224), 24_327_632, 4.088, 0),
    ("tsn_r50", {"in_channels": 10}, (10, 3, 64, 64), 24_349_584, None, 0),
    ("tsm_r50", {"num_classes": 174}, (3, 8, 224, 224), 23_864_558, 32.70, 0),
    ("tsm_r50_nl", {}, (3, 8, 64, 64), 31_682_000, None, None),
    ("tsm_r50_nl", {"non_local": "gaussian"}, (3, 8, 64, 64), 28_007_888, None, None),
]
# what MMAction2's tables give as training memory of one device (MB), with 224 px and the batch of the config
MEMORY = [
    ("slowonly_r50", {}, (3, 4, 224, 224), 8, 3168),
    ("slowonly_r50", {}, (3, 8, 224, 224), 8, 5820),
    ("slowonly_r50_nl", {}, (3, 4, 224, 224), 8, 4435),
    ("tpn_slowonly_r50", {}, (3, 8, 224, 224), 8, 6916),
    ("tpn_tsm_r50", {"num_classes": 174}, (3, 8, 224, 224), 8, 8828),
    ("tsm_r50", {}, (3, 8, 224, 224), 8, 7079),
    ("tsn_r50", {}, (3, 3, 224, 224), 32, 8344),
]


@pytest.mark.parametrize(("name", "settings", "view", "parameters", "gmac", "attention"), PUBLISHED)
def test_published_parameters_and_macs(name, settings, view, parameters, gmac, attention):
    cost = measure_cost(lambda: create_model(name, **settings), view, (view[0], view[1], 64, 64))
    assert cost.parameters == parameters
    if gmac is not None:
        assert cost.macs / 1e9 == pytest.approx(gmac, abs=0.0051)
    if attention is not None:
        assert cost.attention_macs / 1e9 == pytest.approx(attention, abs=0.0051)


@pytest.mark.parametrize(("name", "settings", "clip", "batch", "published_mb"), MEMORY)
def test_training_memory_is_a_close_lower_bound_of_the_published(name, settings, clip, batch, published_mb):
    cost = measure_cost(lambda: create_model(name, **settings), clip)
    estimate = cost.training_bytes(batch) / 2**20
    assert 0.85 * published_mb < estimate < published_mb


def test_saved_activations_by_hand():
    """conv -> ReLU -> linear on (2, 4): what autograd keeps is the input, the ReLU's output, and nothing twice."""

    def make():
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))

    cost = measure_cost(make, (4,))
    assert cost.macs == 4 * 8 + 8 * 3
    assert cost.parameters == 4 * 8 + 8 + 8 * 3 + 3
    assert cost.saved_bytes == 4 * (4 + 8)
    assert cost.training_bytes(10, "sgd") == 3 * 4 * cost.parameters + 10 * cost.saved_bytes
    assert cost.training_bytes(10, "adamw") == 4 * 4 * cost.parameters + 10 * cost.saved_bytes


def test_bmn_is_counted_on_the_cpu():
    cost = measure_cost(lambda: create_model("bmn", feat_dim=8, temporal_dim=8), (8, 8), device="cpu")
    assert cost.macs > 0
    assert cost.parameters == sum(p.numel() for p in create_model("bmn", feat_dim=8, temporal_dim=8).parameters())
