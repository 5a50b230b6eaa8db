"""A stranger's loss, metric, transform, list reader and model: what they must take and give, and what is said where they don't."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import clipwise
from clipwise.data.augment import BatchAugment
from clipwise.data.lists import read_list
from clipwise.engine.metric_names import check_metrics
from clipwise.engine.recognition_extras import add_extras
from clipwise.errors import ClipwiseError, ClipwiseWarning, DataError, RecipeError
from clipwise.io.plugins import trusting
from clipwise.models import contract
from clipwise.models.localizer_rules import FoundSegments
from clipwise.models.registry import create_model
from clipwise.recipe import load_recipe
from clipwise.tasks.logits import score_clip


def loss_of(function):
    """What a recognition task makes of a registered loss."""
    clipwise.register_loss(name="theirs")(function)
    task = SimpleNamespace(recipe=load_recipe("tsm_tiny", ["loss=theirs"]), num_classes=2)
    add_extras(task, None, augmented=False)
    return task.own_loss


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda logits: logits.mean(1), r"returned a Tensor \(3,\) of float32"),
        (lambda logits: None, "returned None"),
        (lambda logits: 0.5, r"returned 0\.5"),
        (lambda logits: logits.detach().mean(), r"returned a Tensor \(\) of float32; .* depends on the logits"),
    ],
)
def test_a_loss_that_is_no_number_to_learn_from(returned, said):
    loss = loss_of(lambda logits, targets: returned(logits))
    with pytest.raises(RecipeError, match=f"loss 'theirs' {said}"):
        loss(torch.zeros(3, 2, requires_grad=True), torch.zeros(3))


def test_a_loss_with_other_arguments():
    with pytest.raises(RecipeError, match=r"loss 'theirs' takes \(logits\), but is called with \(logits, targets\)"):
        loss_of(lambda logits: logits.mean())


def test_a_loss_that_keeps_its_promise_is_called_as_it_is():
    loss = loss_of(lambda logits, targets: (logits * targets).sum())
    logits = torch.tensor([[1.0, 2.0]], requires_grad=True)
    assert loss(logits, torch.tensor([[3.0, 4.0]])).item() == 11.0
    with torch.no_grad():  # validation
        assert loss(logits, torch.tensor([[3.0, 4.0]])).item() == 11.0


@pytest.mark.parametrize("value", [None, "good", {"a": 0.5}, np.ones(2), [0.5]])
def test_a_metric_is_tried_before_the_videos_are_scored(value):
    clipwise.register_metric(name="theirs")(lambda scores, labels: value)
    with pytest.raises(RecipeError, match=r"metric 'theirs' returned .*; it must return one number"):
        check_metrics(["theirs"], multi_label=False, num_classes=3)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5)])
def test_numbers_of_all_kinds_are_metrics(value):
    clipwise.register_metric(name="theirs")(lambda scores, labels: value)
    check_metrics(["theirs"], multi_label=False, num_classes=3)


@pytest.mark.parametrize("returned", [lambda f: None, lambda f: f[..., :1], lambda f: f.numpy(), lambda f: f.double()])
def test_a_transform_that_returns_something_else(returned):
    clipwise.register_transform(name="theirs")(lambda frames, rng: returned(frames))
    with pytest.raises(RecipeError, match="transform 'theirs' returned"):
        BatchAugment(also=["theirs"]).pixels(torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (None, "dataset 'theirs' returned None"),
        ([5], "gave 5 as entry 1"),
        ([("a.mp4", 0), ("b.mp4", 1, 2)], r"gave \('b.mp4', 1, 2\) as entry 2"),
        ([("a.mp4", 0.5)], "gave .* as entry 1"),
        ([(3, 0)], "gave .* as entry 1"),
    ],
)
def test_a_list_reader_that_gives_no_pairs(tmp_path, rows, said):
    clipwise.register_dataset(name="theirs")(lambda source: rows)
    with pytest.raises((RecipeError, DataError), match=said):
        read_list(tmp_path, format="theirs")


class Net(nn.Module):
    num_classes = 2

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, clips):
        logits = clips.mean((2, 3, 4))[:, :2]
        return {"dict": {"logits": logits}, "more": logits.repeat(1, 2), "flat": logits.flatten(), "tuple": (logits,)}[
            self.kind
        ]


@pytest.mark.parametrize("kind", ["dict", "more", "flat", "tuple"])
def test_a_network_that_returns_no_logits(kind):
    net = Net(kind)
    with pytest.raises(ClipwiseError, match=r"Net returned .*; it must return logits, a tensor \(batch, 2\)"):
        contract.split_auxiliary(net, net(torch.zeros(3, 3, 2, 4, 4)))


@pytest.mark.parametrize("kind", ["dict", "flat", "tuple"])
def test_a_network_that_returns_no_logits_when_it_predicts(kind):
    spec = SimpleNamespace(mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ClipwiseError, match="Net returned"):
        score_clip(Net(kind), torch.zeros(1, 2, 2, 4, 4, 3, dtype=torch.uint8), spec)


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("def my_net(:\n", "my_net", r"SyntaxError: invalid syntax \(net\.py, line 1\)"),
        ("x = 1\ny = x / 0\n", "my_net", r"ZeroDivisionError: division by zero \(.*net\.py, line 2\)"),
        ("open('nowhere.txt')\n", "my_net", r"FileNotFoundError: .*nowhere\.txt"),
        ("import not_there\n", "my_net", "No module named 'not_there'"),
        ("from torch import nn\ndef my_net(): pass\n", "my_nt", r"net\.py has no 'my_nt'\. Did you mean 'my_net'\? Known: my_net"),
        ("my_net = 5\n", "my_net", "is a int, not a function"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used(tmp_path, text, place, said):
    (tmp_path / "net.py").write_text(text)
    with trusting(), pytest.raises(RecipeError, match=said):
        create_model(f"{tmp_path / 'net.py'}:{place}")


def test_a_file_without_a_function(tmp_path):
    with pytest.raises(RecipeError, match=r"is a file; name the function in it, too: \./net\.py:FUNCTION"):
        create_model("./net.py")


@pytest.fixture
def broken_package(tmp_path, monkeypatch):
    """An installed package that announces a model, a metric and a list format, and cannot be imported."""
    info = tmp_path / "broken_at_import-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-at-import\nVersion: 1.0\n")
    groups = {"models": "broken_net", "metrics": "broken_metric", "datasets": "broken_list"}
    announced = "".join(f"[clipwise.{group}]\n{name} = broken_at_import:it\n" for group, name in groups.items())
    (info / "entry_points.txt").write_text(announced)
    (tmp_path / "broken_at_import.py").write_text("raise RuntimeError('not today')\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_package_that_cannot_be_imported_hides_no_others(broken_package):
    assert "broken_net" in clipwise.list_models("*net*")
    with pytest.warns(ClipwiseWarning, match="broken_net is left out: .*RuntimeError: not today"):
        names = clipwise.list_models(task="localization")
    assert {"bmn", "actionformer", "tridet"} <= set(names)


def test_what_a_broken_package_announces_says_why(broken_package, tmp_path):
    with pytest.raises(RecipeError, match="RuntimeError: not today"):
        check_metrics(["broken_metric"], multi_label=False)
    with pytest.raises(RecipeError, match="RuntimeError: not today"):
        read_list(tmp_path, format="broken_list")
    with pytest.raises(RecipeError, match="RuntimeError: not today"):
        create_model("broken_net")


@pytest.mark.parametrize(
    ("segments_s", "scores", "labels", "said"),
    [
        ([[0, 1], [2, 3]], [0.2, 0.9], None, "scores .0.2 0.9."),  # the worst first
        ([[0, 1]], [0.9, 0.2], None, r"got \(1, 2\), \(2,\), None"),
        ([[0, np.nan]], [0.9], None, "finite"),
        ([[0, 1]], [np.nan, np.nan], [0, 1], r"got \(1, 2\), \(2,\), \(2,\)"),
        ([[0, 1], [2, 3]], [0.9, np.nan], None, "highest first"),
        ([[0, 1]], [0.9], [0, 1], r"\(2,\)"),
        ([0, 1], [0.9], None, r"got \(2,\)"),
    ],
)
def test_segments_that_a_localizer_must_not_find(segments_s, scores, labels, said):
    arrays = [np.array(segments_s, float), np.array(scores), None if labels is None else np.array(labels)]
    with pytest.raises(ClipwiseError, match=f"a localizer's decode must give .*{said}"):
        FoundSegments(*arrays)


def test_segments_that_a_localizer_may_find():
    FoundSegments(np.zeros((0, 2)), np.zeros(0), np.zeros(0, np.int64))
    FoundSegments(np.array([[1.0, 2.0], [0.5, 0.7]]), np.array([0.5, 0.5]))
