"""Reports: what they compute from a result, and that a page is whole, self-contained and safe."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest

import clipwise
from clipwise.engine.evaluate import TestResult
from clipwise.errors import ClipwiseError, DataError
from clipwise.report.analyze_report import analyze_report
from clipwise.report.compare_report import compare_report
from clipwise.report.comparison import compare, read_result
from clipwise.report.detection_report import detection_report
from clipwise.report.result_report import demo_report, result_report
from clipwise.report.run_report import run_report
from clipwise.report.scores import calibration, confused_pairs, in_top, probabilities, similarity_order, worst_mistakes
from clipwise.report.thumbs import film_strip, jpeg_address
from clipwise.tasks.detection_errors import detection_errors

VOID = {"meta", "input", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """Checks that tags are balanced and collects what tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.anchors, self.urls = [], [], [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID and not (self.open and self.open[-1] == "svg" and tag == "use"):
            self.open.append(tag)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        self.urls += [attrs[k] for k in ("src", "href", "data", "action") if k in attrs and tag != "a"]
        self.anchors += [attrs["href"]] if tag == "a" else []

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()


def check_page(path):
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.urls, "nothing may be loaded from elsewhere"
    assert "@import" not in text
    assert not re.search(r"url\((?!data:|')", text)
    assert len(set(page.ids)) == len(page.ids)
    assert {a[1:] for a in page.anchors} <= set(page.ids)
    for block in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S):
        json.loads(block)
    assert not list(path.parent.glob(".*.tmp"))
    return text


def make_result(labels, scores, classes=None, paths=None, failures=None, seconds=2.0, metrics=None):
    return TestResult(
        paths=paths or [f"videos/{n}.mp4" for n in range(len(labels))],
        labels=labels,
        scores=[np.asarray(s, np.float32) for s in scores],
        classes=classes,
        failures=failures or {},
        metrics=metrics or {"top1_acc": 0.5},
        seconds=seconds,
        video_seconds=[0.1] * (len(labels) - 1) + [0.7] if seconds else [],
    )


def shares(rng, labels, num_classes, strength=2.0):
    z = rng.normal(size=(len(labels), num_classes))
    z[np.arange(len(labels)), labels] += strength
    p = np.exp(z)
    return p / p.sum(1, keepdims=True)


@pytest.fixture
def small():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 60)
    scores = shares(rng, labels, 5)
    scores[7] = np.nan
    return make_result(
        labels.tolist(),
        scores,
        ["plain", "<script>alert(1)</script>", 'quote"s', "跳绳", "a & b"],
        failures={"videos/7.mp4": "no <moov> atom"},
    )


def write_clip(path, frames, fps=10):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def test_table_counts_failures_as_wrong(small):
    table = small
    labels, predictions = np.array(small.labels), np.stack(small.scores)[:, :].argmax(1)
    right = labels == predictions
    right[7] = False
    assert (table.correct == right).all()
    assert table.predictions[7] == -1
    for k in range(5):
        assert table.class_accuracy[k] == pytest.approx(right[labels == k].mean())
    assert table.confusion.sum() == 59
    assert (table.confusion.diagonal() == np.bincount(labels[right], minlength=5)).all()
    assert in_top(table, 1).sum() == right.sum()
    assert in_top(table, 5).sum() == 59


def test_confused_pairs_and_worst_mistakes_are_in_order():
    scores = np.array([[0.1, 0.9, 0], [0.4, 0.6, 0], [0.2, 0.1, 0.7], [0.55, 0.45, 0], [0.8, 0.1, 0.1]])
    table = make_result([0, 0, 2, 1, 1], scores)
    assert confused_pairs(table) in ([(0, 1, 2, 2)], [(1, 0, 2, 2)])
    assert worst_mistakes(table) == [0, 4, 1, 3]
    assert worst_mistakes(table, per_class=1) == [0, 4]
    assert table.names == ["0", "1", "2"]


def test_logits_and_views_become_shares():
    logits = np.array([[2.0, 0, -1], [0, 3.0, 0]])
    table = make_result([0, 1], logits)
    assert probabilities(table).sum(1) == pytest.approx([1, 1])
    assert probabilities(table)[0, 0] == pytest.approx(np.exp(2) / (np.exp(2) + 1 + np.exp(-1)))
    views = make_result([0], [np.array([[2.0, 0, 0], [0, 0, 5.0]])])
    one = np.exp([2.0, 0, 0]) / np.exp([2.0, 0, 0]).sum()
    two = np.exp([0, 0, 5.0]) / np.exp([0, 0, 5.0]).sum()
    assert views.table[0] == pytest.approx((one + two) / 2)


def test_calibration_by_hand():
    # two bins of 0.5: the videos at 0.6 are all right, those at 0.9 half right
    scores = [[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]]
    known = calibration(make_result([0, 0, 0, 1], scores), bins=4)
    assert known.counts[2] == 2
    assert known.counts[3] == 2
    assert known.ece == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)
    assert known.overall_confidence == pytest.approx(0.75)
    assert known.nll == pytest.approx(-np.log([0.6, 0.6, 0.9, 0.1]).mean(), abs=1e-5)
    assert known.brier == pytest.approx(np.mean([0.32, 0.32, 0.02, 1.62]), abs=1e-5)


def test_similar_classes_stand_together():
    blocks = np.kron(np.eye(4), np.full((5, 5), 3)) + np.diag(np.full(20, 9))
    mixed = np.random.default_rng(1).permutation(20)
    order = similarity_order(blocks[np.ix_(mixed, mixed)].astype(int))
    groups = mixed[order] // 5
    assert (np.diff(groups) != 0).sum() == 3, "each block is one run"


def test_multi_label_average_precision():
    labels = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 0]])
    scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.8, 0.6], [0.7, 0.3, 0.1]])
    table = make_result(list(labels), scores)
    assert table.class_accuracy == pytest.approx([1, 1, 0.5])
    assert table.correct.all()
    assert not table.confusion.any()
    assert calibration(table) is None


def test_test_report_is_self_contained_and_escapes(small, tmp_path):
    path = result_report(small, tmp_path / "report", title="a <b> & c")
    text = check_page(path)
    assert path.name == "index.html"
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "no &lt;moov&gt; atom" in text
    assert "a &lt;b&gt; &amp; c" in text
    assert "跳绳" in text
    assert "Slowest videos" in text
    assert "videos/59.mp4" in text


@pytest.mark.parametrize("kind", ["multi", "no classes", "no labels", "all failed", "one video", "views"])
def test_every_kind_of_result_gives_a_page(kind, tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 12)
    scores = shares(rng, labels, 4)
    result = {
        "multi": lambda: make_result(list(np.eye(4, dtype=int)[labels]), scores, list("abcd")),
        "no classes": lambda: make_result(labels.tolist(), scores),
        "no labels": lambda: make_result([None] * 12, scores, list("abcd")),
        "all failed": lambda: make_result(labels.tolist(), np.full((12, 4), np.nan), failures={"videos/0.mp4": "?"}),
        "one video": lambda: make_result([2], scores[:1], list("abcd")),
        "views": lambda: make_result(labels.tolist(), list(rng.normal(size=(12, 3, 4))), list("abcd")),
    }[kind]()
    check_page(result_report(result, tmp_path))


def test_four_hundred_classes_stay_small_and_keep_every_cell(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 400, 4000)
    result = make_result(labels.tolist(), shares(rng, labels, 400, 4.0), [f"class {k}" for k in range(400)])
    path = result_report(result, tmp_path, mistakes=2)
    text = check_page(path)
    assert path.stat().st_size < 1_000_000
    data = json.loads(re.search(r'<script type="application/json">(\{"names".*?)</script>', text, re.S).group(1))
    cells = np.array(data["cells"]).reshape(-1, 3)
    matrix = np.zeros((400, 400), int)
    matrix[cells[:, 0], cells[:, 1]] = cells[:, 2]
    assert (matrix == result.confusion).all()
    assert sorted(data["similar"]) == sorted(data["accuracy"]) == list(range(400))


def test_mistakes_play_from_the_page(tmp_path):
    frames = np.zeros((12, 48, 64, 3), np.uint8)
    frames[:, :, :, 0] = np.linspace(0, 240, 12).astype(np.uint8)[:, None, None]
    write_clip(tmp_path / "clip.mp4", frames)
    result = make_result(
        [0, 0], [[0.1, 0.9], [0.2, 0.8]], paths=[str(tmp_path / "clip.mp4"), str(tmp_path / "gone.mp4")]
    )
    text = check_page(result_report(result, tmp_path / "out"))
    assert text.count('class="strip"') == 1
    assert "the file no longer exists" in text
    strip = film_strip(tmp_path / "clip.mp4", count=6, height=48)
    assert (strip.count, strip.width, strip.height) == (6, 64, 48)
    data = base64.b64decode(strip.address.split(",")[1])
    with av.open(io.BytesIO(data), format="mjpeg") as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (48, 6 * 64, 3)
    steps = picture.reshape(48, 6, 64, 3)[..., 0].mean((0, 2))
    assert (np.diff(steps) > 20).all(), "the frames stand in their order, from the first to the last"


def test_jpeg_keeps_colors():
    picture = np.zeros((32, 96, 3), np.uint8)
    picture[:, :32], picture[:, 32:64], picture[:, 64:] = (220, 30, 30), (30, 200, 40), (40, 50, 210)
    data = base64.b64decode(jpeg_address(picture, 95).split(",")[1])
    with av.open(io.BytesIO(data), format="mjpeg") as container:
        back = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert abs(back.astype(int) - picture)[:, 8:24].max() < 12
    assert abs(back.astype(int) - picture)[:, 72:88].max() < 12


def test_demo_report_puts_runs_and_results_together(small, tmp_path):
    for name in ("tsm", "tsn"):
        (tmp_path / name).mkdir()
        lines = [
            {"mode": "train", "epoch": 1, "iter": 1, "iters": 1, "lr": 0.1, "loss": 2.0, "time": 0.1, "step": 1},
            {"mode": "val", "epoch": 1, "top1_acc": 0.5, "step": 1},
        ]
        (tmp_path / name / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    timeline = {
        "video": "long.mp4",
        "segments": [{"class": "a", "start_s": 1.0, "end_s": 3.0, "score": 0.9}, {"start_s": 2.0, "end_s": 5.0}],
        "truth": [{"class": "a", "start_s": 1.0, "end_s": 4.0}],
        "curves": {"time_s": [0.0, 1.0, 2.0], "start": [0.1, 0.9, 0.1], "end": [0.0, 0.1, 0.8]},
    }
    path = demo_report(
        tmp_path / "demo",
        {"TSM": tmp_path / "tsm", "TSN": tmp_path / "tsn"},
        {"TSM": small, "TSN": small},
        timeline,
        story=["Order matters."],
        predictions=[{"source": "gone.mp4", "top": [("a", 0.9), ("b", 0.1)]}],
    )
    text = check_page(path)
    for words in (
        "Order matters.",
        "long.mp4",
        "--lanes:2",
        'aria-label="start and end probability"',
        "gone.mp4",
        "90.0%",
    ):
        assert words in text
    assert text.count("data-chart=") == 5, "loss, accuracy, learning rate, time; boundaries"
    assert demo_report(tmp_path / "one.html", {}, {"TSM": small}).name == "one.html"


def test_labels_of_weak_segments_are_dark_on_pale(small, tmp_path):
    """White on a color that a low score has faded can't be read: below four fifths of it the label has the text's color."""
    segments = [{"class": f"c{s}", "start_s": 0.0, "end_s": 5.0, "score": s} for s in (0.05, 0.65, 0.75)]
    timeline = {"video": "long.mp4", "segments": segments, "truth": [{"class": "a", "start_s": 1.0, "end_s": 4.0}]}
    text = demo_report(tmp_path / "demo", {}, {"TSM": small}, timeline).read_text(encoding="utf-8")
    weak = re.findall(r'<div class="block s\d weak"[^>]*title="(\S+)', text)
    assert weak == ["c0.05", "c0.65"]
    assert ".block.weak { color: var(--ink)" in text


def test_report_into_a_file_is_refused(small, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ClipwiseError, match="can't be written"):
        result_report(small, tmp_path / "file")


def test_result_file_round_trip(small, tmp_path):
    result = TestResult(small.paths, small.labels, small.scores, small.classes, small.failures, {"top1_acc": 0.5}, 1.0)
    result.save(tmp_path / "r.json")
    read, made = read_result(tmp_path / "r.json"), small
    assert (read.predictions == made.predictions).all()
    assert (read.correct == made.correct).all()
    assert read.classes == made.classes
    assert np.allclose(read.table, made.table, equal_nan=True)
    hot = list(np.eye(5, dtype=int)[small.labels])
    TestResult(small.paths, hot, small.scores, small.classes).save(tmp_path / "m.json")
    assert (read_result(tmp_path / "m.json").truth == np.stack(hot)).all()


@pytest.mark.parametrize(
    "content", ["not json", "[]", '{"results": []}', '{"results": [{"path": "a", "scores": [1, 2]}]}']
)
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x\.json"):
        read_result(tmp_path / "x.json")
    with pytest.raises(DataError, match="can't be read"):
        read_result(tmp_path / "gone.json")


def chinese():
    return json.loads((Path(clipwise.__file__).parent / "report/templates/chinese.json").read_text(encoding="utf-8"))


def test_every_chinese_phrase_keeps_its_numbers():
    assert len(chinese()) > 80
    for english, translated in chinese().items():
        assert translated.count("#") == english.count("#"), english
        assert not re.search(r"\d", english), f"write # for the number in {english!r}"


class OwnWords(Page):
    """Texts of a page that the script translates."""

    def __init__(self, text):
        self.words, self.kept = [], []
        super().__init__(text)

    def handle_starttag(self, tag, attrs):
        super().handle_starttag(tag, attrs)
        if tag in ("script", "style", "pre", "title") or dict(attrs).get("data-keep", "") is None:
            self.kept.append(len(self.open))

    def handle_endtag(self, tag):
        if self.kept and self.kept[-1] == len(self.open):
            self.kept.pop()
        super().handle_endtag(tag)

    def handle_data(self, data):
        if data.strip() and not self.kept and data.strip() not in ("left", "right", "tsm"):
            self.words.append(" ".join(data.split()))


PERTURBED = ("ordered", "shuffled", "reversed", "frozen", "single frame", "background", "centre", "still scene")


def test_every_word_of_a_page_has_chinese(small, tmp_path):
    """As report.js looks texts up: whole, or with every number replaced by #."""
    known, number = chinese(), re.compile(r"[-−+]?\d[\d.,]*(?:e-?\d+)?")
    (tmp_path / "run").mkdir()
    lines = [
        {"mode": "train", "epoch": 1, "iter": 1, "iters": 1, "lr": 0.1, "loss": 2.0, "time": 0.1, "data_time": 0.05, "step": 1},
        {"mode": "val", "epoch": 1, "top1_acc": 0.5, "step": 1},
    ]  # fmt: skip
    (tmp_path / "run" / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "run" / "recipe.yaml").write_text("lr: 0.1\n")
    other = make_result(small.labels, np.nan_to_num(np.stack(small.scores))[::-1], small.classes)
    comparison = compare(small, other, ("left", "right"), resamples=50)
    variants = [{"variant": name, "accuracy": 0.5, "lost": 0.1, "low": 0.0, "high": 0.2} for name in PERTURBED]
    facts = {
        "model": "tsm", "verdict": "motion", "videos": 9, "chance": 0.2, "words": ["With everything that moves removed, 5% are still right."],
        "variants": variants, "importance": [{"position": p, "accuracy_lost": 0.1, "probability_lost": 0.1, "accuracy_alone": 0.2} for p in (0.0, 1.0)],
        "classes": [{"class": "a", **dict.fromkeys(PERTURBED, 0.5)}], "failures": {"x.mp4": "broken"},
    }  # fmt: skip
    segment = {"class": "a", "start_s": 1.0, "end_s": 3.0, "score": 0.9}
    curves = {"time_s": [0.0, 1.0], "start": [0.1, 0.9], "end": [0.0, 0.1]}
    timeline = {"video": "long.mp4", "segments": [segment], "truth": [segment], "curves": curves}
    errors = detection_errors(
        {"v": [{"segment": [0, 1], "label": "a"}]}, {"v": [{"segment": [0, 1], "label": "a", "score": 1}]}, {"v": 9.0}
    )
    pages = [
        *(detection_report({"left": errors}, tmp_path / name, title="left", buckets=name, played=[{**timeline, "file": "long.mp4"}]) for name in ("activitynet", "thumos", "quintiles")),
        result_report(small, tmp_path),
        run_report(tmp_path / "run", small),
        compare_report(comparison, tmp_path / "compare"),
        analyze_report(facts, tmp_path / "analyze"),
        demo_report(tmp_path / "demo", {"tsm": tmp_path / "run"}, {"tsm": small}, timeline, predictions=[{"source": "x.mp4", "top": [("a", 0.9)]}]),
    ]  # fmt: skip
    unknown = set()
    for page in pages:
        for text in OwnWords(page.read_text(encoding="utf-8")).words:
            bare = number.sub("#", text)
            own = re.search("[A-Za-z]{2}", text) and bare not in ("lr", "#×)")
            if own and text not in known and bare not in known and bare.split(": ")[0] not in known:
                unknown.add(text)
    assert not unknown
