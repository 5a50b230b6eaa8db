"""What models look at: disguises told apart by models whose habits are known, Grad-CAM that finds a square, drawn videos."""

import json
import re
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from torch import nn

from clipwise.analyze.gradcam import grad_cam, video_heat
from clipwise.analyze.perturbations import Disguises, analyze
from clipwise.cli import main
from clipwise.data.lists import read_list
from clipwise.engine.checkpoint import Passport, save_weights
from clipwise.errors import ClipwiseError, DecodeError
from clipwise.infer import draw, fonts
from clipwise.infer.predictor import Predictor
from clipwise.models import create_model
from clipwise.recipe import load_recipe
from clipwise.video.decode import open_video

SIZE = (72, 96)


def write_clip(path, frames, fps=10, sound=None):
    """An mp4 or mkv of RGB frames (T, H, W, 3), with a sine wave as its sound if wanted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "8", "g": "5"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        track = container.add_stream(sound, rate=16000) if sound else None
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
        if track is not None:
            wave = (np.sin(np.arange(16000 * len(frames) // fps) / 8) * 8000).astype(np.int16)[None]
            block = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            block.sample_rate, block.time_base, block.pts = 16000, Fraction(1, 16000), 0
            resampler = av.AudioResampler(track.codec_context.format, track.codec_context.layout, 16000)
            for part in resampler.resample(block):
                container.mux(track.encode(part))
            container.mux(track.encode(None))
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Clips that become brighter or darker; half of either have a red background, the others a blue one."""
    root = tmp_path_factory.mktemp("ramps")
    rng = np.random.default_rng(0)
    for n in range(24):
        name = ("brighter", "darker")[n % 2]
        ramp = np.linspace(40, 200, 16) + rng.normal(0, 2, 16)
        ramp = ramp if name == "brighter" else ramp[::-1]
        frames = np.zeros((16, *SIZE, 3), np.uint8)
        frames[..., 0 if n % 4 < 2 else 2] = 60
        frames[..., 1] = np.clip(ramp, 0, 255).astype(np.uint8)[:, None, None]
        write_clip(root / name / f"{n:02}.mp4", frames)
    return root


class Ramp(nn.Module):
    """Sees motion only: is green stronger in the second half than in the first?"""

    num_classes = 2

    def forward(self, clips):
        green = clips[:, 1].mean((2, 3))
        rise = green[:, 4:].mean(1) - green[:, :4].mean(1)
        return torch.stack([rise, -rise], 1) * 20


class Color(nn.Module):
    """Sees the scene only: is it red or blue?"""

    num_classes = 2

    def forward(self, clips):
        red = (clips[:, 0] - clips[:, 2]).mean((1, 2, 3))
        return torch.stack([red, -red], 1)


def predictor(model, **changes):
    recipe = load_recipe("tsm_tiny", [f"{k}={v}" for k, v in changes.items()])
    passport = Passport(model="tsm_tiny", recipe=recipe.model_dump(mode="json"), classes=["brighter", "darker"])
    return Predictor(model.eval(), passport, device=torch.device("cpu"))


def test_a_model_that_sees_motion(videos):
    known = analyze(predictor(Ramp()), read_list(videos), num_workers=0)
    assert known.accuracy("ordered") == 1.0
    assert known.accuracy("reversed") == 0.0
    assert known.accuracy("frozen") == pytest.approx(0.5, abs=0.5)
    assert 0.2 < known.accuracy("shuffled") < 0.9
    assert known.accuracy("background") == known.accuracy("centre") == 1.0, "green is everywhere"
    kind, words = known.verdict()
    assert kind == "motion"
    assert "playing them backwards 100.0 points" in words[1]
    rows = {row["class"]: row for row in known.per_class()}
    assert rows["brighter"]["ordered"] == 1.0
    assert rows["brighter"]["videos"] == 12
    assert len(known.importance()) == 8
    assert len(known.variants) == 4 + 16 + 3


def test_a_model_that_sees_the_scene(videos):
    chosen = predictor(Color())
    known = analyze(chosen, read_list(videos), num_workers=0, importance=False)
    assert known.verdict()[0] == "unclear", "brighter or darker can't be told from the color"
    lines = [f"{path.relative_to(videos)} {int(int(path.stem) % 4 >= 2)}" for path in sorted(videos.rglob("*.mp4"))]
    (videos / "colors.txt").write_text("\n".join(lines))
    known = analyze(chosen, read_list(videos / "colors.txt"), num_workers=0)
    assert known.correct.all()
    kind, words = known.verdict()
    assert kind == "scene"
    assert "does not see the order" in words[0]
    assert "One frame alone is nearly enough (100.0% against 100.0%)" in words[1]


def test_ordered_is_what_the_predictor_says(videos):
    torch.manual_seed(0)
    chosen = predictor(create_model("tsm_tiny", num_classes=2, num_segments=8))
    listed = read_list(videos)
    known = analyze(chosen, listed, num_workers=0, importance=False, masks=False, limit=5)
    picked = np.linspace(0, len(listed) - 1, 5).round().astype(int)
    scores = np.stack([chosen(listed.path(int(i))).scores for i in picked])
    labels = np.array([listed.label(int(i)) for i in picked])
    assert (known.labels == labels).all()
    assert (known.correct[:, 0] == (scores.argmax(1) == labels)).all()
    assert known.true_probability[:, 0] == pytest.approx(scores[np.arange(5), labels], abs=1e-6)
    assert known.variants == ["ordered", "shuffled", "reversed", "frozen"]


def test_disguises_frame_by_frame():
    plan = Disguises.plan(4, np.random.default_rng(0), masks=True, importance=True)
    clip = torch.arange(4, dtype=torch.uint8)[None, :, None, None, None].expand(1, 4, 10, 10, 3).contiguous()
    everything = plan.apply(clip, (100.0, 110.0, 120.0), 0.6, 0, len(plan.names))
    assert everything.shape == (len(plan.names), 1, 4, 10, 10, 3)
    seen = {name: everything[k, 0, :, 0, 0, 0].tolist() for k, name in enumerate(plan.names)}
    assert seen["ordered"] == [0, 1, 2, 3]
    assert seen["reversed"] == [3, 2, 1, 0]
    assert seen["frozen"] == [2, 2, 2, 2]
    assert sorted(seen["shuffled"]) == [0, 1, 2, 3]
    assert seen["shuffled"] not in ([0, 1, 2, 3], [3, 2, 1, 0])
    assert seen["alone 0.375"] == [1, 1, 1, 1]
    assert seen["drop 0.125"] == [1, 1, 2, 3]
    assert seen["drop 0.875"] == [0, 1, 2, 2]
    background, center = (everything[plan.names.index(n), 0, 3] for n in ("background", "centre"))
    assert background[5, 5].tolist() == [100, 110, 120]
    assert background[0, 0].tolist() == [3, 3, 3]
    assert center[5, 5].tolist() == [3, 3, 3]
    assert center[0, 0].tolist() == [100, 110, 120]
    assert (background[..., 0] == 100).sum() == 36
    parts = [plan.apply(clip, (100.0, 110.0, 120.0), 0.6, k, k + 1) for k in range(len(plan.names))]
    assert torch.equal(torch.cat(parts), everything), "in pieces it is the same"


def test_still_scene_has_nothing_that_moves():
    clip = torch.full((1, 5, 8, 8, 3), 50, dtype=torch.uint8)
    for t in range(5):
        clip[0, t, t, t] = 255
    plan = Disguises.plan(5, np.random.default_rng(0), masks=True, importance=False)
    still = plan.apply(clip, (0.0, 0.0, 0.0), 0.6, len(plan.names) - 1, len(plan.names))
    assert (still == 50).all()


@pytest.mark.parametrize("name", ["tsn_tiny", "tsm_tiny", "slowonly_tiny", "tpn_slowonly_tiny", "tpn_tsm_tiny"])
def test_grad_cam_of_every_family(name):
    torch.manual_seed(0)
    model = create_model(name, num_classes=7).eval()
    clips = torch.randn(2, 3, 8, 64, 80)
    heat, logits = grad_cam(model, clips, torch.tensor([1, 4]))
    assert heat.shape[0] == 2
    assert heat.shape[2:] == (2, 3)
    assert (heat >= 0).all()
    assert heat.max() > 0
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    with torch.no_grad():
        assert torch.allclose(logits, model(clips), atol=1e-5)
    if name.startswith("tpn"):
        return
    # a mean and a linear layer follow the maps: Grad-CAM is the classifier applied to every place
    with torch.no_grad():
        maps, frames = model.feature_maps(clips)
        maps = maps.unflatten(0, (-1, frames))
        places = torch.einsum("bd,btdhw->bthw", model.fc.weight[[1, 4]], maps) / maps[0, :, 0].numel()
    assert torch.allclose(heat, places.relu(), atol=1e-6)


class Bright(nn.Module):
    """A body that gives back how white each place is, and a class for white and one for black."""

    num_classes = 2

    class Body(nn.Module):
        def forward(self, clips):
            white = clips.mean(1, keepdim=True)  # (B, 1, T, H, W)
            return nn.functional.avg_pool3d(white, (1, 8, 8))

    def __init__(self):
        super().__init__()
        self.body = self.Body()
        self.fc = nn.Linear(1, 2, bias=False)
        self.fc.weight.data[:] = torch.tensor([[1.0], [-1.0]])

    def forward(self, clips):
        return self.fc(self.body(clips).mean((2, 3, 4)))


@pytest.fixture(scope="module")
def square(tmp_path_factory):
    """A white square in the lower right, in the second half only."""
    frames = np.full((20, *SIZE, 3), 30, np.uint8)
    frames[10:, 40:60, 60:84] = 255
    return write_clip(tmp_path_factory.mktemp("square") / "square.mp4", frames)


def test_grad_cam_finds_where_and_when(square):
    model = predictor(Bright())
    with open_video(square) as reader:
        heat = video_heat(model, reader, "brighter")
    assert len(heat.frames) > 8, "several passes make it dense in time"
    assert heat.maps.shape[1:] == (64, round(64 * 96 / 72))
    rows, columns = np.nonzero(heat.at(16) > 0.5)
    assert 40 - 8 <= rows.mean() / 64 * 72 <= 60 + 8
    assert 60 - 8 <= columns.mean() / heat.maps.shape[2] * 96 <= 84 + 8
    inside = heat.at(16)[int(44 / 72 * 64) : int(56 / 72 * 64), int(64 / 96 * 85) : int(80 / 96 * 85)]
    assert inside.mean() > 0.6
    assert heat.at(16)[:20, :30].max() < 0.2
    curve = heat.curve()
    assert curve[heat.frames >= 11].mean() > 3 * curve[heat.frames < 9].mean()
    with open_video(square) as reader, pytest.raises(ClipwiseError, match="did you mean 'darker'"):
        video_heat(model, reader, "darkr")


def test_grad_cam_puts_crops_and_clips_back_into_the_frame(square):
    words = [
        "clip_len=4",
        "frame_interval=2",
        "test.num_clips=3",
        "test.crop=three",
        "test.crop_size=72",
        "test.resize=72",
    ]
    values = load_recipe("slowonly_tiny", words).model_dump(mode="json")
    passport = Passport(model="slowonly_tiny", recipe=values, classes=["brighter", "darker"])
    model = Predictor(Bright().eval(), passport, device=torch.device("cpu"))
    with open_video(square) as reader:
        heat = video_heat(model, reader, "brighter")
    late = heat.maps[heat.frames >= 11].mean(0)
    rows, columns = np.nonzero(late > 0.5 * late.max())
    assert 40 - 8 <= rows.mean() / 64 * 72 <= 60 + 8
    assert 60 - 8 <= columns.mean() / heat.maps.shape[2] * 96 <= 84 + 8


def save_checkpoint(path, num_classes=2):
    torch.manual_seed(0)
    args = dict(num_classes=num_classes, num_segments=8)
    recipe = load_recipe("tsm_tiny").model_dump(mode="json")
    passport = Passport(model="tsm_tiny", model_args=args, recipe=recipe, classes=["brighter", "darker"])
    save_weights(path, create_model("tsm_tiny", **args).state_dict(), passport)
    return path


def test_command(videos, square, tmp_path, capsys):
    checkpoint = save_checkpoint(tmp_path / "model.safetensors")
    base = ["analyze", str(checkpoint)]
    words = [
        "--data",
        str(videos),
        "--limit",
        "4",
        "--protocol",
        "val",
        "--num-workers",
        "0",
        "--report",
        str(tmp_path / "report"),
    ]
    assert main([*base, *words]) == 0
    out = capsys.readouterr().out
    assert re.search(r"shuffled +\d", out)
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "Motion or scene?" in page
    overlay = tmp_path / "overlay.mp4"
    assert main([*base, "--gradcam", str(square), "--out", str(overlay), "--class", "darker", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["gradcam"]["class"] == "darker"
    with open_video(overlay) as reader:
        assert (reader.num_frames, reader.height, reader.width) == (20, 360, 480)
    for wrong in (["--gradcam", str(square)], ["--class", "darker"], ["--data", str(videos), "--centre", "3"]):
        assert main([*base, *wrong]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert main([*base, "--gradcam", str(square), "--out", "x.avi"]) == 2
    assert ".mp4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("suffix", "sound", "kept"), [("mp4", "aac", "aac"), ("mkv", "pcm_s16le", "aac"), ("mp4", None, None)]
)
def test_annotated_video_keeps_times_and_sound(tmp_path, suffix, sound, kept):
    frames = np.full((20, 270, 362, 3), 90, np.uint8)
    source = write_clip(tmp_path / f"in.{suffix}", frames, sound=sound)
    out = tmp_path / "out.mp4"
    count = draw.annotate_video(
        source, out, [(0.0, 1.0, [("first", 0.9), ("other", 0.1)]), (1.0, 2.0, [("second", 0.7)])]
    )
    assert count == 20
    with open_video(source) as a, open_video(out) as b:
        assert (b.num_frames, b.height, b.width) == (20, 540, 724)
        assert b.pts_s(np.arange(20)) == pytest.approx(a.pts_s(np.arange(20)), abs=1e-4)
        early, late = (b.frames([n])[0].astype(int) for n in (5, 15))
    assert abs(early[100:300] - 90).max() < 8, "the middle is untouched"
    assert abs(early[-150:, :200] - 90).max() > 60, "the box is drawn"
    assert abs(early - late).max() > 60, "the second segment looks different"
    with av.open(str(out)) as container:
        tracks = [s.codec_context.name for s in container.streams.audio]
        assert tracks == ([kept] if kept else [])
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        if kept:
            last = [p.pts * p.time_base for p in container.demux(container.streams.audio[0]) if p.pts is not None][-1]
            assert 1.7 < float(last) < 2.1


def test_nothing_is_left_when_it_fails(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    out = tmp_path / "out.mp4"
    out.write_bytes(b"old")
    with pytest.raises(DecodeError):
        draw.annotate_video(broken, out, [])
    writer = draw.VideoWriter(out, 64, 64, 25).__enter__()
    writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.__exit__(RuntimeError, RuntimeError("the caller failed"), None)
    with pytest.raises(ClipwiseError, match="no frame"), draw.VideoWriter(out, 64, 64, 25):
        pass
    assert out.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.mp4", "out.mp4"]
    with pytest.raises(ClipwiseError, match=r"\.mp4"):
        draw.annotate_video(broken, tmp_path / "x.gif", [])


def test_odd_sizes_lose_one_row(tmp_path):
    with draw.VideoWriter(tmp_path / "odd.mkv", 65, 49, 12.5) as writer:
        for n in range(5):
            writer.write(np.full((65, 49, 3), 40 * n, np.uint8))
    with open_video(tmp_path / "odd.mkv") as reader:
        assert (reader.num_frames, reader.height, reader.width, reader.fps) == (5, 64, 48, 12.5)


def test_letters():
    wide, narrow = draw.text_mask("WWW", 26), draw.text_mask("iii", 26)
    assert wide.shape[0] == narrow.shape[0] == 26
    assert wide.shape[1] > 2 * narrow.shape[1]
    assert wide.sum() > 2 * narrow.sum()
    alphabet = [draw.text_mask(chr(c), 26) for c in range(33, 127)]
    assert all(mask.max() > 0.9 for mask in alphabet)
    assert len({mask.tobytes() for mask in alphabet}) == 94, "every letter has its own shape"
    assert draw.text_mask(" ", 26).max() == 0
    assert draw.fit_text("a very long class name indeed", 20, 80).shape[1] <= 80


SYSTEM_FONTS = fonts._system_fonts()


@pytest.fixture
def only_latin(monkeypatch):
    """A machine without fonts: Pillow's own has Latin letters."""
    monkeypatch.setattr(fonts, "_system_fonts", tuple)
    monkeypatch.setattr(fonts, "_named", [])
    monkeypatch.setattr(fonts, "_warned", set())
    for cached in (fonts.find_font, draw.text_mask):
        cached.cache_clear()
    yield
    for cached in (fonts.find_font, draw.text_mask):
        cached.cache_clear()


def test_other_scripts_without_a_font_are_named_once(only_latin):
    with pytest.warns(UserWarning, match=r"no font on this machine has 绳跳; .*--font FILE"):
        mask = draw.text_mask("跳绳", 20)
    assert np.array_equal(mask, draw.text_mask("??", 20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw.text_mask("绳跳", 20)
        assert np.array_equal(draw.text_mask("Zürich", 20), draw.text_mask("Zurich", 20))


def test_a_font_with_the_characters_is_found(only_latin, tmp_path, monkeypatch):
    """A system font with Chinese characters, where there is one."""
    chinese = [p for p in SYSTEM_FONTS if not fonts.Font(p).missing("跳绳")]
    if not chinese:
        pytest.skip("no font with Chinese characters here")
    fonts.use_font(chinese[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = draw.text_mask("跳绳", 40)
    assert not np.array_equal(mask, draw.text_mask("??", 40))
    assert fonts.find_font("跳绳").path == chinese[0]


def test_a_char_of_no_font_is_drawn_as_a_question_mark_in_svg_charts_too(only_latin, tmp_path):
    from clipwise.report.chart_files import write_chart

    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="60" height="30"><text x="5" y="20" font-family="sans-serif">{}</text></svg>'
    with pytest.warns(UserWarning, match="跳"):
        write_chart(tmp_path / "a.png", svg.format("跳"), "跳")
    write_chart(tmp_path / "b.png", svg.format("?"))
    write_chart(tmp_path / "c.png", svg.format(" "))
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_a_file_that_is_no_font_is_refused(tmp_path):
    (tmp_path / "x.ttf").write_bytes(b"no font")
    with pytest.raises(ClipwiseError, match=r"--font .*x\.ttf: not a font file"):
        fonts.use_font(tmp_path / "x.ttf")
