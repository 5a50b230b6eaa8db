"""Windows of a stream are what the predictor says of the same frames; memory stays; broken sources are told apart."""

import http.server
import json
import socket
import threading
import time
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch

from clipwise.cli import main
from clipwise.data.transforms import ClipPlan, normalize_clips
from clipwise.engine.checkpoint import Passport, save_weights
from clipwise.errors import ClipwiseError, DecodeError, WorkError
from clipwise.infer.predictor import Predictor, load
from clipwise.infer.segments import Segment, Segmenter, WindowScores, srt_block
from clipwise.infer.stream import Streamer
from clipwise.models import create_model
from clipwise.models.contract import online as online_twin
from clipwise.prepare.synthetic import CLASSES, draw_action, write_video
from clipwise.recipe import RecognitionRecipe, make_recipe
from clipwise.recipe.moved import in_groups
from clipwise.video import live as source_module
from clipwise.video.decode import open_video
from clipwise.video.live import Source, TimedFrame, resample
from helpers import lively

CPU = torch.device("cpu")
PIXELS = {"test.resize": 32, "test.crop_size": 32}


def make_predictor(name: str, model_args: dict | None = None, **keys) -> Predictor:
    args = {"num_classes": 3, **(model_args or {})}
    values = {"model": name, "model_args": model_args or {}, "num_classes": 3, **PIXELS, **keys}
    recipe = make_recipe(in_groups(RecognitionRecipe, values))
    torch.manual_seed(0)
    model = lively(create_model(name, **args))
    return Predictor(model, Passport(name, args, ["a", "b", "c"], recipe.model_dump(mode="json")), device=CPU)


@pytest.fixture(scope="module")
def slowonly() -> Predictor:
    return make_predictor("slowonly_tiny", clip_len=4, frame_interval=2, test_crop="three")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    frames = np.concatenate([draw_action(name, 15, np.random.default_rng(n)) for n, name in enumerate(CLASSES[:3])])
    write_video(folder / "v.mp4", frames)
    return folder / "v.mp4"


# -- windows


def test_windows_are_what_the_predictor_says_of_these_frames(slowonly, video):
    streamer = Streamer(slowonly, stride_s=5 / 25)
    windows = list(streamer(Source(video)))
    with open_video(video) as reader:
        frames = reader.frames(range(45))
    starts = [*range(0, 45 - 8 + 1, 5), 37]  # a clip of 4 frames, 2 apart, spans 8; the last window ends with the file
    assert [round(w.start_s * 25) for w in windows] == starts
    assert [round(w.end_s * 25) for w in windows] == [start + 8 for start in starts]
    for window, start in zip(windows, starts):
        expected = slowonly(frames[start : start + 8]).scores
        np.testing.assert_allclose(window.scores, expected, atol=1e-6)
    assert np.ptp([w.scores for w in windows], axis=0).max() > 1e-3  # they differ from window to window


def test_a_window_over_the_whole_file_is_the_files_prediction(video):
    predictor = make_predictor("slowonly_tiny", clip_len=4, frame_interval=2, test_num_clips=3)
    (window,) = Streamer(predictor, window_s=45 / 25, num_clips=3)(Source(video))
    np.testing.assert_allclose(window.scores, predictor(video).scores, atol=1e-6)
    segments = make_predictor("tsm_tiny", num_segments=8)
    (window,) = Streamer(segments, window_s=60.0)(Source(video))  # longer than the file: looked at as it is
    np.testing.assert_allclose(window.scores, segments(video).scores, atol=1e-6)
    assert (window.start_s, window.end_s) == (0.0, pytest.approx(45 / 25))


def test_only_pictures_that_a_window_samples_are_converted(slowonly, video, monkeypatch):
    converted = []
    real = ClipPlan.apply
    monkeypatch.setattr(ClipPlan, "apply", lambda self, frame: converted.append(1) or real(self, frame))
    windows = list(Streamer(slowonly, window_s=8 / 25, stride_s=8 / 25)(Source(video)))
    assert len(windows) == 6
    assert len(converted) == 4 * 6  # 4 of each 8; the last window, frames 37 to 44, samples others than the one before


def test_only_frames_that_a_window_samples_are_converted_of_a_live_source(slowonly, video, monkeypatch):
    converted = []
    real = TimedFrame.rgb
    monkeypatch.setattr(TimedFrame, "rgb", lambda self: converted.append(self.time_s) or real(self))
    windows = list(Streamer(slowonly, window_s=8 / 25, stride_s=8 / 25, fps=25)(Source(video, live=True)))
    assert len(windows) == 5
    # the first frame for the size, 8 of the first window, then 4 of each 8 (the last 5 frames have 3 of them)
    assert len(converted) == 1 + 8 + 4 * 4 + 3


def endless(count: int):
    """Pictures without a file behind them: an hour takes no disk."""
    frame = av.VideoFrame.from_ndarray(np.zeros((36, 48, 3), np.uint8), format="rgb24")
    return (TimedFrame(n / 25, frame) for n in range(count))


def test_the_ring_does_not_grow(slowonly, monkeypatch):
    streamer = Streamer(slowonly)
    sizes = []
    monkeypatch.setattr(streamer, "_clip", lambda kept, *rest: sizes.append(len(kept)))
    monkeypatch.setattr(streamer, "_score", lambda *rest: None)
    plan = streamer.spec.transform.draw(36, 48)
    windows = sum(1 for _ in streamer._slide(endless(5000), 25.0, plan))
    assert windows == (5000 - 8) // 4 + 1
    assert max(sizes) <= 8


def test_a_hole_in_a_source_is_not_spanned_by_a_window(slowonly):
    frame = next(endless(1)).frame
    times = [n / 25 for n in range(10)] + [20 + n / 25 for n in range(10)]
    streamer = Streamer(slowonly, stride_s=1.0)
    plan = streamer.spec.transform.draw(36, 48)
    windows = list(streamer._slide((TimedFrame(t, frame) for t in times), 25.0, plan))
    assert [(w.start_s, round(w.end_s, 2)) for w in windows] == [(0.0, 0.32), (20.0, 20.32)]


def test_resample_keeps_the_rate():
    frame = next(endless(1)).frame
    slow = [TimedFrame(t, frame) for t in (0.0, 0.1, 0.2, 0.3)]
    assert [p.time_s for p in resample(iter(slow), 20)] == pytest.approx(np.arange(7) / 20)
    fast = [TimedFrame(n / 100, frame) for n in range(50)]
    assert [p.time_s for p in resample(iter(fast), 10)] == pytest.approx(np.arange(5) / 10)
    hole = [TimedFrame(0.0, frame), TimedFrame(60.0, frame), TimedFrame(60.1, frame)]
    assert len(list(resample(iter(hole), 10))) == 3


# -- online


@pytest.mark.parametrize("reverse", [False, True])
def test_online_equals_offline(reverse):
    torch.manual_seed(0)
    model = lively(create_model("tsm_tiny", num_classes=5, online_shift=True, reverse_shift=reverse))
    two_sided = lively(create_model("tsm_tiny", num_classes=5, reverse_shift=reverse))
    two_sided.load_state_dict(model.state_dict())
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.inference_mode():
        offline = model(clips)
        assert (offline - two_sided(clips)).abs().max() > 1e-3  # the shift ahead would be seen
    online = online_twin(model)
    for _ in range(2):  # a second stream from a fresh state says the same
        online.reset()
        for t in range(8):
            scores = online(clips[:, :, t])
        torch.testing.assert_close(scores, offline, atol=1e-5, rtol=1e-5)
    for t in range(8):  # without a reset the state of the first stream is still there
        scores = online(clips[:, :, t])
    assert (scores - offline).abs().max() > 1e-4
    assert model.num_segments == 8  # the model itself was not touched


def test_online_refuses_what_looks_ahead():
    with pytest.raises(ClipwiseError, match="online_shift=true"):
        online_twin(create_model("tsm_tiny", num_classes=2))
    with pytest.raises(ClipwiseError, match="temporal_pool"):
        online_twin(create_model("tsm_tiny", num_classes=2, online_shift=True, temporal_pool=True))
    with pytest.raises(ClipwiseError, match="TSN can't run"):
        online_twin(create_model("tsn_tiny", num_classes=2))


def test_online_stream_equals_the_offline_network_on_its_first_clip(video):
    predictor = make_predictor("tsm_tiny", {"online_shift": True}, num_segments=8)
    streamer = Streamer(predictor, window_s=40 / 25, online=True)  # a picture each 5 frames
    windows = list(streamer(Source(video)))
    assert len(windows) == 9
    with open_video(video) as reader:
        frames = reader.frames(np.arange(8) * 5)
    plan = predictor.spec.transform.draw(*frames.shape[1:3])
    clip = normalize_clips(torch.from_numpy(plan.apply(frames)), predictor.spec.mean, predictor.spec.std)
    with torch.inference_mode():
        expected = predictor.model(clip).softmax(-1)[0]
    np.testing.assert_allclose(windows[7].scores, expected, atol=1e-5)


# -- segments


def scores(values: list[float], stride: float = 1.0, length: float = 2.0) -> list[WindowScores]:
    """Windows of a class's scores; another class takes the rest."""
    return [WindowScores(n * stride, n * stride + length, np.array([v, 1 - v])) for n, v in enumerate(values)]


def segments_of(windows: list[WindowScores], **options) -> list[Segment]:
    segmenter = Segmenter(**options)
    found = [s for w in windows for s in segmenter.update(w)] + segmenter.finish()
    return sorted(found, key=lambda s: (s.index, s.start_s))


def test_hysteresis():
    windows = scores([0.1, 0.6, 0.4, 0.35, 0.2, 0.45, 0.1])
    found = segments_of(windows, smooth=1, threshold=0.55, release=0.3)
    first = [s for s in found if s.index == 0]
    # Begins at 0.6, lives on at 0.4 and 0.35, ends at 0.2; 0.45 alone begins nothing. Windows stand for middle +- 0.5.
    assert [(s.start_s, s.end_s) for s in first] == [(1.5, 4.5)]
    assert first[0].score == pytest.approx((0.6 + 0.4 + 0.35) / 3)
    other = [(s.start_s, s.end_s) for s in found if s.index == 1]
    assert other == [(0.0, 8.0)]  # from the first window's start to the last one's end


def test_smoothing_is_centered():
    windows = scores([0.0, 0.0, 0.9, 0.9, 0.9, 0.0, 0.9, 0.9, 0.9, 0.0, 0.0])
    (segment,) = (s for s in segments_of(windows, smooth=3, threshold=0.5, release=0.5) if s.index == 0)
    assert (segment.start_s, segment.end_s) == (2.5, 9.5)  # the dip is bridged, the ends stay where they are
    assert len([s for s in segments_of(windows, smooth=1, threshold=0.5) if s.index == 0]) == 2


def test_short_segments_holes_and_wrong_values():
    windows = scores([0.9, 0.1, 0.1, 0.9, 0.9, 0.9, 0.1, 0.1])
    options = dict(smooth=1, threshold=0.95, release=0.0)
    assert segments_of(windows, **options) == []
    long_ones = segments_of(windows, smooth=1, threshold=0.5, release=0.5, min_s=2.0)
    assert [(s.start_s, s.end_s) for s in long_ones if s.index == 0] == [(3.5, 6.5)]
    late = [replace(w, start_s=w.start_s + 100, end_s=w.end_s + 100) for w in scores([0.9, 0.9])]
    found = segments_of([*scores([0.9, 0.9]), *late], smooth=1)
    assert [(s.start_s, s.end_s) for s in found] == [(0.0, 3.0), (100.0, 103.0)]
    for wrong in ({"threshold": 0}, {"threshold": 0.5, "release": 0.6}, {"smooth": 0}):
        with pytest.raises(ClipwiseError, match="--"):
            Segmenter(**wrong)


def test_segments_of_a_class_never_overlap():
    rng = np.random.default_rng(0)
    for smooth in (1, 2, 5):
        windows = scores(rng.random(200).tolist(), stride=0.5)
        found = segments_of(windows, smooth=smooth, threshold=0.6, release=0.4)
        assert len(found) > 5
        for index in (0, 1):
            mine = [s for s in found if s.index == index]
            assert all(a.end_s <= b.start_s for a, b in pairwise(mine))
            assert all(s.start_s < s.end_s for s in mine)


def test_subtitles():
    block = srt_block(3, Segment(3661.5, 3662.0009, "moves right", 0.876))
    assert block == "3\n01:01:01,500 --> 01:01:02,001\nmoves right (0.88)\n"


# -- sources


class Server(http.server.ThreadingHTTPServer):
    """Serves one body; without a length it is a stream."""

    def __init__(self, body: bytes, *, length: bool = True, kind: str = "video/mp4"):
        self.body, self.length, self.kind, self.requests = body, length, kind, 0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/video"

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server: Server = self.server
        server.requests += 1
        self.send_response(200)
        self.send_header("Content-Type", server.kind)
        if server.length:
            self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        self.wfile.write(server.body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def transport_stream(video, tmp_path_factory):
    path = tmp_path_factory.mktemp("ts") / "v.ts"
    with av.open(str(video)) as read, av.open(str(path), "w") as write:
        stream = write.add_stream("mpeg2video", rate=25)
        stream.height, stream.width, stream.pix_fmt = 72, 96, "yuv420p"
        for frame in read.decode(video=0):
            frame.pts, frame.time_base = None, Fraction(1, 25)
            write.mux(stream.encode(frame))
        write.mux(stream.encode())
    return path.read_bytes()


def test_http_file_and_http_stream(slowonly, video, transport_stream):
    expected = list(Streamer(slowonly)(Source(video)))
    with Server(video.read_bytes()) as server:
        windows = list(Streamer(slowonly)(Source(server.url)))
    assert len(windows) == len(expected) > 5
    for one, other in zip(windows, expected):
        np.testing.assert_array_equal(one.scores, other.scores)
    with Server(transport_stream, length=False, kind="video/mp2t") as server:
        source = Source(server.url)
        assert len(list(Streamer(slowonly)(source))) == len(expected)
        assert not source.live


def test_a_stream_that_breaks_is_opened_again(transport_stream):
    said = []
    with Server(transport_stream, length=False, kind="video/mp2t") as server:
        source = Source(server.url, live=True, reconnect=2, say=said.append, timeout_s=5)
        waits = []
        source._stop.wait = lambda seconds: waits.append(seconds) or server.requests >= 2
        times = [p.time_s for p in source]
    assert len(said) == 2
    assert "ended after 1.8 s; opening it again in 1 s (1 more tries)" in said[0]
    assert waits[0] == 1.0
    assert len(times) > 60  # both connections' pictures
    assert times == sorted(times)


def test_a_silent_server_is_given_up_with_a_clear_message():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        began = time.monotonic()
        with pytest.raises(DecodeError, match=r"can't be opened: nothing came for 0\.3 s"):
            next(iter(Source(url, timeout_s=0.3)))
        assert time.monotonic() - began < 5


def test_sources_that_can_not_be_opened(tmp_path):
    with pytest.raises(DecodeError, match="No such file"):
        next(iter(Source(tmp_path / "absent.mp4")))
    with pytest.raises(DecodeError, match="refused"):
        next(iter(Source("http://127.0.0.1:9/x", timeout_s=2)))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DecodeError, match="can't be opened"):
        next(iter(Source(tmp_path / "text.mp4")))


def test_a_break_in_the_middle_is_an_error_after_what_was_seen(video, monkeypatch):
    real = Source._decode

    def breaking(self):
        for number, frame in enumerate(real(self)):
            if number == 20:
                raise av.error.ConnectionResetError(104, "Connection reset by peer")
            yield frame

    monkeypatch.setattr(Source, "_decode", breaking)
    pictures = iter(Source(video))
    assert len([next(pictures) for _ in range(20)]) == 20
    with pytest.raises(WorkError, match=r"broke off after 0\.8 s: Connection reset by peer"):
        next(pictures)


def test_a_camera_is_opened_by_its_number(slowonly, monkeypatch):
    opened = []
    real = av.open

    def fake(name, format=None, **options):
        opened.append((name, format))
        return real("testsrc=size=96x72:rate=10:duration=3", format="lavfi", **options)

    monkeypatch.setattr(source_module.sys, "platform", "linux")
    monkeypatch.setattr(source_module.av, "open", fake)
    source = Source(0)
    assert source.live
    windows = list(Streamer(slowonly)(source))
    assert opened == [("/dev/video0", "v4l2")]
    assert len(windows) >= 3
    monkeypatch.setattr(source_module.sys, "platform", "plan9")
    with pytest.raises(ClipwiseError, match="plan9"):
        Source("0")


def test_a_live_source_drops_pictures_rather_than_fall_behind(monkeypatch):
    monkeypatch.setattr(source_module, "_QUEUE", 4)
    source = Source("testsrc=size=32x32:rate=10:duration=20", format="lavfi", live=True)
    times = []
    for picture in source:
        times.append(picture.time_s)
        time.sleep(0.02)
    assert source.dropped > 0
    assert len(times) + source.dropped == 200
    assert times == sorted(times)
    assert times[-1] == pytest.approx(19.9)  # the newest is never dropped


@pytest.mark.parametrize("name", ["video_90.mov", "corrupted.mp4", "test.avi"])
def test_pictures_are_the_readers_frames(shared, name):
    path = shared / "data" / "real_videos" / name
    with open_video(path) as reader:
        expected = reader.frames(range(3))
        total = reader.num_frames
    source = Source(path)
    pictures = list(source)
    np.testing.assert_array_equal(np.stack([p.rgb() for p in pictures[:3]]), expected)  # upright, and to the bit
    if name == "corrupted.mp4":  # a stream goes on behind the damage, and counts it
        assert len(pictures) > total
        assert source.damaged == 1
    else:
        assert (len(pictures), source.damaged) == (total, 0)


def test_time_stamps_that_start_over_go_on(video):
    class Twice(Source):
        def _decode(self):
            yield from super()._decode()
            yield from super()._decode()

    times = [p.time_s for p in Twice(video)]
    assert len(times) == 90
    assert np.diff(times) == pytest.approx(1 / 25)


# -- command line


def test_command_line(tmp_path, video, capsys):
    predictor = make_predictor("slowonly_tiny", clip_len=4, frame_interval=2)
    checkpoint = tmp_path / "m.safetensors"
    save_weights(checkpoint, predictor.model.state_dict(), predictor.passport)
    srt = tmp_path / "v.srt"
    command = ["stream", str(checkpoint), str(video), "--device", "cpu", "--threshold", "0.2", "--smooth", "1"]
    assert main([*command, "--json", "--srt", str(srt)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    windows = [line for line in lines if line["type"] == "window"]
    expected = list(Streamer(load(checkpoint, "cpu"))(Source(video)))
    assert len(windows) == len(expected)
    assert [w["top"][0]["score"] for w in windows] == [pytest.approx(e.scores.max(), abs=1e-4) for e in expected]
    segments = [line for line in lines if line["type"] == "segment"]
    assert len(segments) == srt.read_text().count("-->") > 0
    summary = lines[-1]
    assert summary["type"] == "summary"
    assert (summary["frames"], summary["windows"]) == (45, len(windows))
    assert summary["frames_per_s"] > 0
    assert main([*command]) == 0
    output = capsys.readouterr()
    assert segments[0]["class"] in output.out
    assert "x real time" in output.err
    assert main([*command, "--release", "0.9"]) == 2
    assert main(["stream", str(checkpoint), "http://127.0.0.1:9/x", "--out", "x.mp4"]) == 2
    assert "second pass" in capsys.readouterr().err
    assert main(["stream", str(checkpoint), str(tmp_path / "absent.mp4")]) == 2


def test_the_end_of_a_stream_that_breaks_off_is_not_lost(transport_stream):
    """What the decoder holds back was received: 45 frames were sent, and 45 are seen."""
    with Server(transport_stream, length=False, kind="video/mp2t") as server:
        assert len(list(Source(server.url))) == 45


def test_a_file_in_which_nothing_is_found_says_what_came_nearest(video, tmp_path, capsys):
    predictor = make_predictor("slowonly_tiny", clip_len=4, frame_interval=2)
    save_weights(tmp_path / "a.safetensors", predictor.model.state_dict(), predictor.passport)
    assert main(["stream", str(tmp_path / "a.safetensors"), str(video), "--threshold", "1", "--smooth", "1"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    best = max(Streamer(predictor)(Source(video)), key=lambda w: w.scores.max())
    assert f"no class reached the threshold (1). Highest: 00:00:{best.start_s:05.2f} - " in err
    assert f"{best.scores.max():.3f}" in err
