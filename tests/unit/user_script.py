"""A user's script that touches the whole API: mypy --strict and pyright find nothing in it (tests/unit/test_python_page.py)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import clipwise


class Follow(clipwise.Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_step(self, figures: dict[str, Any]) -> None:
        self.losses.append(figures["loss"])


def train(data: Path, out: Path) -> clipwise.RunResult:
    words = ["epochs=1", "warmup_epochs=0", "batch_size=8", "num_workers=0", "log.every=1"]
    recipe: clipwise.Recipe = clipwise.load_recipe("tsm_tiny", words)
    follow = Follow()
    result = clipwise.train(recipe, data=str(data), work_dir=out, device="cpu", quiet=True, callbacks=[follow])
    assert follow.losses
    return result


def loop(data: Path, out: Path) -> Path:
    recipe = clipwise.load_recipe("tsm_tiny")
    videos: clipwise.VideoList = clipwise.read_list(data / "train")
    spec = clipwise.ClipSpec.from_recipe(recipe)
    loader = DataLoader(clipwise.ClipDataset(videos, spec), batch_size=8)
    model = clipwise.create_model(recipe, num_classes=videos.num_classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = next(iter(loader))
    loss = torch.nn.functional.cross_entropy(model(spec.normalize(batch["frames"])), batch["label"])
    torch.autograd.backward(loss)
    optimizer.step()
    return clipwise.save_model(model, out / "loop.safetensors", classes=videos.classes)


def main(data: Path, out: Path) -> None:
    result = train(data, out)
    predictor: clipwise.Predictor = clipwise.load(result.last, device="cpu")
    paths: list[Path] = sorted((data / "val").rglob("*.mp4"))[:2]
    one: clipwise.Prediction = predictor(paths[0])
    both: clipwise.Predictions = predictor(paths)
    assert one.top(1)[0] == both[0].top(1)[0]
    for prediction in predictor.stream(paths):
        print(prediction.name, prediction.duration_s)
    with clipwise.open_video(paths[0]) as reader:
        views = clipwise.transforms_for(clipwise.load_model(result.last))(reader[:])
    tested: clipwise.TestResult = clipwise.evaluate(loop(data, out), data=data / "val", device="cpu")
    card = clipwise.describe_model("tsm_tiny")
    names = clipwise.list_models("tsm*", pretrained=True)
    print(views.shape, tested.metrics["top1_acc"], card["input_size"], len(names), clipwise.__version__)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except clipwise.ClipwiseError as error:
        sys.exit(str(error))
