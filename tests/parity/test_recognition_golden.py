"""Every recognizer against frozen tensors of MMAction2 1.2.0, in double precision.

Weights are drawn by MMAction2's key names and pass through the converter, so a wrong name shows as well as a wrong network.
"""

import functools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clipwise.convert.weights import convert_state_dict, guess_model, load_converted, to_mmaction2
from clipwise.engine.network import parameter_groups
from clipwise.models import create_model

FAMILIES = {
    "tsn_r50": "tsn_r50",
    "tsm_r50_blockres": "tsm_r50",
    "slowonly_r50_4x16": "slowonly_r50",
    "slowonly_r50_8x8": "slowonly_r50",
    "slowonly_r50_flow": "slowonly_r50",
    "slowonly_r50_nl_embedded_gaussian": "slowonly_r50",
    "tpn_slowonly_r50_8x8": "tpn_slowonly_r50",
    "tpn_tsm_r50_1x1x8": "tpn_tsm_r50",
}
# Attention amplifies rounding: its gradients are a hundred times larger than the others'.
TOLERANCE = {"slowonly_r50_nl_embedded_gaussian": 1e-8}


_DRAWN: dict[tuple[str, int], torch.Tensor] = {}


def draw(recipe, key, shape):
    """The recipe's weight; a kernel with a further extent of one has the same numbers, so families share them."""
    size = int(np.prod(shape))
    if (key, size) not in _DRAWN:
        _DRAWN[key, size] = torch.from_numpy(recipe.make_tensor(key, shape))
    return _DRAWN[key, size].reshape(shape)


class Family:
    """One family's golden numbers and our model with the same weights."""

    def __init__(self, folder, recipe):
        self.name = folder.name
        self.recipe = recipe
        self.facts = json.loads((folder / "golden.json").read_text())
        self.numbers = np.load(folder / "golden.npz")
        self.weights = {key: draw(recipe, key, shape) for key, shape in recipe.load_keys(folder / "keys.json")}
        self.model_name, self.model_args = guess_model(self.weights)
        self.model = create_model(self.model_name, dropout=0.0, **self.model_args)
        self.report = convert_state_dict(self.weights, self.model)
        load_converted(self.model, self.report)
        self.model.double()
        self.foreign_name = {own: foreign for foreign, own in self.report.matched}
        self.rtol = TOLERANCE.get(self.name, 1e-9)

    def clips(self, name):
        """The recipe's input as our views: (V, C, T, H, W)."""
        shape = self.facts["inputs"][name]
        x = torch.from_numpy(self.recipe.make_input(f"{self.name}/{name}", shape)).double()
        assert float(x.sum()) == pytest.approx(self.facts["input_sums"][name], rel=1e-9)
        if x.dim() == 6:  # (N, V, C, T, H, W)
            return x.flatten(0, 1)
        if self.model.num_segments:  # (N, V·T, C, H, W)
            x = x.unflatten(1, (-1, self.model.num_segments)).flatten(0, 1)
        return x.transpose(1, 2)

    def close(self, ours, name, rows=None, atol=0.0):
        reference = self.numbers[name] if rows is None else self.numbers[name][rows]
        ours = ours.detach().numpy() if isinstance(ours, torch.Tensor) else np.asarray(ours)
        atol = max(atol, self.rtol * np.abs(reference).max())
        np.testing.assert_allclose(ours, reference.reshape(ours.shape), rtol=self.rtol, atol=atol)


@pytest.fixture(scope="module")
def load_family(shared, weights_recipe):
    yield functools.lru_cache(maxsize=1)(lambda name: Family(shared / "golden" / name, weights_recipe))
    _DRAWN.clear()


@pytest.fixture(params=FAMILIES, scope="module")
def family(request, load_family):
    return load_family(request.param)


def samples(tensor, count=256):
    """Entries of a flattened map at ``count`` evenly spread positions."""
    flat = tensor.detach().reshape(-1).numpy()
    return flat[np.unique(np.linspace(0, flat.size - 1, count).astype(int))]


def test_conversion_is_complete_and_goes_back(family):
    assert family.model_name == FAMILIES[family.name]
    assert family.report.complete, family.report.summary()
    assert family.report.source_format == "MMAction2"
    back = to_mmaction2(family.model.state_dict(), family.model)
    assert back.keys() == family.weights.keys()
    for key, value in family.weights.items():
        assert back[key].shape == value.shape, key
        assert torch.equal(back[key].to(value.dtype), value), key


def test_stages_and_logits(family):
    model = family.model.eval()
    stages = {}
    hooks = [model.backbone.bn1.register_forward_hook(lambda m, i, out: stages.update({"backbone.conv1": F.relu(out)}))]
    for i, stage in enumerate(model.backbone.stages(), 1):
        hooks.append(
            stage[-1].register_forward_hook(lambda m, i, out, name=f"backbone.layer{i}": stages.update({name: out}))
        )
    if hasattr(model, "neck"):
        hooks.append(model.neck.register_forward_hook(lambda m, i, out: stages.update({"neck": out[0]})))
    with torch.no_grad():
        logits = model(family.clips("x1"))
    for hook in hooks:
        hook.remove()
    family.close(logits, "logits_x1")
    assert set(stages) == set(family.facts["stages"])
    for name, maps in stages.items():
        shape = family.facts["stages"][name]["shape"]
        if len(shape) == 5:  # (B, C, T, H, W) there
            maps = maps.unflatten(0, (-1, shape[2])).transpose(1, 2)
        assert list(maps.shape) == shape, name
        family.close(samples(maps), f"stage_{name}")
        assert maps.abs().max().item() == pytest.approx(family.facts["stages"][name]["absmax"], rel=1e-9)


def test_odd_picture_size(family):
    with torch.no_grad():
        family.close(family.model.eval()(family.clips("xodd")), "logits_xodd")


def test_views(family):
    """Views' logits, their mean, and the mean of their probabilities; TSN averages before the softmax."""
    model = family.model.eval()
    with torch.no_grad():
        logits = model(family.clips("xviews"))
    family.close(logits, "views_None")
    family.close(logits.mean(0), "views_score")
    before = model.views_before_softmax
    assert before == family.model_name.startswith("tsn")
    family.close(logits.mean(0).softmax(0) if before else logits.softmax(1).mean(0), "views_prob")


def test_single_precision(family):
    model = family.model.eval()
    model.float()
    with torch.no_grad():
        logits = model(family.clips("xodd").float())
    model.double()  # exact: the recipe's weights are half precision numbers
    reference = family.numbers["logits_xodd"].reshape(logits.shape)
    assert np.abs(logits.numpy() - reference).max() < 1e-4 * np.abs(reference).max()


def test_training_step(family):
    """Losses, running statistics, gradients and one step of the config's own optimizer (this changes the model)."""
    model, facts = family.model.train(), family.facts
    labels = torch.tensor(facts["labels"])
    outputs = model(family.clips("xtrain"))
    if hasattr(model, "aux_weight"):
        logits, aux_logits = outputs
        loss_aux = model.aux_weight * F.cross_entropy(aux_logits, labels)
        assert loss_aux.item() == pytest.approx(facts["losses"]["loss_aux"], rel=family.rtol)
    else:
        logits, loss_aux = outputs, torch.zeros(())
    loss = F.cross_entropy(logits, labels)
    assert loss.item() == pytest.approx(facts["losses"]["loss_cls"], rel=family.rtol)

    buffers = {family.foreign_name[k]: v.norm().item() for k, v in model.named_buffers() if "running" in k}
    family.close([buffers[k] for k in facts["buffer_names"]], "buffer_l2_after_train_forward")

    wrapper = facts["optim_wrapper"]
    kind = "tsm" if wrapper.get("constructor") == "TSMOptimWrapperConstructor" else "all"
    settings = wrapper["optimizer"]
    groups = parameter_groups(model, kind, settings["lr"], settings["weight_decay"])
    optimizer = torch.optim.SGD(
        groups, lr=settings["lr"], momentum=settings["momentum"], nesterov=settings.get("nesterov", False)
    )
    (loss + loss_aux).backward()
    parameters = {family.foreign_name[k]: p for k, p in model.named_parameters()}
    assert set(parameters) == set(facts["param_names"])
    ordered = [parameters[k] for k in facts["param_names"]]
    family.close([p.grad.norm().item() for p in ordered], "grad_norm")
    for i, p in enumerate(ordered):
        # a key's bias in an attention has no gradient but rounding: the softmax does not see it
        family.close(evenly(p.grad), "grad_samples", rows=i, atol=1e-14 * facts["grad_total_norm"])
    total = torch.nn.utils.clip_grad_norm_(model.parameters(), wrapper["clip_grad"]["max_norm"])
    assert total.item() == pytest.approx(facts["grad_total_norm"], rel=family.rtol)
    optimizer.step()
    family.close([p.detach().norm().item() for p in ordered], "param_norm_after_step")
    for i, p in enumerate(ordered):
        family.close(evenly(p.detach()), "param_samples_after_step", rows=i)


def evenly(tensor):
    """Eight entries, repeated where there are fewer."""
    flat = tensor.reshape(-1).numpy()
    return flat[np.linspace(0, flat.size - 1, 8).astype(int)]
