"""Several labels a video: every verb turns logits into sigmoids, averages those, and measures by mean average precision."""

import json
from itertools import product

import numpy as np
import pytest
import torch

from clipwise.cli import main
from clipwise.engine.checkpoint import Passport, save_weights
from clipwise.engine.test import evaluate
from clipwise.engine.train import train
from clipwise.infer.predictor import Predictor, load
from clipwise.infer.stream import Streamer
from clipwise.models import create_model
from clipwise.prepare.synthetic import write_video
from clipwise.recipe import RecognitionRecipe, load_recipe, make_recipe
from clipwise.recipe.moved import in_groups
from clipwise.tasks.logits import average_views
from clipwise.video.live import Source

CPU = torch.device("cpu")
CLASSES = ["red", "green", "blue"]
RECIPE = {
    "model": "tsm_tiny",
    "num_classes": 3,
    "num_segments": 4,
    "multi_label": True,
    "input.mean": [127.5, 127.5, 127.5],
    "input.std": [127.5, 127.5, 127.5],
    "test.resize": 32,
    "test.crop_size": 32,
    "num_workers": 0,
}


class Colors(torch.nn.Module):
    """A perfect classifier of the colors that a clip contains."""

    num_classes = 3

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return 3 * clips.mean((2, 3, 4))


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    """Eight videos, one for each set of colors, and their list (black has no label and is in none)."""
    folder = tmp_path_factory.mktemp("colors")
    lines = []
    for bits in product((0, 1), repeat=3):
        name = "".join(map(str, bits)) + ".mp4"
        frames = np.zeros((12, 32, 32, 3), np.uint8) + np.uint8(235) * np.array(bits, np.uint8)
        write_video(folder / name, frames)
        lines.append(" ".join([name, *(str(i) for i in np.flatnonzero(bits))]))
    (folder / "list.txt").write_text("\n".join(lines[1:]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    recipe = make_recipe(in_groups(RecognitionRecipe, RECIPE))
    torch.manual_seed(0)
    model = create_model("tsm_tiny", num_classes=3, num_segments=4).eval()
    torch.nn.init.normal_(model.get_classifier().weight if hasattr(model, "get_classifier") else model.fc.weight)
    path = tmp_path_factory.mktemp("several") / "several.safetensors"
    args = {"num_classes": 3, "num_segments": 4}
    save_weights(path, model.state_dict(), Passport("tsm_tiny", args, CLASSES, recipe.model_dump(mode="json")))
    return path


def passport(**keys) -> Passport:
    recipe = make_recipe(in_groups(RecognitionRecipe, {**RECIPE, **keys}))
    return Passport("tsm_tiny", {"num_classes": 3}, CLASSES, recipe.model_dump(mode="json"))


def test_views_are_averaged_by_hand():
    logits = torch.tensor([[[0.0, np.log(3.0)], [0.0, 0.0]]], dtype=torch.float32)
    assert average_views(logits, "prob", "sigmoid")[0].tolist() == pytest.approx([0.5, 0.625])  # (3/4 + 1/2) / 2
    assert average_views(logits, "prob", "softmax")[0].tolist() == pytest.approx([0.375, 0.625])  # (1/4 + 1/2) / 2
    assert average_views(logits, "score", "sigmoid")[0].tolist() == pytest.approx([0.0, np.log(3) / 2])
    assert average_views(logits, "none", "sigmoid").tolist() == logits.tolist()


@pytest.mark.parametrize("average", ["prob", "score", "none"])
def test_a_perfect_classifier_has_a_map_of_1(colors, average):
    result = evaluate(
        "colors", data=str(colors / "list.txt"), loaded=(Colors(), passport(average_clips=average)), device="cpu"
    )
    assert result.metrics == {"mean_average_precision": pytest.approx(1.0)}


def test_predict_gives_each_class_its_own_probability(colors):
    predictor = Predictor(Colors(), passport(), device=CPU)
    white, black = predictor(str(colors / "111.mp4")).scores, predictor(str(colors / "000.mp4")).scores
    assert white.min() > 0.9  # a softmax gives 1/3 to each, of white and of black alike
    assert black.max() < 0.1
    (window,) = Streamer(predictor, window_s=60.0)(Source(colors / "110.mp4"))
    np.testing.assert_allclose(window.scores, predictor(str(colors / "110.mp4")).scores, atol=1e-6)


def test_views_that_are_kept_apart_are_averaged_as_sigmoids(colors):
    """In reports and comparisons: by hand, 1 / (1 + e^-x) of each view."""
    apart = passport(**{"test.average_clips": "none", "test.crop": "three"})
    result = evaluate("colors", data=str(colors / "list.txt"), loaded=(Colors(), apart), device="cpu")
    views = result.scores[2]
    assert views.shape == (3, 3)
    np.testing.assert_allclose(result.table[2], (1 / (1 + np.exp(-views.astype(float)))).mean(0), rtol=1e-6)
    assert (result.table.sum(1) > 1.5).any()  # a softmax's shares sum to one


def test_exported_and_served_scores_are_those_of_predict(checkpoint, colors, tmp_path):
    from clipwise.export.export_model import export
    from clipwise.export.runtimes import load_exported
    from clipwise.serve.analysis import Analyzer, Options
    from clipwise.serve.batching import BatchQueue
    from clipwise.video.decode import open_video

    predictor = load(checkpoint, "cpu")
    expected = predictor(str(colors / "101.mp4")).scores
    frames, _ = predictor.spec.read(open_video(colors / "101.mp4"), np.random.default_rng(0))
    logits = predictor.logits(torch.from_numpy(frames)[None])
    np.testing.assert_allclose(expected, (1 / (1 + np.exp(-logits.numpy()))).mean(1)[0], rtol=1e-6)
    exported = export(checkpoint, "torch", tmp_path / "several.pt2")
    assert json.loads(exported.description.to_properties()["preprocessing"])["activation"] == "sigmoid"
    np.testing.assert_allclose(
        load_exported(tmp_path / "several.pt2", trust=True)(str(colors / "101.mp4")).scores, expected, atol=1e-5
    )
    batches = BatchQueue(predictor)
    batches.start()
    with open_video(colors / "101.mp4") as reader:
        answer = Analyzer(predictor, batches)(reader, Options(topk=3))
    served = {one["class"]: one["score"] for one in answer["predictions"]}
    assert served == {name: pytest.approx(float(score), abs=1e-5) for name, score in zip(CLASSES, expected)}


def test_training_logs_the_map_by_its_name_and_chooses_the_best_by_it(colors, tmp_path):
    keys = [f"{k}={json.dumps(v)}" for k, v in RECIPE.items() if k != "model"]
    short = [
        "epochs=1",
        "warmup_epochs=0",
        "batch_size=4",
        "amp=no",
        "val.resize=32",
        "val.crop_size=32",
        "crop_size=32",
    ]
    recipe = load_recipe("tsm_tiny", [*keys, *short])
    listed = str(colors / "list.txt")
    result = train(recipe, data=listed, val_data=listed, work_dir=tmp_path / "run", quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    (measured,) = [line for line in lines if line.get("mode") == "val"]
    assert "top1_acc" not in measured
    assert 0 <= measured["mean_average_precision"] <= 1
    assert result.best is not None
    assert result.best.exists()


def test_score_files_of_several_labels_are_fused_and_measured_by_map(colors, tmp_path, capsys):
    files = []
    for name, suffix in (("a", ".json"), ("b", ".csv")):
        result = evaluate("colors", data=str(colors / "list.txt"), loaded=(Colors(), passport(average_clips="score")))
        result.save(tmp_path / f"{name}{suffix}")
        files.append(str(tmp_path / f"{name}{suffix}"))
    assert main(["fuse", *files, "--sigmoid", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == {"mean_average_precision": pytest.approx(1.0)}
    assert main(["fuse", *files, "--search", *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == [1.0, 1.0]
