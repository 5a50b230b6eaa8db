"""Logs of three systems become the same curves; times are analyzed as MMAction2's tool does; clipwise plot."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from clipwise.cli import main
from clipwise.errors import DataError
from clipwise.report.page import Series, line_chart, round_ticks
from clipwise.report.run_report import read_run, run_report, smooth
from clipwise.report.run_times import analyze_time

LOSS = {(e, i): 2.0 / e + i / 100 for e in (1, 2, 3) for i in (10, 20, 30, 40)}
TOP1 = {1: 0.3, 2: 0.5, 3: 0.45}


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")


def time_of(epoch, i):
    return 0.1 * epoch + (1.0 if i == 10 else 0.0)  # the first line of an epoch has the loader's start in it


@pytest.fixture
def ours(tmp_path):
    lines = []
    for (e, i), loss in LOSS.items():
        lines.append(dict(mode="train", epoch=e, epochs=3, iter=i, iters=40, lr=0.01, memory=100, data_time=0.01, loss=loss, time=time_of(e, i), step=(e - 1) * 40 + i))  # fmt: skip
        if i == 40:
            lines.append(dict(mode="val", epoch=e, epochs=3, top1_acc=TOP1[e], step=e * 40))
    write_lines(tmp_path / "ours" / "log.jsonl", lines)
    (tmp_path / "ours" / "recipe.yaml").write_text("model: tsm_tiny\nlr: 0.01\nnotes: []\naugment:\n  mixup: 0.2\n")
    return tmp_path / "ours"


@pytest.fixture
def mmaction_0x(tmp_path):
    lines: list[dict] = [{"env_info": "…", "config": "model = dict()", "seed": None, "exp_name": "x.py"}]
    for (e, i), loss in LOSS.items():
        lines.append(dict(mode="train", epoch=e, iter=i, lr=0.01, memory=100, data_time=0.01, loss_cls=loss, loss=loss, time=time_of(e, i)))  # fmt: skip
        if i == 40:
            lines.append(dict(mode="val", epoch=e, iter=57, lr=0.01, top1_acc=TOP1[e], top5_acc=0.9))
    write_lines(tmp_path / "old" / "20210101_000000.log.json", lines)
    return tmp_path / "old"


@pytest.fixture
def mmaction_1x(tmp_path):
    lines: list[dict] = []
    for (e, i), loss in LOSS.items():
        place = (e - 1) * 40 + i
        lines.append({"lr": 0.01, "data_time": 0.01, "loss": loss, "time": time_of(e, i), "epoch": e, "iter": place, "memory": 100, "step": place})  # fmt: skip
        if i == 40:
            lines.append({"acc/top1": TOP1[e], "acc/top5": 0.9, "acc/mean1": 0.4, "data_time": 0.1, "time": 0.2, "step": e})  # fmt: skip
    write_lines(tmp_path / "new" / "20230101_000000" / "vis_data" / "scalars.json", lines)
    return tmp_path / "new"


@pytest.mark.parametrize("system", ["ours", "mmaction_0x", "mmaction_1x"])
def test_three_systems_give_the_same_curves(system, request):
    run = read_run(request.getfixturevalue(system))
    at, loss = run.curve("loss")
    assert at == pytest.approx([e - 1 + i / 40 for e, i in LOSS])
    assert loss == pytest.approx(list(LOSS.values()))
    at, top1 = run.curve("top1_acc", "val")
    assert at.tolist() == [1, 2, 3]
    assert top1.tolist() == list(TOP1.values())
    assert run.best("top1_acc") == (2, 0.5)


@pytest.mark.parametrize("system", ["ours", "mmaction_0x", "mmaction_1x"])
def test_time_analysis_is_that_of_analyze_logs(system, request):
    run = read_run(request.getfixturevalue(system))
    known = analyze_time(run)
    # the first value of each epoch is left out: epoch e takes 0.1 e
    assert known.means == pytest.approx([0.1, 0.2, 0.3])
    assert known.slowest == (3, pytest.approx(0.3))
    assert known.fastest == (1, pytest.approx(0.1))
    assert known.std == pytest.approx(np.std([0.1, 0.2, 0.3]))
    assert known.average == pytest.approx(0.2)
    everything = analyze_time(run, include_outliers=True)
    assert everything.means == pytest.approx([0.35, 0.45, 0.55])
    assert known.waiting == pytest.approx(0.01 / 0.2)


def test_total_time_counts_every_iteration(ours):
    # ten iterations a line
    assert analyze_time(read_run(ours)).total_s == pytest.approx(10 * sum(time_of(e, i) for e, i in LOSS))


def test_a_line_cut_by_a_kill_and_a_foreign_file(ours, tmp_path):
    log = ours / "log.jsonl"
    log.write_text(log.read_text() + '{"mode": "train", "epo')
    assert len(read_run(log).train) == 12
    (tmp_path / "x.log.json").write_text("hello\n{}\n")
    with pytest.raises(DataError, match="no line of a training run"):
        read_run(tmp_path / "x.log.json")
    with pytest.raises(DataError, match="holds no log"):
        read_run((tmp_path / "x.log.json").rename(tmp_path / "x.txt").parent)
    with pytest.raises(DataError, match="does not exist"):
        read_run(tmp_path / "nowhere")


def test_smoothing_keeps_level_and_does_not_lag():
    rng = np.random.default_rng(0)
    flat = 3 + rng.normal(size=500) * 0.1
    assert smooth(flat, 0.9).std() < 0.04
    assert smooth(flat, 0.9).mean() == pytest.approx(3, abs=0.02)
    step = np.repeat([0.0, 1.0], 100)
    crossing = int((smooth(step, 0.8) > 0.5).argmax())
    assert abs(crossing - 100) <= 1
    assert smooth(step, 0) is step


def test_chart_draws_what_it_is_given():
    svg = line_chart("loss <x>", [Series("a", [0, 1, 2], [1.0, np.nan, 3.0])], standalone=True)
    root = ET.fromstring(svg)
    paths = [e for e in root.iter() if e.tag.endswith("path")]
    points = np.array(re.findall(r"([\d.]+),([\d.]+)", paths[0].get("d")), float)
    assert len(points) == 2, "a value that is not finite is left out"
    assert points[0, 0] < points[1, 0]
    assert points[0, 1] > points[1, 1], "larger values stand higher"
    assert any("loss <x>" in (e.text or "") for e in root.iter())
    ET.fromstring(line_chart("empty", [], standalone=True))
    ET.fromstring(line_chart("one", [Series("a", [1], [0.0])], standalone=True))
    assert round_ticks(0, 1, 5) == [0, 0.25, 0.5, 0.75, 1]


def test_run_report_of_a_run(ours):
    path = run_report(ours)
    text = path.read_text(encoding="utf-8")
    assert path == ours / "report.html"
    assert "50.00%" in text
    assert "after epoch 2" in text
    assert "tsm_tiny" in text
    assert "<dt>augment.mixup</dt><dd data-keep>0.2</dd>" in text
    assert "<dt>notes" not in text


def test_plot_svg_html_and_json(ours, mmaction_0x, tmp_path, capsys):
    for name in ("curves.svg", "curves.html"):
        assert main(["plot", str(ours), str(mmaction_0x), "--out", str(tmp_path / name)]) == 0
        assert "best top1_acc" in capsys.readouterr().out
    ET.parse(tmp_path / "curves.svg")
    assert "old validation" in (tmp_path / "curves.html").read_text(encoding="utf-8")
    assert main(["plot", str(ours), "--time", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["time"]["slowest_epoch"] == 3
    assert run["validation"]["top1_acc"] == {"best": 0.5, "epoch": 2.0, "last": 0.45}
    assert main(["plot", str(ours), "--time"]) == 0
    assert "slowest epoch 3, average time is 0.3000 s/iter" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--out", "x.gif"], ".svg"),
        (["--keys", "speed"], "no run has it"),
        (["--names", "a", "b"], "2 names for 1 run."),
        (["--smooth", "2"], "--smooth"),
    ],
)
def test_plot_refuses_with_one_sentence(ours, extra, words, capsys):
    assert main(["plot", str(ours), *extra]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_png_and_pdf_show_the_svg(ours, tmp_path, kind):
    out = tmp_path / f"x.{kind}"
    assert main(["plot", str(ours), "--keys", "loss", "top1_acc", "--out", str(out)]) == 0
    assert out.read_bytes().startswith({"png": b"\x89PNG", "pdf": b"%PDF"}[kind])
    if kind == "png":
        pixels = np.asarray(Image.open(out).convert("RGB")).astype(int)
        assert pixels.shape[1] == 2 * (2 * (560 + 24) + 24), "two charts side by side, two pixels a unit"
        blue = (abs(pixels - (0x2F, 0x6F, 0xED)) < 12).all(-1)
        assert blue[:, : pixels.shape[1] // 2].sum() > 500, "the training curve"
        dark = pixels.max(-1) < 90
        assert dark[: 2 * (24 + 20), : pixels.shape[1] // 2].sum() > 100, "the title's letters"
