"""Whatever is said in seconds goes by time stamps: a video turns from black to white at 12 s, however its frames are spaced."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from clipwise.data.entries import SpanReader
from clipwise.engine.checkpoint import Passport, save_weights
from clipwise.infer.features import FeatureExtractor, WindowRule
from clipwise.infer.naming import SegmentClassifier
from clipwise.infer.predictor import Predictor
from clipwise.infer.stream import Streamer
from clipwise.models import create_model
from clipwise.prepare.prepare import extract_frames, resize_videos
from clipwise.recipe import RecognitionRecipe, make_recipe
from clipwise.recipe.moved import in_groups
from clipwise.report.timeline import frame_strip
from clipwise.serve.analysis import Analyzer, Options
from clipwise.serve.batching import BatchQueue
from clipwise.video.backends import open_frames
from clipwise.video.decode import open_video
from clipwise.video.even_rate import at_even_rate
from clipwise.video.live import Source

CHANGE_S = 12.0
CPU = torch.device("cpu")


def even(fps: float, end_s: float = 20.0) -> list[float]:
    return [i / fps for i in range(round(end_s * fps))]


TIMES = {
    "even 12.5": even(12.5),
    "even 14.985": even(15000 / 1001),
    "even 9.81": even(9.81),
    # 15 frames a second up to 8 s, then 5: by the average rate the change would be at 15.6 s
    "slower": [*even(15, 8.0), *(8 + t for t in even(5, 12.0))],
    "faster": [*even(5, 12.0), *(12 + t for t in even(15, 8.0))],
    # nothing moves for 5 s, so nothing was recorded
    "still": [t for t in even(10) if not 6.5 < t < 11.5],
    "still up to the change": [t for t in even(10) if not 7.0 < t < 11.99],
}
UNEVEN = [name for name in TIMES if not name.startswith("even")]


def write(path: Path, times_s: list[float], offset_s: float = 0.0) -> Path:
    base = Fraction(1, 90_000)
    rate = Fraction(1 / float(np.median(np.diff(times_s)))).limit_denominator(1001)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "x264-params": "keyint=24"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = base
        for time_s in times_s:
            image = np.full((48, 64, 3), 235 if time_s >= CHANGE_S - 1e-6 else 16, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round((time_s + offset_s) / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module", params=list(TIMES))
def video(request, tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("rates") / "v.mp4", TIMES[request.param])


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """A model that has not learned anything, but answers black and white differently."""
    torch.manual_seed(0)
    keys = {
        "model": "slowonly_tiny",
        "num_classes": 3,
        "clip_len": 4,
        "frame_interval": 2,
        "val.resize": 32,
        "val.crop_size": 32,
        "test.resize": 32,
        "test.crop_size": 32,
    }
    model = create_model("slowonly_tiny", num_classes=3).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.mul_(20)
    recipe = make_recipe(in_groups(RecognitionRecipe, keys)).model_dump(mode="json")
    return Predictor(model, Passport("slowonly_tiny", {"num_classes": 3}, ["a", "b", "c"], recipe), device=CPU)


def check_change(rows: np.ndarray, starts: np.ndarray, ends: np.ndarray, slack_s: float = 0.3) -> None:
    """Windows that see only black and windows that see only white lie on their sides of the change, close to it."""
    centers = (starts + ends) / 2
    black = np.abs(rows - rows[0]).max(1) < 1e-4
    white = np.abs(rows - rows[-1]).max(1) < 1e-4
    assert not black[-1]
    assert not white[0]
    found = (centers[black].max() + centers[white].min()) / 2
    assert found == pytest.approx(CHANGE_S, abs=slack_s)


def test_even_files_are_read_as_they_are(tmp_path):
    for name in ("even 12.5", "even 14.985", "even 9.81"):
        for suffix in ("mp4", "mkv"):  # Matroska rounds time stamps to 1 ms
            path = write(tmp_path / f"{name}.{suffix}", TIMES[name], offset_s=3.7 if suffix == "mkv" else 0.0)
            with open_video(path) as reader:
                assert at_even_rate(reader) is reader


@pytest.mark.parametrize("name", UNEVEN)
def test_a_reader_at_an_even_rate(tmp_path, name):
    path = write(tmp_path / "v.mp4", TIMES[name])
    with open_video(path) as reader:
        even = at_even_rate(reader)
        assert even.num_frames == reader.num_frames
        assert even.duration_s == pytest.approx(reader.duration_s)
        brightness = [frame.mean() > 128 for _, frame in even.iterate()]
        assert abs(brightness.index(True) / even.fps - CHANGE_S) <= 1 / even.fps
        assert [frame.mean() > 128 for frame in even.frames(range(even.num_frames))] == brightness
        assert [index for index, _ in even.iterate(3, 4)] == list(range(3, even.num_frames, 4))


def test_features(video, predictor, tmp_path):
    save_weights(tmp_path / "r.safetensors", predictor.model.state_dict(), predictor.passport)
    for rule in (WindowRule(stride=8, window=8, fps=10), WindowRule(stride=10, window=8)):
        extractor = FeatureExtractor(tmp_path / "r.safetensors", rule, device="cpu")
        features = extractor(video)
        step = features.covered_s / len(features.values)
        centers = (np.arange(len(features.values)) + 0.5) * step
        half = 8 / (rule.fps or features.fps) / 2
        check_change(features.values, centers - half, centers + half, slack_s=max(0.3, step))


def test_a_localizers_names(video, predictor):
    namer = SegmentClassifier(predictor.model, predictor.passport, CPU, "no", 4)
    with open_video(video) as reader:
        before, up_to, after, late = namer(reader, np.array([[2.0, 4.0], [10.0, 11.9], [12.1, 14.0], [15.0, 19.0]]))
    np.testing.assert_allclose(before, up_to, atol=1e-5)
    np.testing.assert_allclose(after, late, atol=1e-5)
    assert np.abs(before - after).max() > 0.01


@pytest.mark.parametrize("fps", [None, 10.0])
def test_streams(video, predictor, fps):
    windows = list(Streamer(predictor, window_s=1.0, stride_s=1.0, fps=fps)(Source(video)))
    rows = np.stack([window.scores for window in windows])
    check_change(rows, np.array([w.start_s for w in windows]), np.array([w.end_s for w in windows]))


def test_the_page(video, predictor):
    batches = BatchQueue(predictor)
    batches.start()
    try:
        with open_video(video) as reader:
            result = Analyzer(predictor, batches)(reader, Options(window_s=1.0, stride_s=1.0, topk=3))
    finally:
        batches.close()
    windows = result["timeline"]["windows"]
    curves = sorted(result["timeline"]["curves"], key=lambda curve: curve["index"])
    rows = np.array([curve["scores"] for curve in curves]).T
    check_change(rows, np.array([w["start_s"] for w in windows]), np.array([w["end_s"] for w in windows]))


def test_training_clips_given_in_seconds(video):
    with open_video(video) as reader:
        for start, end, white in ((10.0, 11.9, 0.0), (12.1, 14.0, 1.0), (11.0, 13.0, 0.5)):
            span = SpanReader(reader, start, end)
            share = np.mean([frame.mean() > 128 for frame in span.frames(range(span.num_frames))])
            assert share == pytest.approx(white, abs=0.1), (start, end)
            assert span.num_frames / span.fps == pytest.approx(end - start, abs=2.1 / span.fps)


def test_resized_videos_keep_their_times(video, tmp_path):
    made = resize_videos([video], tmp_path / "small", short_side=32, workers=1)
    with open_video(made.outputs[str(video)]) as small, open_video(video) as reader:
        white = [index for index, frame in small.iterate() if frame.mean() > 128]
        assert small.pts_s([white[0]])[0] == pytest.approx(CHANGE_S, abs=0.06)
        np.testing.assert_allclose(small.pts_s(range(len(small))), reader.pts_s(range(len(reader))), atol=0.003)


def test_strips_of_frames_along_a_time_axis(video):
    with open_video(video) as reader:
        strip = frame_strip(reader, 640, 24)
        share = CHANGE_S / reader.duration_s
    dark = (strip.reshape(strip.shape[0], -1, 3).mean((0, 2)) < 128).mean()
    assert dark == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("step", [1, 2])
def test_folders_of_frames_keep_their_times(video, tmp_path, step):
    made = extract_frames([video], tmp_path / "frames", short_side=32, step=step, workers=1)
    folder = made.outputs[str(video)]
    with open_video(video) as reader:
        uneven = at_even_rate(reader) is not reader
        rate = reader.fps / step
        assert made.num_frames[folder] == -(-reader.num_frames // step)
    with open_frames(folder, fps=0.0 if uneven else rate) as frames:
        even = at_even_rate(frames)
        assert (even is not frames) == uneven
        white = [frame.mean() > 128 for _, frame in even.iterate()]
        assert white.index(True) / even.fps == pytest.approx(CHANGE_S, abs=1.5 / even.fps)
    if uneven:
        # A list's entry that begins with the fourth image.
        with open_frames(folder, offset=3) as later, open_frames(folder) as whole:
            assert later.pts_s([0, 5]).tolist() == pytest.approx((whole.pts_s([3, 8]) - whole.pts_s([3])).tolist())
