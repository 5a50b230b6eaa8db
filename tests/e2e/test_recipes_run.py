"""Every recipe runs: a training step, a validation and its whole test protocol, with a small body and small pictures."""

import io
import json
from pathlib import Path

import av
import numpy as np
import pytest

from clipwise.engine.test import evaluate
from clipwise.engine.train import train
from clipwise.io.parse import read_json_lines
from clipwise.prepare.synthetic import write_video
from clipwise.recipe import flatten, list_recipes, load_recipe

RECIPES = [n for n in list_recipes() if load_recipe(n).task == "recognition" and not n.endswith("_tiny")]
HEIGHT, WIDTH, FRAMES = 36, 48, 70


def jpeg(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuvj420p"
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")), *stream.encode(None)]:
            container.mux(packet)
    return out.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two classes as videos, RGB frame folders, flow folders and OmniSource's kinds; one list for each."""
    root = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    lines: dict[str, list[str]] = {kind: [] for kind in ("video", "rgb", "flow", "image", "untrimmed")}
    for label in range(2):
        frames = rng.integers(0, 255, (FRAMES, HEIGHT // 6, WIDTH // 6, 3), np.uint8).repeat(6, 1).repeat(6, 2)
        write_video(root / f"{label}.mp4", frames)
        lines["video"].append(f"{label}.mp4 {label}")
        for kind, names in (("rgb", ["{:05}.jpg"]), ("flow", ["flow_x_{:05}.jpg", "flow_y_{:05}.jpg"])):
            folder = root / f"{kind}{label}"
            folder.mkdir()
            for n in range(FRAMES):
                picture = jpeg(frames[n])
                for name in names:
                    (folder / name.format(n + 1)).write_bytes(picture)
            lines[kind].append(f"{kind}{label} {FRAMES} {label}")
        # for OmniSource: a web picture, and an untrimmed video cut into two clips of which the second is positive
        (root / f"{label}.jpg").write_bytes(jpeg(frames[0]))
        lines["image"].append(f"{label}.jpg {label}")
        (root / f"cut{label}").mkdir()
        for part in range(2):
            write_video(root / f"cut{label}" / f"part_{part}.mp4", frames[:40])
        lines["untrimmed"].append(f"cut{label} {label} 2 1")
    for kind, entries in lines.items():
        (root / f"{kind}.txt").write_text("\n".join(entries) + "\n")
    return root


def smaller(name: str, data: Path) -> list[str]:
    """Overrides: a tiny body, an eighth of every size, one step of two samples."""
    recipe = load_recipe(name)
    given = flatten(recipe.model_dump())
    model = recipe.model.replace("_r50_nl", "_tiny").replace("_r50_paddle", "_tiny")
    model = model.replace("_r50", "_tiny").replace("_r101", "_tiny")
    sizes = {
        key: given[key] // 8
        for key in ("augment.resize", "crop_size", "val.resize", "val.crop_size", "test.resize", "test.crop_size")
        if given[key] is not None
    }
    if "paddle" in name:
        sizes["model_args"] = "{dropout: 0.0, fc_std: null}"
    return [
        f"model={model}",
        *(f"{key}={value}" for key, value in sizes.items()),
        "epochs=1",
        "warmup_epochs=0",
        "batch_size=2",
        "num_workers=0",
        "log.every=1",
        "init=null",
        *(f"sources={sources}" for sources in [_local_sources(recipe, data)] if recipe.sources),
    ]


def _local_sources(recipe, data: Path) -> str:
    """The recipe's own sources with the test's lists, after every main step."""
    rows = [{**s.model_dump(), "data": str(data / f"{s.kind}.txt"), "every": 1} for s in recipe.sources]
    return json.dumps(rows)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_runs(name, data, tmp_path):
    overrides = smaller(name, data)
    recipe = load_recipe(name, overrides)
    kind = "flow" if recipe.modality == "flow" else "rgb" if recipe.input.filename_tmpl else "video"
    source = str(data / f"{kind}.txt")
    run = train(recipe, data=source, val_data=source, work_dir=tmp_path, quiet=True, device="cpu")
    assert np.isfinite(run.metrics["top1_acc"])
    if recipe.sources:
        steps = [row for row in read_json_lines(tmp_path / "log.jsonl") if row.get("mode") == "train"]
        assert any(key.endswith(recipe.sources[0].name) for row in steps for key in row), steps
    result = evaluate(run.last, data=source, device="cpu")
    assert not result.failures
    assert [s.shape for s in result.scores] == [(2,), (2,)]
    assert all(np.isfinite(s).all() for s in result.scores)
    if recipe.test.average_clips == "prob":
        np.testing.assert_allclose([s.sum() for s in result.scores], 1, rtol=1e-5)
