"""A predictor takes what people hold: the same frames give the same bits whichever way they come in."""

import functools
import http.server
import io
import re
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import clipwise
from clipwise.errors import ClipwiseError, DataError, DecodeError


@pytest.fixture(scope="module")
def predictor(trained):
    return clipwise.load(trained, device="cpu")


@pytest.fixture(scope="module")
def videos(clips):
    return sorted((clips / "val").rglob("*.mp4"))[:3]


@pytest.fixture(scope="module")
def frames(videos):
    with clipwise.open_video(videos[0]) as reader:
        return reader[:]


@pytest.fixture(scope="module")
def expected(predictor, videos):
    return [predictor(video).scores for video in videos]


def test_frames_in_every_form(predictor, frames, videos, expected):
    tensor = torch.from_numpy(frames)
    data = videos[0].read_bytes()
    forms = {
        "path": predictor(str(videos[0])),
        "bytes": predictor(data),
        "file object": predictor(io.BytesIO(data)),
        "array": predictor(frames),
        "tensor": predictor(tensor),
        "TCHW": predictor(tensor.permute(0, 3, 1, 2), layout="TCHW"),
        "CTHW": predictor(tensor.permute(3, 0, 1, 2), layout="CTHW"),
        "array CTHW": predictor(frames.transpose(3, 0, 1, 2), layout="CTHW"),
        "list of arrays": predictor(list(frames)),
        "list of tensors": predictor(list(tensor.permute(0, 3, 1, 2)), layout="TCHW"),
        "images": predictor([Image.fromarray(frame) for frame in frames]),
        "reader": predictor(clipwise.open_video(videos[0])),
    }
    for form, prediction in forms.items():
        assert np.array_equal(prediction.scores, expected[0]), form
    assert predictor(frames, fps=10).duration_s == pytest.approx(len(frames) / 10)


def test_several_at_once_come_back_in_order(predictor, videos, frames, expected):
    mixed = predictor([videos[0], str(videos[1]), videos[2].read_bytes(), frames, [*frames]])
    for prediction, scores in zip(mixed, [*expected, expected[0], expected[0]], strict=True):
        assert np.array_equal(prediction.scores, scores)
    assert mixed[1].source == str(videos[1])
    both = predictor(np.stack([frames, frames[::-1]]))
    assert len(both) == 2
    assert np.array_equal(both[0].scores, expected[0])
    assert list(predictor([])) == []
    together = predictor(videos, batch_size=3)  # one batch: other kernels, so equal up to rounding
    np.testing.assert_allclose([p.scores for p in together], expected, rtol=1e-4, atol=1e-5)


def test_columns_of_names_and_lists(predictor, videos, expected, clips):
    for names in (
        np.array([str(video) for video in videos]),
        np.array(videos, object),
        clipwise.read_list(clips / "val"),
    ):
        assert np.array_equal(predictor(names)[0].scores, expected[0])
    pandas = pytest.importorskip("pandas")
    assert np.array_equal(predictor(pandas.Series([str(video) for video in videos]))[2].scores, expected[2])


def test_a_folder_of_videos_and_numbers_below_one(predictor, videos, clips):
    with pytest.raises(
        DataError, match=r"is a folder of videos \(.*\.mp4, …\), not of frames; give them as a list of paths"
    ):
        predictor(clips / "val")
    for wrong in ({"batch_size": 0}, {"batch_size": -1}, {"workers": 0}):
        with pytest.raises(ClipwiseError, match=f"{next(iter(wrong))} is .*; it must be at least 1"):
            next(predictor.stream(videos, **wrong))


def test_one_batch_goes_through_the_network_together(predictor, videos):
    sizes = []
    handle = predictor.model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    predictor(videos, batch_size=2)
    handle.remove()
    assert sizes == [2, 1]


def test_a_stream_reads_no_further_than_it_must(predictor, videos, expected):
    taken = []

    def endless():
        while True:
            taken.append(videos[len(taken) % 3])
            yield taken[-1]

    stream = predictor.stream(endless())
    for n in range(4):
        assert np.array_equal(next(stream).scores, expected[n % 3])
    stream.close()
    assert len(taken) <= 8


def test_a_broken_video_among_others(predictor, videos, tmp_path, expected):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    with pytest.raises(DecodeError, match=r"bad\.mp4"):
        predictor([videos[0], bad])
    first, error, last = predictor.stream([videos[0], bad, videos[2]], errors="yield")
    assert isinstance(error, DecodeError)
    assert np.array_equal(first.scores, expected[0])
    assert np.array_equal(last.scores, expected[2])
    with pytest.raises(ClipwiseError, match="errors is 'skip'; allowed: 'raise' and 'yield'"):
        next(predictor.stream([bad], errors="skip"))


def test_an_address(predictor, videos, expected, monkeypatch):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    monkeypatch.delenv("http_proxy", raising=False)
    handler = functools.partial(Quiet, directory=str(videos[0].parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    try:
        prediction = predictor(f"{base}/{videos[0].name}")
        assert np.array_equal(prediction.scores, expected[0])
        assert prediction.source == f"{base}/{videos[0].name}"
        with pytest.raises(DataError, match=r"missing\.mp4 cannot be downloaded: .*404"):
            predictor(f"{base}/missing.mp4")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("video", "layout", "message"),
    [
        (np.zeros((8, 32, 32, 3), np.float32), "THWC", r"uint8 \(T, H, W, C\) with 3 channels .* given float32 \(8, 32, 32, 3\)"),
        (torch.zeros(8, 3, 32, 32, dtype=torch.uint8), "THWC", r"given uint8 \(8, 3, 32, 32\)\. .*layout='THWC' or 'TCHW' or 'CTHW'"),
        (np.zeros((8, 32, 32, 3), np.uint8), "NTHWC", "layout is 'NTHWC'; allowed: 'THWC', 'TCHW', 'CTHW'"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)], "THWC", "the frames have 2 sizes"),
        ((frame for frame in range(3)), "THWC", r"was given as generator\. Several videos: a list of these, or predictor\.stream"),
        (None, "THWC", "was given as NoneType"),
        ("", "THWC", "an empty name was given"),
    ],
)  # fmt: skip
def test_what_is_refused(predictor, video, layout, message):
    with pytest.raises(DataError, match=message):
        predictor(video, layout=layout)


def test_how_they_look(predictor, videos, frames, trained, monkeypatch):
    assert repr(predictor) == "Predictor(tsm_tiny, 6 classes (cross, grows, moves left, …), cpu)"
    one = predictor(videos[0])
    name, score = one.top(1)[0]
    assert repr(one).startswith(f"Prediction({str(videos[0])!r}: {name} {score:.3f}, ")
    assert str(one).splitlines()[1].split() == ["class", "score"]
    assert re.split("  +", str(one).splitlines()[2]) == [name, f"{score:.3f}"]
    many = predictor(videos)
    assert len(repr(many).splitlines()) == 4
    monkeypatch.chdir(videos[0].parent)
    page = one._repr_html_()
    assert f'src="{videos[0].name}"' in page  # by reference
    assert page.count("data:image/jpeg") == 1
    held = predictor(frames)._repr_html_()
    assert "<video" not in held
    assert held.count("data:image/jpeg") == 1
    assert len(page) < 40_000
    assert len(many._repr_html_()) < 120_000
    odd = clipwise.Prediction("a<b>.mp4", np.array([1.0]), ["<script>"], 1.0, 1)
    assert "<script>" not in odd._repr_html_()
    assert "<b>" not in odd._repr_html_()


def test_data_frames(predictor, videos):
    pytest.importorskip("pandas")
    table = predictor(videos).to_pandas()
    assert list(table["source"]) == [str(video) for video in videos]
    assert len(table.columns) == 4 + 6
    assert table.filter(like="score_").sum(axis=1).to_numpy() == pytest.approx(np.ones(3), abs=1e-5)


def test_without_pandas_the_extra_is_named(predictor, videos, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(clipwise.ClipwiseError, match=r"pip install 'clipwise\[notebook\]'"):
        predictor(videos).to_pandas()


def test_results_and_lists_have_short_reprs_and_data_frames(trained, clips):
    listed = clipwise.read_list(clips / "val")
    reader = clipwise.open_video(listed.path(0))
    assert repr(reader) == f"PyAVReader({listed.path(0)!r}, {len(reader)} frames, {reader.width} × {reader.height})"
    dataset = clipwise.ClipDataset(listed, clipwise.ClipSpec.from_recipe(clipwise.load_recipe("tsm_tiny")))
    assert repr(dataset) == f"ClipDataset(12 videos of {str(clips / 'val')!r}, train)"
    assert repr(listed) == f"VideoList(12 entries of kind video, 6 classes, root {str(clips / 'val')!r})"
    result = clipwise.evaluate(trained, data=clips / "val", overrides=["num_workers=0"], device="cpu")
    top1 = result.metrics["top1_acc"]
    assert repr(result).startswith(f"TestResult(12 videos, 0 failed, top1_acc {top1:.4f}, ")
    run = clipwise.RunResult(trained.parent, trained, None, metrics={"top1_acc": 0.25}, seconds=61.0)
    assert repr(run) == f"RunResult({str(trained.parent)!r}, complete, 61 s, best: top1_acc 0.2500)"
    pytest.importorskip("pandas")
    table = listed.to_pandas()
    assert list(table["path"]) == list(listed.paths())
    assert list(table["class"]) == [listed.classes[label] for label in table["label"]]
    assert result.to_pandas()["correct"].mean() == pytest.approx(top1)
    log = run.to_pandas()
    assert set(log["mode"]) == {"train", "val"}
    assert log["epoch"].max() == 2
